"""The use cases of the requestor: what the REST side asks for."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from requestor_app import deliveries, domain
from requestor_app.deliveries import Delivery, deliveries_of
from requestor_app.domain import (
    FINISHED,
    CloseKind,
    FollowUp,
    Order,
    OrderHeld,
    OrderNotFound,
    OrderRequest,
    OrderState,
    order_of,
)
from requestor_app.live_limit import LiveLimit, TooManyLive
from requestor_app.measures import RequestorMeasures
from requestor_app.outbox_limit import OutboxLimit
from requestor_app.peers import Peers
from requestor_app.supervisor import Supervisor
from requestor_app.tracking import OrderTracking, StreamView, Tracked, fingerprint_of
from service_kit.change import Change, Entry, Message, Record, Ref, Step
from service_kit.errors import Unavailable
from service_kit.failpoints import Failpoint, failpoint
from service_kit.hints import Hints
from service_kit.logs import get_logger
from service_kit.lookup import search
from service_kit.storage.contract import Store
from service_kit.times import now_ms
from service_kit.tracing import current_origin

log = get_logger(__name__)

_RESERVED = failpoint("requestor.initiate.reserved")
_CLAIMED = failpoint("requestor.initiate.claimed")
_LAUNCHED = failpoint("requestor.initiate.launched")
_NOTE_KEPT = failpoint("requestor.follow_up.kept")
_CLOSE_KEPT = failpoint("requestor.close.kept")

#: How many notes and deliveries one answer holds at most; the rest is in the order's events.
MAX_LISTED = 1_000
#: The topic of hints that an order's outbox has something to relay.
OUTBOX = "outbox"


@dataclass(frozen=True, slots=True)
class OrderDetails:
    """Everything about one order, as the store and this instance's streams say it."""

    order: Order
    stream: StreamView | None
    notes: tuple[Entry, ...]
    outbox: tuple[Message, ...]
    deliveries: tuple[Delivery, ...]


@dataclass(frozen=True, slots=True)
class TrackingStatus:
    """Counts over the orders of a tenant, and one page of their ids, newest first."""

    total_orders: int
    active_streams: int
    open_streams: int
    states: dict[str, int]
    order_ids: tuple[str, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class OrderPage:
    """One page of orders, newest first."""

    orders: tuple[Order, ...]
    next_cursor: str | None


class Orders:
    """Takes orders and what is added to them; every answer follows the commit."""

    def __init__(
        self,
        store: Store,
        tracking: OrderTracking,
        supervisor: Supervisor,
        limit: OutboxLimit,
        measures: RequestorMeasures,
        *,
        live: LiveLimit,
        peers: Peers,
        hints: Hints,
        instance_id: str,
    ) -> None:
        self._store = store
        self._peers = peers
        self._hints = hints
        self._tracking = tracking
        self._supervisor = supervisor
        self._limit = limit
        self._live = live
        self._measures = measures
        self._instance_id = instance_id
        self._count_lock = threading.Lock()
        #: By tenant.
        self._duplicates_refused: Counter[str] = Counter()

    def duplicates_refused(self, tenant: str | None = None) -> int:
        """How often an initiate found its order live already, since the start; of all tenants when None."""
        with self._count_lock:
            return self._duplicates_refused.total() if tenant is None else self._duplicates_refused[tenant]

    def initiate(self, request: OrderRequest) -> bool:
        """Claim an order and launch its stream; False when it is live already.

        Raises `OrderHeld` when it is live with another session or content, `TooManyLive` when as many orders are live
        as may be; then nothing of it is kept. Raises `Unavailable` when this cannot be told now; then the order may be
        kept all the same, and sending it again is safe.
        """
        at_ms = now_ms()
        slot = self._tracking.reserve(request.ref, fingerprint_of(request), at_ms)
        if isinstance(slot, StreamView) and self._supervisor.objection() is None:
            return self._refuse_duplicate(request)
        try:
            return self._claim(request, at_ms)
        except OrderHeld:
            raise
        except BaseException:
            self._supervisor.look_again(request.ref)
            raise
        finally:
            if isinstance(slot, Tracked):
                self._tracking.release(slot)

    def _claim(self, request: OrderRequest, at_ms: int) -> bool:
        _RESERVED()
        if (reason := self._supervisor.objection()) is not None:
            raise Unavailable(f"No order can be taken just now: {reason}.", retry_after_s=1)
        self._admit(request.ref)
        decide = partial(
            domain.initiate, request=request, owner=self._instance_id, now_ms=at_ms, origin=current_origin()
        )
        change = self._store.update(Step(request.ref, decide))
        if change is None:
            # Its stream may have been lost with the thread that claimed it.
            self._supervisor.look_again(request.ref)
            return self._refuse_duplicate(request)
        _CLAIMED()
        self._measures.accepted.add("order")
        log.info(
            f"Added order {request.ref.key} to tracking list",
            action="order.tracked",
            order_req_id=request.ref.key,
            session_id=request.session_id,
        )
        self._supervisor.launch(order_of(change.record))
        _LAUNCHED()
        return True

    def _admit(self, ref: Ref) -> None:
        """Let one more order be live; one that is live already may be begun again, whatever the limit."""
        try:
            self._live.admit(ref.tenant)
        except TooManyLive:
            record = self._store.get(ref)
            if record is None or record.state in FINISHED:
                raise

    def _refuse_duplicate(self, request: OrderRequest) -> bool:
        with self._count_lock:
            self._duplicates_refused[request.ref.tenant] += 1
        log.info(
            f"Order {request.ref.key} already has active gRPC stream. Preventing duplicate stream.",
            action="order.duplicate",
            order_req_id=request.ref.key,
        )
        return False

    def follow_up(self, note: FollowUp) -> bool:
        """Keep a note and relay it; False when the same note was kept before.

        Raises `OutboxFull`, or what `domain.add_follow_up` raises.
        """
        self._limit.admit()
        step = Step(
            note.ref,
            partial(domain.add_follow_up, note=note, now_ms=now_ms(), origin=current_origin()),
            entry_ids=(domain.note_entry_id(note.follow_up_id),),
        )
        change = self._update(step, _NOTE_KEPT)
        if change is None:
            return False
        self._measures.accepted.add(domain.FOLLOW_UP)
        log.info(
            f"Added follow-up note to order tracking for {note.ref.key}",
            action="order.note_added",
            order_req_id=note.ref.key,
            follow_up_id=note.follow_up_id,
        )
        return True

    def close(self, ref: Ref, kind: CloseKind, reason: str) -> Order:
        """Ask for the order's end, behind the notes taken before; repeating it changes nothing."""
        order = self.get(ref)
        step = Step(
            ref,
            partial(domain.request_close, kind=kind, reason=reason, now_ms=now_ms(), origin=current_origin()),
            message_ids=(domain.close_message_id(order.run),),
        )
        change = self._update(step, _CLOSE_KEPT)
        if change is None:
            return self.get(ref)
        self._measures.accepted.add(domain.CLOSE)
        log.info(f"Asked to {kind} order {ref.key}", action="order.close_requested", order_req_id=ref.key, kind=kind)
        return order_of(change.record)

    def _update(self, step: Step, kept: Failpoint) -> Change | None:
        """Change an order's outbox and have it relayed, also when nobody can tell whether it was changed."""
        try:
            change = self._store.update(step)
            kept()
        except Unavailable:
            self._supervisor.look_again(step.ref)
            raise
        finally:
            if not self._supervisor.nudge(step.ref):  # another instance may hold it
                self._hints.send(OUTBOX, [step.ref])
        return change

    # ---- cleanup

    def purge(self, retention_s: float, limit: int) -> int:
        """Remove orders that ended that long ago with all that is theirs; answers how many went."""
        before_ms = now_ms() - int(retention_s * 1000)
        return self._store.purge(states=FINISHED, before_ms=before_ms, limit=limit)

    # ---- reads

    def get(self, ref: Ref) -> Order:
        """The order. Raises `OrderNotFound`."""
        return order_of(self._record(ref))

    def _record(self, ref: Ref) -> Record:
        record = self._store.get(ref)
        if record is None:
            raise OrderNotFound("No order has this id.")
        return record

    def notes(self, ref: Ref) -> tuple[Order, list[Entry]]:
        """The order and its follow-ups, oldest first."""
        order = self.get(ref)
        notes = self._store.entries(ref, kinds=("note_added",), limit=MAX_LISTED) if order.notes_count else []
        return order, notes

    def details(self, ref: Ref) -> OrderDetails:
        """Everything about the order."""
        order, notes = self.notes(ref)
        return OrderDetails(
            order=order,
            stream=self._peers.view(order),
            notes=tuple(notes),
            outbox=tuple(self._store.messages(ref, limit=MAX_LISTED)),
            deliveries=tuple(deliveries_of(self._every_entry(ref, deliveries.KINDS))[:MAX_LISTED]),
        )

    def _every_entry(self, ref: Ref, kinds: Sequence[str]) -> Iterator[Entry]:
        """All entries of these kinds: the state of a delivery is that of its last one."""
        after = 0
        while part := self._store.entries(ref, after=after, limit=MAX_LISTED, kinds=kinds):
            yield from part
            after = part[-1].seq

    def stream_view(self, order: Order) -> StreamView | None:
        """How the order's stream stands; None when no instance says so."""
        return self._peers.view(order)

    def events(self, ref: Ref, *, after: int, limit: int) -> list[Entry]:
        """The order's timeline above ``after``."""
        self._record(ref)
        return self._store.entries(ref, after=after, limit=limit)

    def page(
        self,
        tenant: str,
        *,
        states: Sequence[str],
        session_id: str | None,
        cursor: str | None,
        limit: int,
        prefix: str | None = None,
    ) -> OrderPage:
        """Orders newest first, filtered; by the beginning of their ids, a page may hold less and not be the last."""
        page = search(self._store, tenant, prefix, states=states, group=session_id, cursor=cursor, limit=limit)
        return OrderPage(tuple(order_of(record) for record in page.records), page.next_cursor)

    def tracking_status(self, tenant: str, *, cursor: str | None, limit: int) -> TrackingStatus:
        """Counts from the store; a stream is active from the claim of its order to the order's end."""
        states = self._store.counts(tenant)
        page = self._store.keys(tenant, cursor=cursor, limit=limit)
        return TrackingStatus(
            total_orders=sum(states.values()),
            active_streams=states.get(OrderState.LIVE, 0) + states.get(OrderState.CLOSING, 0),
            open_streams=self._peers.open_streams(tenant),
            states=states,
            order_ids=page.keys,
            next_cursor=page.next_cursor,
        )
