"""The supervisor owns the streams of this instance's orders.

It opens them through the trunk, applies what the processor sends as one commit per message, relays the outbox, and
keeps the instance's lease. Everything that has queued up goes out as one message.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Iterable
from functools import partial

from requestor_app import domain
from requestor_app.domain import (
    CLOSE,
    UNFINISHED,
    Acknowledgement,
    CloseKind,
    Event,
    FollowUp,
    Order,
    order_of,
)
from requestor_app.tracking import OrderTracking, StreamState, Tracked
from requestor_app.traffic import Closed, Closing, Incoming, Opened, Opening, Outgoing, Refusal, Refused, Relay
from service_kit.change import Change, Message, Ref, Step
from service_kit.errors import Fenced, ServiceError
from service_kit.failpoints import failpoint
from service_kit.logs import get_logger
from service_kit.storage.contract import Store
from service_kit.times import now_ms

#: The most items of a kind in one message.
BATCH = 512
#: Streams asked for and not answered; above it reopening waits.
MAX_OPENING = 2_048
#: How long a stream waits that the processor could not open.
RETRY_S = 1.0

log = get_logger(__name__)

_RECOVERED_PAGE = failpoint("requestor.recovery.page_claimed")
_RENEWING = failpoint("requestor.lease.renewing")
_TAKEN = failpoint("requestor.trunk.taken")
_RECEIVED = failpoint("requestor.trunk.received")
_APPLIED = failpoint("requestor.trunk.applied")


class Supervisor:
    """Keeps one stream per order of this instance, as a component and as the user of the trunk."""

    name = "supervisor"

    def __init__(self, store: Store, tracking: OrderTracking, *, instance_id: str, lease_s: float) -> None:
        self._store = store
        self._tracking = tracking
        self._instance_id = instance_id
        self._lease_s = lease_s
        self._stopping = threading.Event()
        self._ticker: threading.Thread | None = None
        self._stream_numbers = itertools.count(1)
        self._lease_error: str | None = None
        self._link_error = "no processor has answered yet"
        #: Guards the queues below; held for memory work only.
        self._wake = threading.Condition()
        self._is_connected = False
        self._fresh: deque[Order] = deque()
        self._dirty: dict[Ref, None] = {}
        self._acks: dict[Ref, int] = {}
        self._retries: dict[Ref, None] = {}
        #: Where reopening stands: the cursor of the next page, or None when it is through.
        self._reopen_cursor: str | None = None
        self._is_reopening = False

    # ---- the component

    def start(self) -> None:
        """Take the lease, claim what an earlier life of this store left unfinished, and begin to tick."""
        self._store.renew_lease(self._instance_id, int(self._lease_s * 1000))
        self._recover()
        self._ticker = threading.Thread(target=self._tick, name="supervisor", daemon=True)
        self._ticker.start()

    def stop(self, timeout_s: float) -> None:
        """Stop ticking and give the lease back. Safe to call twice."""
        self._stopping.set()
        with self._wake:
            self._wake.notify_all()
        ticker, self._ticker = self._ticker, None
        if ticker is None:
            return
        ticker.join(timeout_s)
        try:
            self._store.end_lease(self._instance_id)
        except ServiceError as error:
            log.warning("The lease could not be given back", action="lease.end_failed", reason=error.detail)

    def check(self) -> str | None:
        """None while the lease is held and the ticker runs."""
        if self._ticker is None or not self._ticker.is_alive():
            return "the supervisor is not running"
        return self._lease_error

    def check_processor(self) -> str | None:
        """None while a processor is connected, else why not."""
        return None if self._is_connected else self._link_error

    def _recover(self) -> None:
        """Claim every unfinished order of the store with the next token and track it.

        The store's lock makes sure that no other instance is alive on it, so every other owner is gone.
        """
        recovered, cursor = 0, None
        while True:
            page = self._store.page(tenant=None, states=UNFINISHED, cursor=cursor, limit=1000)
            take = partial(domain.take_over, owner=self._instance_id, now_ms=now_ms())
            for result in self._store.update_all([Step(record.ref, take) for record in page.records]):
                if isinstance(result, Exception):
                    raise result
                if result is not None:
                    self._track(order_of(result.record))
                    recovered += 1
            _RECOVERED_PAGE()
            cursor = page.next_cursor
            if cursor is None:
                break
        for ref, message in self._store.due(now_ms(), limit=100_000):
            if self._tracking.find(ref) is None:
                self._track_leftover(ref, message)
        if recovered:
            log.info("Took over unfinished orders", action="recovery.done", orders=recovered)

    def _track(self, order: Order) -> bool:
        return self._tracking.launch(
            order.ref,
            token=order.token,
            fingerprint=fingerprint_of(order),
            applied_seq=order.applied_seq,
            now_ms=now_ms(),
        )

    def _track_leftover(self, ref: Ref, message: Message) -> None:
        record = self._store.get(ref)
        if record is not None and message.kind in (domain.FOLLOW_UP, CLOSE):
            self._track(order_of(record))
            self._tracking.stop(ref, record.token, drain=True)

    def _tick(self) -> None:
        renew_s = self._lease_s / 3
        waited_s = 0.0
        while not self._stopping.wait(RETRY_S):
            waited_s += RETRY_S
            if waited_s >= renew_s:
                waited_s = 0.0
                self._renew()
            with self._wake:
                retries, self._retries = self._retries, {}
            self._open_again(retries)

    def _renew(self) -> None:
        _RENEWING()
        try:
            self._store.renew_lease(self._instance_id, int(self._lease_s * 1000))
            self._lease_error = None
        except ServiceError as error:
            self._lease_error = "the instance's lease cannot be renewed"
            log.error("The lease could not be renewed", action="lease.renew_failed", reason=error.detail)

    # ---- for the use cases

    def launch(self, order: Order) -> bool:
        """Open the stream of an order that was just claimed; False when it is launched already."""
        if not self._track(order):
            return False
        log.info(
            f"Marked gRPC stream as active for order {order.ref.key}",
            action="stream.launched",
            order_req_id=order.ref.key,
            token=order.token,
        )
        with self._wake:
            if self._is_connected:  # else reopening finds it
                self._fresh.append(order)
                self._wake.notify()
        return True

    def nudge(self, ref: Ref) -> None:
        """Say that the order's outbox has something to relay."""
        with self._wake:
            self._dirty[ref] = None
            self._wake.notify()

    # ---- the user of the trunk

    def connected(self) -> None:
        """Begin to open every stream of this instance."""
        log.info("Connected to the processor", action="trunk.connected", orders=len(self._tracking))
        with self._wake:
            self._is_connected = True
            self._is_reopening, self._reopen_cursor = True, None
            self._dirty.update(dict.fromkeys(self._tracking.draining()))
            self._wake.notify()

    def lost(self, reason: str) -> None:
        """Note that every stream is to be opened again."""
        with self._wake:
            was_connected, self._is_connected = self._is_connected, False
            self._link_error = reason
            for queue in (self._fresh, self._dirty, self._acks, self._retries):
                queue.clear()
            self._is_reopening = False
            self._wake.notify_all()
        open_before = self._tracking.lose_all(reason, now_ms())
        if was_connected:
            log.warning("Lost the processor", action="trunk.lost", reason=reason, open_streams=open_before)

    def take(self, timeout_s: float) -> Outgoing:
        """Wait for what is to be sent next; empty after the time-out."""
        with self._wake:
            if not self._has_work() and not self._stopping.is_set():
                self._wake.wait(timeout_s)
            orders = [self._fresh.popleft() for _ in range(min(BATCH, len(self._fresh)))]
            dirty = list(itertools.islice(self._dirty, BATCH))
            for ref in dirty:
                del self._dirty[ref]
            acks, self._acks = self._acks, {}
            is_reopening = self._is_reopening
        try:
            if is_reopening and not orders:
                orders = self._next_reopens()
            relays, closings = self._read_outbox(dirty)
        except ServiceError as error:
            log.warning("The outbox cannot be read", action="outbox.read_failed", reason=error.detail)
            with self._wake:
                self._dirty.update(dict.fromkeys(dirty))
            self._stopping.wait(0.2)
            relays, closings = [], []
        _TAKEN()
        return Outgoing(self._begin(orders), relays, closings, acks, queue_depth=len(self._fresh) + len(self._dirty))

    def _has_work(self) -> bool:
        return bool(self._fresh or self._dirty or self._acks or self._is_reopening)

    def _next_reopens(self) -> list[Order]:
        """The next page of this instance's unfinished orders; none while too many are asked for already."""
        if self._tracking.count(StreamState.OPENING) > MAX_OPENING:
            self._stopping.wait(0.02)
            return []
        page = self._store.page(
            tenant=None, states=UNFINISHED, owner=self._instance_id, cursor=self._reopen_cursor, limit=BATCH
        )
        with self._wake:
            self._reopen_cursor = page.next_cursor
            self._is_reopening = page.next_cursor is not None
        return [order_of(record) for record in page.records]

    def _begin(self, orders: Iterable[Order]) -> list[Opening]:
        openings = []
        at_ms = now_ms()
        for order in orders:
            stream_id = f"{self._instance_id}-{next(self._stream_numbers)}"
            if self._tracking.begin_open(order.ref, order.token, stream_id, at_ms) is not None:
                openings.append(Opening(order, stream_id))
        return openings

    def _read_outbox(self, refs: Iterable[Ref]) -> tuple[list[Relay], list[Closing]]:
        """Read what these orders have to relay, in order for each. An order without an open stream waits for it."""
        ready = {}
        for ref in refs:
            tracked = self._tracking.find(ref)
            if tracked is not None and tracked.state in (StreamState.OPEN, StreamState.DRAINING):
                ready[ref] = tracked
        relays: list[Relay] = []
        closings: list[Closing] = []
        if not ready:
            return relays, closings
        pending = self._store.pending_of_many({ref: tracked.relayed for ref, tracked in ready.items()}, limit=BATCH)
        read = 0
        for ref, messages in pending.items():
            tracked = ready[ref]
            for message in messages:
                tracked.relayed = message.position
                read += 1
                if message.kind == CLOSE:
                    closings.append(_closing(ref, message, tracked.token))
                else:
                    relays.append(_relay(ref, message, tracked.token))
        if read >= BATCH:  # there may be more behind the limit
            with self._wake:
                self._dirty.update(dict.fromkeys(ready))
        return relays, closings

    def received(self, incoming: Incoming) -> None:
        """Apply one message of the processor in one commit, then acknowledge it.

        Raises when the store cannot take it; the trunk is then built anew and nothing is lost.
        """
        _RECEIVED()
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
        results = self._store.update_all(steps)
        _APPLIED()
        for ref, result in zip(refs, results, strict=True):
            self._settle(ref, events.get(ref, []), answers.get(ref, []), result)

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
        if isinstance(result, Fenced) or tracked is None:
            return
        if isinstance(result, Exception):
            raise result
        if any(answer.outcome is domain.Outcome.TRY_AGAIN for answer in answers):
            with self._wake:
                self._retries[ref] = None
            tracked.relayed = 0
        if result is not None:
            order = order_of(result.record)
            tracked.applied_seq = order.applied_seq
            if not order.is_unfinished:
                self._end(order, tracked)
        if events:
            with self._wake:
                self._acks[ref] = tracked.applied_seq
                self._wake.notify()
            if events[-1].seq > tracked.applied_seq:
                log.warning("A gap in the events; opening the stream again", action="stream.gap", order_req_id=ref.key)
                self._tracking.move(ref, tracked.stream_id, StreamState.CONNECTING, now_ms(), "a gap in the events")
                self._open_again([ref])

    def _end(self, order: Order, tracked: Tracked) -> None:
        """End the stream of a finished order; what its outbox still holds is relayed without one."""
        if tracked.state is not StreamState.DRAINING:
            log.info(
                f"Marked gRPC stream as inactive for order {order.ref.key}",
                action="stream.ended",
                order_req_id=order.ref.key,
                state=str(order.state),
            )
        self._tracking.stop(order.ref, order.token, drain=order.unsent > 0)
        if order.unsent > 0:
            self.nudge(order.ref)

    def _note_openings(self, incoming: Incoming) -> None:
        at_ms = now_ms()
        for opened in incoming.opened:
            self._note_opened(opened, at_ms)
        for refused in incoming.refused:
            self._note_refused(refused, at_ms)
        for closed in incoming.closed:
            self._note_closed(closed, at_ms)

    def _note_opened(self, opened: Opened, at_ms: int) -> None:
        if self._tracking.move(opened.ref, opened.stream_id, StreamState.OPEN, at_ms):
            self.nudge(opened.ref)

    def _note_refused(self, refused: Refused, at_ms: int) -> None:
        retry = refused.refusal is Refusal.UNAVAILABLE
        state = StreamState.CONNECTING if retry else StreamState.REFUSED
        if not self._tracking.move(refused.ref, refused.stream_id, state, at_ms, refused.detail):
            return
        log.warning(
            f"The processor refused the stream of order {refused.ref.key}",
            action="stream.refused",
            order_req_id=refused.ref.key,
            refusal=str(refused.refusal),
            reason=refused.detail,
        )
        if retry:
            with self._wake:
                self._retries[refused.ref] = None

    def _note_closed(self, closed: Closed, at_ms: int) -> None:
        reason = "the processor ended the stream"
        if self._tracking.move(closed.ref, closed.stream_id, StreamState.CONNECTING, at_ms, reason):
            with self._wake:
                self._retries[closed.ref] = None

    def _open_again(self, refs: Iterable[Ref]) -> None:
        for ref in refs:
            try:
                record = self._store.get(ref)
            except ServiceError:
                with self._wake:
                    self._retries[ref] = None
                continue
            if record is None:
                continue
            order = order_of(record)
            with self._wake:
                if self._is_connected:
                    if order.is_unfinished:
                        self._fresh.append(order)
                    self._dirty[ref] = None
                    self._wake.notify()


def fingerprint_of(order: Order | domain.OrderRequest) -> int:
    """A number that tells contents of an order apart well enough to send doubtful cases to the store."""
    return hash((order.session_id, order.notification_type, order.audience, repr(order.details)))


def _relay(ref: Ref, message: Message, token: int) -> Relay:
    body = message.body
    note = FollowUp(
        ref=ref,
        follow_up_id=body["follow_up_id"],
        audience=tuple(body["audience"]),
        message_type=body["message_type"],
        message=body["message"],
        urls=tuple(body["urls"]),
    )
    return Relay(note, token, added_ms=message.created_ms)


def _closing(ref: Ref, message: Message, token: int) -> Closing:
    body = message.body
    return Closing(ref, body["run"], CloseKind(body["kind"]), body["reason"], token)
