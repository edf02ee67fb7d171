"""The tracking dict: which orders this instance holds and how their streams stand. It guards duplicate launches.

A lock protects the dict; nothing under it does I/O. The store decides what an order is; this says what its stream does.
"""

from __future__ import annotations

import threading
from collections import Counter
from enum import StrEnum

from requestor_app.domain import Order, OrderRequest
from service_kit.change import Ref
from service_kit.values import value


class StreamState(StrEnum):
    """Where an order's stream stands at this instance."""

    RESERVED = "reserved"  # a thread is about to claim the order; there is no stream yet
    CONNECTING = "connecting"  # claimed; the stream is to be opened
    OPENING = "opening"  # asked for on the trunk
    OPEN = "open"
    ENDING = "ending"  # the event that ends the order is being applied
    DRAINING = "draining"  # the order has ended, but messages of its outbox still wait for an answer
    REFUSED = "refused"  # the processor does not take it; a person must look


#: States in which the order has a launched stream.
LAUNCHED = frozenset({StreamState.CONNECTING, StreamState.OPENING, StreamState.OPEN, StreamState.REFUSED})
#: What counts as open for a person.
_OPEN = frozenset({StreamState.OPEN, StreamState.ENDING})
_NO_COUNTS: Counter[StreamState] = Counter()


class Tracked:
    """One tracked order. Guarded by the tracking dict's lock, but for the three fields of the supervisor's threads."""

    __slots__ = (
        "applied_seq",
        "error",
        "fingerprint",
        "link",
        "ref",
        "relayed",
        "sending",
        "since_ms",
        "state",
        "stream_id",
        "token",
    )

    def __init__(self, ref: Ref, fingerprint: int | None, since_ms: int) -> None:
        self.ref = ref
        #: Tells contents apart; None when only the store knows.
        self.fingerprint = fingerprint
        self.state = StreamState.RESERVED
        self.since_ms = since_ms
        self.error = ""
        self.stream_id = ""
        #: The link on which its stream was asked for; empty while it is asked for on none.
        self.link = ""
        self.token = 0
        #: The last event on disk; moved by the thread that applies events.
        self.applied_seq = 0
        #: The position of the last outbox message sent on the present trunk; moved by the thread that sends.
        self.relayed = 0
        #: Which sending of the outbox that was; 0 before the first. Moved by the thread that sends.
        self.sending = 0


@value
class StreamView:
    """A copy of how a stream stands."""

    state: StreamState
    since_ms: int
    error: str
    token: int


class OrderTracking:
    """The lock-protected dict of this instance's orders."""

    def __init__(self) -> None:
        #: Guards the dict and the state of its values.
        self._lock = threading.Lock()
        self._orders: dict[Ref, Tracked] = {}
        #: How many stand in each state, by tenant.
        self._counts: dict[str, Counter[StreamState]] = {}

    def __len__(self) -> int:
        return len(self._orders)

    def reserve(self, ref: Ref, fingerprint: int, now_ms: int) -> Tracked | StreamView | None:
        """Take the order's slot before it is claimed.

        Answers the new slot; a view of the order when it is launched already with the same content; None when the
        slot is held but the store must decide: another thread is at it, the order ends just now, or contents differ.
        """
        with self._lock:
            known = self._orders.get(ref)
            if known is None:
                slot = Tracked(ref, fingerprint, now_ms)
                self._put(slot)
                return slot
            if known.state in LAUNCHED and known.fingerprint == fingerprint:
                return _view(known)
            return None

    def release(self, slot: Tracked) -> None:
        """Free a slot whose claim came to nothing. A slot that was launched meanwhile stays."""
        with self._lock:
            if slot.state is StreamState.RESERVED and self._orders.get(slot.ref) is slot:
                self._drop(slot)

    def launch(self, ref: Ref, *, token: int, fingerprint: int, applied_seq: int, now_ms: int) -> bool:
        """Track a claimed order whose stream is to be opened; False when it is launched with this token or more."""
        with self._lock:
            known = self._orders.get(ref)
            if known is not None and known.state is not StreamState.RESERVED and known.token >= token:
                return False
            if known is not None and known.state is StreamState.RESERVED:
                tracked = known
                tracked.fingerprint = fingerprint
                self._set(tracked, StreamState.CONNECTING, now_ms)
            else:
                tracked = Tracked(ref, fingerprint, now_ms)
                tracked.state = StreamState.CONNECTING
                if known is not None:
                    self._drop(known)
                self._put(tracked)
            tracked.token = token
            tracked.applied_seq = applied_seq
            return True

    def track(self, order: Order, now_ms: int) -> bool:
        """Track an order as its record says it; a finished one drains. False when it is tracked under its token."""
        new = self.launch(
            order.ref,
            token=order.token,
            fingerprint=fingerprint_of(order),
            applied_seq=order.applied_seq,
            now_ms=now_ms,
        )
        if new and not order.is_unfinished:
            self.stop(order.ref, order.token, drain=True)
        return new

    def begin_open(
        self, ref: Ref, token: int, stream_id: str, now_ms: int, *, link: str = "", is_moving: bool = False
    ) -> Tracked | None:
        """Let one thread ask for the stream on a link; None when it is asked for already or is not to be opened.

        With ``is_moving`` a stream that is open on another link is asked for as well.
        """
        with self._lock:
            tracked = self._orders.get(ref)
            if tracked is None or tracked.token != token:
                return None
            if is_moving and tracked.state is StreamState.OPEN and tracked.link != link:
                tracked = self._moved(tracked)
            elif tracked.state is not StreamState.CONNECTING:
                return None
            self._set(tracked, StreamState.OPENING, now_ms)
            tracked.stream_id = stream_id
            tracked.link = link
            tracked.relayed = 0
            return tracked

    def _moved(self, old: Tracked) -> Tracked:
        """Another object in its place: the threads of the old link may still be at work on the old one."""
        tracked = Tracked(old.ref, old.fingerprint, old.since_ms)
        tracked.state, tracked.token, tracked.applied_seq = old.state, old.token, old.applied_seq
        self._orders[old.ref] = tracked
        return tracked

    def move(self, ref: Ref, stream_id: str, state: StreamState, now_ms: int, error: str = "") -> bool:
        """Change the state of a stream, unless another opening has taken its place."""
        with self._lock:
            tracked = self._orders.get(ref)
            if tracked is None or tracked.stream_id != stream_id:
                return False
            self._set(tracked, state, now_ms)
            tracked.error = error
            return True

    def lose_all(self, error: str, now_ms: int, *, link: str = "") -> int:
        """Note that a trunk is gone: every stream of its link is to be opened again. Answers how many were open."""
        lost = 0
        with self._lock:
            for tracked in self._orders.values():
                if tracked.link not in ("", link):
                    continue
                tracked.relayed = 0
                if tracked.state in (StreamState.RESERVED, StreamState.DRAINING):
                    continue
                if tracked.state is not StreamState.CONNECTING:
                    lost += tracked.state is StreamState.OPEN
                    self._set(tracked, StreamState.CONNECTING, now_ms)
                tracked.link = ""
                tracked.error = error
        return lost

    def doubt_all(self) -> None:
        """Let the store decide about every order: while this instance slept, others may have acted."""
        with self._lock:
            for tracked in self._orders.values():
                tracked.fingerprint = None

    def stop(self, ref: Ref, token: int, *, drain: bool = False) -> None:
        """End the tracking of a run; with ``drain`` only its stream ends. A newer run is not touched."""
        with self._lock:
            tracked = self._orders.get(ref)
            if tracked is None or tracked.token != token:
                return
            if drain:
                self._set(tracked, StreamState.DRAINING, tracked.since_ms)
            else:
                self._drop(tracked)

    def find(self, ref: Ref) -> Tracked | None:
        """The tracked order itself; for the supervisor's threads."""
        return self._orders.get(ref)

    def view(self, ref: Ref) -> StreamView | None:
        """How the order's stream stands; None when this instance does not track it."""
        with self._lock:
            tracked = self._orders.get(ref)
            return None if tracked is None else _view(tracked)

    def listed(self, state: StreamState, *, since_ms: int | None = None) -> list[Ref]:
        """The orders in a state; with ``since_ms`` those that have been in it since then or longer."""
        with self._lock:
            if not any(counts[state] for counts in self._counts.values()):
                return []
            return [
                ref
                for ref, tracked in self._orders.items()
                if tracked.state is state and (since_ms is None or tracked.since_ms <= since_ms)
            ]

    def launched(self) -> list[Ref]:
        """The orders that have a launched stream."""
        with self._lock:
            return [ref for ref, tracked in self._orders.items() if tracked.state in LAUNCHED]

    def count(self, *states: StreamState, tenant: str | None = None) -> int:
        """How many tracked orders stand in one of the states; of all tenants when None."""
        with self._lock:
            if tenant is None:
                return sum(counts[state] for counts in self._counts.values() for state in states)
            counts = self._counts.get(tenant, _NO_COUNTS)
            return sum(counts[state] for state in states)

    def open_streams(self) -> dict[str, int]:
        """How many streams are open, by tenant."""
        with self._lock:
            found = {tenant: sum(counts[state] for state in _OPEN) for tenant, counts in self._counts.items()}
        return {tenant: count for tenant, count in found.items() if count}

    def counts(self) -> dict[str, int]:
        """How many tracked orders stand in each state."""
        with self._lock:
            return {str(state): sum(counts[state] for counts in self._counts.values()) for state in StreamState}

    def _put(self, tracked: Tracked) -> None:
        self._orders[tracked.ref] = tracked
        counts = self._counts.get(tracked.ref.tenant)
        if counts is None:
            counts = self._counts[tracked.ref.tenant] = Counter()
        counts[tracked.state] += 1

    def _drop(self, tracked: Tracked) -> None:
        del self._orders[tracked.ref]
        counts = self._counts[tracked.ref.tenant]
        counts[tracked.state] -= 1
        if not any(counts.values()):  # there may be many tenants, most of them idle
            del self._counts[tracked.ref.tenant]

    def _set(self, tracked: Tracked, state: StreamState, now_ms: int) -> None:
        counts = self._counts[tracked.ref.tenant]
        counts[tracked.state] -= 1
        counts[state] += 1
        tracked.state, tracked.since_ms = state, now_ms


def fingerprint_of(order: Order | OrderRequest) -> int:
    """A number that tells contents of an order apart well enough to send doubtful cases to the store."""
    return hash((order.session_id, order.notification_type, order.audience, repr(order.details)))


def _view(tracked: Tracked) -> StreamView:
    return StreamView(tracked.state, tracked.since_ms, tracked.error, tracked.token)
