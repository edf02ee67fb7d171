#!/usr/bin/env python3
"""The project's commands: run the services, test them, check the code.

It needs Python 3.11 or newer and nothing else. The first command makes a virtual environment beside this file and
installs the requirements into it; later ones do that again only when the requirement files have changed.

    python dev.py up            start both services; Ctrl+C stops them
    python dev.py demo          start both with data of their own, and show what they do; --once ends by itself
    python dev.py certs [...]   make or renew certificates for TLS between the services
    python dev.py test          run all tests, several at a time
    python dev.py test [...]    run some of them; what follows goes to pytest
    python dev.py lint          check style, types and generated code; --fix repairs what can be repaired
    python dev.py proto         generate the modules in proto/ from the .proto file
    python dev.py openapi       write docs/openapi/ from the running code
    python dev.py sbom          print a list of the packages that the services run on (CycloneDX)
    python dev.py audit         look those packages up among the published vulnerabilities
    python dev.py bench [...]   run the benchmarks beside the rivals, in an environment of their own
    python dev.py torture [...] run the fault tests
"""

# This file and devtools/ start on any Python since 3.7, so that an older one than OLDEST_PYTHON gets a sentence, not
# a SyntaxError.
from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from devtools.checks import OPENAPI, PROTO, lint, openapi, proto
from devtools.demo import DEMO_FOLDER, demo
from devtools.processes import ROOT, Fault, Progress, Terminated, run, run_module, say
from devtools.suite import is_whole, run_suite, run_tests
from devtools.up import up
from devtools.venv import (
    BENCH_REQUIREMENTS,
    DEV_REQUIREMENTS,
    RUN_REQUIREMENTS,
    VENV_VARIABLE,
    bench_folder,
    prepare,
    venv_folder,
    venv_python,
)

OLDEST_PYTHON = (3, 11)

#: What `.ci/packages.py` does.
PACKAGE_COMMANDS = ("sbom", "audit")
#: Commands whose further arguments belong to the tool that they start.
PASSING_ON = ("certs", "test", "bench", "torture")

INTERRUPTED = 130


def parse(words: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Split the command line into our own options and what goes on, unread, to the tool of the command."""
    own, passed_on = list(words), []
    command = next((place for place, word in enumerate(words) if not word.startswith("-")), None)
    if command is not None and words[command] in PASSING_ON:
        own, passed_on = list(words[: command + 1]), list(words[command + 1 :])

    parser = argparse.ArgumentParser(
        prog="dev.py",
        description="The project's commands. They run in .venv beside this file, which the first one makes.",
        epilog=f"{VENV_VARIABLE} names another folder than .venv.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--no-install",
        action="store_true",
        help="leave the virtual environment as it is; without one, use the Python that runs this",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    with_instances = commands.add_parser("up", help="start both services; Ctrl+C stops them")
    with_instances.add_argument("--instances", type=int, default=1, metavar="N", help="so many of each; needs --redis")
    with_instances.add_argument(
        "--redis", nargs="?", const="", metavar="URL", help="keep everything in this Redis, or in one of our own"
    )
    with_once = commands.add_parser("demo", help="show what the services do, on data of their own; Ctrl+C ends it")
    with_once.add_argument("--once", action="store_true", help="end when everything is shown")
    with_once.add_argument("--data", metavar="FOLDER", default=DEMO_FOLDER, help=f"instead of {DEMO_FOLDER}")
    commands.add_parser("certs", help="make or renew certificates for the wire; --help shows how", add_help=False)
    commands.add_parser("test", help="run the tests; further arguments go to pytest", add_help=False)
    with_fix = commands.add_parser("lint", help="check style, types, generated code and OpenAPI documents")
    with_fix.add_argument("--fix", action="store_true", help="repair what can be repaired")
    with_check = commands.add_parser("proto", help=f"generate the modules of {PROTO}")
    with_check.add_argument("--check", action="store_true", help="only compare with the committed modules")
    with_openapi_check = commands.add_parser("openapi", help=f"write {OPENAPI}/ from the code")
    with_openapi_check.add_argument("--check", action="store_true", help="only compare with the committed documents")
    commands.add_parser("sbom", help="print what the services run on, as CycloneDX")
    commands.add_parser("audit", help="look up whether something is known against what the services run on")
    commands.add_parser("bench", help="run the benchmarks; further arguments go to them", add_help=False)
    commands.add_parser("torture", help="run the fault tests; further arguments go to them", add_help=False)
    return parser.parse_args(own), passed_on


def execute(options: argparse.Namespace, passed_on: Sequence[str]) -> int:
    """Prepare the virtual environment and run the command in it."""
    progress = Progress()
    venv = bench_folder() if options.command == "bench" else venv_folder(os.environ)
    requirements = {
        "up": RUN_REQUIREMENTS,
        "demo": RUN_REQUIREMENTS,
        "certs": RUN_REQUIREMENTS,
        "bench": BENCH_REQUIREMENTS,
    }.get(options.command, DEV_REQUIREMENTS)
    if options.no_install:
        python = venv_python(venv) if venv_python(venv).exists() else Path(sys.executable)
    else:
        python = prepare(venv, requirements, progress)
    if options.command == "up":
        return up(python, progress, instances=options.instances, redis=options.redis)
    if options.command == "demo":
        return demo(python, progress, ROOT / options.data, once=options.once)
    if options.command == "certs":
        return run([python, "-m", "service_kit.certificates", *passed_on])
    if options.command == "lint":
        return lint(python, fix=options.fix)
    if options.command == "proto":
        return proto(python, check=options.check)
    if options.command == "openapi":
        return openapi(python, check=options.check)
    if options.command in PACKAGE_COMMANDS:
        return run([python, ROOT / ".ci" / "packages.py", options.command])
    if options.command == "bench":
        return run_module(python, "benchmarks", "benchmarks", passed_on)
    if options.command == "torture":
        return run_module(python, "tests/faults", "tests.faults", passed_on)
    return run_suite(python, passed_on) if is_whole(passed_on) else run_tests(python, passed_on)


def on_signal(number: int, _frame: FrameType | None) -> None:
    """Turn a signal to end into an exception, so that every ``finally`` runs."""
    raise Terminated(number)


def main(words: Sequence[str]) -> int:
    """Run one command and return its exit status."""
    if sys.version_info < OLDEST_PYTHON:
        say("dev.py needs Python {}.{} or newer; this is {}.{}".format(*OLDEST_PYTHON, *sys.version_info))
        return 2
    for stream in (sys.stdout, sys.stderr):
        # A console with a small character set shows "?" instead of ending us.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    for name in ("SIGTERM", "SIGHUP", "SIGBREAK"):
        number = getattr(signal, name, None)
        # nohup has SIGHUP ignored, and it stays so.
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, on_signal)
    options, passed_on = parse(words)
    try:
        return execute(options, passed_on)
    except Fault as fault:
        print(f"dev.py: {fault}", file=sys.stderr)
        return fault.status
    except OSError as fault:
        print(f"dev.py: {fault}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
