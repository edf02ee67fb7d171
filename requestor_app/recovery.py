"""What a start does before the requestor is ready: take over what an earlier life of this store left unfinished."""

from __future__ import annotations

import time
from functools import partial

from requestor_app import domain
from requestor_app.domain import UNFINISHED, order_of
from requestor_app.measures import RequestorMeasures
from requestor_app.tracking import OrderTracking
from service_kit.change import Step
from service_kit.failpoints import failpoint
from service_kit.logs import get_logger
from service_kit.storage.contract import Store
from service_kit.times import now_ms

_PAGE = 1_000

log = get_logger(__name__)

_PAGE_CLAIMED = failpoint("requestor.recovery.page_claimed")


class Recovery:
    """Claims every unfinished order with the next token and tracks it, as a component that only starts.

    Each order is claimed by a Change of its own, so a death at any point leaves orders to the next start and nothing
    half done.
    """

    name = "recovery"

    def __init__(self, store: Store, tracking: OrderTracking, measures: RequestorMeasures, *, instance_id: str) -> None:
        self._store = store
        self._tracking = tracking
        self._measures = measures
        self._instance_id = instance_id

    def start(self) -> None:
        """Take over and track. Raises `StoreUnavailable`."""
        begun_s = time.perf_counter()
        self._forget_dead_instances()
        taken = self._take_over()
        leftovers = self._track_leftovers()
        self._measures.takeovers.add(by=taken)
        self._measures.takeover_seconds.add(by=time.perf_counter() - begun_s)
        if taken or leftovers:
            log.info("Took over unfinished orders", action="recovery.done", orders=taken, with_unsent_notes=leftovers)

    def stop(self, timeout_s: float) -> None:
        """Nothing runs."""

    def check(self) -> str | None:
        """None: it is over when `start` returns."""
        return None

    def _forget_dead_instances(self) -> None:
        # The store's lock makes sure that no other instance is alive on it.
        for lease in self._store.leases():
            if lease.instance != self._instance_id:
                self._store.end_lease(lease.instance)

    def _take_over(self) -> int:
        taken, cursor = 0, None
        while True:
            page = self._store.page(tenant=None, states=UNFINISHED, cursor=cursor, limit=_PAGE)
            take = partial(domain.take_over, owner=self._instance_id, now_ms=now_ms())
            for result in self._store.update_all([Step(record.ref, take) for record in page.records]):
                if isinstance(result, Exception):
                    raise result
                if result is not None:
                    self._tracking.track(order_of(result.record), now_ms())
                    taken += 1
            _PAGE_CLAIMED()
            cursor = page.next_cursor
            if cursor is None:
                return taken

    def _track_leftovers(self) -> int:
        """Track the finished orders that still have something to relay."""
        found = 0
        for ref in self._store.pending_refs():
            record = None if self._tracking.view(ref) is not None else self._store.get(ref)
            if record is not None and self._tracking.track(order_of(record), now_ms()):
                found += 1
        return found
