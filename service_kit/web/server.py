"""Waitress as a component: listens alone, stops in order, and gives slow senders a deadline."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from waitress.adjustments import Adjustments  # type: ignore[import-untyped]

from service_kit.logs import get_logger
from service_kit.measures import Tally
from service_kit.networks import IpNetwork
from service_kit.ports import listen_alone
from service_kit.web.callers import ProxyGate
from service_kit.web.channel_server import REQUEST_TIMEOUT_S, ChannelServer
from service_kit.web.meter import Meter
from service_kit.web.places import AddressCounts, allow_open_files
from service_kit.web.workers import Workers

_log = get_logger(__name__)

# Larger than what the app reads, so that it is the app that answers a body that is somewhat too large, and explains.
_MAX_RECEIVED_BYTES = 262_144
_MAX_HEAD_BYTES = 32_768
_BACKLOG = 1024
# select() of Windows takes 512 sockets. On other systems Waitress uses poll(), which takes any.
_WINDOWS_CONNECTION_LIMIT = 480
_POLL_S = 0.01


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
        self._server: ChannelServer | None = None
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
        self._server = ChannelServer(
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
