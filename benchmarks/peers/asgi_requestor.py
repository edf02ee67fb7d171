"""The requestor of the ``asgi`` peers: FastAPI, a grpc.aio call and a task for each order, tracking in a dict."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import grpc
from fastapi import FastAPI, HTTPException

from benchmarks.peers import logs
from benchmarks.peers.bodies import FollowUp, Initiate
from benchmarks.peers.durable_log import open_log
from proto import order_service_pb2 as wire
from proto import order_service_pb2_grpc

RETRY_S = 0.2
#: As many ids as a page of the order communicator has.
PAGE = 1_000

log = logs.configure()
durable = open_log(os.environ.get("PEER_LOG"))


@dataclass(slots=True)
class Order:
    """What is tracked of one order."""

    order_id: str
    session_id: str
    notification_type: str
    audience: list[str]
    notes: dict[str, dict[str, Any]] = field(default_factory=dict)
    relayed: set[str] = field(default_factory=set)
    #: The highest event that was applied.
    seq: int = 0
    is_open: bool = False


orders: dict[str, Order] = {}
#: Keeps the tasks alive.
tasks: set[asyncio.Task[None]] = set()
stub: order_service_pb2_grpc.OrderServiceStub


def spawn(work: Coroutine[Any, Any, None]) -> None:
    """Run something in the background."""
    task = asyncio.create_task(work)
    tasks.add(task)
    task.add_done_callback(tasks.discard)


async def hold_stream(order: Order) -> None:
    """Keep the order's stream open, and apply its events in order."""
    while True:
        request = wire.OrderStreamRequest(
            order_req_id=order.order_id,
            session_id=order.session_id,
            notification_type=order.notification_type,
            audience=order.audience,
            token=1,
            stream_id=uuid.uuid4().hex,
            resume_after=order.seq,
            run=1,
        )
        try:
            async for response in stub.StreamOrder(request):
                apply(order, response)
        except grpc.aio.AioRpcError as error:
            log.warning("The stream of order %s broke: %s", order.order_id, error.code())
        order.is_open = False
        await asyncio.sleep(RETRY_S)


def apply(order: Order, response: wire.OrderStreamResponse) -> None:
    """Apply one step of a stream; a repeated event is dropped."""
    if response.HasField("opened"):
        order.is_open = True
    elif response.HasField("event") and response.event.seq > order.seq:
        order.seq = response.event.seq
        durable.append_soon(order.order_id, "event", response.event.SerializeToString().hex())


async def relay(order: Order, note: dict[str, Any]) -> None:
    """Hand a note to the processor until it says that it has it."""
    request = wire.FollowUpRequest(
        order_req_id=order.order_id,
        follow_up_id=note["follow_up_id"],
        token=1,
        audience=note["audience"],
        message_type=note["message_type"],
        message=note["message"],
        urls=note["urls"],
        added_ms=note["added_ms"],
    )
    while True:
        try:
            await stub.SubmitFollowUp(request)
            break
        except grpc.aio.AioRpcError:
            await asyncio.sleep(RETRY_S)
    order.relayed.add(note["follow_up_id"])
    durable.append_soon(order.order_id, "relayed", note["follow_up_id"])


def restore() -> None:
    """Read what an earlier process has kept, and go on with it."""
    for order_id, kind, body in durable.rows():
        if kind == "order":
            orders[order_id] = Order(order_id, body["session_id"], body["notification_type"], body["audience"])
        elif kind == "note":
            orders[order_id].notes[body["follow_up_id"]] = body
        elif kind == "relayed":
            orders[order_id].relayed.add(body)
        else:
            orders[order_id].seq = wire.OrderEvent.FromString(bytes.fromhex(body)).seq
    for order in orders.values():
        spawn(hold_stream(order))
        for note in order.notes.values():
            if note["follow_up_id"] not in order.relayed:
                spawn(relay(order, note))


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Hold one channel for all calls."""
    global stub  # noqa: PLW0603 - one for the process, made in its event loop
    async with grpc.aio.insecure_channel(os.environ["PEER_GRPC"]) as channel:
        stub = order_service_pb2_grpc.OrderServiceStub(channel)
        restore()
        yield
        for task in list(tasks):
            task.cancel()


app = FastAPI(lifespan=lifespan)


@app.get("/api/v1/health")
async def health() -> dict[str, str]:
    """Say that the process serves."""
    return {"status": "healthy"}


@app.post("/api/v1/orders/initiate")
async def initiate(body: Initiate) -> dict[str, Any]:
    """Keep an order and open its stream, if it is not live already."""
    order_id = body.order_req_id
    known = orders.get(order_id)
    if known is not None and known.session_id != body.session_id:
        raise HTTPException(409, "The order is live with another session.")
    if known is None:
        order = orders[order_id] = Order(order_id, body.session_id, body.notification_type, body.audience)
        await durable.append(order_id, "order", body.model_dump())
        log.info("Added order %s to tracking list  session_id=%s", order_id, body.session_id)
        spawn(hold_stream(order))
        log.info("Marked gRPC stream as active for order %s", order_id)
    else:
        log.info("Order %s already has active gRPC stream. Preventing duplicate stream.", order_id)
    return {
        "success": True,
        "message": "Order initiated successfully" if known is None else "Order already being processed",
        "order_req_id": order_id,
        "session_id": body.session_id,
    }


@app.post("/api/v1/orders/followup")
async def follow_up(body: FollowUp) -> dict[str, Any]:
    """Keep a note and have it relayed."""
    order = found(body.order_req_id)
    follow_up_id = body.follow_up_id or uuid.uuid4().hex
    if follow_up_id not in order.notes:
        note = order.notes[follow_up_id] = {
            "follow_up_id": follow_up_id,
            "audience": body.audience,
            "message_type": body.message.message_type,
            "message": body.message.message,
            "urls": body.message.urls,
            "added_ms": time.time_ns() // 1_000_000,
        }
        await durable.append(order.order_id, "note", note)
        spawn(relay(order, note))
        log.info("Added follow-up note to order tracking for %s", order.order_id)
    return {
        "success": True,
        "message": "Follow-up processed successfully",
        "order_req_id": order.order_id,
        "follow_up_id": follow_up_id,
    }


@app.get("/api/v1/orders/tracking/status")
async def tracking_status(limit: int = PAGE) -> dict[str, Any]:
    """Counts over all orders, and the ids of the newest."""
    return {
        "total_orders": len(orders),
        "active_streams": len(orders),
        "tracked_order_ids": list(islice(reversed(orders), limit)),
        "open_streams": sum(order.is_open for order in orders.values()),
    }


@app.get("/api/v1/orders/tracking/{order_id}")
async def tracked_order(order_id: str) -> dict[str, Any]:
    """The tracking of one order."""
    order = found(order_id)
    names = ("follow_up_id", "audience", "message_type", "added_ms")
    return {
        "order_req_id": order_id,
        "session": order.session_id,
        "notes_count": len(order.notes),
        "is_stream_active": True,
        "notes": [{name: note[name] for name in names} for note in order.notes.values()],
        "stream_state": "open" if order.is_open else "connecting",
    }


@app.get("/api/v1/orders/{order_id}")
async def show_order(order_id: str) -> dict[str, Any]:
    """How far an order is."""
    order = found(order_id)
    return {"order_req_id": order_id, "applied_seq": order.seq, "notes_count": len(order.notes)}


def found(order_id: str) -> Order:
    """The order, or 404."""
    order = orders.get(order_id)
    if order is None:
        raise HTTPException(404, "No order has this id.")
    return order
