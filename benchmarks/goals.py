"""What ours must reach beside its rivals, as a table that every run is held against."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from benchmarks.metrics import metric_of
from benchmarks.results import Document, values
from benchmarks.summary import Spread, ratio

OURS = "ours"


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound for a figure of ours, or for its ratio to the same figure of a rival or of another workload."""

    text: str
    workload: str
    figure: str
    at_least: float | None = None
    at_most: float | None = None
    rival: str | None = None
    other_workload: str | None = None

    @property
    def is_ratio(self) -> bool:
        """Whether the bound is a factor."""
        return self.rival is not None or self.other_workload is not None

    @property
    def bound(self) -> str:
        """The bound as people read it."""
        sign, number = ("≥", self.at_least) if self.at_least is not None else ("≤", self.at_most)
        if not self.is_ratio:
            return f"{sign} {number:g} {metric_of(self.figure).unit}".rstrip()
        return f"{sign} {number:g} × {self.rival or self.other_workload}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was measured for a goal; nothing when a run lacks what it needs."""

    goal: Goal
    measured: Spread | None

    @property
    def is_met(self) -> bool | None:
        """Whether the median is within the bound; None when nothing was measured."""
        if self.measured is None:
            return None
        goal, median = self.goal, self.measured.median
        return (goal.at_least is None or median >= goal.at_least) and (goal.at_most is None or median <= goal.at_most)

    @property
    def shown(self) -> str:
        """The median with its spread."""
        if self.measured is None:
            return "not measured"
        metric = metric_of(self.goal.figure)
        show = (lambda value: f"{value:.2f}") if self.goal.is_ratio else metric.show
        median, least, most = map(show, self.measured)
        return median if least == most else f"{median} ({least}–{most})"


def verdicts(document: Document) -> Iterator[Verdict]:
    """Every goal that this document has anything to say about."""
    for goal in all_goals():
        if goal.workload in document["workloads"]:
            yield Verdict(goal, _measured(goal, document))


def _measured(goal: Goal, document: Document) -> Spread | None:
    ours = values(document, goal.workload, OURS, goal.figure)
    if not ours:
        return None
    if not goal.is_ratio:
        return Spread.of(ours)
    theirs = values(document, goal.other_workload or goal.workload, goal.rival or OURS, goal.figure)
    return ratio(ours, theirs)


def all_goals() -> Sequence[Goal]:
    """Every goal."""
    return [*_throughput(), *_live()]


def _throughput() -> Iterator[Goal]:
    rivals = {"asgi-durable": 1.3, "restate": 0.8, "dbos": 10, "floor": 0.75, "asgi": 1.0}
    for clients in (16, 64):
        text = f"durable initiates/s, {clients} clients"
        for rival, factor in rivals.items():
            yield Goal(text, f"initiate-{clients}", "per_s", at_least=factor, rival=rival)
    yield Goal("p99 of initiates, 16 clients", "initiate-16", "p99_ms", at_most=50)
    yield Goal("p99 of initiates, 16 clients", "initiate-16", "p99_ms", at_most=1, rival="asgi")
    yield Goal("durable follow-ups/s, 16 clients", "follow-up-16", "per_s", at_least=0.7, rival="floor")
    # Restate answers a note when its service has it, so that is what ours is held against.
    yield Goal("follow-ups/s at the processor, 16 clients", "follow-up-16", "done_per_s", at_least=1.5, rival="restate")
    yield Goal("duplicates/s, 16 clients", "duplicate-16", "per_s", at_least=0.8, rival="floor")


def _live() -> Iterator[Goal]:
    for live, back_s in ((10_000, 2), (100_000, 15)):
        yield Goal(f"threads of a process, {live:,} live orders", f"idle-{live}", "threads", at_most=40)
        yield Goal(f"memory of an order, {live:,} live orders", "growth", f"kb_per_order@{live}", at_most=6)
        for role in ("requestor", "processor"):
            text = f"back after SIGKILL of the {role}, {live:,} live orders"
            yield Goal(text, f"restart-{role}-{live}", "back_s", at_most=back_s)
    yield Goal("p99 of tracking/{id}, 10,000 live orders", "tracking-10000", "id_p99_ms", at_most=100)
    yield Goal(
        "p99 of tracking/{id}, 10,000 live orders",
        "tracking-10000",
        "id_p99_ms",
        at_most=1.5,
        other_workload="tracking-10",
    )
    yield Goal("cost of an order over all sizes", "growth", "slope_percent", at_least=-10)
    yield Goal("cost of an order over all sizes", "growth", "slope_percent", at_most=10)
    yield Goal("idle with 10,000 live orders", "idle-10000", "idle_percent", at_most=3)
