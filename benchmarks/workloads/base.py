"""What workloads have in common: sizes, the state of one run, and the steps that most of them take."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Sequence

from benchmarks.calls import Address, Call, wait_until
from benchmarks.contender import Contender
from benchmarks.faults import BenchFault, NotOffered
from benchmarks.load import LoadProcess, Outcome, Plan
from benchmarks.sizes import Sizes
from benchmarks.summary import percentile

#: How long live orders may take to be made, and streams to open.
GROW_S = 300.0
#: Between two looks at what is not done yet; a look costs the contender a call.
LOOK_S = 0.02
#: Clients of what is not about their number.
CLIENTS = 16


class Bench:
    """One run of a workload on one contender."""

    def __init__(self, contender: Contender, load: LoadProcess, sizes: Sizes) -> None:
        self.contender = contender
        self.sizes = sizes
        self._load = load
        self._orders = itertools.count()
        #: The orders that were begun and are live, oldest first.
        self.live: list[str] = []
        #: How many calls of the latest load succeeded.
        self.last_successes = 0

    def new_orders(self, count: int) -> list[str]:
        """Ids that were not used in this run."""
        return [f"order-{next(self._orders):07d}" for _ in range(count)]

    def send(
        self, calls: Sequence[Call], clients: int, *, seconds: float, repeat: bool = False, to: Address | None = None
    ) -> Outcome:
        """Send the calls and wait until they are answered."""
        address = to or self.contender.front
        outcome = self._load.run(Plan(address, [call.encode(address) for call in calls], clients, seconds, repeat))
        self.contender.check()
        if not outcome.took_s:
            raise BenchFault(f"no success: {dict(outcome.errors)}")
        self.last_successes = len(outcome.took_s)
        return outcome

    def grow_to(self, count: int) -> None:
        """Begin orders until so many are live, and wait until their streams are open."""
        if count > len(self.live):
            self.begin(count - len(self.live))

    def begin(self, count: int) -> float:
        """Begin so many orders; answers the seconds from the first request until every stream is open."""
        most = self.contender.most_orders
        if most is not None and len(self.live) + count > most:
            raise NotOffered(f"not asked to hold more than {most:,} live orders")
        orders = self.new_orders(count)
        outcome = self.send([self.contender.initiate(o) for o in orders], CLIENTS, seconds=GROW_S)
        if len(outcome.took_s) < count:
            raise BenchFault(f"{len(outcome.took_s):,} of {count:,} orders begun: {dict(outcome.errors)}")
        self.live += orders
        return self.wait_for_streams() - outcome.began_s

    def wait_for_streams(self, timeout_s: float = GROW_S) -> float:
        """Wait until the stream of every live order is open; answers when that was seen."""
        count = len(self.live)
        return wait_until(
            lambda: self.contender.streams_open() >= count,
            f"{count:,} open streams",
            timeout_s=timeout_s,
            every_s=LOOK_S,
        )

    def cpu_s(self) -> dict[str, float]:
        """The CPU time that each of the contender's processes has used so far; the requestor's first."""
        return {role: process.cpu_s() for role, process in sorted(self.contender.processes.items(), reverse=True)}

    def cpu_us_since(self, before: dict[str, float], requests: int) -> dict[str, float]:
        """The figures of the CPU time that each request has cost since `cpu_s` gave ``before``."""
        return {f"cpu_{role}_us": 1e6 * (cpu_s - before[role]) / requests for role, cpu_s in self.cpu_s().items()}

    def memory_bytes(self) -> int:
        """The memory of the contender's processes."""
        return sum(process.memory_bytes() for process in self.contender.processes.values())


def answered(outcome: Outcome) -> dict[str, float]:
    """The figures of the answers."""
    return {
        "per_s": outcome.per_s,
        "p50_ms": percentile(outcome.took_s, 50) * 1000,
        "p99_ms": percentile(outcome.took_s, 99) * 1000,
        "errors": outcome.errors.total(),
    }


class Workload(ABC):
    """One kind of work."""

    name: str
    title: str
    #: The figure that ratios are made of.
    primary: str = "per_s"
    #: Live orders that the warm-up leaves.
    warm_up_orders: int = 256

    @abstractmethod
    def measure(self, bench: Bench) -> dict[str, float]:
        """Load the contender, which is warm, and give the figures of this run."""
