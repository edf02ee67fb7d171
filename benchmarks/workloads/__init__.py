"""What is measured: each workload loads one contender that has just started and gives figures."""

from __future__ import annotations

from benchmarks.sizes import Sizes
from benchmarks.workloads.base import Bench, Workload
from benchmarks.workloads.live import Growth, Idle, Tracking
from benchmarks.workloads.restart import Restart
from benchmarks.workloads.throughput import Duplicates, FanOut, FollowUps, Initiates


def all_workloads(sizes: Sizes) -> dict[str, Workload]:
    """Every workload by its name, in the order in which they run."""
    workloads: list[Workload] = [
        *(Initiates(clients) for clients in (1, 16, 64)),
        *(Duplicates(clients) for clients in (16, 64)),
        *(FollowUps(clients) for clients in (16, 64)),
        FanOut(16),
        *(Tracking(live) for live in sizes.tracking),
        Growth(sizes),
        *(Idle(live) for live in sizes.live),
        *(Restart(role, live) for live in sizes.live for role in ("requestor", "processor")),
    ]
    return {workload.name: workload for workload in workloads}


__all__ = ["Bench", "Workload", "all_workloads"]
