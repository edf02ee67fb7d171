"""Sheds load: while as much is under way as can be done within a quarter of a second, new requests are refused.

What this costs is what it is about. The thread of the loop decides before any work is done, by the bytes of a request
that it does not parse. Callers who come back at once, whatever Retry-After says, wait until the loop has time for them:
it spends an eighth of a core on them and on reading those that are run.
"""

from __future__ import annotations

import re
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

from service_kit.logs import get_logger

_log = get_logger(__name__)

#: So much may be under way as is done in so long, in seconds,
LONGEST_WAIT_S = 0.25
#: and so many requests in any case.
LEAST_UNDER_WAY = 256
#: Requests done a second are counted over so long; what was reached is forgotten by a tenth a second.
WINDOW_S, FORGOTTEN_PER_S = 0.25, 0.1
#: With more than so many requests under way, the loop answers /livez itself.
BUSY = 32
#: A refused connection is read again after this pause, in seconds, at the earliest,
PAUSE_S = 0.05
#: and no more are than the loop can refuse in this part of a core,
REFUSING_SHARE = 0.125
#: at what one has cost of late, in seconds; this much at first, and at most.
FIRST_COST_S, MOST_COST_S = 0.000_05, 0.001
#: A burst is over when nothing was shed for so long.
CALM_S = 5.0
#: But only while requests come to their end: when none does for so long, it waits like all others, so that whoever
#: watches sees that the service hangs.
STUCK_S = 10.0

#: Answered although load is shed, in front of the queue: who looks after the service must see what goes on.
SPARED = (b"/readyz", b"/metrics")
#: So many of them at a time.
MOST_SPARED = 4

_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,9})[ \t]*\r\n")
_REQUEST_ID = re.compile(rb"\r\nx-request-id:[ \t]*([a-z0-9._-]{1,64})[ \t]*\r\n")
#: Whatever has one of these is read by the parser, which knows all about them.
_UNUSUAL = (b"\r\ntransfer-encoding:", b"\r\nexpect:", b"\r\nconnection: close", b"\r\nupgrade:")


class Glance(NamedTuple):
    """What is seen at first glance of a request that is all there."""

    path: bytes
    request_id: str


def glance(data: bytes) -> Glance | None:
    """Look at what has come in: None when it is not one whole, usual request, which only the parser can tell."""
    end = data.find(b"\r\n\r\n")
    if end < 0 or not data.startswith((b"POST /", b"GET /")):
        return None
    head = data[: end + 2].lower()
    line_end = head.find(b"\r\n")
    if not head.endswith(b" http/1.1", 0, line_end) or any(word in head for word in _UNUSUAL):
        return None
    length = 0
    if b"content-length" in head:
        found = _LENGTH.search(head)
        if found is None or head.count(b"content-length") > 1:
            return None
        length = int(found[1])
    if len(data) != end + 4 + length:
        return None
    name = _REQUEST_ID.search(head)
    # As the caller wrote it: the match was in lower case.
    request_id = "" if name is None else data[name.start(1) : name.end(1)].decode("ascii")
    return Glance(data[data.find(b"/") : line_end - 9], request_id)


class Shedding:
    """How much is under way, how much may be, and who has to wait because he was refused."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        cpu_clock: Callable[[], float] = time.thread_time,
        on_burst: Callable[[bool], object] = lambda _: None,
    ) -> None:
        self._clock, self._cpu_clock = clock, cpu_clock
        #: Told when load begins to be shed, and when it is over.
        self._on_burst = on_burst
        self._turned_at = self._done_at = self._counted_at = clock()
        #: The connections whose request runs or waits for a thread; they come and go in any thread.
        self.under_way: set[Any] = set()
        #: How many were admitted, not always to the last one.
        self._admitted = self._done_before = 0
        self._most_per_s = 0.0
        #: How many requests may be under way.
        self.limit = LEAST_UNDER_WAY
        self._paused: deque[tuple[float, Any]] = deque()
        #: What may be spent on refusals now, what one costs, and how many there were since the last turn.
        self._allowance_s = 0.0
        self._cost_s = FIRST_COST_S
        self._refused = 0
        #: The loop's time on the core at the last turn; None: none of this burst.
        self._cpu_s: float | None = None
        #: Guards who is spared, and the burst: requests end in any thread.
        self._lock = threading.Lock()
        self._burst = 0
        self._last_at = 0.0
        self._spared = 0

    @property
    def is_on(self) -> bool:
        """Whether a request that comes now is refused."""
        return len(self.under_way) >= self.limit

    def admit(self, connection: Any) -> None:
        """A connection's request is to be run; `done` ends it."""
        self.under_way.add(connection)
        self._admitted += 1

    def done(self, connection: Any) -> None:
        """A connection's request has come to its end; from any thread."""
        self.under_way.discard(connection)

    def turn(self) -> list[Any]:
        """Keep the count, once in each turn of the loop; answers the connections whose pause is over."""
        now = self._clock()
        took_s, self._turned_at = now - self._turned_at, now
        if now - self._counted_at >= WINDOW_S:
            self._count_done(now)
        if self._burst and now - self._last_at > CALM_S:
            _log.info("No load is shed any more", action="web.shedding_over", shed=self._burst)
            self._burst = 0
            self._on_burst(False)
        if not self._paused:
            return []
        self._weigh()
        return self._rested(now, took_s)

    def _weigh(self) -> None:
        """Learn what a refusal costs. What else the turn has done counts too: then there is less time for them."""
        before_s, self._cpu_s = self._cpu_s, self._cpu_clock()
        refused, self._refused = self._refused, 0
        if refused and before_s is not None:
            cost_s = min((self._cpu_s - before_s) / refused, MOST_COST_S)
            self._cost_s += (cost_s - self._cost_s) * min(1.0, refused / 100)

    def _count_done(self, now: float) -> None:
        span_s, self._counted_at = now - self._counted_at, now
        under_way = len(self.under_way)
        done = self._admitted - under_way
        if done != self._done_before or not under_way:
            self._done_at = now
        per_s, self._done_before = (done - self._done_before) / span_s, done
        self._most_per_s = max(per_s, self._most_per_s * (1 - min(1.0, FORGOTTEN_PER_S * span_s)))
        self.limit = max(LEAST_UNDER_WAY, int(self._most_per_s * LONGEST_WAIT_S))

    def _rested(self, now: float, took_s: float) -> list[Any]:
        self._allowance_s = min(self._allowance_s + took_s * REFUSING_SHARE, REFUSING_SHARE * PAUSE_S)
        rested: list[Any] = []
        while self._paused and self._paused[0][0] <= now and self._allowance_s >= self._cost_s:
            self._allowance_s -= self._cost_s
            rested.append(self._paused.popleft()[1])
        return rested

    @property
    def has_paused(self) -> bool:
        """Whether connections wait for the end of their pause."""
        return bool(self._paused)

    def count(self) -> None:
        """Note that a request was refused because of the load; the first one of a burst is told of."""
        with self._lock:
            self._last_at = self._turned_at
            self._burst += 1
            is_first = self._burst == 1
        if is_first:
            _log.warning("Load is shed: more comes in than can be done", action="web.shedding")
            self._on_burst(True)

    def pause(self, connection: Any) -> None:
        """Take note of a connection that is not to be read until `turn` gives it back."""
        if not self._paused:
            self._cpu_s = None
        self._refused += 1
        self._paused.append((self._turned_at + PAUSE_S, connection))

    @property
    def is_stuck(self) -> bool:
        """Whether no request comes to its end any more."""
        return self._turned_at - self._done_at > STUCK_S

    def spare(self) -> bool:
        """Take one of the few places for requests that are answered all the same; `end_spared` gives it back."""
        with self._lock:
            if self._spared >= MOST_SPARED:
                return False
            self._spared += 1
            return True

    def end_spared(self) -> None:
        """Give a place back; from any thread."""
        with self._lock:
            self._spared -= 1
