"""The requestor of the ``threads`` peer: Flask, and for each order a thread that reads its own gRPC call."""

from __future__ import annotations

import os
import threading
import time
import uuid
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import grpc
from flask import Flask, abort, request
from waitress import serve  # type: ignore[import-untyped]

from benchmarks.peers import logs
from proto import order_service_pb2 as wire
from proto import order_service_pb2_grpc
from requestor_app.api.schemas import FollowUpSchema, InitiateSchema

WEB_THREADS = 16
PAGE = 1_000

log = logs.configure()
app = Flask(__name__)
INITIATE = InitiateSchema()
FOLLOW_UP = FollowUpSchema()
stub = order_service_pb2_grpc.OrderServiceStub(grpc.insecure_channel(os.environ.get("PEER_GRPC", "127.0.0.1:1")))


@dataclass(slots=True)
class Order:
    """What is tracked of one order."""

    session_id: str
    notes: dict[str, dict[str, Any]] = field(default_factory=dict)
    seq: int = 0
    is_open: bool = False


orders: dict[str, Order] = {}
#: Guards the dict of orders: two threads never begin the same one.
lock = threading.Lock()


def hold_stream(order: Order, message: wire.OrderStreamRequest) -> None:
    """Read the order's stream until it ends."""
    try:
        for response in stub.StreamOrder(message):
            if response.HasField("opened"):
                order.is_open = True
            elif response.HasField("event"):
                order.seq = response.event.seq
    except grpc.RpcError as error:
        log.warning("The stream of order %s broke: %s", message.order_req_id, type(error).__name__)
    order.is_open = False


@app.get("/api/v1/health")
def health() -> dict[str, str]:
    """Say that the process serves."""
    return {"status": "healthy"}


@app.post("/api/v1/orders/initiate")
def initiate() -> dict[str, Any]:
    """Track an order and open its stream, if it is not live already."""
    data = INITIATE.load(request.get_json())
    order_id = data["order_req_id"]
    order = Order(data["session_id"])
    with lock:
        is_new = orders.setdefault(order_id, order) is order
    if is_new:
        log.info("Added order %s to tracking list  session_id=%s", order_id, data["session_id"])
        message = wire.OrderStreamRequest(
            order_req_id=order_id,
            session_id=data["session_id"],
            notification_type=data["notification_type"],
            audience=data["audience"],
            token=1,
            stream_id=uuid.uuid4().hex,
            run=1,
        )
        threading.Thread(target=hold_stream, args=(order, message), daemon=True).start()
        log.info("Marked gRPC stream as active for order %s", order_id)
    else:
        log.info("Order %s already has active gRPC stream. Preventing duplicate stream.", order_id)
    return {
        "success": True,
        "message": "Order initiated successfully" if is_new else "Order already being processed",
        "order_req_id": order_id,
        "session_id": data["session_id"],
    }


@app.post("/api/v1/orders/followup")
def follow_up() -> dict[str, Any]:
    """Hand a note to the processor, and answer when it has it."""
    data = FOLLOW_UP.load(request.get_json())
    order = found(data["order_req_id"])
    note = {
        "follow_up_id": data.get("follow_up_id") or uuid.uuid4().hex,
        "audience": data["audience"],
        "message_type": data["message"]["message_type"],
        "added_ms": time.time_ns() // 1_000_000,
    }
    if order.notes.setdefault(note["follow_up_id"], note) is note:
        stub.SubmitFollowUp(
            wire.FollowUpRequest(
                order_req_id=data["order_req_id"],
                token=1,
                message=data["message"]["message"],
                urls=data["message"]["urls"],
                **note,
            )
        )
        log.info("Added follow-up note to order tracking for %s", data["order_req_id"])
    return {
        "success": True,
        "message": "Follow-up processed successfully",
        "order_req_id": data["order_req_id"],
        "follow_up_id": note["follow_up_id"],
    }


@app.get("/api/v1/orders/tracking/status")
def tracking_status() -> dict[str, Any]:
    """Counts over all orders, and the ids of the newest."""
    known = list(orders.items())
    newest = islice(reversed(known), int(request.args.get("limit", PAGE)))
    return {
        "total_orders": len(known),
        "active_streams": len(known),
        "tracked_order_ids": [order_id for order_id, _ in newest],
        "open_streams": sum(order.is_open for _, order in known),
    }


@app.get("/api/v1/orders/tracking/<order_id>")
def tracked_order(order_id: str) -> dict[str, Any]:
    """The tracking of one order."""
    order = found(order_id)
    return {
        "order_req_id": order_id,
        "session": order.session_id,
        "notes_count": len(order.notes),
        "is_stream_active": True,
        "notes": list(order.notes.values()),
        "stream_state": "open" if order.is_open else "connecting",
    }


@app.get("/api/v1/orders/<order_id>")
def show_order(order_id: str) -> dict[str, Any]:
    """How far an order is."""
    order = found(order_id)
    return {"order_req_id": order_id, "applied_seq": order.seq, "notes_count": len(order.notes)}


def found(order_id: str) -> Order:
    """The order, or 404."""
    return orders.get(order_id) or abort(404)


if __name__ == "__main__":
    serve(app, host="127.0.0.1", port=int(os.environ["PEER_PORT"]), threads=WEB_THREADS, connection_limit=1_000)
