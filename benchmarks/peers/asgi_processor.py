"""The processor of the ``asgi`` peers: a grpc.aio server, a call for each order, beside FastAPI in one event loop."""

from __future__ import annotations

import asyncio
import os
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import grpc
from fastapi import FastAPI, HTTPException

from benchmarks.peers import logs
from benchmarks.peers.bodies import Reply
from benchmarks.peers.durable_log import open_log
from proto import order_service_pb2 as wire
from proto import order_service_pb2_grpc

log = logs.configure()
durable = open_log(os.environ.get("PEER_LOG"))


@dataclass(slots=True)
class Order:
    """An order, its events, and where its stream waits for more of them."""

    session_id: str = ""
    events: list[wire.OrderEvent] = field(default_factory=list)
    note_ids: set[str] = field(default_factory=set)
    #: Wakes the stream; None while there is none.
    news: asyncio.Event | None = None

    def add(self, event: wire.OrderEvent) -> None:
        """Number an event."""
        event.seq = len(self.events) + 1
        self.events.append(event)

    def wake(self) -> None:
        """Have the stream send what it has not sent."""
        if self.news is not None:
            self.news.set()


orders: dict[str, Order] = {}


def event_of(**fact: Any) -> wire.OrderEvent:
    """A new event."""
    return wire.OrderEvent(at_ms=time.time_ns() // 1_000_000, run=1, **fact)


async def keep(order_id: str, order: Order, event: wire.OrderEvent) -> None:
    """Number an event, keep it, then let the stream send it."""
    order.add(event)
    await durable.append(order_id, order.session_id, event.SerializeToString().hex())
    order.wake()


def restore() -> None:
    """Read what an earlier process has kept."""
    for order_id, session_id, text in durable.rows():
        order = orders.setdefault(order_id, Order(session_id))
        event = wire.OrderEvent.FromString(bytes.fromhex(text))
        order.events.append(event)
        if event.HasField("follow_up_accepted"):
            order.note_ids.add(event.follow_up_accepted.follow_up_id)


class Servicer(order_service_pb2_grpc.OrderServiceServicer):
    """One call for each order."""

    async def StreamOrder(  # noqa: N802 - gRPC's name
        self, request: wire.OrderStreamRequest, _context: grpc.aio.ServicerContext
    ) -> AsyncIterator[wire.OrderStreamResponse]:
        """Carry the stream of one order."""
        order_id = request.order_req_id
        order = orders.get(order_id)
        if order is None:
            order = orders[order_id] = Order(request.session_id)
            accepted = wire.OrderAccepted(notification_type=request.notification_type, audience=request.audience)
            await keep(order_id, order, event_of(accepted=accepted))
        if order.news is not None:
            order.news.set()  # the stream before this one sees that it is no longer the order's, and ends
        order.news = news = asyncio.Event()
        log.info("Request type: %s  action=stream.opened order_req_id=%s", type(request), order_id)
        try:
            sent = request.resume_after
            opened = wire.StreamOpened(token=request.token, head_seq=len(order.events), resumes_after=sent)
            yield wire.OrderStreamResponse(order_req_id=order_id, stream_id=request.stream_id, opened=opened)
            while order.news is news:
                for event in order.events[sent:]:
                    yield wire.OrderStreamResponse(order_req_id=order_id, stream_id=request.stream_id, event=event)
                    sent = event.seq
                if sent == len(order.events):
                    news.clear()
                    await news.wait()
        finally:
            if order.news is news:
                order.news = None

    async def SubmitFollowUp(  # noqa: N802 - gRPC's name
        self, request: wire.FollowUpRequest, context: grpc.aio.ServicerContext
    ) -> wire.FollowUpAck:
        """Take one follow-up."""
        order = orders.get(request.order_req_id)
        if order is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, "No order has this id.")
            raise AssertionError  # abort() has raised
        if request.follow_up_id not in order.note_ids:
            order.note_ids.add(request.follow_up_id)
            fact = wire.FollowUpAccepted(follow_up_id=request.follow_up_id, audience=request.audience)
            await keep(request.order_req_id, order, event_of(follow_up_accepted=fact))
        return wire.FollowUpAck(
            order_req_id=request.order_req_id, follow_up_id=request.follow_up_id, outcome=wire.Outcome.ACCEPTED
        )


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Serve gRPC for as long as FastAPI is served."""
    restore()
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    order_service_pb2_grpc.add_OrderServiceServicer_to_server(Servicer(), server)
    server.add_insecure_port(os.environ["PEER_GRPC"])
    await server.start()
    yield
    await server.stop(0)


app = FastAPI(lifespan=lifespan)


@app.get("/api/v1/health")
async def health() -> dict[str, str]:
    """Say that the process serves."""
    return {"status": "healthy"}


@app.get("/api/v1/orders")
async def list_orders(limit: int = 100) -> dict[str, Any]:
    """The newest orders, and how many streams are open."""
    return {
        "orders": [
            {"order_req_id": order_id, "session_id": order.session_id, "notes_count": len(order.note_ids)}
            for order_id, order in islice(reversed(orders.items()), limit)
        ],
        "open_streams": sum(order.news is not None for order in orders.values()),
    }


@app.post("/api/v1/orders/{order_id}/replies")
async def reply(order_id: str, body: Reply) -> dict[str, Any]:
    """Keep a seller's answer; it travels to the requestor as an event."""
    order = orders.get(order_id)
    if order is None:
        raise HTTPException(404, "No order has this id.")
    reply_id = body.reply_id or uuid.uuid4().hex
    fact = wire.SellerReplied(reply_id=reply_id, seller_id=body.seller_id, answer=body.answer, message=body.message)
    await keep(order_id, order, event_of(seller_replied=fact))
    log.info("Seller %s replied to order %s  action=order.replied", body.seller_id, order_id)
    return {
        "success": True,
        "message": "Reply processed successfully",
        "order_req_id": order_id,
        "reply_id": reply_id,
    }
