"""Waitress as a component: listens alone, stops in order, and gives slow senders a deadline."""

from __future__ import annotations

import os
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from functools import lru_cache, partial
from typing import Any

from waitress.adjustments import Adjustments  # type: ignore[import-untyped]
from waitress.channel import HTTPChannel  # type: ignore[import-untyped]
from waitress.server import TcpWSGIServer  # type: ignore[import-untyped]
from waitress.task import WSGITask  # type: ignore[import-untyped]
from waitress.utilities import build_http_date  # type: ignore[import-untyped]

from service_kit.logs import get_logger
from service_kit.measures import Tally
from service_kit.networks import IpNetwork
from service_kit.ports import listen_alone
from service_kit.seldom import Seldom
from service_kit.web.callers import CLIENT_ADDRESS_KEY, ProxyGate, forwarded_address
from service_kit.web.meter import Meter
from service_kit.web.places import CLOSED_TOGETHER, HEADROOM, AddressCounts, allow_open_files, origin_of
from service_kit.web.refusals import (
    ALIVE,
    CROWDED,
    CROWDED_ADDRESS,
    OVERLOADED,
    Refusal,
    request_id_of,
)
from service_kit.web.shedding import BUSY, SPARED, Shedding, glance
from service_kit.web.socket_loop import SWEEP_S, make_loop
from service_kit.web.strict_requests import ProblemTask, StrictParser
from service_kit.web.workers import LONG_WAIT_S, Workers

_log = get_logger(__name__)

# Larger than what the app reads, so that it is the app that answers a body that is somewhat too large, and explains.
_MAX_RECEIVED_BYTES = 262_144
_MAX_HEAD_BYTES = 32_768
_BACKLOG = 1024
# select() of Windows takes 512 sockets. On other systems Waitress uses poll(), which takes any.
_WINDOWS_CONNECTION_LIMIT = 480
_POLL_S = 0.01
#: For SO_LINGER: give up what is not sent.
_CLOSE_AT_ONCE = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
#: How long a thread may keep the interpreter from the others, in seconds. The loop is one among many, and under load
#: they all want it: with the usual time its turn comes late.
USUAL_SWITCH_S, BUSY_SWITCH_S = sys.getswitchinterval(), 0.001
#: What the system keeps of an answer that is not read, about; by itself it would take megabytes for each connection.
_SEND_BUFFER_BYTES = 131_072
#: A client must take so much of a long answer in the time that one request may take.
_LEAST_READ_BYTES = 262_144
#: A connection above the limit has so long to say what it wants, in seconds.
_EXTRA_S = 2.0
#: A connection is idle when its last answer is so old; a younger one may be about to be used again.
_IDLE_S = 1.0
#: The server looks after its deadlines once a second, sees up to a second late that an answer is not read any more, and
#: may be busy: so everything that is slow is cut within 15 s.
REQUEST_TIMEOUT_S = 11.0
#: Which connection's request is run.
_serving: ContextVar[_Channel] = ContextVar("serving")
#: What an answer's head holds beside its date; with any other header Waitress writes it.
_USUAL_HEADERS = frozenset(
    {"Content-Type", "Content-Length", "X-Request-ID", "X-Content-Type-Options", "Cache-Control", "ETag"}
)


# The answers of one second share it.
@lru_cache(maxsize=2)
def _http_date(second: int) -> str:
    date: str = build_http_date(second)
    return date


class WebServer:
    """Serves a WSGI app on one address, with its own threads."""

    name = "web"

    def __init__(
        self,
        app: Callable[..., Any],
        host: str,
        port: int,
        port_setting: str,
        *,
        threads: int = 16,
        connection_limit: int = 1000,
        idle_timeout_s: int = 60,
        request_timeout_s: float = REQUEST_TIMEOUT_S,
        gathers: bool = True,
        trusted_proxies: Sequence[IpNetwork] = (),
        meter: Meter | None = None,
    ) -> None:
        self._app = app
        self._host = host
        self._port = port
        self._port_setting = port_setting
        self._threads = threads
        self._connection_limit = (
            min(connection_limit, _WINDOWS_CONNECTION_LIMIT) if os.name == "nt" else connection_limit
        )
        self._idle_timeout_s = idle_timeout_s
        self._request_timeout_s = request_timeout_s
        self._workers = Workers(threads, gathers=gathers)
        self.gate = ProxyGate(trusted_proxies)
        self._meter = meter if meter is not None and meter.addresses.is_on else None
        #: Requests that were refused before any work was done on them.
        self.shed = Tally("reason", known=[("load",), ("connections",), ("address",)])
        #: Connections that were cut because their client is slow.
        self.cut = Tally("reason", known=[("sends_slowly",), ("does_not_read",)])
        self._server: _Server | None = None
        self._loop: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port that is listened on, also when 0 was asked for."""
        return self._port

    @property
    def queue_depth(self) -> int:
        """How many requests wait for a thread."""
        return self._workers.queue_depth

    def start(self) -> None:
        """Listen and serve; raises `StartRefused` with one line when the address cannot be had."""
        allow_open_files(self._connection_limit)
        listener = listen_alone(self._host, self._port, self._port_setting, backlog=_BACKLOG)
        self._port = listener.getsockname()[1]
        adjustments = Adjustments(
            sockets=[listener],
            threads=self._threads,
            channel_timeout=self._idle_timeout_s,
            max_request_body_size=_MAX_RECEIVED_BYTES,
            max_request_header_size=_MAX_HEAD_BYTES,
            backlog=_BACKLOG,
            ident=None,
            # What a proxy says about the caller is read in one place of our own.
            clear_untrusted_proxy_headers=False,
            log_socket_errors=False,
        )
        self._workers.start()
        self._server = _Server(
            self._app,
            {},
            True,
            listener,
            dispatcher=self._workers,
            adj=adjustments,
            sockinfo=(listener.family, listener.type, listener.proto, listener.getsockname()),
            bind_socket=False,
        )
        self._server.request_timeout_s = self._request_timeout_s
        self._server.gate = self.gate
        self._server.shed, self._server.cut = self.shed, self.cut
        self._server.meter = self._meter
        self._server.connection_limit = self._connection_limit
        if not self.gate.is_set:  # else they all come from the proxy
            self._server.addresses = AddressCounts(self._connection_limit // 4)
        self._loop = threading.Thread(target=self._server.run, name="web-loop", daemon=True)
        self._loop.start()
        host = f"[{self._host}]" if ":" in self._host else self._host
        _log.info(f"Listening on http://{host}:{self._port}", action="web.listening", port=self._port)

    def stop(self, timeout_s: float = 5.0) -> None:
        """Take no new connection, finish the requests that run, close; those that overrun the time are cut."""
        server, self._server = self._server, None
        if server is None or self._loop is None:
            return
        deadline = time.monotonic() + timeout_s
        server.in_loop(server.stop_listening)
        # The threads need the last bit of the time to end.
        while server.is_busy() and time.monotonic() < deadline - timeout_s / 10:
            server.in_loop(server.close_idle_channels)
            time.sleep(_POLL_S)
        ended = self._workers.end(deadline)
        server.in_loop(server.close_everything)
        self._loop.join(max(1.0, deadline - time.monotonic()))
        server.close_trigger()
        if not ended:
            _log.warning("Cut requests that outlasted the stop", action="web.requests_cut")

    def check(self) -> str | None:
        """None while the loop runs."""
        loop = self._loop
        return None if self._server is not None and loop is not None and loop.is_alive() else "not serving"


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


class _Channel(HTTPChannel):  # type: ignore[misc] # Waitress has no types
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

    def __init__(self, server: _Server, *args: Any, **options: Any) -> None:
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
        return not self.is_paused and bool(super().readable())

    def received(self, data: bytes) -> bool:
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
        _serving.set(self)
        date = _http_date(int(time.time()))
        self.write_soon(refusal.answer(request_id_of(request_id), date, closes=closes, has_body=has_body))
        if closes:
            self.close_when_flushed = True
        elif refusal is not ALIVE:
            self.is_paused = True
            self.server.shedding.pause(self)

    def handle_write(self) -> None:
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
        _serving.set(self)
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
        self.server.loop.forget(self._fileno)
        self.server.addresses.leave(self.origin)
        self.server.shedding.done(self)
        super().del_channel(map)


class _Server(TcpWSGIServer):  # type: ignore[misc] # Waitress has no types
    """A Waitress server with a deadline for each request head and body, and an orderly end.

    Waitress measures idleness between two bytes: senders who dribble could hold every connection for ever.
    """

    channel_class = _Channel
    request_timeout_s = REQUEST_TIMEOUT_S
    connection_limit = 1000
    gate = ProxyGate(())
    addresses = AddressCounts(None)
    meter: Meter | None = None
    shed = Tally("reason")
    cut = Tally("reason")

    def __init__(self, *args: Any, **options: Any) -> None:
        #: Guards the trigger against being pulled once it is closed: its file descriptor may be a database's by then,
        #: and a thread that outlasts the stop would write into that.
        self._trigger_lock = threading.Lock()
        self._is_trigger_closed = False
        super().__init__(*args, **options)
        self.shedding = Shedding()
        self.under_way = self.shedding.under_way
        self._full = Seldom()
        self._looks_at_s = 0.0
        self._is_busy = False
        self.loop = make_loop(self._map, self._wake_loop, self._turn_s)

    def run(self) -> None:
        self.loop.run()

    def pull_trigger(self) -> None:
        """Let the loop see what a request has changed about its connection; Waitress's channels call it."""
        self.loop.watch(_serving.get())

    def _turn_s(self) -> float:
        workers, shedding = self.task_dispatcher, self.shedding
        if (len(self.under_way) > BUSY) is not self._is_busy:
            self._is_busy = not self._is_busy
            sys.setswitchinterval(BUSY_SWITCH_S if self._is_busy else USUAL_SWITCH_S)
        for channel in shedding.turn():
            channel.is_paused = False
            self.loop.watch(channel)
        return (
            LONG_WAIT_S if workers.relieve(time.monotonic(), is_busy=self._is_busy) or shedding.has_paused else SWEEP_S
        )

    def _wake_loop(self, call: Callable[[], None] | None = None) -> None:
        with self._trigger_lock:
            if not self._is_trigger_closed:
                self.trigger.pull_trigger(call)

    def close_trigger(self) -> None:
        with self._trigger_lock:
            self._is_trigger_closed = True
            self.trigger.close()

    def in_loop(self, call: Callable[[], None]) -> None:
        """Run a call in the thread of the loop, which alone may change channels."""
        self._wake_loop(call)

    def accept(self) -> tuple[socket.socket, Any] | None:
        """The next connection; one that comes past the proxy is closed before anything of it is read."""
        accepted: tuple[socket.socket, Any] | None = super().accept()
        if accepted is None:
            return None
        has_room = len(self.active_channels) < self.connection_limit + HEADROOM or self._make_room()
        if has_room and self.gate.lets_in(accepted[1][0]):
            return accepted
        accepted[0].close()
        return None

    def set_socket_options(self, conn: socket.socket) -> None:
        super().set_socket_options(conn)
        conn.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)

    # ---- what is refused

    def refusal_for(self, channel: _Channel) -> Refusal | None:
        """What a new connection is told when it is one too many; it may ask for /livez all the same."""
        if not self.addresses.enter(channel.origin):
            return CROWDED_ADDRESS
        if len(self.active_channels) <= self.connection_limit or self._make_room():
            return None
        if self._full.may_tell("connections"):
            _log.warning("All connections are taken", action="web.crowded", connections=self.connection_limit)
        return CROWDED

    def _make_room(self) -> bool:
        """Close connections that are kept for later, the oldest first."""
        before_s = time.monotonic() - _IDLE_S
        idle = [channel for channel in self.active_channels.values() if channel.is_idle_since(before_s)]
        idle.sort(key=lambda channel: channel.quiet_since_s)
        for channel in idle[:CLOSED_TOGETHER]:
            channel.handle_close()
        return bool(idle)

    def refusal_of_load(self, channel: _Channel, path: bytes) -> Refusal | None:
        """What a request is answered with while load is shed or its connection is one too many; None: it is run."""
        if path == b"/livez" and not self.shedding.is_stuck:
            return ALIVE
        if channel.refusal is not None:
            self.shed.add("address" if channel.refusal is CROWDED_ADDRESS else "connections")
            return channel.refusal
        if path in SPARED and self.shedding.spare():
            channel.is_spared = True
            return None
        self.shed.add("load")
        self.shedding.count()
        return OVERLOADED

    def _refusal_of_rate(self, channel: _Channel, request: Any, meter: Meter) -> Refusal | None:
        address: str = channel.addr[0]
        if self.gate.is_set:
            address = forwarded_address(request.headers.get("X_FORWARDED_FOR", ""), address)
        return meter.refusal_for(address, request.path)

    def add_task(self, channel: _Channel) -> None:
        """Hand a connection's next request to the threads, or refuse it; the connection's lock is held."""
        shedding = self.shedding
        while channel.requests and not (channel.total_outbufs_len and channel.must_be_read()):
            request = channel.requests[0]
            refusal: Refusal | None = None
            if channel.refusal is not None or (shedding.is_on and channel not in self.under_way):
                # Seen already at first glance, or not: then it is one that only the parser could read.
                refusal = None if channel.is_spared else self.refusal_of_load(channel, request.path.encode("latin-1"))
            elif self.meter is not None and request.error is None:
                refusal = self._refusal_of_rate(channel, request, self.meter)
            if refusal is None:
                channel.has_asked = True
                shedding.admit(channel)
                self.task_dispatcher.add_task(channel, is_first=channel.is_spared)
                return
            channel.requests.pop(0)
            request.close()
            if not (channel.will_close or channel.close_when_flushed):
                closes = request.error is not None or request.connection_close
                name = request.headers.get("X_REQUEST_ID", "")
                channel.refuse(refusal, name, has_body=request.command != "HEAD", closes=closes)

    # ---- deadlines

    def readable(self) -> bool:
        """Whether connections are taken; once a second those are looked at that there are."""
        now_s = time.monotonic()
        if now_s >= self._looks_at_s:
            self._looks_at_s = now_s + SWEEP_S / 2
            for channel in list(self.active_channels.values()):
                if reason := channel.is_overdue(now_s):
                    if reason != "idle":
                        self.cut.add(reason)
                    if reason == "does_not_read":
                        # Else the system keeps for minutes what was sent and is not read.
                        channel.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _CLOSE_AT_ONCE)
                    # At once: who does not read would never let it be flushed.
                    channel.handle_close()
        return bool(self.accepting)

    def is_busy(self) -> bool:
        """Whether a request runs or waits, or an answer is not sent."""
        return any(channel.requests or channel.total_outbufs_len for channel in list(self.active_channels.values()))

    def stop_listening(self) -> None:
        self.accepting = False
        self.loop.forget(self._fileno)
        self.del_channel()
        self.socket.close()
        self.close_idle_channels()

    def close_idle_channels(self) -> None:
        for channel in self.active_channels.values():
            if not channel.requests:
                channel.close_when_flushed = True

    def close_everything(self) -> None:
        for channel in list(self.active_channels.values()):
            channel.handle_close()
        # The loop ends when nothing is left to watch.
        self.loop.forget(self.trigger._fileno)  # noqa: SLF001 - Waitress has no other name for it
        self.trigger.del_channel()
