"""A component that calls this process's own gRPC server, and ends the process when that no longer serves."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from service_kit.background import Background
from service_kit.lifecycle import ask_to_stop
from service_kit.logs import get_logger

EVERY_S = 5.0
TIMEOUT_S = 5.0
#: Failures in a row; one may be a machine that was asleep.
FAILURES = 3
#: EX_SOFTWARE of sysexits.h: whoever supervises the process sees that it ended itself.
EXIT_CODE = 70

log = get_logger(__name__)


class ProbeCall(NamedTuple):
    """Where the server is called, and what goes along so that it lets its own process in."""

    address: str
    metadata: tuple[tuple[str, str], ...] = ()


class LoopbackProbe(Background):
    """Asks the server behind ``call()`` for its health, again and again."""

    name = "grpc-probe"
    not_running = "nobody asks the gRPC server"

    def __init__(
        self,
        call: Callable[[], ProbeCall],
        *,
        every_s: float = EVERY_S,
        timeout_s: float = TIMEOUT_S,
        give_up: Callable[[int, str], object] = ask_to_stop,
    ) -> None:
        super().__init__()
        self._call = call
        self._every_s = every_s
        self._timeout_s = timeout_s
        self._give_up = give_up
        self._failures = 0

    def check(self) -> str | None:
        """None while somebody asks and the last call was answered."""
        return "the gRPC server does not answer" if self._failures else super().check()

    def _run(self) -> None:
        call = self._call()
        with grpc.insecure_channel(call.address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            stub = health_pb2_grpc.HealthStub(channel)
            while not self._stopping.is_set():
                self._note(self._serves(stub, call.metadata))
                self._stopping.wait(self._every_s)

    def _serves(self, stub: health_pb2_grpc.HealthStub, metadata: tuple[tuple[str, str], ...]) -> bool:
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=self._timeout_s, metadata=metadata)
        except grpc.RpcError:
            return False
        return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

    def _note(self, serves: bool) -> None:
        if serves or self._stopping.is_set():
            self._failures = 0
            return
        self._failures += 1
        log.error("The gRPC server does not answer", action="grpc.probe_failed", failures=self._failures)
        if self._failures == FAILURES:
            self._give_up(EXIT_CODE, "the gRPC server no longer serves")
