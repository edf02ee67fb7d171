"""One run of the harness: load, faults, quiet, audit."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.faults.arena import Arena, Chaos
from tests.faults.audit import Report, audit, set_aside_in
from tests.faults.ledger import Ledger
from tests.faults.load import Load

#: Tells how far a run is: notes acknowledged, faults injected.
Progress = Callable[[int, int], None]


@dataclass
class Outcome:
    """What a run did and found."""

    seed: int
    seconds: float
    deaths: dict[str, int]
    faults_injected: int
    orders: int
    runs: int
    notes: int
    replies: int
    retries: int
    abandoned: int
    refused: list[str]
    set_aside: int
    quiet_after_s: float
    report: Report

    def as_json(self) -> dict[str, Any]:
        """The outcome as plain values."""
        return asdict(self)


def torture(
    *,
    seed: int,
    kills: int,
    freezes: int = 0,
    notes: int,
    which: str = "both",
    folder: Path | None = None,
    pause_s: float = 1.0,
    progress: Progress = lambda notes, faults: None,
) -> Outcome:
    """Run load and faults until both are through, let the services settle, and audit their stores.

    The folder holds stores and logs; without one they are in a temporary folder that goes with the run.
    """
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="torture-") as made:
            return torture(
                seed=seed,
                kills=kills,
                freezes=freezes,
                notes=notes,
                which=which,
                folder=Path(made),
                pause_s=pause_s,
                progress=progress,
            )
    began = time.monotonic()
    arena = Arena(folder)
    try:
        arena.start()
        load = Load(arena, seed)
        chaos = Chaos(arena, seed, kills=kills, freezes=freezes, which=which, pause_s=pause_s)
        load.start()
        chaos.start()
        while load.notes_acked < notes or not chaos.is_over:
            load.check()
            progress(load.notes_acked, chaos.done)
            time.sleep(0.2)
        ledger = load.stop()
        quiet_after_s = arena.wait_until_quiet()
        arena.stop()
    finally:
        arena.kill_all()
    return Outcome(
        seed=seed,
        seconds=time.monotonic() - began,
        deaths=dict(arena.deaths),
        faults_injected=chaos.done,
        orders=len(ledger.orders),
        runs=ledger.runs_acked,
        notes=ledger.notes_acked,
        replies=ledger.replies_acked,
        retries=ledger.retries,
        abandoned=ledger.abandoned,
        refused=ledger.refused,
        set_aside=set_aside_in(arena.requestor.store),
        quiet_after_s=quiet_after_s,
        report=audit_arena(arena, ledger),
    )


def audit_arena(arena: Arena, ledger: Ledger) -> Report:
    """Audit the stores of an arena that has stopped."""
    return audit(ledger, arena.requestor.store, arena.processor.store, arena.processor.log)
