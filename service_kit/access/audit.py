"""The audit log: who did what, kept in the access store and told in the log."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

from service_kit.access.model import AccessStore, AuditEntry
from service_kit.errors import ServiceError
from service_kit.logs import get_logger

#: Of what is refused at the door, so many lines are kept for each key, and for all strangers together, in this time:
#: nobody pushes out what was done by being refused again and again.
REFUSALS, PERIOD_S = 60, 600.0
_MORE = "; more of these are not listed for ten minutes"
_log = get_logger(__name__)


class AuditLog:
    """Keeps lines of the audit log. Any thread may write; a line is on disk when the call returns."""

    def __init__(self, store: AccessStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        #: Guards the count of refusals.
        self._lock = threading.Lock()
        self._refused: Counter[str] = Counter()
        self._began_s = clock()

    def write(self, entry: AuditEntry) -> None:
        """Keep a line. What it tells of has happened; so a store that fails is told of in the log, and nowhere else."""
        _log.info(
            f"{entry.key_id} {entry.action} {entry.target}: {entry.outcome}",
            action="audit.action",
            tenant=entry.tenant,
            key_id=entry.key_id,
            deed=entry.action,
            target=entry.target,
            address=entry.address,
            outcome=entry.outcome,
        )
        try:
            self._store.record(entry)
        except ServiceError as error:
            _log.error("A line of the audit log was not kept", action="audit.not_kept", reason=error.detail)

    def write_refusal(self, entry: AuditEntry) -> None:
        """Keep a line about somebody who was not let in, unless there are many of them."""
        count = self._count_refusal(entry.key_id)
        if count < REFUSALS:
            self.write(entry)
        elif count == REFUSALS:
            self.write(replace(entry, outcome=entry.outcome + _MORE))

    def newest(self, tenant: str | None, limit: int) -> Sequence[AuditEntry]:
        """The newest lines, newest first. Raises `StoreUnavailable`."""
        return self._store.audit(tenant, limit=limit)

    def _count_refusal(self, key_id: str) -> int:
        with self._lock:
            if self._clock() - self._began_s >= PERIOD_S:
                self._refused.clear()
                self._began_s = self._clock()
            self._refused[key_id] += 1
            return self._refused[key_id]
