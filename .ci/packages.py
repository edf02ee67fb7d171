"""What the services run on, package by package: a list of materials, and whether something is known against one.

Run by `dev.py sbom` and `dev.py audit`, in the environment whose packages it looks at.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = ("requirements.txt", "requirements-otel.txt")


def pins() -> list[str]:
    """The installed release of each package that the requirements need, and of what those need in turn."""
    lines = [line for name in REQUIREMENTS for line in (ROOT / name).read_text(encoding="utf-8").splitlines()]
    waiting = [Requirement(line) for line in lines if line and not line.startswith(("#", "-"))]
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        for extra in ("", *wanted.extras):
            if (name, extra) in seen:
                continue
            seen.add((name, extra))
            package = metadata.distribution(name)
            found[name] = package.version
            needed = map(Requirement, package.requires or ())
            waiting += [one for one in needed if one.marker is None or one.marker.evaluate({"extra": extra})]
    return [f"{name}=={found[name]}" for name in sorted(found)]


def sbom() -> int:
    """Print a CycloneDX document in JSON."""
    command = [sys.executable, "-m", "cyclonedx_py", "requirements", "--output-reproducible", "--of", "JSON", "-"]
    return subprocess.run(command, input="\n".join(pins()), encoding="utf-8", check=False).returncode


def audit() -> int:
    """Look every package up among the published vulnerabilities; fails when there is one, or says why it cannot."""
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder) / "pins.txt"
        listed.write_text("\n".join(pins()), encoding="utf-8")
        options = ["--no-deps", "--disable-pip", "--progress-spinner", "off", "--format", "json", "--timeout", "10"]
        command = [sys.executable, "-m", "pip_audit", "-r", str(listed), *options]
        done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    try:
        packages = json.loads(done.stdout)["dependencies"]
    except ValueError:
        print("audit: left out, the service that knows of vulnerabilities cannot be reached")
        return 0
    known = [package for package in packages if "skip_reason" not in package]
    if not known:
        print("audit: left out, the service that answers here knows no package")
        return 0
    bad = [package for package in known if package["vulns"]]
    for package in bad:
        for fault in package["vulns"]:
            fixed = ", ".join(fault["fix_versions"]) or "no release"
            print(f"{package['name']} {package['version']}: {fault['id']}, mended in {fixed}")
    print(f"audit: {len(known)} of {len(packages)} packages looked up, {len(bad)} with a known vulnerability")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit({"sbom": sbom, "audit": audit}[sys.argv[1]]())
