"""``python -m benchmarks.hostile``: what 200 slow clients and 100 gRPC clients that never read cost all others.

Initiates are counted in turns with and without them, in one life of both services; they begin anew when they are cut.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

from benchmarks.contender import python
from benchmarks.faults import BenchFault
from benchmarks.load import LoadProcess
from benchmarks.ours import Ours
from benchmarks.paths import ROOT
from benchmarks.runner import Runner
from benchmarks.sizes import USUAL
from benchmarks.summary import ratio
from benchmarks.workloads import Bench
from benchmarks.workloads.base import CLIENTS

#: Of the throughput without them.
GOAL = 0.9


@contextmanager
def crowd(ours: Ours) -> Iterator[None]:
    """All of them, for the time of the block."""
    ports = (str(ours.front.port), str(ours.grpc.port))
    command = [str(word) for word in python("-m", "tests.faults.hostile", *ports, "--again")]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        try:
            if process.stdout is None or process.stdout.readline() != "ready\n":
                raise BenchFault("the hostile clients have not begun")
            yield
        finally:
            process.kill()


def measure(bench: Bench, seconds: float) -> float:
    """Initiates per second."""
    calls = [bench.contender.initiate(order) for order in bench.new_orders(int(8_000 * seconds))]
    return bench.send(calls, CLIENTS, seconds=seconds).per_s


def main() -> int:
    """Run some turns; the exit status says whether the goal is reached."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hostile", description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=4.0)
    options = parser.parse_args()
    console = Console(soft_wrap=True)
    ours = Ours()
    alone: list[float] = []
    beside: list[float] = []
    with LoadProcess() as load, Runner(load, USUAL, on_begin=lambda _: None).warm(ours, 256) as bench:
        for _ in range(options.turns):
            alone.append(measure(bench, options.seconds))
            with crowd(ours):
                beside.append(measure(bench, options.seconds))
            console.print(f"{alone[-1]:,.0f}/s without them, {beside[-1]:,.0f}/s beside them")
    spread = ratio(beside, alone)
    if spread is None:
        return 1
    console.print(f"with / without: {spread.median:.2f} ({spread.least:.2f} to {spread.most:.2f})")
    return 0 if spread.median >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
