"""The gRPC server as a component: a thread pool, its own port, health and reflection, and who may call."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from service_kit.errors import StartRefused
from service_kit.logs import get_logger
from service_kit.measures import Histogram
from service_kit.ports import listen_alone, port_taken_line
from service_kit.rpc.deadlines import CallDeadlines
from service_kit.rpc.options import server_options
from service_kit.rpc.peers import PeerInterceptor, refusal_tally
from service_kit.rpc.probe import ProbeCall
from service_kit.rpc.statuses import ErrorInterceptor
from service_kit.rpc.tls import ReloadedIdentity
from service_kit.tls_files import TlsFiles

log = get_logger(__name__)

#: How long running calls have to end by themselves after they were told.
GRACE_S = 1.0

_LOOPBACK = "127.0.0.1"


class TlsDoor(NamedTuple):
    """What a server needs to let in only peers with a certificate and a name that is on the list."""

    files: TlsFiles
    peers: PeerInterceptor


class GrpcServer:
    """Serves on ``host:port`` (port 0: any free one) with at most ``max_threads`` calls at a time."""

    name = "grpc"

    def __init__(
        self,
        host: str,
        port: int,
        port_setting: str,
        *,
        add_services: Sequence[Callable[[grpc.Server], None]],
        service_names: Sequence[str],
        keepalive_ms: int,
        max_threads: int,
        endless: Collection[str] = (),
        before_stop: Callable[[], None] = lambda: None,
        door: TlsDoor | None = None,
    ) -> None:
        self._host = host
        self._wanted_port = port
        self._port_setting = port_setting
        self._add_services = add_services
        self._service_names = service_names
        self._keepalive_ms = keepalive_ms
        self._max_threads = max_threads
        self._endless = endless
        self._before_stop = before_stop
        self.deadlines = CallDeadlines()
        self._door = door
        self._server: grpc.Server | None = None
        self._pool: ThreadPoolExecutor | None = None
        self._health: health.HealthServicer | None = None
        self._health_pool: ThreadPoolExecutor | None = None
        self.port = port
        self._probe_port = port
        self._identity: ReloadedIdentity | None = None
        #: The time of each call that is answered at once.
        self.call_times = Histogram("method", "code")
        #: Calls that were not let through.
        self.refused_peers = refusal_tally() if door is None else door.peers.refused

    def start(self) -> None:
        """Bind and serve. Raises `StartRefused` when the port is taken, or TLS cannot be used."""
        if self._door is not None:
            self._identity = ReloadedIdentity(self._door.files)
        # gRPC would print lines of its own about a port that it cannot have; so it is tried before.
        listen_alone(self._host, self._wanted_port, self._port_setting).close()
        # The pool makes threads when calls need them, so a high limit costs nothing while few calls are open.
        pool = ThreadPoolExecutor(self._max_threads, thread_name_prefix="grpc-call")
        interceptors: list[grpc.ServerInterceptor] = [  # type: ignore[type-arg]
            ErrorInterceptor(self.call_times, self.deadlines, self._endless)
        ]
        if self._door is not None:
            interceptors.insert(0, self._door.peers)
        server = grpc.server(pool, interceptors=interceptors, options=server_options(self._keepalive_ms))
        for add in self._add_services:
            add(server)
        self._health_pool = ThreadPoolExecutor(1, thread_name_prefix="grpc-health")
        self._health = health.HealthServicer(experimental_non_blocking=True, experimental_thread_pool=self._health_pool)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        names = [*self._service_names, health.SERVICE_NAME]
        reflection.enable_server_reflection([*names, reflection.SERVICE_NAME], server)
        try:
            self._listen(server)
        except RuntimeError:
            pool.shutdown()
            self._health_pool.shutdown()
            raise StartRefused(port_taken_line(self._wanted_port, self._port_setting)) from None
        server.start()
        self.deadlines.start()
        self._server, self._pool = server, pool
        for name in ("", *self._service_names):
            self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        log.info(f"gRPC Server started on port {self.port}", action="grpc.started", port=self.port)

    def _listen(self, server: grpc.Server) -> None:
        address = f"[{self._host}]" if ":" in self._host else self._host
        if self._identity is None:
            self.port = self._probe_port = server.add_insecure_port(f"{address}:{self._wanted_port}")
        else:
            self.port = server.add_secure_port(f"{address}:{self._wanted_port}", self._identity.credentials())
            # The probe asks whether calls are served. An expired certificate must not look like a server that hangs.
            self._probe_port = server.add_insecure_port(f"{_LOOPBACK}:0")

    def probe_call(self) -> ProbeCall:
        """How this process calls its own server."""
        host = self._host if self._door is None else _LOOPBACK
        address = f"[{host}]" if ":" in host else host
        metadata = () if self._door is None else self._door.peers.probe_metadata
        return ProbeCall(f"{address}:{self._probe_port}", metadata)

    def certificate_expires_at_s(self) -> float:
        """When the certificate in use ends, in seconds since 1970; 0 without TLS."""
        return 0.0 if self._identity is None else self._identity.expires_at_s

    def stop(self, timeout_s: float) -> None:
        """Tell health and the running calls, give them a moment, then end what is left. Safe to call twice."""
        server, pool, health_pool = self._server, self._pool, self._health_pool
        if server is None or pool is None or health_pool is None or self._health is None:
            return
        self._server = None
        deadline = time.monotonic() + timeout_s
        self.deadlines.stop(timeout_s / 10)
        self._health.enter_graceful_shutdown()
        self._before_stop()
        stopped = server.stop(min(GRACE_S, timeout_s / 2))
        stopped.wait(max(0.1, deadline - time.monotonic()))
        health_pool.shutdown(wait=False)
        pool.shutdown(wait=False)

    def check(self) -> str | None:
        """None while it serves."""
        return self.deadlines.check() if self._server is not None else "the gRPC server is not running"
