"""Runs contenders in turn (A B A B …), each time with new processes in an empty folder, and collects the figures."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPException

from benchmarks.contender import Contender
from benchmarks.faults import BenchFault, NotOffered
from benchmarks.load import LoadProcess
from benchmarks.paths import DATA
from benchmarks.results import Results
from benchmarks.sizes import Sizes
from benchmarks.workloads import Bench, Workload
from benchmarks.workloads.base import CLIENTS

#: How long the first streams may take.
_WARM_S = 30.0


class Runner:
    """Runs workloads."""

    def __init__(self, load: LoadProcess, sizes: Sizes, on_begin: Callable[[str], None]) -> None:
        self._load = load
        self._sizes = sizes
        self._on_begin = on_begin

    def run(
        self, workloads: Sequence[Workload], contenders: Sequence[Contender], rounds: int, results: Results
    ) -> Iterator[None]:
        """Run each workload for some rounds, in each of which every contender has its turn; yields after each run."""
        for workload in workloads:
            for number in range(rounds):
                for contender in contenders:
                    self._on_begin(f"{workload.name} {number + 1}/{rounds}: {contender.name}")
                    if not results.has_gap(workload.name, contender.name):
                        self._run_one(workload, contender, results)
                    yield

    def _run_one(self, workload: Workload, contender: Contender, results: Results) -> None:
        try:
            results.add(workload.name, contender.name, self.measure(workload, contender))
        except (BenchFault, OSError, HTTPException) as fault:
            results.give_up(workload.name, contender.name, str(fault) or type(fault).__name__)

    def measure(self, workload: Workload, contender: Contender) -> dict[str, float]:
        """Start the contender, warm it up, measure, stop it."""
        with self.warm(contender, workload.warm_up_orders) as bench:
            return workload.measure(bench)

    @contextmanager
    def warm(self, contender: Contender, orders: int) -> Iterator[Bench]:
        """The contender, freshly started in an empty folder and warm, for the time of the block."""
        folder = DATA / f"{contender.name}-{time.time_ns():x}"
        folder.mkdir(parents=True)
        try:
            contender.start(folder)
            bench = Bench(contender, self._load, self._sizes)
            warm_up(bench, orders)
            yield bench
        finally:
            contender.stop()
            shutil.rmtree(folder, ignore_errors=True)


def warm_up(bench: Bench, count: int) -> None:
    """Begin some orders, which stay live, and repeat them until the contender is warm."""
    orders = bench.new_orders(count)
    calls = [bench.contender.initiate(order) for order in orders]
    outcome = bench.send(calls, CLIENTS, seconds=60)
    if outcome.errors:
        raise BenchFault(f"the warm-up failed: {dict(outcome.errors)}")
    bench.live += orders
    again = [bench.contender.duplicate(order) for order in orders]
    bench.send(again, CLIENTS, seconds=bench.sizes.warm_up_s, repeat=True)
    with suppress(NotOffered):
        bench.wait_for_streams(timeout_s=_WARM_S)
