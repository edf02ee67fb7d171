"""The processor of the ``threads`` peer: a gRPC call that holds a pool thread for each order, beside Flask."""

from __future__ import annotations

import os
import queue
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import grpc
from flask import Flask, abort, request
from waitress import serve  # type: ignore[import-untyped]

from benchmarks.peers import logs
from processor_app.api.schemas import ReplySchema
from proto import order_service_pb2 as wire
from proto import order_service_pb2_grpc

#: Each stream holds one for as long as its order lives.
POOL_THREADS = 2_064
WEB_THREADS = 16

log = logs.configure()
app = Flask(__name__)
REPLY = ReplySchema()


@dataclass(slots=True)
class Order:
    """An order and its events; ``waiting`` are those that its stream has not sent."""

    session_id: str
    #: Guards the numbers of events.
    lock: threading.Lock = field(default_factory=threading.Lock)
    waiting: queue.SimpleQueue[wire.OrderEvent | None] = field(default_factory=queue.SimpleQueue)
    note_ids: set[str] = field(default_factory=set)
    seq: int = 0
    is_open: bool = False

    def add(self, **fact: Any) -> None:
        """Number an event and have it sent."""
        with self.lock:
            self.seq += 1
            event = wire.OrderEvent(seq=self.seq, at_ms=time.time_ns() // 1_000_000, run=1, **fact)
            self.waiting.put(event)


orders: dict[str, Order] = {}


class Servicer(order_service_pb2_grpc.OrderServiceServicer):
    """One blocking call for each order."""

    def StreamOrder(  # noqa: N802 - gRPC's name
        self, request: wire.OrderStreamRequest, context: grpc.ServicerContext
    ) -> Iterator[wire.OrderStreamResponse]:
        """Carry the stream of one order."""
        order_id = request.order_req_id
        order = orders.setdefault(order_id, Order(request.session_id))
        order.is_open = True
        log.info("Request type: %s  action=stream.opened order_req_id=%s", type(request), order_id)
        if not context.add_callback(lambda: order.waiting.put(None)):
            return
        order.add(accepted=wire.OrderAccepted(notification_type=request.notification_type, audience=request.audience))
        opened = wire.StreamOpened(token=request.token, head_seq=order.seq)
        yield wire.OrderStreamResponse(order_req_id=order_id, stream_id=request.stream_id, opened=opened)
        while (event := order.waiting.get()) is not None:
            yield wire.OrderStreamResponse(order_req_id=order_id, stream_id=request.stream_id, event=event)
        order.is_open = False

    def SubmitFollowUp(  # noqa: N802 - gRPC's name
        self, request: wire.FollowUpRequest, context: grpc.ServicerContext
    ) -> wire.FollowUpAck:
        """Take one follow-up."""
        order = orders.get(request.order_req_id)
        if order is None:
            context.abort(grpc.StatusCode.NOT_FOUND, "No order has this id.")
            raise AssertionError  # abort() has raised
        if request.follow_up_id not in order.note_ids:
            order.note_ids.add(request.follow_up_id)
            fact = wire.FollowUpAccepted(follow_up_id=request.follow_up_id, audience=request.audience)
            order.add(follow_up_accepted=fact)
        return wire.FollowUpAck(
            order_req_id=request.order_req_id, follow_up_id=request.follow_up_id, outcome=wire.Outcome.ACCEPTED
        )


@app.get("/api/v1/health")
def health() -> dict[str, str]:
    """Say that the process serves."""
    return {"status": "healthy"}


@app.get("/api/v1/orders")
def list_orders() -> dict[str, Any]:
    """The newest orders, and how many streams are open."""
    newest = islice(reversed(list(orders.items())), int(request.args.get("limit", 100)))
    return {
        "orders": [{"order_req_id": order_id, "notes_count": len(order.note_ids)} for order_id, order in newest],
        "open_streams": sum(order.is_open for order in list(orders.values())),
    }


@app.post("/api/v1/orders/<order_id>/replies")
def reply(order_id: str) -> dict[str, Any]:
    """Take a seller's answer; it travels to the requestor as an event."""
    order = orders.get(order_id) or abort(404)
    data = REPLY.load(request.get_json())
    reply_id = data.get("reply_id") or uuid.uuid4().hex
    order.add(
        seller_replied=wire.SellerReplied(
            reply_id=reply_id, seller_id=data["seller_id"], answer=data["answer"], message=data["message"]
        )
    )
    log.info("Seller %s replied to order %s  action=order.replied", data["seller_id"], order_id)
    return {"success": True, "message": "Reply processed successfully", "order_req_id": order_id, "reply_id": reply_id}


def main() -> None:
    """Serve gRPC and REST."""
    server = grpc.server(ThreadPoolExecutor(POOL_THREADS), options=[("grpc.so_reuseport", 0)])
    order_service_pb2_grpc.add_OrderServiceServicer_to_server(Servicer(), server)
    server.add_insecure_port(os.environ["PEER_GRPC"])
    server.start()
    serve(app, host="127.0.0.1", port=int(os.environ["PEER_PORT"]), threads=WEB_THREADS, connection_limit=1_000)


if __name__ == "__main__":
    main()
