"""How many notes may wait for the processor, over all orders; above it a new one is refused before it is accepted."""

from __future__ import annotations

import threading

from service_kit.errors import Unavailable
from service_kit.storage.contract import Store

MAX_UNSENT = 100_000


class OutboxFull(Unavailable):
    """Too many notes wait for the processor; nothing was accepted."""

    code = "outbox_full"
    title = "Too many unsent follow-ups"


class OutboxLimit:
    """Counts the store's pending messages: exactly at each refresh, from above between two."""

    def __init__(self, store: Store, *, limit: int = MAX_UNSENT) -> None:
        self._store = store
        self._limit = limit
        #: Guards the two numbers.
        self._lock = threading.Lock()
        self._counted = 0
        self._added = 0

    @property
    def unsent(self) -> int:
        """How many wait, at most."""
        return self._counted + self._added

    def admit(self) -> None:
        """Count one more message. Raises `OutboxFull`."""
        with self._lock:
            if self._counted + self._added >= self._limit:
                raise OutboxFull(f"{self._limit} follow-ups wait for the processor.", retry_after_s=5)
            self._added += 1

    def refresh(self) -> None:
        """Count anew. Raises `StoreUnavailable`."""
        with self._lock:
            before = self._added
        counted = self._store.outbox_counts().get("pending", 0)
        with self._lock:
            # What was admitted during the count may be counted twice until the next one: too many, never too few.
            self._counted, self._added = counted, self._added - before
