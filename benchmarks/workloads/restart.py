"""How long it takes until everything is back after a process was killed and started again."""

from __future__ import annotations

import time
from http.client import HTTPException

from benchmarks.calls import wait_until
from benchmarks.contender import wait_until_healthy
from benchmarks.faults import BenchFault, NotOffered
from benchmarks.workloads.base import CLIENTS, GROW_S, LOOK_S, Bench, Workload
from benchmarks.workloads.live import SETTLE_S

#: Notes that are under way when it happens, each to another of the newest orders.
_NOTES = 100


class Restart(Workload):
    """SIGKILL for one process with notes under way, and the way back to an open stream for every order."""

    primary = "back_s"

    def __init__(self, role: str, live: int) -> None:
        self.role = role
        self.live = live
        self.name = f"restart-{role}-{live}"
        self.title = f"Back after SIGKILL of the {role} with {live:,} live orders"

    def measure(self, bench: Bench) -> dict[str, float]:
        contender = bench.contender
        if not contender.is_durable:
            raise NotOffered("keeps nothing that could come back")
        if self.role not in contender.processes:
            raise NotOffered(f"has no {self.role} of its own")
        bench.wait_for_streams()
        bench.grow_to(self.live)
        time.sleep(SETTLE_S)
        process = contender.processes[self.role]
        if self.role == "requestor":
            self._add_notes(bench)
        killed_s = time.perf_counter()
        process.kill()
        if self.role == "processor":
            self._add_notes(bench)
        process.launch()
        healthy_s = wait_until_healthy(contender, self.role)
        back_s = wait_until(
            lambda: self._is_back(bench),
            f"{len(bench.live):,} open streams and {_NOTES} notes after the restart",
            timeout_s=GROW_S,
            every_s=LOOK_S,
        )
        return {"back_s": back_s - healthy_s, "health_s": healthy_s - killed_s}

    def _add_notes(self, bench: Bench) -> None:
        """Have notes accepted, which the processor need not have."""
        calls = [bench.contender.follow_up_without_processor(order, f"late-{order}") for order in bench.live[-_NOTES:]]
        outcome = bench.send(calls, CLIENTS, seconds=30)
        if outcome.errors:
            raise BenchFault(f"notes refused: {dict(outcome.errors)}")

    def _is_back(self, bench: Bench) -> bool:
        try:
            return (
                bench.contender.streams_open() >= len(bench.live)
                and bench.contender.notes_at_processor(frozenset(bench.live[-_NOTES:])) >= _NOTES
            )
        except (OSError, HTTPException):
            return False  # a connection from before the kill
