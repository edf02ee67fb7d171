"""The live streams of this processor, and where their steps go.

An `Outlet` is one call that carries streams: a trunk with many, or a StreamOrder call with one. The `StreamHub` knows
which outlet holds each order's stream and makes sure that it is one at most. What a stream sends is read from the
order's log, always: a wake-up only says that there is something to read.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Sequence
from typing import TypeAlias

from processor_app.domain import ENDS, order_of
from service_kit.change import Entry, Ref
from service_kit.errors import Fenced, ServiceError
from service_kit.failpoints import failpoint
from service_kit.hints import Hints, NoHints
from service_kit.logs import get_logger
from service_kit.storage.contract import Store
from service_kit.values import value

#: Events sent on one outlet and not acknowledged yet; above it the outlet waits for acknowledgements.
WINDOW = 8_192
#: Answers that wait on one outlet; above it the peer does not read and is cut.
MAX_CONTROLS = 65_536
#: Events in one message.
BATCH = 1_024
#: Topics of hints: the logs of orders have grown; the streams of orders are at another processor now.
GROWN, MOVED = "grown", "moved"

log = get_logger(__name__)

_READ = failpoint("processor.events.read")


@value
class Opened:
    """The stream is open; the first event that follows has the number after ``resumes_after``."""

    ref: Ref
    stream_id: str
    token: int
    head_seq: int
    resumes_after: int


@value
class Refused:
    """The stream was not opened because of ``error``."""

    ref: Ref
    stream_id: str
    error: ServiceError


@value
class Superseded:
    """Another opening took the stream's place."""

    ref: Ref
    stream_id: str


@value
class FollowUpAnswer:
    """What became of a follow-up; ``error`` is None when it is on disk."""

    ref: Ref
    follow_up_id: str
    error: ServiceError | None


@value
class CloseAnswer:
    """What became of the close of a run; ``error`` is None when it is on disk."""

    ref: Ref
    run: int
    error: ServiceError | None


@value
class GoingAway:
    """The processor is about to stop."""

    reason: str


Control: TypeAlias = Opened | Refused | Superseded | FollowUpAnswer | CloseAnswer | GoingAway


class Stream:
    """One order's live stream. Only the thread that sends for its outlet moves ``sent_seq``."""

    __slots__ = ("acked_seq", "final_seq", "outlet", "ref", "sent_seq", "stream_id", "token")

    def __init__(self, ref: Ref, stream_id: str, token: int, outlet: Outlet, resumes_after: int) -> None:
        self.ref = ref
        self.stream_id = stream_id
        self.token = token
        self.outlet = outlet
        self.sent_seq = resumes_after
        self.acked_seq = resumes_after
        #: The number of the event that ends the order, once it was sent.
        self.final_seq: int | None = None


@value
class Batch:
    """What goes out as one message: answers first, then events. Empty: nothing to send but a sign of life."""

    controls: Sequence[Control]
    events: Sequence[tuple[Stream, Entry]]
    queue_depth: int


class Outlet:
    """One call that carries streams, with what waits to be sent on it.

    ``_wake`` guards everything in here; it is held for memory work only, never for a send or a read of the store.
    """

    def __init__(self, peer: str, cancel_call: Callable[[], object], *, window: int = WINDOW) -> None:
        self.peer = peer
        self._cancel_call = cancel_call
        self.last_heard = self.last_pull = time.monotonic()
        self._window = window
        self._wake = threading.Condition()
        self._controls: deque[Control] = deque()
        self._dirty: dict[Ref, Stream] = {}
        self._unacked = 0
        self._closing = False
        self._ended = False
        self._is_sending = False

    @property
    def has_ended(self) -> bool:
        """Whether the call is over."""
        return self._ended

    @property
    def queue_depth(self) -> int:
        """How many answers and streams wait to be sent."""
        return len(self._controls) + len(self._dirty)

    @property
    def unacknowledged(self) -> int:
        """How many events are sent and not on the peer's disk yet."""
        return self._unacked

    def push(self, *controls: Control) -> None:
        """Queue answers. A peer that lets too many pile up is cut."""
        with self._wake:
            self._controls.extend(controls)
            if len(self._controls) > MAX_CONTROLS:
                self._ended = True
            self._wake.notify()

    def mark(self, stream: Stream) -> None:
        """Say that the stream's log has more than was sent."""
        with self._wake:
            self._dirty[stream.ref] = stream
            self._wake.notify()

    def forget(self, stream: Stream) -> None:
        """Drop a stream that this outlet does not carry any more."""
        with self._wake:
            if self._dirty.get(stream.ref) is stream:
                del self._dirty[stream.ref]
            self._unacked -= stream.sent_seq - stream.acked_seq
            self._wake.notify()

    def acknowledge(self, stream: Stream, seq: int) -> None:
        """Note that the peer has every event of the stream up to ``seq`` on disk."""
        with self._wake:
            seq = min(seq, stream.sent_seq)
            if seq > stream.acked_seq:
                self._unacked -= seq - stream.acked_seq
                stream.acked_seq = seq
                self._wake.notify()

    def sent(self, stream: Stream, seq: int) -> None:
        """Note that events up to ``seq`` are handed to the call."""
        with self._wake:
            self._unacked += seq - stream.sent_seq
            stream.sent_seq = seq

    def take(self, timeout_s: float) -> tuple[list[Control], list[Stream]] | None:
        """Wait for something to send and take it; None when the call is over. Both are empty after the time-out."""
        with self._wake:
            self._is_sending = False
            self.last_pull = time.monotonic()
            if not self._has_work() and not self._ended and not self._closing:
                self._wake.wait(timeout_s)
            if self._ended or (self._closing and not self._has_work()):
                self._ended = True
                return None
            controls = list(self._controls)
            self._controls.clear()
            room = min(BATCH, self._window - self._unacked)
            streams = [self._dirty.pop(ref) for ref in list(self._dirty)[: max(room, 0)]]
            self.last_pull = time.monotonic()
            return controls, streams

    def begin_send(self) -> None:
        """A message is handed over; until `take` comes for the next one, the peer makes it wait."""
        self.last_pull = time.monotonic()
        self._is_sending = True

    def _has_work(self) -> bool:
        return bool(self._controls) or (bool(self._dirty) and self._unacked < self._window)

    def close(self) -> None:
        """Send what waits, then end the call."""
        with self._wake:
            self._closing = True
            self._wake.notify()

    def end(self) -> None:
        """End the call now, from any thread, also twice; it only flips a flag and wakes the sender."""
        with self._wake:
            self._ended = True
            self._wake.notify()

    def cut(self) -> None:
        """End the call even when its sender is stuck in a send."""
        self.end()
        self._cancel_call()

    def is_stalled(self, now: float, limit_s: float) -> bool:
        """Whether the peer shows no sign of life, or does not read what waits for it."""
        if now - self.last_heard > limit_s:
            return True
        return (self._is_sending or self._has_work()) and now - self.last_pull > limit_s


class StreamHub:
    """Which outlet holds each order's stream.

    ``_lock`` guards the collections and the moment in which a stream changes its outlet.
    """

    def __init__(self, store: Store, *, holder: str = "", hints: Hints | None = None) -> None:
        self._store = store
        #: The name of this processor in records of a shared store.
        self._holder = holder
        self._hints: Hints = hints or NoHints()
        self._lock = threading.Lock()
        self._streams: dict[Ref, Stream] = {}
        self._of_tenants: Counter[str] = Counter()
        self._outlets: set[Outlet] = set()

    @property
    def stream_count(self) -> int:
        """How many streams are live."""
        return len(self._streams)

    def streams_of(self, tenant: str) -> int:
        """How many streams of a tenant are live."""
        return self._of_tenants[tenant]

    def outlets(self) -> list[Outlet]:
        """The calls that carry streams now."""
        with self._lock:
            return list(self._outlets)

    def stream_of(self, ref: Ref) -> Stream | None:
        """The order's live stream."""
        return self._streams.get(ref)

    def register(self, outlet: Outlet) -> None:
        """Take a new call in."""
        with self._lock:
            self._outlets.add(outlet)

    def unregister(self, outlet: Outlet) -> None:
        """End a call and its streams."""
        outlet.end()
        with self._lock:
            self._outlets.discard(outlet)
            gone = [ref for ref, stream in self._streams.items() if stream.outlet is outlet]
            for ref in gone:
                self._drop(ref)

    def attach(self, opened: Opened, outlet: Outlet) -> None:
        """Make the outlet the one place of the order's stream, and tell it that the stream is open.

        An older stream of the order ends first. Raises `Fenced` when the order's live stream has a higher token.
        """
        stream = Stream(opened.ref, opened.stream_id, opened.token, outlet, opened.resumes_after)
        with self._lock:
            if outlet.has_ended:
                return
            old = self._streams.get(opened.ref)
            if old is not None:
                if old.token > opened.token:
                    raise Fenced("A newer owner holds this order.", highest_token=old.token)
                old.outlet.forget(old)
                if old.outlet is not outlet or old.stream_id != opened.stream_id:
                    old.outlet.push(Superseded(old.ref, old.stream_id))
            else:
                self._of_tenants[opened.ref.tenant] += 1
            self._streams[opened.ref] = stream
            outlet.push(opened)
            # Always: the log may have grown since ``opened`` was made, when nobody could wake this stream.
            outlet.mark(stream)

    def _drop(self, ref: Ref) -> None:
        del self._streams[ref]
        self._of_tenants[ref.tenant] -= 1

    def publish(self, refs: Iterable[Ref]) -> None:
        """Say that the logs of these orders have grown, here or at the processor that has their streams."""
        away = self.wake(refs)
        if away:
            self._hints.send(GROWN, away)

    def wake(self, refs: Iterable[Ref]) -> list[Ref]:
        """Have the streams of these orders read on; answers the orders that have none here."""
        away = []
        with self._lock:
            for ref in refs:
                stream = self._streams.get(ref)
                if stream is not None:
                    stream.outlet.mark(stream)
                else:
                    away.append(ref)
        return away

    def moved(self, refs: Sequence[Ref]) -> None:
        """Say that the streams of these orders are here now; another processor may have them still."""
        if refs:
            self._hints.send(MOVED, refs)

    def refs(self) -> list[Ref]:
        """The orders whose streams are here."""
        return list(self._streams)

    def compare(self, refs: Iterable[Ref], *, is_reading: bool = False) -> None:
        """Compare these orders' streams with the store: end what another processor has, read on where there is more.

        Whoever ``is_reading`` them already need not be told to. Raises `StoreUnavailable`.
        """
        # Looked up before the read: a stream that is attached since then is a newer one, and not what was read of.
        streams = {ref: stream for ref in refs if (stream := self._streams.get(ref)) is not None}
        records = self._store.get_many(streams)
        for ref, stream in streams.items():
            # No record, or a lower token: the store has gone back to an older state, and with it this claim.
            order = order_of(records[ref]) if ref in records else None
            if order is None or order.holder not in ("", self._holder) or order.token != stream.token:
                self._end(stream)
            elif order.head_seq > stream.sent_seq and not is_reading:
                self._mark_if_live(stream)

    def _end(self, stream: Stream) -> None:
        """End a stream whose place another processor has taken."""
        with self._lock:
            if self._streams.get(stream.ref) is stream:
                self._drop(stream.ref)
                stream.outlet.forget(stream)
                stream.outlet.push(Superseded(stream.ref, stream.stream_id))

    def acknowledge(self, outlet: Outlet, acks: Iterable[tuple[Ref, int]]) -> None:
        """Note how far a peer has its streams on disk; a stream whose last event is there is over."""
        with self._lock:
            for ref, seq in acks:
                stream = self._streams.get(ref)
                if stream is None or stream.outlet is not outlet:
                    continue
                outlet.acknowledge(stream, seq)
                if stream.final_seq is not None and stream.acked_seq >= stream.final_seq:
                    outlet.forget(stream)
                    self._drop(ref)

    def next_batch(self, outlet: Outlet, timeout_s: float) -> Batch | None:
        """Wait for what the outlet has to send next, and read it; None when the call is over.

        Only the thread that sends for the outlet may call this.
        """
        taken = outlet.take(timeout_s)
        if taken is None:
            return None
        controls, streams = taken
        if not streams:
            return Batch(controls, (), outlet.queue_depth)
        by_ref = {stream.ref: stream for stream in streams}
        try:
            logs = self._store.entries_of_many({ref: s.sent_seq for ref, s in by_ref.items()}, limit=BATCH)
            if self._holder:  # what another processor has by now sends nothing more here
                self.compare(logs, is_reading=True)
        except ServiceError as error:
            log.warning("Events cannot be read from the store", action="stream.read_failed", reason=error.detail)
            for stream in streams:
                self._mark_if_live(stream)
            time.sleep(0.2)
            return Batch(controls, (), outlet.queue_depth)
        _READ()
        events: list[tuple[Stream, Entry]] = []
        with self._lock:  # a stream that leaves its outlet takes along what it holds of the window
            for ref, entries in logs.items():
                stream = by_ref[ref]
                if not entries or self._streams.get(ref) is not stream:
                    continue
                last = entries[-1]
                if last.kind in ENDS:
                    stream.final_seq = last.seq
                outlet.sent(stream, last.seq)
                events.extend((stream, entry) for entry in entries)
        if len(events) >= BATCH:  # there may be more behind the limit
            for stream in streams:
                self._mark_if_live(stream)
        return Batch(controls, events, outlet.queue_depth)

    def _mark_if_live(self, stream: Stream) -> None:
        with self._lock:
            if self._streams.get(stream.ref) is stream:
                stream.outlet.mark(stream)
