"""Waitress as a component: listens alone, stops in order, and gives slow senders a deadline."""

from __future__ import annotations

import os
import socket
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
from service_kit.networks import IpNetwork
from service_kit.ports import listen_alone
from service_kit.web.callers import CLIENT_ADDRESS_KEY, ProxyGate, forwarded_address
from service_kit.web.request_head import RequestParser
from service_kit.web.socket_loop import SWEEP_S, make_loop
from service_kit.web.workers import LONG_WAIT_S, Workers

_log = get_logger(__name__)

# Larger than what the app reads, so that it is the app that answers a body that is somewhat too large, and explains.
_MAX_RECEIVED_BYTES = 262_144
_MAX_HEAD_BYTES = 32_768
_BACKLOG = 1024
# select() of Windows takes 512 sockets. On other systems Waitress uses poll(), which takes any.
_WINDOWS_CONNECTION_LIMIT = 480
_POLL_S = 0.01
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
        request_timeout_s: float = 15.0,
        gathers: bool = True,
        trusted_proxies: Sequence[IpNetwork] = (),
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
        listener = listen_alone(self._host, self._port, self._port_setting, backlog=_BACKLOG)
        self._port = listener.getsockname()[1]
        adjustments = Adjustments(
            sockets=[listener],
            threads=self._threads,
            connection_limit=self._connection_limit,
            channel_timeout=self._idle_timeout_s,
            cleanup_interval=1,
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
    parser_class = RequestParser
    receiving_since_s = 0.0

    def __init__(self, server: _Server, *args: Any, **options: Any) -> None:
        super().__init__(server, *args, **options)
        server.loop.add(self)

    def received(self, data: bytes) -> bool:
        before = self.request
        accepted: bool = super().received(data)
        if self.request is not before:
            self.receiving_since_s = time.monotonic()
        return accepted

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
        super().service()

    def del_channel(self, map: dict[int, Any] | None = None) -> None:  # noqa: A002 - Waitress's name
        self.server.loop.forget(self._fileno)
        super().del_channel(map)


class _Server(TcpWSGIServer):  # type: ignore[misc] # Waitress has no types
    """A Waitress server with a deadline for each request head and body, and an orderly end.

    Waitress measures idleness between two bytes: senders who dribble could hold every connection for ever.
    """

    channel_class = _Channel
    request_timeout_s = 15.0
    gate = ProxyGate(())

    def __init__(self, *args: Any, **options: Any) -> None:
        #: Guards the trigger against being pulled once it is closed: its file descriptor may be a database's by then,
        #: and a thread that outlasts the stop would write into that.
        self._trigger_lock = threading.Lock()
        self._is_trigger_closed = False
        super().__init__(*args, **options)
        self.loop = make_loop(self._map, self._wake_loop, self._turn_s)

    def run(self) -> None:
        self.loop.run()

    def pull_trigger(self) -> None:
        """Let the loop see what a request has changed about its connection; Waitress's channels call it."""
        self.loop.watch(_serving.get())

    def _turn_s(self) -> float:
        return LONG_WAIT_S if self.task_dispatcher.relieve(time.monotonic()) else SWEEP_S

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
        if accepted is None or self.gate.lets_in(accepted[1][0]):
            return accepted
        accepted[0].close()
        return None

    def maintenance(self, now: float) -> None:
        super().maintenance(now)
        oldest_s = time.monotonic() - self.request_timeout_s
        for channel in self.active_channels.values():
            if channel.request is not None and channel.receiving_since_s < oldest_s:
                channel.will_close = True

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
