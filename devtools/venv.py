"""The virtual environment: where it is, and that it holds what the requirement files say."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from devtools.processes import ROOT, Fault, Progress, run_quietly

#: Another folder for the virtual environment, such as one for each Python version; relative to this file.
VENV_VARIABLE = "ORDER_COMMUNICATOR_VENV"
STAMP = "order-communicator.json"
RUN_REQUIREMENTS = ("requirements.txt",)
DEV_REQUIREMENTS = ("requirements.txt", "requirements-otel.txt", "requirements-dev.txt")
#: The rivals' libraries are many, and none of them belongs to the project: they have an environment of their own.
BENCH_REQUIREMENTS = ("requirements.txt", "benchmarks/requirements.txt")


def venv_folder(environment: Mapping[str, str]) -> Path:
    """Where the virtual environment is: beside this file, unless the environment names another folder."""
    return ROOT / environment.get(VENV_VARIABLE, ".venv")


def bench_folder() -> Path:
    """Where the virtual environment of the benchmarks is: one for each Python, so that Pythons can be compared."""
    return ROOT / ".venvs" / "bench-{}.{}".format(*sys.version_info)


def venv_python(venv: Path, *, windows: bool = sys.platform == "win32") -> Path:
    """The interpreter of a virtual environment."""
    return venv / "Scripts" / "python.exe" if windows else venv / "bin" / "python"


def venv_version(config: str) -> str:
    """The Python that a virtual environment was made with, such as "3.11", from its ``pyvenv.cfg``; "" if unknown."""
    found = re.search(r"^version(?:_info)?\s*=\s*(\d+\.\d+)", config, re.MULTILINE)
    return found.group(1) if found else ""


def wanted_stamp(requirements: Sequence[str], root: Path = ROOT) -> dict[str, str]:
    """The hash of each requirement file. Line ends do not count."""
    return {
        name: hashlib.sha256("\n".join((root / name).read_text(encoding="utf-8").splitlines()).encode()).hexdigest()
        for name in requirements
    }


def read_stamp(venv: Path) -> dict[str, str]:
    """The hashes of the requirement files that are installed; empty when nobody knows."""
    try:
        stamp = json.loads((venv / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def is_usable(venv: Path, version: str) -> bool:
    """The virtual environment is of this Python version and complete; a broken-off creation leaves it without pip."""
    python, config = venv_python(venv), venv / "pyvenv.cfg"
    if not (python.exists() and config.exists() and venv_version(config.read_text(encoding="utf-8")) == version):
        return False
    if (venv / STAMP).exists():
        return True
    return subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0


def prepare(venv: Path, requirements: Sequence[str], progress: Progress) -> Path:
    """Make the virtual environment hold the requirements, and return its interpreter."""
    python = venv_python(venv)
    ours = "{}.{}".format(*sys.version_info)
    wanted = wanted_stamp(requirements)
    usable = is_usable(venv, ours)
    if usable and wanted.items() <= read_stamp(venv).items():
        return python
    if not usable:
        if venv.exists() and any(venv.iterdir()) and not (venv / "pyvenv.cfg").exists():
            raise Fault(f"{venv} is not a virtual environment; move it away, or set {VENV_VARIABLE} to another folder")
        venv.mkdir(parents=True, exist_ok=True)
        run_quietly([sys.executable, "-m", "venv", "--clear", venv], progress, f"making {venv.name} with Python {ours}")
    # Without the stamp a broken-off installation starts again next time.
    (venv / STAMP).unlink(missing_ok=True)
    run_quietly(
        [python, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "-r", ROOT / requirements[-1]],
        progress,
        f"installing {requirements[-1]}",
    )
    (venv / STAMP).write_text(json.dumps(wanted, indent=1), encoding="utf-8")
    progress("installed")
    return python
