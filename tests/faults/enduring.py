"""An arena for many faults, one after the other: its services go on living, and each load has orders of its own."""

from __future__ import annotations

import itertools
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from tests.faults.arena import Arena
from tests.faults.audit import set_aside_in
from tests.faults.ledger import Ledger
from tests.faults.load import Load
from tests.faults.settling import wait_until_settled
from tests.faults.torture import audit_arena

CLIENTS = 3
#: Between two acts of a client, so that several of these arenas find room on one machine.
_PAUSE_S = 0.01


class EnduringArena(Arena):
    """Lives through many faults, so no two loads on it share an order."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._first_clients = itertools.count(step=CLIENTS)
        self._load: Load | None = None

    @contextmanager
    def living(self) -> Iterator[Self]:
        """Both services run for the time of the block; whatever still runs at its end is killed."""
        try:
            self.start()
            yield self
            self.stop()
        finally:
            self.kill_all()

    def start_load(self) -> Load:
        """Start a load with orders of its own."""
        seed, first = secrets.randbelow(2**31), next(self._first_clients)
        print(f"seed {seed}, first client {first}")
        self._load = Load(self, seed, clients=CLIENTS, orders=12, first=first, pause_s=_PAUSE_S)
        self._load.start()
        return self._load

    def stop_load(self) -> Ledger:
        """Let the load come to its end; answers what it was told."""
        load, self._load = self._load, None
        return Ledger() if load is None else load.stop()

    def faults_of(self, ledger: Ledger) -> list[str]:
        """What is wrong with the orders of a load, once all has come to rest."""
        wait_until_settled(self, timeout_s=60)
        faults = audit_arena(self, ledger).faults + ledger.refused
        if count := set_aside_in(self.requestor.store):
            faults.append(f"set aside: {count} messages")
        return faults
