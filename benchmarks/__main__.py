"""Runs a benchmark by its name: ``python -m benchmarks live-reads --orders 5000 --clients 8``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmarks import live_reads


def main(arguments: Sequence[str] | None = None) -> int:
    """Read the command line and run what it names; answers the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measures both services as processes.")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("live-reads", help=live_reads.HELP)
    live_reads.add_arguments(command)
    command.set_defaults(run=live_reads.run)
    options = parser.parse_args(arguments)
    status: int = options.run(options)
    return status


if __name__ == "__main__":
    sys.exit(main())
