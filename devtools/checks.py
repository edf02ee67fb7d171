"""``dev.py lint``, and the files that are generated: the modules in proto/ and the documents of the REST interfaces."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

from devtools.processes import ROOT, Fault, child_environment, run, say

PROTO = "proto/order_service.proto"
OPENAPI = "docs/openapi"
SERVICES = ("requestor", "processor")
GENERATED = ("proto/order_service_pb2.py", "proto/order_service_pb2.pyi", "proto/order_service_pb2_grpc.py")
TYPED = (
    *("service_kit", "requestor_app", "processor_app", "requestor_client", "wsgi_*.py"),
    *("dev.py", "devtools", "demo", "tests", "benchmarks"),
)


def generate(python: Path, target: Path) -> None:
    """Generate the modules of the .proto file into a folder. From the root, so that imports say ``from proto``."""
    if not (ROOT / PROTO).exists():
        raise Fault(f"{PROTO} is missing", 2)
    outputs = [f"--{kind}_out={target}" for kind in ("python", "pyi", "grpc_python")]
    if run([python, "-m", "grpc_tools.protoc", "-I.", *outputs, PROTO]):
        raise Fault(f"{PROTO} cannot be translated; the reason stands above")


def drift(expected: Path, actual: Path) -> list[str]:
    """The generated files that differ between two folders or are missing in one. Line ends do not count."""

    def lines(file: Path) -> list[bytes] | None:
        return file.read_bytes().splitlines() if file.exists() else None

    return [name for name in GENERATED if lines(expected / name) != lines(actual / name)]


def proto(python: Path, *, check: bool) -> int:
    """Generate the modules, or check that the committed ones are what would be generated."""
    if not check:
        generate(python, ROOT)
        say(f"generated {', '.join(GENERATED)}")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        generate(python, Path(folder))
        differing = drift(Path(folder), ROOT)
    for name in differing:
        say(f"{name} is not what {PROTO} gives: run `python dev.py proto`")
    return 1 if differing else 0


def openapi(python: Path, *, check: bool) -> int:
    """Write what each service says of its REST interface, or check that the committed documents say the same."""
    # A setting has no place in a document of the code.
    environment = {
        name: value for name, value in child_environment().items() if not name.startswith(("REQUESTOR_", "PROCESSOR_"))
    }
    differing = []
    for service in SERVICES:
        command = [str(python), "-m", "flask", "--app", f"wsgi_{service}", "openapi"]
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, encoding="utf-8", check=False)
        if done.returncode:
            raise Fault(f"the {service} does not tell its REST interface; the reason stands above")
        file = ROOT / OPENAPI / f"{service}.json"
        if file.exists() and file.read_text(encoding="utf-8") == done.stdout:
            continue
        differing.append(f"{OPENAPI}/{service}.json")
        if not check:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(done.stdout, encoding="utf-8", newline="\n")
    for name in differing:
        say(f"{name} is not what the code says: run `python dev.py openapi`" if check else f"wrote {name}")
    return 1 if check and differing else 0


def lint(python: Path, *, fix: bool) -> int:
    """Run every check, also after one has failed, and name the failed ones."""
    # mypy takes a folder without a Python file for a fault.
    typed = [
        path.name
        for pattern in TYPED
        for path in sorted(ROOT.glob(pattern))
        if path.is_file() or next(path.rglob("*.py"), None)
    ]
    checks: dict[str, list[str]] = {
        "ruff check": ["ruff", "check", *(["--fix"] if fix else []), "."],
        "ruff format": ["ruff", "format", *([] if fix else ["--check"]), "."],
        "mypy": ["mypy", *typed],
    }
    failed = []
    for name, command in checks.items():
        say(f"== {name}")
        if run([python, "-m", *command]):
            failed.append(name)
    say("== generated code")
    if proto(python, check=True):
        failed.append("generated code")
    say("== OpenAPI")
    if openapi(python, check=not fix):
        failed.append("OpenAPI")
    say(f"lint: {', '.join(failed)} failed" if failed else "lint: all checks passed")
    return 1 if failed else 0
