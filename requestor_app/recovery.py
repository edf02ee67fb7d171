"""Takes over what no living instance holds: at the start, and with a shared store for as long as this instance runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Iterator
from functools import partial

from requestor_app import domain
from requestor_app.domain import UNFINISHED, Order, order_of
from requestor_app.measures import RequestorMeasures
from requestor_app.supervisor import Supervisor
from requestor_app.tracking import OrderTracking
from service_kit.background import Background
from service_kit.change import Record, Ref, Step
from service_kit.errors import ServiceError
from service_kit.failpoints import failpoint
from service_kit.logs import get_logger
from service_kit.sharing import chosen
from service_kit.storage.contract import Lease, Store
from service_kit.times import now_ms

_PAGE = 1_000
#: Between two looks at the leases.
LOOK_S = 0.5
#: Orders of a dead instance that the one they fall to has not taken for so long, anybody takes.
PATIENCE_S = 2.0
#: After the store did not answer.
AFTER_FAILURE_S = 2.0
#: Between two looks for messages that nobody relays, and at a part of this instance's own orders.
LEFTOVERS_S = 5.0
#: In so many looks every order of this instance is compared with its record.
_PARTS = 4

log = get_logger(__name__)

_PAGE_CLAIMED = failpoint("requestor.recovery.page_claimed")


class Recovery(Background):
    """Claims the unfinished orders of instances that are gone, with the next token, and tracks them; a component.

    Each order is claimed by a Change of its own, so a death at any point leaves orders to the next and nothing half
    done. Of several instances, each takes the orders that fall to it.
    """

    name = "recovery"
    not_running = "orders of other instances are not taken over"

    def __init__(
        self,
        store: Store,
        tracking: OrderTracking,
        supervisor: Supervisor,
        measures: RequestorMeasures,
        *,
        instance_id: str,
    ) -> None:
        super().__init__()
        self._store = store
        self._tracking = tracking
        self._supervisor = supervisor
        self._measures = measures
        self._instance_id = instance_id
        self._wake = threading.Event()
        #: Instances that own orders and hold no lease, by the time when that was first seen.
        self._gone: dict[str, float] = {}
        self._part = 0

    # ---- the component

    def start(self) -> None:
        """Take over and track; then, over a shared store, keep looking. Raises `StoreUnavailable`."""
        if not self._store.is_shared:
            self._forget_dead_instances()
        taken = self._look()
        leftovers = self._track_leftovers()
        if taken or leftovers:
            log.info("Took over unfinished orders", action="recovery.done", orders=taken, with_unsent_notes=leftovers)
        if self._store.is_shared:
            super().start()

    def stop(self, timeout_s: float) -> None:
        """Take over nothing more. Safe to call twice."""
        self._stopping.set()
        self._wake.set()
        super().stop(timeout_s)

    def check(self) -> str | None:
        """None, unless the thread that looks after a shared store has ended."""
        return super().check() if self._store.is_shared else None

    def look_now(self) -> None:
        """Look at the leases at once: somebody has said that an instance is gone."""
        self._wake.set()

    def _run(self) -> None:
        looked_s = time.monotonic()
        while not self._stopping.is_set():
            self._wake.wait(LOOK_S)
            self._wake.clear()
            if self._stopping.is_set() or self._supervisor.objection() is not None:
                continue
            try:
                if taken := self._look():
                    log.info("Took over orders of an instance that is gone", action="recovery.taken", orders=taken)
                if time.monotonic() - looked_s > LEFTOVERS_S:
                    looked_s = time.monotonic()
                    self._track_leftovers()
                    self._compare()
            except ServiceError as error:
                # When the store is back, the others need a moment to renew their leases.
                self._stopping.wait(AFTER_FAILURE_S)
                log.warning("The leases cannot be looked at", action="recovery.failed", reason=error.detail)
            except Exception as error:
                log.error("Orders could not be taken over", action="recovery.failed", exc_info=error)

    # ---- dead instances

    def _forget_dead_instances(self) -> None:
        # The store's lock makes sure that no other instance is alive on it.
        for lease in self._store.leases():
            if lease.instance != self._instance_id:
                self._store.end_lease(lease.instance)

    def _look(self) -> int:
        """Take over what falls to this instance; answers how many orders."""
        begun_s = time.perf_counter()
        leases, at_ms = self._store.leases(), self._store.now_ms()
        alive = {self._instance_id} | {lease.instance for lease in leases if lease.until_ms > at_ms}
        now_s = time.monotonic()
        owners = set(self._store.owners()) - alive
        self._gone = {owner: self._gone.get(owner, now_s) for owner in owners}
        taken = 0
        for owner, since_s in self._gone.items():
            others = () if now_s - since_s > PATIENCE_S else alive
            taken += self._take_over(owner, others)
        if taken:
            self._measures.takeovers.add(by=taken)
            self._measures.takeover_seconds.add(by=time.perf_counter() - begun_s)
        self._forget(leases, alive | owners)
        return taken

    def _forget(self, leases: Collection[Lease], needed: Collection[str]) -> None:
        """Drop ended leases of instances that own nothing more."""
        for lease in leases:
            if lease.instance not in needed:
                self._store.end_lease(lease.instance)

    def _take_over(self, owner: str, alive: Collection[str]) -> int:
        taken = 0
        for records in self._pages(owner):
            take = partial(domain.take_over, of=owner, owner=self._instance_id, now_ms=now_ms())
            mine = [r.ref for r in records if not alive or chosen(r.ref, alive) == self._instance_id]
            for result in self._store.update_all([Step(ref, take) for ref in mine]):
                if isinstance(result, Exception):
                    raise result
                if result is not None:
                    self._supervisor.launch(order_of(result.record))
                    taken += 1
            _PAGE_CLAIMED()
        return taken

    def _pages(self, owner: str) -> Iterator[tuple[Record, ...]]:
        cursor = None
        while True:
            page = self._store.page(tenant=None, states=UNFINISHED, owner=owner, cursor=cursor, limit=_PAGE)
            yield page.records
            cursor = page.next_cursor
            if cursor is None:
                return

    # ---- messages that nobody relays

    def _track_leftovers(self) -> int:
        """Relay what waits of this instance's orders, and track the finished orders that fall to it and still wait."""
        waiting = self._store.pending_refs()
        for ref in waiting:
            if self._tracking.view(ref) is not None:
                self._supervisor.nudge(ref)
        unknown = [ref for ref in waiting if self._tracking.view(ref) is None]
        found = 0
        for start in range(0, len(unknown), _PAGE):
            records = self._store.get_many(unknown[start : start + _PAGE])
            for order in map(order_of, records.values()):
                if self._is_left_over(order) and self._tracking.track(order, now_ms()):
                    self._supervisor.nudge(order.ref)
                    found += 1
        return found

    def _is_left_over(self, order: Order) -> bool:
        """Whether nobody relays for the order but this instance. Two that do would do no harm."""
        return not order.is_unfinished or order.owner == self._instance_id

    # ---- a store that fell back to an older state

    def _compare(self) -> None:
        """Have those orders looked at again that this instance holds and the store gives to nobody, or to another."""
        self._part = (self._part + 1) % _PARTS
        refs = self._tracking.launched()[self._part :: _PARTS]
        for start in range(0, len(refs), _PAGE):
            part = refs[start : start + _PAGE]
            records = self._store.get_many(part)
            for ref in part:
                if ref not in records or records[ref].owner != self._instance_id:
                    self._supervisor.look_again(ref)

    def nudge(self, refs: Collection[Ref]) -> None:
        """Relay what another instance has put into the outboxes of these orders, as far as they are here."""
        for ref in refs:
            if self._tracking.view(ref) is not None:
                self._supervisor.nudge(ref)
