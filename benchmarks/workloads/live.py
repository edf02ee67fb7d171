"""What many live orders cost: reads, memory, time for each further order, CPU while nothing happens."""

from __future__ import annotations

import random
import time
from contextlib import suppress

from benchmarks.faults import NotOffered
from benchmarks.sizes import Sizes, growth_steps
from benchmarks.summary import change_over_sizes, percentile
from benchmarks.workloads.base import CLIENTS, Bench, Workload

#: Reads that are made ready; they are repeated.
_READS = 20_000
#: How long a contender has to come to rest.
SETTLE_S = 2.0


class Tracking(Workload):
    """Reads of one order's tracking and of all orders' tracking."""

    primary = "id_per_s"

    def __init__(self, live: int) -> None:
        self.live = live
        self.name = f"tracking-{live}"
        self.title = f"Tracking reads with {live:,} live orders, {CLIENTS} clients"
        self.warm_up_orders = min(live, Workload.warm_up_orders)

    def measure(self, bench: Bench) -> dict[str, float]:
        contender = bench.contender
        contender.tracking("none")  # who does not offer it need not get the orders
        bench.grow_to(self.live)
        wanted = random.Random(1).choices(bench.live, k=_READS)
        calls = [contender.tracking(order) for order in wanted]
        ids = bench.send(calls, CLIENTS, seconds=bench.sizes.load_s, repeat=True)
        figures = {"id_per_s": ids.per_s, "id_p99_ms": percentile(ids.took_s, 99) * 1000, "errors": ids.errors.total()}
        with suppress(NotOffered):
            call = contender.tracking_status()
            status = bench.send([call], CLIENTS, seconds=bench.sizes.load_s, repeat=True)
            figures["status_per_s"] = status.per_s
            figures["status_p99_ms"] = percentile(status.took_s, 99) * 1000
            figures["errors"] += status.errors.total()
        return figures


class Growth(Workload):
    """The cost of an order with more and more of them live: its memory, and the time of the next ones."""

    name = "growth"
    primary = "kb_per_order@1000"
    warm_up_orders = 64

    def __init__(self, sizes: Sizes) -> None:
        self.title = f"Cost of an order with {sizes.growth[0]:,} to {sizes.growth[-1]:,} live orders, {CLIENTS} clients"

    def measure(self, bench: Bench) -> dict[str, float]:
        bench.wait_for_streams()
        time.sleep(SETTLE_S)
        before, before_bytes = len(bench.live), bench.memory_bytes()
        figures: dict[str, float] = {}
        kept_before = kept_bytes(bench)
        costs: list[tuple[float, float]] = []
        for size, block in growth_steps(bench.sizes, bench.contender.most_orders):
            bench.grow_to(size)
            time.sleep(SETTLE_S)
            figures[f"kb_per_order@{size}"] = (bench.memory_bytes() - before_bytes) / 1024 / (size - before)
            if kept_before is not None:
                kept = (kept_bytes(bench) or 0) - kept_before
                figures[f"kept_kb_per_order@{size}"] = kept / 1024 / (size - before)
            cost_us = 1e6 * bench.begin(block) / block
            figures[f"us_per_order@{size}"] = cost_us
            costs.append((size, cost_us))
        if len(costs) > 1:
            figures["slope_percent"] = change_over_sizes(costs)
        return figures


def kept_bytes(bench: Bench) -> int | None:
    """What everything that is kept takes up; None when the contender does not say."""
    try:
        return bench.contender.kept_bytes()
    except NotOffered:
        return None


class Idle(Workload):
    """The CPU that live orders cost while nothing happens."""

    primary = "idle_percent"

    def __init__(self, live: int) -> None:
        self.live = live
        self.name = f"idle-{live}"
        self.title = f"Idle with {live:,} live orders"

    def measure(self, bench: Bench) -> dict[str, float]:
        bench.wait_for_streams()
        bench.grow_to(self.live)
        time.sleep(SETTLE_S)
        began_s, before = time.perf_counter(), bench.cpu_s()
        time.sleep(bench.sizes.idle_s)
        took_s = time.perf_counter() - began_s
        shares = {role: 100 * (cpu_s - before[role]) / took_s for role, cpu_s in bench.cpu_s().items()}
        return {
            **{f"idle_{role}_percent": share for role, share in shares.items()},
            "idle_percent": max(shares.values()),
            "threads": max(process.threads() for process in bench.contender.processes.values()),
        }
