"""One connection of the web server, and one request on it, as Waitress has them, with deadlines and refusals."""

from __future__ import annotations

import time
from contextvars import ContextVar
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from waitress.channel import HTTPChannel  # type: ignore[import-untyped]
from waitress.task import WSGITask  # type: ignore[import-untyped]
from waitress.utilities import build_http_date  # type: ignore[import-untyped]

from service_kit.web.callers import CLIENT_ADDRESS_KEY, forwarded_address
from service_kit.web.places import origin_of
from service_kit.web.refusals import ALIVE, Refusal, request_id_of
from service_kit.web.shedding import BUSY, glance
from service_kit.web.strict_requests import ProblemTask, StrictParser

if TYPE_CHECKING:
    from service_kit.web.channel_server import ChannelServer

#: A client must take so much of a long answer in the time that one request may take.
_LEAST_READ_BYTES = 262_144
#: A connection above the limit has so long to say what it wants, in seconds.
_EXTRA_S = 2.0
#: How requests of those begin who look after the service.
_WATCHERS = (b"GET /livez ", b"GET /readyz ", b"GET /metrics ")
#: What an answer's head holds beside its date; with any other header Waitress writes it.
_USUAL_HEADERS = frozenset(
    {"Content-Type", "Content-Length", "X-Request-ID", "X-Content-Type-Options", "Cache-Control", "ETag"}
)
#: Which connection's request is run.
SERVING: ContextVar[Channel] = ContextVar("serving")


# The answers of one second share it.
@lru_cache(maxsize=2)
def _http_date(second: int) -> str:
    date: str = build_http_date(second)
    return date


class _Task(WSGITask):  # type: ignore[misc] # Waitress has no types
    """One request; an answer that comes in one piece goes out in one piece, its head included."""

    wrote_header: bool

    def get_environment(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environment()
        if self.channel.server.gate.is_set:
            peer = environ["REMOTE_ADDR"]
            environ[CLIENT_ADDRESS_KEY] = forwarded_address(environ.get("HTTP_X_FORWARDED_FOR", ""), peer)
        return environ

    def build_response_header(self) -> bytes:
        """The head of the answer; Waitress's own takes thrice the time, for cases that are none of the usual one."""
        headers = self.response_headers
        is_usual = (
            self.version == "1.1" and self.content_length is not None and "CONNECTION" not in self.request.headers
        )
        if not is_usual or not _USUAL_HEADERS.issuperset([name for name, _ in headers]):
            head: bytes = super().build_response_header()
            return head
        lines = [f"{name}: {value}" for name, value in headers]
        date = _http_date(int(self.start_time))
        return "\r\n".join([f"HTTP/1.1 {self.status}", *lines, f"Date: {date}", "", ""]).encode("latin-1")

    def write(self, data: bytes) -> None:
        if self.complete and not self.wrote_header and data and self.content_length == len(data) and self.has_body:
            self.channel.write_soon(self.build_response_header() + data)
            self.wrote_header = True
            self.content_bytes_written += len(data)
        else:
            super().write(data)


class Channel(HTTPChannel):  # type: ignore[misc] # Waitress has no types
    """One connection; knows since when it has been receiving its current request."""

    task_class = _Task
    error_task_class = ProblemTask
    parser_class = StrictParser
    receiving_since_s = 0.0
    #: Whether a whole request has ever come.
    has_asked = False
    #: Whether nothing is read of it for a moment, since it was refused.
    is_paused = False
    #: Whether its next request is not run until its last answer is taken.
    waits_to_be_read = False
    #: Whether its request is one of the few that are answered although load is shed.
    is_spared = False
    #: Whether the loop hears it before others: what asks how the service is, and what has not said yet what it wants.
    comes_first = True

    def __init__(self, server: ChannelServer, *args: Any, **options: Any) -> None:
        super().__init__(server, *args, **options)
        #: Since when no request of it runs.
        self.quiet_since_s = time.monotonic()
        self.origin = origin_of(self.addr[0])
        #: What all of its requests are answered with, when it is one too many.
        self.refusal = server.refusal_for(self)
        self._unread_since_s: float | None = None
        self._unread = 0
        server.loop.add(self)

    def readable(self) -> bool:
        """Whether more of it is to be read."""
        return not self.is_paused and bool(super().readable())

    def received(self, data: bytes) -> bool:
        """Take what has come in; while load is shed, without parsing it."""
        self.comes_first = data.startswith(_WATCHERS)
        if (len(self.server.under_way) > BUSY or self.refusal is not None) and self._is_answered_unread(data):
            return True
        before = self.request
        accepted: bool = super().received(data)
        if self.request is not before:
            self.receiving_since_s = time.monotonic()
        return accepted

    def _is_answered_unread(self, data: bytes) -> bool:
        """Refuse a request that is all there, without parsing it, or say that the service is alive."""
        is_refused = self.refusal is not None or self.server.shedding.is_on
        if not is_refused and not data.startswith(b"GET /livez "):
            return False
        if self.request is not None or self.requests or self.will_close or self.close_when_flushed:
            return False
        seen = glance(data)
        refusal = None if seen is None else self.server.refusal_of_load(self, seen.path)
        if seen is None or refusal is None:
            return False
        self.refuse(refusal, seen.request_id)
        return True

    def refuse(self, refusal: Refusal, request_id: str, *, has_body: bool = True, closes: bool = False) -> None:
        """Answer a request that is not run."""
        closes = closes or self.refusal is not None
        self.has_asked = True
        self.quiet_since_s = time.monotonic()
        SERVING.set(self)
        date = _http_date(int(time.time()))
        self.write_soon(refusal.answer(request_id_of(request_id), date, closes=closes, has_body=has_body))
        if closes:
            self.close_when_flushed = True
        elif refusal is not ALIVE:
            self.is_paused = True
            self.server.shedding.pause(self)

    def handle_write(self) -> None:
        """Send what waits, and go on with the next request when all is taken."""
        super().handle_write()
        if self.waits_to_be_read and not self.total_outbufs_len and self.connected:
            with self.requests_lock:
                if self.waits_to_be_read:
                    self.waits_to_be_read = False
                    self.server.add_task(self)

    def must_be_read(self) -> bool:
        """Whether its next request waits until its last answer is taken: else who never reads has many made and kept.

        The lock is held; `handle_write` goes on with it.
        """
        self.waits_to_be_read = True
        # Looked at last, since the loop may be sending just now.
        self.waits_to_be_read = bool(self.total_outbufs_len)
        return self.waits_to_be_read

    def is_overdue(self, now_s: float) -> str:
        """Why the connection is to be closed now; empty when it may stay."""
        server = self.server
        if self.total_outbufs_len:
            return "does_not_read" if self._reads_too_little(now_s) else ""
        self._unread_since_s = None
        if self.requests:
            return ""
        quiet_s = now_s - self.quiet_since_s
        timeout_s = _EXTRA_S if self.refusal is not None else server.request_timeout_s
        # Blank lines before a request begin one again and again, so that one which is under way may be none.
        if not self.has_asked or quiet_s > self.adj.channel_timeout + timeout_s:
            return "sends_slowly" if quiet_s > timeout_s else ""
        if self.request is not None:
            return "sends_slowly" if now_s - self.receiving_since_s > timeout_s else ""
        return "idle" if quiet_s > self.adj.channel_timeout else ""

    def is_idle_since(self, before_s: float) -> bool:
        """Whether it is kept for later, and has been since then."""
        is_quiet = not (self.requests or self.request is not None or self.total_outbufs_len)
        return bool(is_quiet and self.has_asked and self.quiet_since_s < before_s)

    def _reads_too_little(self, now_s: float) -> bool:
        left = self.total_outbufs_len
        if self._unread_since_s is not None and self._unread - left < _LEAST_READ_BYTES:
            return bool(now_s - self._unread_since_s > self.server.request_timeout_s)
        self._unread_since_s, self._unread = now_s, left
        return False

    def write_soon(self, data: Any) -> int:
        """Send at once when nothing waits before it; what the socket does not take waits in a buffer."""
        sent = 0
        if self.connected and type(data) is bytes:
            with self.outbuf_lock:
                if not self.total_outbufs_len:
                    sent, has_failed = self._flush_exception(partial(self.send, data), do_close=False)
                    if has_failed or sent == len(data):
                        return len(data)
                    data = data[sent:]
        written: int = super().write_soon(data)
        return sent + written

    def service(self) -> None:
        """Run the requests that are all there; in a thread of `Workers`."""
        SERVING.set(self)
        try:
            super().service()
        finally:
            self.quiet_since_s = time.monotonic()
            if not self.requests or self.waits_to_be_read:
                self.server.shedding.done(self)
            if self.is_spared:
                self.is_spared = False
                self.server.shedding.end_spared()

    def del_channel(self, map: dict[int, Any] | None = None) -> None:  # noqa: A002 - Waitress's name
        """Forget the closed connection."""
        self.server.loop.forget(self._fileno)
        self.server.addresses.leave(self.origin)
        self.server.shedding.done(self)
        super().del_channel(map)
