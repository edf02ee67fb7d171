"""Holds single-order streams as a foreign client does, until somebody ends it: ``stream_caller PORT PREFIX COUNT``.

It prints a line when all are open. An end by SIGKILL leaves to the processor what a crashed client leaves.
"""

from __future__ import annotations

import sys
import threading

import grpc

from proto import order_service_pb2 as wire
from proto import order_service_pb2_grpc


def open_streams(channel: grpc.Channel, prefix: str, count: int) -> list[grpc.Call]:
    """Open one stream for each of so many orders; answers their calls, of which each has said that it is open."""
    stub = order_service_pb2_grpc.OrderServiceStub(channel)
    calls = []
    for number in range(count):
        key = f"{prefix}-{number}"
        request = wire.OrderStreamRequest(
            order_req_id=key, session_id="s1", notification_type="none", token=1, run=1, stream_id=key
        )
        calls.append(stub.StreamOrder(request))
    for call in calls:
        assert next(call).WhichOneof("step") == "opened"
    return calls


if __name__ == "__main__":
    port, prefix, count = sys.argv[1:]
    calls = open_streams(grpc.insecure_channel(f"127.0.0.1:{port}"), prefix, int(count))
    print(f"{len(calls)} open", flush=True)
    threading.Event().wait()
