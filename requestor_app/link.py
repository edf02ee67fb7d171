"""One link to a processor: what goes out on its trunk, and what comes in.

Everything that has queued up goes out as one message; what the processor sends is applied as one commit per message.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Protocol

from requestor_app import domain
from requestor_app.domain import (
    CLOSE,
    UNFINISHED,
    Acknowledgement,
    CloseKind,
    Event,
    FollowUp,
    Order,
    OrderNotFound,
    order_of,
)
from requestor_app.measures import RequestorMeasures
from requestor_app.tracking import OrderTracking, StreamState, Tracked
from requestor_app.traffic import (
    Closed,
    Closing,
    Incoming,
    Opened,
    Opening,
    Outgoing,
    Refusal,
    Refused,
    Relay,
    Snapshot,
)
from service_kit.change import Change, Message, Ref, Step
from service_kit.errors import Fenced, ServiceError, StoreUnavailable, Unavailable
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
#: Between two tries to reach a shared store that is away.
_STORE_PAUSE_S = 0.2

log = get_logger(__name__)

_TAKEN = failpoint("requestor.trunk.taken")
_RECEIVED = failpoint("requestor.trunk.received")
_APPLIED = failpoint("requestor.trunk.applied")


class LinkOwner(Protocol):
    """Whoever spreads the orders over the links."""

    def objection(self) -> str | None:
        """Why nothing may be done for an order just now; None when it may."""

    def is_of(self, ref: Ref, link: Link) -> bool:
        """Whether the order's stream belongs on this link, as things stand."""

    def look_again(self, ref: Ref) -> None:
        """Say that the order's record is to be looked at again."""

    def nudge(self, ref: Ref) -> bool:
        """Say that the order's outbox has something to relay."""

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
        log.error("A message cannot be relayed", action="outbox.set_aside", exc_info=error, **self._names_of(ref))
        reason = "this requestor could not read it; see its log"
        decide = partial(domain.set_aside, message_id=message.message_id, reason=reason, now_ms=now_ms())
        self._store.update(Step(ref, decide, message_ids=(message.message_id,)))

    def received(self, incoming: Incoming) -> None:
        """Apply one message of the processor in one commit, then acknowledge it.

        Raises when the store cannot take it; the trunk is then built anew and nothing is lost.
        """
        _RECEIVED()
        begun_s = time.perf_counter()
        if (reason := self.objection()) is not None:
            raise Unavailable(reason)
        self._note_openings(incoming)
        events: dict[Ref, list[Event]] = {}
        answers: dict[Ref, list[Acknowledgement]] = {}
        for event in incoming.events:
            events.setdefault(event.ref, []).append(event)
        for answer in incoming.answers:
            answers.setdefault(answer.ref, []).append(answer)
        if not events and not answers:
            return
        refs = list(events | answers)
        steps = [self._receive_step(ref, events.get(ref, []), answers.get(ref, [])) for ref in refs]
        results = self._apply(steps)
        _APPLIED()
        for ref, result in zip(refs, results, strict=True):
            self._settle(ref, events.get(ref, []), answers.get(ref, []), result)
        self._measures.apply_times.observe(time.perf_counter() - begun_s)

    def _apply(self, steps: Sequence[Step]) -> list[Change | Exception | None]:
        """Commit what the processor sent. A shared store that is away for a moment is waited for: the streams stay."""
        while True:
            try:
                return self._store.update_all(steps)
            except StoreUnavailable:
                if not self._store.is_shared or self.objection() is not None or self._stopping.wait(_STORE_PAUSE_S):
                    raise

    def _receive_step(self, ref: Ref, events: list[Event], answers: list[Acknowledgement]) -> Step:
        tracked = self._tracking.find(ref)
        token = 0 if tracked is None else tracked.token
        if tracked is not None and any(event.kind in ("completed", "cancelled") for event in events):
            # From here on a new initiate asks the store, which knows whether the order has ended.
            self._tracking.move(ref, tracked.stream_id, StreamState.ENDING, now_ms())
        decide = partial(domain.receive, events=events, acknowledgements=answers, token=token, now_ms=now_ms())
        return Step(ref, decide, message_ids=tuple(answer.message_id for answer in answers))

    def _settle(
        self, ref: Ref, events: list[Event], answers: list[Acknowledgement], result: Change | Exception | None
    ) -> None:
        tracked = self._tracking.find(ref)
        if tracked is None:
            return
        if isinstance(result, StoreUnavailable):
            raise result
        if isinstance(result, (Fenced, OrderNotFound)):
            self._owner.look_again(ref)
            return
        if isinstance(result, Exception):
            self._give_up(ref, tracked, result)
            return
        outcomes = {answer.outcome for answer in answers}
        if domain.Outcome.TRY_AGAIN in outcomes or domain.Outcome.FENCED in outcomes:
            self._owner.look_again(ref)
        if result is not None:
            order = order_of(result.record)
            tracked.applied_seq = order.applied_seq
            if answers:
                self._measures.note_answers(result)
                _log_refused(ref, result.puts)
            if not order.is_unfinished:
                self._end(order, tracked)
        if events:
            with self._wake:
                self._acks[ref] = tracked.applied_seq
                self._wake.notify()
            if events[-1].seq > tracked.applied_seq and tracked.state is StreamState.OPEN:
                log.warning("A gap in the events; opening the stream again", action="stream.gap", **self._names_of(ref))
                self._tracking.move(ref, tracked.stream_id, StreamState.CONNECTING, now_ms(), "a gap in the events")
                self._owner.look_again(ref)

    def _give_up(self, ref: Ref, tracked: Tracked, error: Exception) -> None:
        """Stop an order that cannot be applied, where a person sees it; the others go on."""
        log.error("An order's events cannot be applied", action="stream.failed", exc_info=error, **self._names_of(ref))
        reason = "this requestor could not apply an event; see its log"
        self._tracking.move(ref, tracked.stream_id, StreamState.REFUSED, now_ms(), reason)

    def _end(self, order: Order, tracked: Tracked) -> None:
        """End the stream of a finished order; what its outbox still holds is relayed without one."""
        if tracked.state is not StreamState.DRAINING:
            log.info(
                f"Marked gRPC stream as inactive for order {order.ref.key}",
                action="stream.ended",
                order_req_id=order.ref.key,
                state=str(order.state),
                **order.origin.names,
            )
        self._tracking.stop(order.ref, order.token, drain=order.unsent > 0)
        if order.unsent > 0:
            self._owner.nudge(order.ref)

    def _note_openings(self, incoming: Incoming) -> None:
        at_ms = now_ms()
        for opened in incoming.opened:
            self._note_opened(opened, at_ms)
        for refused in incoming.refused:
            self._note_refused(refused, at_ms)
        for closed in incoming.closed:
            self._note_closed(closed, at_ms)

    def _note_opened(self, opened: Opened, at_ms: int) -> None:
        tracked = self._tracking.find(opened.ref)
        asked_ms = at_ms if tracked is None else tracked.since_ms
        if self._tracking.move(opened.ref, opened.stream_id, StreamState.OPEN, at_ms):
            self._measures.open_times.observe((at_ms - asked_ms) / 1000)
            self._owner.nudge(opened.ref)

    def _note_refused(self, refused: Refused, at_ms: int) -> None:
        retry = refused.refusal is Refusal.UNAVAILABLE
        state = StreamState.CONNECTING if retry else StreamState.REFUSED
        if not self._tracking.move(refused.ref, refused.stream_id, state, at_ms, refused.detail):
            return
        self._measures.refused_streams.add(str(refused.refusal))
        log.warning(
            f"The processor refused the stream of order {refused.ref.key}",
            action="stream.refused",
            refusal=str(refused.refusal),
            reason=refused.detail,
            **self._names_of(refused.ref),
        )
        if refused.snapshot is not None:
            self._adopt_end(refused.ref, refused.snapshot)
            return
        if refused.refusal is Refusal.FENCED and self._store.is_shared:
            self._reclaim(refused)
        if refused.refusal in (Refusal.UNAVAILABLE, Refusal.FENCED):
            # Fenced: most likely another instance has taken it over, which the record says.
            self._owner.look_again(refused.ref)

    def _reclaim(self, refused: Refused) -> None:
        """Claim an order again whose later claims a shared store has forgotten, as after a fail-over."""
        decide = partial(domain.reclaim, owner=self._instance_id, above=refused.highest_token, now_ms=now_ms())
        change = self._store.update(Step(refused.ref, decide))
        if change is not None:
            order = order_of(change.record)
            log.warning(
                f"The store has forgotten claims of order {refused.ref.key}; claimed it anew",
                action="order.reclaimed",
                order_req_id=refused.ref.key,
                token=order.token,
                **order.origin.names,
            )
            self._tracking.track(order, now_ms())

    def _adopt_end(self, ref: Ref, snapshot: Snapshot) -> None:
        tracked = self._tracking.find(ref)
        if tracked is None:
            return
        decide = partial(
            domain.adopt_end,
            end=snapshot.end,
            run=snapshot.run,
            head_seq=snapshot.head_seq,
            token=tracked.token,
            now_ms=now_ms(),
        )
        try:
            change = self._store.update(Step(ref, decide))
        except (Fenced, OrderNotFound):
            change = None
        if change is None:
            self._owner.look_again(ref)
        else:
            self._end(order_of(change.record), tracked)

    def _note_closed(self, closed: Closed, at_ms: int) -> None:
        reason = "the processor ended the stream"
        if self._tracking.move(closed.ref, closed.stream_id, StreamState.CONNECTING, at_ms, reason):
            self._owner.look_again(closed.ref)

    def _names_of(self, ref: Ref) -> dict[str, str]:
        """What a line of trouble says of an order. It costs a read, which lines of every order must not."""
        record = None
        with suppress(ServiceError):
            record = self._store.get(ref)
        return {"order_req_id": ref.key, **({} if record is None else order_of(record).origin.names)}


def _log_refused(ref: Ref, parked: Iterable[Message]) -> None:
    for message in parked:
        log.warning(
            f"The processor never takes {message.message_id} of order {ref.key}",
            action="outbox.refused",
            order_req_id=ref.key,
            reason=message.last_error,
            **_origin_of(message).names,
        )


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
