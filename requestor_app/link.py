"""One link to a processor: everything that has queued up goes out on its trunk as one message.

What comes in is applied by ``arrivals``.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping
from functools import partial
from typing import Protocol

from requestor_app import domain
from requestor_app.arrivals import Arrivals, OrderOwner, names_of
from requestor_app.domain import CLOSE, UNFINISHED, CloseKind, FollowUp, Order, order_of
from requestor_app.measures import RequestorMeasures
from requestor_app.tracking import OrderTracking, StreamState, Tracked
from requestor_app.traffic import Closing, Incoming, Opening, Outgoing, Relay
from service_kit.change import Message, Ref, Step
from service_kit.errors import ServiceError
from service_kit.failpoints import failpoint
from service_kit.logs import get_logger
from service_kit.origin import Origin, origin_of
from service_kit.storage.contract import Store
from service_kit.times import now_ms

#: The most items of a kind in one message.
BATCH = 512
#: Streams asked for and not answered; above it reopening waits.
MAX_OPENING = 2_048
#: A link that has been up for so long is trusted with streams that are open elsewhere.
TRUSTED_S = 2.0

log = get_logger(__name__)

_TAKEN = failpoint("requestor.trunk.taken")


class LinkOwner(OrderOwner, Protocol):
    """Whoever spreads the orders over the links."""

    def is_of(self, ref: Ref, link: Link) -> bool:
        """Whether the order's stream belongs on this link, as things stand."""

    def spread(self) -> None:
        """Have the links that are up open what the others have lost."""


class Link:
    """The user of one trunk: opens the streams of its orders, relays their outboxes, applies their events."""

    def __init__(
        self,
        target: str,
        owner: LinkOwner,
        store: Store,
        tracking: OrderTracking,
        measures: RequestorMeasures,
        *,
        instance_id: str,
        numbers: Iterable[int],
    ) -> None:
        self.target = target
        self._owner = owner
        self._store = store
        self._tracking = tracking
        self._measures = measures
        self._instance_id = instance_id
        #: Numbers streams, and the sendings of outboxes; the same for all links.
        self._numbers = iter(numbers)
        self._stopping = threading.Event()
        self._arrivals = Arrivals(
            owner,
            store,
            tracking,
            measures,
            instance_id=instance_id,
            stopping=self._stopping,
            acknowledge=self._acknowledge,
        )
        self._error = "no processor has answered yet"
        #: Guards the queues below; held for memory work only.
        self._wake = threading.Condition()
        self._is_connected = False
        self._connected_s = 0.0
        self._fresh: deque[Order] = deque()
        #: Orders whose outbox is to be read: whether from its beginning, or behind what was sent.
        self._dirty: dict[Ref, bool] = {}
        self._acks: dict[Ref, int] = {}
        #: Where reopening stands: the cursor of the next page, or None when it is through.
        self._reopen_cursor: str | None = None
        self._is_reopening = False
        #: Whether it also takes streams over that are open on other links; and whether it has begun to.
        self._is_moving = False
        self._has_moved = False

    # ---- for the supervisor

    @property
    def is_connected(self) -> bool:
        """Whether the processor has answered on the present trunk."""
        return self._is_connected

    @property
    def error(self) -> str:
        """Why the last trunk ended."""
        return self._error

    @property
    def is_settled(self) -> bool:
        """Whether no stream is about to be asked for."""
        return not self._is_reopening and not self._fresh

    def stop(self) -> None:
        """Wait for nothing any more."""
        self._stopping.set()
        with self._wake:
            self._wake.notify_all()

    def open(self, order: Order) -> None:
        """Have the order's stream opened, if the link is up; else connecting finds it."""
        with self._wake:
            if self._is_connected:
                self._fresh.append(order)
                self._wake.notify()

    def relay(self, ref: Ref, *, anew: bool = False) -> None:
        """Have the order's outbox read: from its beginning, or behind what was sent."""
        with self._wake:
            self._mark(ref, anew=anew)
            self._wake.notify()

    def relay_if_connected(self, ref: Ref) -> None:
        """Have the order's outbox read from its beginning; connecting does that by itself."""
        with self._wake:
            if self._is_connected:
                self._mark(ref, anew=True)
                self._wake.notify()

    def _mark(self, ref: Ref, *, anew: bool = False) -> None:
        self._dirty[ref] = anew or self._dirty.get(ref, False)

    def reopen(self) -> None:
        """Open every stream that belongs here and is open nowhere, if the link is up."""
        draining = self._tracking.listed(StreamState.DRAINING)
        with self._wake:
            if self._is_connected:
                self._is_reopening, self._reopen_cursor = True, None
                self._dirty.update((ref, True) for ref in draining if self._owner.is_of(ref, self))
                self._wake.notify()

    def attract(self) -> None:
        """Once the link can be trusted, take over the streams that belong here and are open on other links."""
        with self._wake:
            is_due = self._is_connected and not self._is_reopening and not self._has_moved
            if is_due and time.monotonic() - self._connected_s > TRUSTED_S:
                self._is_moving = self._has_moved = True
                self._is_reopening, self._reopen_cursor = True, None
                self._wake.notify()

    # ---- the user of the trunk

    def objection(self) -> str | None:
        """Why there may be no trunk just now."""
        return self._owner.objection()

    def connected(self) -> None:
        """Begin to open every stream that belongs here."""
        log.info(
            "Connected to the processor", action="trunk.connected", orders=len(self._tracking), processor=self.target
        )
        with self._wake:
            self._is_connected = True
            self._connected_s = time.monotonic()
            self._is_moving = self._has_moved = False
        self.reopen()

    def lost(self, reason: str) -> None:
        """Note that every stream of this link is to be opened again, here or elsewhere."""
        with self._wake:
            was_connected, self._is_connected = self._is_connected, False
            self._error = reason
            for queue in (self._fresh, self._dirty, self._acks):
                queue.clear()
            self._is_reopening = False
            self._wake.notify_all()
        open_before = self._tracking.lose_all(reason, now_ms(), link=self.target)
        if was_connected:
            self._measures.lost_trunks.add()
            log.warning(
                "Lost the processor",
                action="trunk.lost",
                reason=reason,
                open_streams=open_before,
                processor=self.target,
            )
            self._owner.spread()

    def take(self, timeout_s: float) -> Outgoing:
        """Wait for what is to be sent next; empty after the time-out."""
        with self._wake:
            if not self._has_work() and not self._stopping.is_set():
                self._wake.wait(timeout_s)
            orders = [self._fresh.popleft() for _ in range(min(BATCH, len(self._fresh)))]
            dirty = {ref: self._dirty.pop(ref) for ref in list(itertools.islice(self._dirty, BATCH))}
            acks, self._acks = self._acks, {}
            is_reopening = self._is_reopening
        try:
            if is_reopening and not orders:
                orders = self._next_reopens()
            relays, closings = self._read_outbox(dirty)
        except ServiceError as error:
            log.warning("The outbox cannot be read", action="outbox.read_failed", reason=error.detail)
            with self._wake:
                for ref, anew in dirty.items():
                    self._mark(ref, anew=anew)
            self._stopping.wait(0.2)
            relays, closings = [], []
        _TAKEN()
        return Outgoing(self._begin(orders), relays, closings, acks, queue_depth=len(self._fresh) + len(self._dirty))

    def give_back(self, outgoing: Outgoing) -> None:
        """Let the next trunk send what this one took and did not; nobody would look at it again otherwise."""
        at_ms = now_ms()
        for opening in outgoing.openings:
            ref = opening.order.ref
            self._tracking.move(ref, opening.stream_id, StreamState.CONNECTING, at_ms, self._error)
            self._owner.look_again(ref)
        with self._wake:
            for ref in {relay.note.ref for relay in outgoing.relays} | {closing.ref for closing in outgoing.closings}:
                self._mark(ref, anew=True)
            for ref, seq in outgoing.acks.items():
                self._acks[ref] = max(seq, self._acks.get(ref, 0))
            self._wake.notify()

    def _has_work(self) -> bool:
        return bool(self._fresh or self._dirty or self._acks or self._is_reopening)

    def _next_reopens(self) -> list[Order]:
        """The next page of this instance's unfinished orders; none while too many are asked for already."""
        if self._tracking.count(StreamState.OPENING) > MAX_OPENING:
            self._stopping.wait(0.02)
            return []
        cursor = self._reopen_cursor
        page = self._store.page(tenant=None, states=UNFINISHED, owner=self._instance_id, cursor=cursor, limit=BATCH)
        with self._wake:
            if self._reopen_cursor == cursor:  # else another trunk has begun from the first page
                self._reopen_cursor = page.next_cursor
                self._is_reopening = page.next_cursor is not None
        # Only now: a link that was lost since has asked for another reopening, or its orders belong here already.
        return [order_of(record) for record in page.records if self._owner.is_of(record.ref, self)]

    def _begin(self, orders: Iterable[Order]) -> list[Opening]:
        openings = []
        at_ms = now_ms()
        for order in orders:
            stream_id = f"{self._instance_id}-{next(self._numbers)}"
            tracked = self._tracking.begin_open(
                order.ref, order.token, stream_id, at_ms, link=self.target, is_moving=self._is_moving
            )
            if tracked is not None:
                openings.append(Opening(order, stream_id))
        return openings

    def _read_outbox(self, dirty: Mapping[Ref, bool]) -> tuple[list[Relay], list[Closing]]:
        """Read what these orders have to relay, in order for each."""
        ready = self._ready(dirty)
        relays: list[Relay] = []
        closings: list[Closing] = []
        if not ready:
            return relays, closings
        pending = self._store.pending_of_many({ref: tracked.relayed for ref, tracked in ready.items()}, limit=BATCH)
        for ref, messages in pending.items():
            tracked = ready[ref]
            for message in messages:
                try:
                    if message.kind == CLOSE:
                        closings.append(_closing(message, tracked))
                    else:
                        relays.append(_relay(message, tracked))
                except (KeyError, TypeError, ValueError) as error:
                    self._set_aside(ref, message, error)
        for ref, messages in pending.items():  # at last, since a message that cannot be set aside now ends all of this
            ready[ref].relayed = messages[-1].position
        if sum(map(len, pending.values())) >= BATCH:  # there may be more behind the limit
            with self._wake:
                for ref in ready:
                    self._mark(ref)
        return relays, closings

    def _ready(self, dirty: Mapping[Ref, bool]) -> dict[Ref, Tracked]:
        """The orders that can be relayed now, each with the place to go on from; the others wait for their streams."""
        ready = {}
        for ref, anew in dirty.items():
            tracked = self._tracking.find(ref)
            if tracked is None or tracked.state not in (StreamState.OPEN, StreamState.DRAINING):
                continue
            if tracked.state is StreamState.OPEN and tracked.link != self.target:
                continue
            if anew:
                tracked.relayed = 0
            if anew or not tracked.sending:
                tracked.sending = next(self._numbers)
            ready[ref] = tracked
        return ready

    def _set_aside(self, ref: Ref, message: Message, error: Exception) -> None:
        log.error(
            "A message cannot be relayed", action="outbox.set_aside", exc_info=error, **names_of(self._store, ref)
        )
        reason = "this requestor could not read it; see its log"
        decide = partial(domain.set_aside, message_id=message.message_id, reason=reason, now_ms=now_ms())
        self._store.update(Step(ref, decide, message_ids=(message.message_id,)))

    def received(self, incoming: Incoming) -> None:
        """Apply one message of the processor in one commit, then acknowledge it.

        Raises when the store cannot take it; the trunk is then built anew and nothing is lost.
        """
        self._arrivals.apply(incoming)

    def _acknowledge(self, ref: Ref, seq: int) -> None:
        with self._wake:
            self._acks[ref] = seq
            self._wake.notify()


def _origin_of(message: Message) -> Origin:
    return origin_of(message.body.get("origin", ""))


def _relay(message: Message, tracked: Tracked) -> Relay:
    body = message.body
    note = FollowUp(
        ref=tracked.ref,
        follow_up_id=body["follow_up_id"],
        audience=tuple(body["audience"]),
        message_type=body["message_type"],
        message=body["message"],
        urls=tuple(body["urls"]),
    )
    return Relay(note, tracked.token, message.created_ms, tracked.sending, _origin_of(message))


def _closing(message: Message, tracked: Tracked) -> Closing:
    body = message.body
    kind = CloseKind(body["kind"])
    return Closing(tracked.ref, body["run"], kind, body["reason"], tracked.token, tracked.sending, _origin_of(message))
