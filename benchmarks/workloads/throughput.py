"""How many calls a second, and how long each takes."""

from __future__ import annotations

from contextlib import suppress

from benchmarks.calls import wait_until
from benchmarks.faults import NotOffered
from benchmarks.load import Outcome
from benchmarks.summary import percentile
from benchmarks.workloads.base import GROW_S, LOOK_S, Bench, Workload, answered

#: More requests than any contender answers in a second; so many are made ready.
_MOST_PER_S = 8_000
#: Live orders that duplicates, notes and replies go to.
_TARGETS = 64


class Initiates(Workload):
    """Unique orders, as fast as they are answered."""

    def __init__(self, clients: int) -> None:
        self.clients = clients
        self.name = f"initiate-{clients}"
        self.title = f"Unique initiates, {clients} client{'s' if clients > 1 else ''}"

    def measure(self, bench: Bench) -> dict[str, float]:
        contender = bench.contender
        count = int(bench.sizes.load_s * _MOST_PER_S)
        if contender.most_orders is not None:
            count = min(count, contender.most_orders - len(bench.live))
        orders = bench.new_orders(count)
        cpu_s = bench.cpu_s()
        outcome = bench.send([contender.initiate(o) for o in orders], self.clients, seconds=bench.sizes.load_s)
        figures = answered(outcome)
        bench.live += [orders[number] for number in outcome.requests]
        with suppress(NotOffered):
            all_open_s = bench.wait_for_streams(timeout_s=60)
            figures["done_per_s"] = len(outcome.took_s) / (all_open_s - outcome.began_s)
            figures |= opened(outcome, orders, contender.opening_times())
        return figures | bench.cpu_us_since(cpu_s, len(outcome.took_s))


def opened(outcome: Outcome, orders: list[str], times: dict[str, float]) -> dict[str, float]:
    """From each request to the open stream of its order."""
    lags = [
        (times[orders[number]] - sent_s - outcome.wall_offset_s) * 1000
        for number, sent_s in zip(outcome.requests, outcome.sent_s, strict=True)
        if orders[number] in times
    ]
    if not lags:
        raise NotOffered("no times of openings")
    return {"open_p50_ms": percentile(lags, 50), "open_p99_ms": percentile(lags, 99)}


class Duplicates(Workload):
    """The same few live orders, begun again and again."""

    def __init__(self, clients: int) -> None:
        self.clients = clients
        self.name = f"duplicate-{clients}"
        self.title = f"Duplicates, {clients} clients"

    def measure(self, bench: Bench) -> dict[str, float]:
        targets = bench.live[-_TARGETS:]
        cpu_s = bench.cpu_s()
        calls = [bench.contender.duplicate(order) for order in targets]
        outcome = bench.send(calls, self.clients, seconds=bench.sizes.load_s, repeat=True)
        return answered(outcome) | bench.cpu_us_since(cpu_s, len(outcome.took_s))


class FollowUps(Workload):
    """Notes to a few live orders, until they are answered and until the processor has them."""

    def __init__(self, clients: int) -> None:
        self.clients = clients
        self.name = f"follow-up-{clients}"
        self.title = f"Follow-ups, {clients} clients"

    def measure(self, bench: Bench) -> dict[str, float]:
        contender = bench.contender
        targets = bench.live[-_TARGETS:]
        count = int(bench.sizes.load_s * _MOST_PER_S)
        calls = [contender.follow_up(targets[n % len(targets)], f"note-{n:06d}") for n in range(count)]
        cpu_s = bench.cpu_s()
        outcome = bench.send(calls, self.clients, seconds=bench.sizes.load_s)
        figures = answered(outcome)
        accepted, wanted = len(outcome.took_s), frozenset(targets)
        with suppress(NotOffered):
            drained_s = wait_until(
                lambda: contender.notes_at_processor(wanted) >= accepted,
                "the notes' relay",
                timeout_s=GROW_S,
                every_s=LOOK_S,
            )
            figures["done_per_s"] = accepted / (drained_s - outcome.began_s)
            figures["drain_s"] = drained_s - outcome.ended_s
        return figures | bench.cpu_us_since(cpu_s, accepted)


class FanOut(Workload):
    """Sellers' replies at the processor, until the requestor has them in its log."""

    primary = "done_per_s"

    def __init__(self, clients: int) -> None:
        self.clients = clients
        self.name = f"fan-out-{clients}"
        self.title = f"Events from the processor to the requestor's log, {clients} clients"

    def measure(self, bench: Bench) -> dict[str, float]:
        contender = bench.contender
        targets = bench.live[-_TARGETS:]
        before = {order: contender.events_at_requestor(order) for order in targets}
        count = int(bench.sizes.load_s * _MOST_PER_S)
        addressed = [contender.reply(targets[n % len(targets)], f"reply-{n:06d}") for n in range(count)]
        cpu_s = bench.cpu_s()
        outcome = bench.send(
            [call for _, call in addressed], self.clients, seconds=bench.sizes.load_s, to=addressed[0][0]
        )
        missing = dict.fromkeys(targets, 0)
        for number in outcome.requests:
            missing[targets[number % len(targets)]] += 1
        for order, replies in missing.items():
            done_s = wait_until(
                lambda order=order, replies=replies: (  # type: ignore[misc] # mypy does not infer defaults of lambdas
                    contender.events_at_requestor(order) >= before[order] + replies
                ),
                "the replies at the requestor",
                timeout_s=GROW_S,
            )
        figures = answered(outcome)
        figures["done_per_s"] = len(outcome.took_s) / (done_s - outcome.began_s)
        figures["drain_s"] = done_s - outcome.ended_s
        return figures | bench.cpu_us_since(cpu_s, len(outcome.took_s))
