"""The RPC forms of the processor over one service object: the trunk, one order in one call, and the unary calls."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

import grpc

from processor_app.domain import Close, FollowUp, OpenStream
from processor_app.orders import Input, Orders
from processor_app.rpc import messages
from processor_app.rpc.turns import Turns
from processor_app.streams import (
    CloseAnswer,
    Control,
    FollowUpAnswer,
    GoingAway,
    Opened,
    Outlet,
    Refused,
    StreamHub,
    Superseded,
)
from proto import order_service_pb2 as wire
from proto import order_service_pb2_grpc
from service_kit.change import Change
from service_kit.errors import Fenced, InvalidInput, MalformedInput, ServiceError, TooMany, Unavailable
from service_kit.logs import get_logger
from service_kit.rpc.options import BATCH_BYTES, gap_after_s
from service_kit.times import now_ms

#: Single-order calls at a time; each holds a thread of the pool.
MAX_SINGLE_CALLS = 64
#: Trunks at a time; each holds a thread of the pool and one of its own.
MAX_TRUNKS = 32
#: Pool threads kept free of streams, for unary calls, health and reflection.
SPARE_THREADS = 16
MAX_THREADS = MAX_SINGLE_CALLS + MAX_TRUNKS + SPARE_THREADS

_SERVICE = wire.DESCRIPTOR.services_by_name["OrderService"].full_name
#: The methods whose calls last for as long as both sides like; the watch ends those that stall.
ENDLESS = (f"/{_SERVICE}/StreamOrders", f"/{_SERVICE}/StreamOrder")

log = get_logger(__name__)

R = TypeVar("R", wire.OrderStreamRequest, wire.FollowUpRequest, wire.CloseOrderRequest)


class CallCap:
    """Counts the running calls of one kind and refuses those above the limit."""

    def __init__(self, limit: int, what: str) -> None:
        self._limit = limit
        self._what = what
        self._free = threading.BoundedSemaphore(limit)

    def enter(self, context: grpc.ServicerContext, on_end: Callable[[], None]) -> None:
        """Count the call until it is over, however it ends, and then run ``on_end``. Raises `TooMany`."""
        if not self._free.acquire(blocking=False):
            raise TooMany(f"This processor serves at most {self._limit} {self._what} at a time.")

        def leave() -> None:
            on_end()
            self._free.release()

        # Code behind a generator's loop may never run when its call dies, so the count is let go in the callback.
        if not context.add_callback(leave):
            leave()


class OrderServicer(order_service_pb2_grpc.OrderServiceServicer):
    """Serves `OrderService`."""

    def __init__(self, orders: Orders, hub: StreamHub, *, instance_id: str, version: str, heartbeat_s: float) -> None:
        self._orders = orders
        self._hub = hub
        self._instance_id = instance_id
        self._version = version
        self._heartbeat_s = heartbeat_s
        self._single_calls = CallCap(MAX_SINGLE_CALLS, "StreamOrder calls")
        self._trunks = CallCap(MAX_TRUNKS, "trunks")

    def announce_stop(self) -> None:
        """Tell every trunk that this processor goes away, and let the calls end once they have sent what waits."""
        for outlet in self._hub.outlets():
            outlet.push(GoingAway("the processor stops"))
            outlet.close()

    # ---- the trunk

    def StreamOrders(
        self, request_iterator: Iterator[wire.TrunkUp], context: grpc.ServicerContext
    ) -> Iterator[wire.TrunkDown]:
        """Carry the streams of one requestor: a thread reads, the pool's thread sends."""
        outlet = Outlet(context.peer(), context.cancel)
        self._enter(self._trunks, outlet, context)
        reader = threading.Thread(
            target=self._read_trunk, args=(request_iterator, outlet, context), name="trunk-reader", daemon=True
        )
        reader.start()
        hello = wire.Hello(instance_id=self._instance_id, software_version=self._version, now_ms=now_ms())
        outlet.begin_send()
        yield wire.TrunkDown(hello=hello)
        while (batch := self._hub.next_batch(outlet, self._heartbeat_s)) is not None:
            if batch.controls or batch.events:
                for message in messages.trunk_messages(batch.controls, batch.events, limit_bytes=BATCH_BYTES):
                    outlet.begin_send()
                    yield message
                time.sleep(gap_after_s(len(batch.controls) + len(batch.events)))
            else:
                heartbeat = wire.Heartbeat(now_ms=now_ms(), queue_depth=batch.queue_depth)
                outlet.begin_send()
                yield wire.TrunkDown(heartbeat=heartbeat)

    def _enter(self, cap: CallCap, outlet: Outlet, context: grpc.ServicerContext) -> None:
        self._hub.register(outlet)
        try:
            cap.enter(context, on_end=outlet.end)
        except TooMany:
            self._hub.unregister(outlet)
            raise

    def _read_trunk(self, requests: Iterator[wire.TrunkUp], outlet: Outlet, context: grpc.ServicerContext) -> None:
        turns = Turns()
        try:
            for message in requests:
                outlet.last_heard = time.monotonic()
                messages.check_parts(message)
                if message.HasField("hello"):
                    log.info(
                        "A requestor connected",
                        action="trunk.opened",
                        instance_id=messages.name_of(message.hello),
                        peer=outlet.peer,
                        clock_skew_ms=now_ms() - message.hello.now_ms,
                    )
                if message.opens or message.follow_ups or message.closes:
                    self._take(message, outlet, turns)
                if message.acks:
                    self._hub.acknowledge(outlet, [(messages.ref_of(ack), ack.seq) for ack in message.acks])
        except (InvalidInput, MalformedInput) as error:
            log.warning(
                "Cut a trunk that sent what no requestor sends", action="trunk.cut", reason=messages.detail_of(error)
            )
            context.cancel()
        except grpc.RpcError as error:
            log.debug("A trunk's call ended", action="trunk.call_ended", reason=type(error).__name__)
        except Exception as error:
            if context.is_active():
                log.error("A trunk failed", action="trunk.failed", exc_info=error)
            context.cancel()
        finally:
            self._hub.unregister(outlet)
            log.info("A requestor's trunk ended", action="trunk.ended", peer=outlet.peer)

    def _take(self, message: wire.TrunkUp, outlet: Outlet, turns: Turns) -> None:
        """Apply everything a message carries in one commit, and queue the answers."""
        begun_s = time.perf_counter()
        sent, refusals = _read_all(message)
        outlet.push(*refusals)
        read: list[tuple[Any, Input]] = []
        for request, item in sent:
            if turns.is_due(request):
                read.append((request, item))
            else:
                outlet.push(_answer(item, Unavailable("What was sent before it must come again first.")))
        inputs = [item for _, item in read]
        results: list[Change | ServiceError | None]
        try:
            results = self._orders.take(inputs)
        except ServiceError as error:
            results = [error] * len(inputs)
        opens: list[tuple[OpenStream, Change | None]] = []
        answers: list[Control] = []
        for (request, item), result in zip(read, results, strict=True):
            if isinstance(result, ServiceError):
                turns.note(request, result)
                answers.append(_answer(item, result))
            elif isinstance(item, OpenStream):
                opens.append((item, result))
            else:
                answers.append(_answer(item, None))
        outcomes = self._orders.attach(opens, outlet)
        for (wish, _), refusal in zip(opens, outcomes, strict=True):
            if refusal is None:
                _log_opened(wish)
            else:
                answers.append(_answer(wish, refusal))
        outlet.push(*answers)
        self._orders.measures.trunk_times.observe(time.perf_counter() - begun_s)

    # ---- one order in one call

    def StreamOrder(
        self, request: wire.OrderStreamRequest, context: grpc.ServicerContext
    ) -> Iterator[wire.OrderStreamResponse]:
        """Carry the stream of one order until the order ends."""
        wish = messages.open_stream_of(_with_metadata(request, context))
        outlet = Outlet(context.peer(), context.cancel)
        self._enter(self._single_calls, outlet, context)
        try:
            change = self._orders.take_one(wish)
            _log_opened(wish)
            (failure,) = self._orders.attach([(wish, change)], outlet)
            if failure is not None:
                raise failure
            yield from self._single_steps(wish, outlet)
        finally:
            self._hub.unregister(outlet)

    def _single_steps(self, wish: OpenStream, outlet: Outlet) -> Iterator[wire.OrderStreamResponse]:
        while (batch := self._hub.next_batch(outlet, self._heartbeat_s)) is not None:
            # A caller of this form says nothing after its request; that it reads is its sign of life.
            outlet.last_heard = time.monotonic()
            for control in batch.controls:
                match control:
                    case Superseded():
                        raise Fenced("Another opening took this stream's place.")
                    case GoingAway():
                        raise Unavailable("This processor stops.")
                    case Opened():
                        yield messages.stream_response(control)
                        order = self._orders.get(wish.ref)
                        if order.is_finished and order.head_seq <= control.resumes_after:
                            return
            for stream, entry in batch.events:
                yield messages.event_response(stream, entry)
                self._hub.acknowledge(outlet, [(stream.ref, entry.seq)])
                if stream.final_seq == entry.seq:
                    return

    # ---- unary

    def SubmitFollowUp(self, request: wire.FollowUpRequest, context: grpc.ServicerContext) -> wire.FollowUpAck:
        """Take one follow-up."""
        note = messages.follow_up_of(_with_metadata(request, context))
        self._orders.take_one(note)
        return messages.follow_up_ack(FollowUpAnswer(note.ref, note.follow_up_id, None))

    def CloseOrder(self, request: wire.CloseOrderRequest, context: grpc.ServicerContext) -> wire.CloseOrderAck:
        """Complete or cancel one order."""
        close = messages.close_of(_with_metadata(request, context))
        self._orders.take_one(close)
        return messages.close_ack(CloseAnswer(close.ref, close.run, None))


def _read_all(message: wire.TrunkUp) -> tuple[list[tuple[Any, Input]], list[Control]]:
    """Read what a message carries, in the order of application; what breaks a rule is refused by itself."""
    read: list[tuple[Any, Input]] = []
    refusals: list[Control] = []
    # Each row's functions fit the requests beside them, which the types of a loop over rows cannot say.
    rows: tuple[tuple[Iterable[Any], Callable[[Any], Input], Callable[[Any, ServiceError], Control]], ...] = (
        (message.opens, messages.open_stream_of, messages.refused_open),
        (message.follow_ups, messages.follow_up_of, messages.refused_follow_up),
        (message.closes, messages.close_of, messages.refused_close),
    )
    for requests, read_one, refuse in rows:
        for request in requests:
            try:
                read.append((request, read_one(request)))
            except ServiceError as error:
                refusals.append(refuse(request, error))
    return read, refusals


def _answer(item: Input, error: ServiceError | None) -> Control:
    """The answer to an input that was taken (None) or refused; an open that was taken is answered by its stream."""
    match item:
        case FollowUp():
            return FollowUpAnswer(item.ref, item.follow_up_id, error)
        case Close():
            return CloseAnswer(item.ref, item.run, error)
        case OpenStream():
            error = error or Unavailable()
            _log_refusal(item, error)
            return Refused(item.ref, item.stream_id, error)


def _with_metadata(request: R, context: grpc.ServicerContext) -> R:
    """A request of a client that tells of its trace by the call's metadata, as instrumented clients do."""
    if not request.traceparent:
        for name, value in context.invocation_metadata() or ():
            if name == "traceparent" and isinstance(value, str):
                request.traceparent = value
            elif name == "x-request-id" and isinstance(value, str):
                request.request_id = value
    return request


#: What the line of an opened stream says, made once: it stands in the way of every order.
_REQUEST_TYPE = f"Request type: {wire.OrderStreamRequest}"


def _log_opened(wish: OpenStream) -> None:
    log.info(
        _REQUEST_TYPE,
        action="stream.opened",
        order_req_id=wish.ref.key,
        token=wish.token,
        stream_id=wish.stream_id,
        **wish.origin.names,
    )


def _log_refusal(wish: OpenStream, error: ServiceError) -> None:
    log.warning(
        f"Refused the stream of order {wish.ref.key}",
        action="stream.refused",
        order_req_id=wish.ref.key,
        reason=error.code,
        token=wish.token,
        **wish.origin.names,
    )
