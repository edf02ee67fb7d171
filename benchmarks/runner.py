"""Runs contenders in turn (A B A B …), each time with new processes in an empty folder, and collects the figures."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPException

from benchmarks.contender import Contender
from benchmarks.faults import BenchFault, NotOffered
from benchmarks.load import LoadProcess
from benchmarks.processes import ROOT
from benchmarks.workloads import Bench, Workload
from benchmarks.workloads.base import CLIENTS, Sizes

#: On the disk of the project: a temporary folder may lie in memory, where an fsync costs nothing.
DATA = ROOT / "data" / "benchmarks"
#: How long the first streams may take.
_WARM_S = 30.0


@dataclass(slots=True)
class Results:
    """The figures of all runs."""

    #: By workload, contender and figure: one value for each round.
    figures: dict[str, dict[str, dict[str, list[float]]]] = field(default_factory=dict)
    #: By workload and contender: why there is none.
    gaps: dict[str, dict[str, str]] = field(default_factory=dict)

    def add(self, workload: str, contender: str, figures: dict[str, float]) -> None:
        """Add the figures of one run."""
        known = self.figures.setdefault(workload, {}).setdefault(contender, {})
        for name, value in figures.items():
            known.setdefault(name, []).append(value)

    def give_up(self, workload: str, contender: str, reason: str) -> None:
        """Note why a contender has no figures, or no more of them."""
        self.gaps.setdefault(workload, {})[contender] = reason

    def has_gap(self, workload: str, contender: str) -> bool:
        """Whether the contender was given up."""
        return contender in self.gaps.get(workload, {})


class Runner:
    """Runs workloads."""

    def __init__(self, load: LoadProcess, sizes: Sizes, on_step: Callable[[str], None]) -> None:
        self._load = load
        self._sizes = sizes
        self._on_step = on_step

    def run(self, workloads: Sequence[Workload], contenders: Sequence[Contender], rounds: int) -> Results:
        """Run each workload for some rounds; in a round every contender has its turn."""
        results = Results()
        for workload in workloads:
            for number in range(rounds):
                for contender in contenders:
                    self._on_step(f"{workload.name} {number + 1}/{rounds}: {contender.name}")
                    if not results.has_gap(workload.name, contender.name):
                        self._run_one(workload, contender, results)
        return results

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
