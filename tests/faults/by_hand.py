"""A requestor's end of a trunk to a processor that runs as a process, spoken by hand."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from proto import order_service_pb2 as wire
from proto import order_service_pb2_grpc
from tests.e2e.conftest import Service
from tests.integration.test_grpc import Trunk, open_request


@contextmanager
def trunk_to(processor: Service, name: str) -> Iterator[tuple[Trunk, Any]]:
    """A trunk that is spoken by hand, and the stub that it came from."""
    address = f"127.0.0.1:{processor.settings['PROCESSOR_GRPC_PORT']}"
    with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        stub = order_service_pb2_grpc.OrderServiceStub(channel)
        trunk = Trunk(stub, name)
        try:
            yield trunk, stub
        finally:
            trunk.end()


def claim(order_id: str, token: int, **other: Any) -> wire.OrderStreamRequest:
    """What opens an order as `order_body` made it."""
    return open_request(order_id, token=token, audience=[], stream_id=f"by-hand-{token}-{order_id}", **other)
