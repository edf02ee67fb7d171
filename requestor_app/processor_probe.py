"""Asks a processor who it is, as a requestor does when it connects; for ``doctor``."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import NamedTuple

import grpc

from proto import order_service_pb2 as wire
from proto import order_service_pb2_grpc
from service_kit.rpc.options import client_options
from service_kit.rpc.tls import failure_of, open_channel
from service_kit.times import now_ms
from service_kit.tls_files import TlsFault, TlsFiles
from service_kit.version import VERSION


class ProbeFailed(Exception):
    """No processor has answered; the text is gRPC's word for why."""


class ProcessorAnswer(NamedTuple):
    """What a processor says of itself."""

    version: str
    #: How far its clock is before ours; half of the call's time is taken to be the way there.
    clock_ahead_ms: int
    took_ms: int


def ask_processor(
    target: str, *, keepalive_ms: int, timeout_s: float = 3.0, tls: TlsFiles | None = None
) -> ProcessorAnswer:
    """The greeting of the processor at a gRPC target. Raises `ProbeFailed`."""
    begun, sent_ms = time.monotonic(), now_ms()
    try:
        with open_channel(target, client_options(keepalive_ms), tls) as channel:
            stub = order_service_pb2_grpc.OrderServiceStub(channel)
            call = stub.StreamOrders(_greeting(sent_ms), timeout=timeout_s)
            for message in call:
                if message.HasField("hello"):
                    took_ms = round((time.monotonic() - begun) * 1000)
                    ahead_ms = message.hello.now_ms - sent_ms - took_ms // 2
                    call.cancel()
                    return ProcessorAnswer(message.hello.software_version, ahead_ms, took_ms)
    except grpc.RpcError as error:
        raise ProbeFailed(failure_of(error, tls)) from None
    except TlsFault as fault:
        raise ProbeFailed(str(fault)) from None
    raise ProbeFailed("it ended the call without a greeting")


def _greeting(at_ms: int) -> Iterator[wire.TrunkUp]:
    hello = wire.Hello(instance_id=f"doctor-{uuid.uuid4().hex[:12]}", software_version=VERSION, now_ms=at_ms)
    yield wire.TrunkUp(hello=hello)
