"""The instance lease: how long this process may act for its orders.

The clock of the promise is this process's monotonic one, counted from before the store was asked, and it ends a margin
early. So a process that was frozen, or whose store is away, knows that its time is over before anybody else acts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from service_kit.errors import ServiceError
from service_kit.failpoints import failpoint
from service_kit.logs import get_logger
from service_kit.storage.contract import Store

log = get_logger(__name__)

_RENEWING = failpoint("requestor.lease.renewing")


class InstanceLease:
    """Renews the lease of one instance, as a component: every third of its length, and faster when that fails."""

    name = "lease"

    def __init__(
        self,
        store: Store,
        *,
        instance_id: str,
        lease_s: float,
        on_change: Callable[[], None] = lambda: None,
        on_regain: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        #: Is called before this instance may act again after its lease had lapsed.
        self._on_regain = on_regain
        #: Is called once the lease is taken, and once it is given back, for others to hear of it.
        self._on_change = on_change
        self._instance_id = instance_id
        self._lease_s = lease_s
        self._held_until = 0.0
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def is_held(self) -> bool:
        """Whether this instance may act now."""
        return time.monotonic() < self._held_until

    def start(self) -> None:
        """Take the lease and keep it. Raises `StoreUnavailable` when the store cannot give it."""
        self._renew()
        self._on_change()
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Stop acting and give the lease back. Safe to call twice."""
        self._stopping.set()
        thread, self._thread = self._thread, None
        if thread is None:
            return
        thread.join(timeout_s)
        self._held_until = 0.0
        try:
            self._store.end_lease(self._instance_id)
            self._on_change()
        except ServiceError as error:
            log.warning("The lease could not be given back", action="lease.end_failed", reason=error.detail)

    def check(self) -> str | None:
        """None while the lease is held."""
        if self._thread is None or not self._thread.is_alive():
            return "the lease is not renewed"
        return None if self.is_held else "the instance's lease has lapsed"

    def _run(self) -> None:
        pause_s, retry_s = self._lease_s / 3, min(1.0, self._lease_s / 12)
        while not self._stopping.wait(pause_s):
            try:
                was_held = self.is_held
                self._renew()
                pause_s = self._lease_s / 3
                if not was_held:
                    log.warning("The lease had lapsed and is held again", action="lease.regained")
            except ServiceError as error:  # its cause stands in the log once, by the store
                pause_s = retry_s
                log.error("The lease could not be renewed", action="lease.renew_failed", reason=error.detail)
            except Exception as error:
                pause_s = retry_s
                log.error("The lease could not be renewed", action="lease.renew_failed", exc_info=error)

    def _renew(self) -> None:
        _RENEWING()
        asked_at = time.monotonic()
        self._store.renew_lease(self._instance_id, int(self._lease_s * 1000))
        if self._held_until and not self.is_held:
            self._on_regain()
        self._held_until = asked_at + self._lease_s * 2 / 3
