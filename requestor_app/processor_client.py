"""The requestor's gRPC edge: one trunk to a processor, kept alive on plain threads.

One thread connects and reads; gRPC's own thread sends, one message at a time, whatever the user has ready by then.
"""

from __future__ import annotations

import itertools
import json
import random
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Any, cast

import grpc
from google.protobuf.message import Message

from proto import order_service_pb2 as wire
from proto import order_service_pb2_grpc
from requestor_app.domain import (
    Acknowledgement,
    CloseKind,
    Event,
    OrderState,
    Outcome,
    close_message_id,
    note_entry_id,
)
from requestor_app.traffic import (
    Closed,
    Closing,
    Incoming,
    Opened,
    Opening,
    Outgoing,
    Refusal,
    Refused,
    Relay,
    Snapshot,
    TrunkUser,
)
from service_kit.change import DEFAULT_TENANT, Ref
from service_kit.errors import ServiceError
from service_kit.logs import get_logger
from service_kit.rpc.options import BATCH_BYTES, Pulse, client_options, gap_after_s
from service_kit.rpc.tls import failure_of, open_channel
from service_kit.times import now_ms
from service_kit.tls_files import TlsFault, TlsFiles

#: The pause before another attempt is drawn evenly from 0 to a ceiling that grows from the first to the second.
BACKOFF_S = (0.2, 2.0)

log = get_logger(__name__)


class _Call:
    """One try at a trunk: its channel, its call, when it was last heard and when it last took something to send."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.channel = channel
        self.last_heard = self.last_pull = time.monotonic()
        self.is_over = threading.Event()
        self.cut_reason = ""

    def cut(self, reason: str) -> None:
        """End the call and its connection."""
        self.cut_reason = self.cut_reason or reason
        self.is_over.set()
        self.channel.close()


class Trunk:
    """Keeps a trunk to a processor, as a component."""

    def __init__(
        self,
        target: str,
        user: TrunkUser,
        *,
        instance_id: str,
        version: str,
        keepalive_ms: int,
        name: str = "trunk",
        tls: TlsFiles | None = None,
    ) -> None:
        self.name = name
        self._target = target
        self._user = user
        self._instance_id = instance_id
        self._version = version
        self._tls = tls
        self._pulse = Pulse(keepalive_ms)
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._call: _Call | None = None

    def start(self) -> None:
        """Begin to connect. Raises `StartRefused` when TLS is set and its files cannot be used."""
        if self._tls is not None:
            self._tls.read_at_start()
        self._threads = [
            threading.Thread(target=self._run, name="trunk-reader", daemon=True),
            threading.Thread(target=self._watch, name="trunk-watch", daemon=True),
        ]
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_s: float) -> None:
        """End the trunk. Safe to call twice."""
        self._stopping.set()
        call = self._call
        if call is not None:
            call.cut("this requestor stops")
        deadline = time.monotonic() + timeout_s
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._threads = []

    def check(self) -> str | None:
        """None while the trunk's thread runs; whether it is connected is the user's to say."""
        return None if any(thread.is_alive() for thread in self._threads) else "the trunk's thread is not running"

    def _run(self) -> None:
        attempt = 0
        while not self._stopping.is_set():
            started = time.monotonic()
            reason = self._user.objection() or self._serve(self._target)
            if self._stopping.is_set():
                break
            self._user.lost(reason)
            attempt = 1 if time.monotonic() - started > BACKOFF_S[1] else attempt + 1
            ceiling_s = min(BACKOFF_S[1], BACKOFF_S[0] * 2 ** min(attempt, 10))
            self._stopping.wait(random.uniform(0, ceiling_s))  # noqa: S311  # jitter, not a secret

    def _serve(self, target: str) -> str:
        """Hold one call until it ends, and say why it did."""
        try:
            channel = open_channel(target, client_options(self._pulse.keepalive_ms), self._tls)
        except TlsFault as fault:
            return f"this requestor cannot connect: {fault}"
        call = self._call = _Call(channel)
        try:
            stub = order_service_pb2_grpc.OrderServiceStub(channel)
            for message in stub.StreamOrders(self._requests(call)):
                call.last_heard = time.monotonic()
                if message.HasField("hello"):
                    self._user.connected()
                if message.streams or message.follow_up_acks or message.close_acks:
                    self._user.received(_incoming(message))
                if message.HasField("going_away"):
                    call.cut_reason = f"the processor at {target} goes away"
            return call.cut_reason or f"the processor at {target} ended the trunk"
        except grpc.RpcError as error:
            return call.cut_reason or f"the processor at {target} does not answer ({failure_of(error, self._tls)})"
        except ServiceError as error:
            return f"this requestor could not apply what the processor sent ({error.detail})"
        except Exception as error:
            if not call.is_over.is_set():
                log.error("The trunk failed", action="trunk.failed", exc_info=error)
            return call.cut_reason or f"this requestor could not apply what the processor sent ({type(error).__name__})"
        finally:
            call.cut("the call is over")

    def _requests(self, call: _Call) -> Iterator[wire.TrunkUp]:
        hello = wire.Hello(instance_id=self._instance_id, software_version=self._version, now_ms=now_ms())
        yield wire.TrunkUp(hello=hello)
        try:
            while not call.is_over.is_set():
                call.last_pull = time.monotonic()
                outgoing = self._user.take(self._pulse.heartbeat_s)
                if (objection := self._user.objection()) is not None:
                    call.cut(objection)
                if call.is_over.is_set():
                    self._user.give_back(outgoing)
                    return
                for message in _trunk_ups(outgoing):
                    call.last_pull = time.monotonic()
                    yield message
                time.sleep(gap_after_s(outgoing.items))
        except Exception as error:
            log.error("The trunk failed", action="trunk.failed", exc_info=error)
            call.cut(f"this requestor could not prepare what to send ({type(error).__name__})")

    def _watch(self) -> None:
        """Cut a trunk that shows no sign of life or takes nothing, however alive its connection looks."""
        silence_s = self._pulse.silence_s
        while not self._stopping.wait(self._pulse.watch_s):
            call = self._call
            if call is None:
                continue
            now = time.monotonic()
            if now - call.last_heard > silence_s:
                call.cut(f"no sign of life from the processor for {silence_s:g} s")
            elif now - call.last_pull > silence_s + self._pulse.heartbeat_s:
                call.cut(f"the processor has taken nothing for {silence_s:g} s")
            elif (objection := self._user.objection()) is not None:
                call.cut(objection)


# ---- to the wire


def _tenant(ref: Ref) -> str:
    return "" if ref.tenant == DEFAULT_TENANT else ref.tenant


def _trunk_ups(outgoing: Outgoing) -> Iterator[wire.TrunkUp]:
    """What is to be sent as few messages of about `BATCH_BYTES` at most, in the order of application."""
    if not outgoing.items:
        yield wire.TrunkUp(heartbeat=wire.Heartbeat(now_ms=now_ms(), queue_depth=outgoing.queue_depth))
        return
    items: Iterator[tuple[str, Any]] = itertools.chain(
        (("opens", _open_request(opening)) for opening in outgoing.openings),
        (("follow_ups", _follow_up_request(relay)) for relay in outgoing.relays),
        (("closes", _close_request(closing)) for closing in outgoing.closings),
        (
            ("acks", wire.EventAck(tenant=_tenant(ref), order_req_id=ref.key, seq=seq))
            for ref, seq in outgoing.acks.items()
        ),
    )
    message, size = wire.TrunkUp(), 0
    for name, item in items:
        item_size = item.ByteSize()
        if size and size + item_size > BATCH_BYTES:
            yield message
            message, size = wire.TrunkUp(), 0
        getattr(message, name).append(item)
        size += item_size
    yield message


def _close_request(closing: Closing) -> wire.CloseOrderRequest:
    return wire.CloseOrderRequest(
        tenant=_tenant(closing.ref),
        order_req_id=closing.ref.key,
        token=closing.token,
        run=closing.run,
        kind=_KINDS[closing.kind],
        reason=closing.reason,
        sending=closing.sending,
        traceparent=closing.origin.traceparent,
        request_id=closing.origin.request_id,
    )


_KINDS = {CloseKind.COMPLETE: wire.CloseOrderRequest.COMPLETE, CloseKind.CANCEL: wire.CloseOrderRequest.CANCEL}


def _open_request(opening: Opening) -> wire.OrderStreamRequest:
    order = opening.order
    return wire.OrderStreamRequest(
        tenant=_tenant(order.ref),
        order_req_id=order.ref.key,
        session_id=order.session_id,
        notification_type=order.notification_type,
        audience=order.audience,
        details="" if order.details is None else json.dumps(order.details, ensure_ascii=False),
        token=order.token,
        stream_id=opening.stream_id,
        resume_after=order.applied_seq,
        run=order.run,
        traceparent=order.origin.traceparent,
        request_id=order.origin.request_id,
    )


def _follow_up_request(relay: Relay) -> wire.FollowUpRequest:
    note = relay.note
    return wire.FollowUpRequest(
        tenant=_tenant(note.ref),
        order_req_id=note.ref.key,
        follow_up_id=note.follow_up_id,
        token=relay.token,
        audience=note.audience,
        message_type=note.message_type,
        message=note.message,
        urls=note.urls,
        added_ms=relay.added_ms,
        sending=relay.sending,
        traceparent=relay.origin.traceparent,
        request_id=relay.origin.request_id,
    )


# ---- from the wire

_REFUSALS = {
    wire.StreamRefused.FENCED: Refusal.FENCED,
    wire.StreamRefused.INVALID: Refusal.INVALID,
    wire.StreamRefused.DIVERGED: Refusal.DIVERGED,
    wire.StreamRefused.PRUNED: Refusal.PRUNED,
}
_OUTCOMES = {
    wire.ACCEPTED: Outcome.ACCEPTED,
    wire.OUTCOME_FENCED: Outcome.FENCED,
    wire.REFUSED: Outcome.REFUSED,
}


def _ref(tenant: str, order_req_id: str) -> Ref:
    return Ref(tenant or DEFAULT_TENANT, order_req_id)


def _incoming(message: wire.TrunkDown) -> Incoming:
    opened: list[Opened] = []
    refused: list[Refused] = []
    closed: list[Closed] = []
    events: list[Event] = []
    for response in message.streams:
        ref = _ref(response.tenant, response.order_req_id)
        match response.WhichOneof("step"):
            case "event":
                events.append(_event(ref, response.event))
            case "opened":
                opened.append(Opened(ref, response.stream_id, response.opened.head_seq))
            case "refused":
                refusal = _REFUSALS.get(response.refused.reason, Refusal.UNAVAILABLE)
                snapshot = _snapshot_of(response.refused)
                refused.append(
                    Refused(
                        ref,
                        response.stream_id,
                        refusal,
                        response.refused.detail,
                        snapshot,
                        response.refused.highest_token,
                    )
                )
            case "closed":
                closed.append(Closed(ref, response.stream_id))
    return Incoming(
        opened=opened,
        refused=refused,
        closed=closed,
        events=events,
        answers=[
            *(_answer(ack, note_entry_id(ack.follow_up_id)) for ack in message.follow_up_acks),
            *(_answer(ack, close_message_id(ack.run)) for ack in message.close_acks),
        ],
    )


_ENDS = {wire.OrderSnapshot.COMPLETED: OrderState.COMPLETED, wire.OrderSnapshot.CANCELLED: OrderState.CANCELLED}


def _snapshot_of(refused: wire.StreamRefused) -> Snapshot | None:
    end = _ENDS.get(refused.snapshot.end)
    return None if end is None else Snapshot(end, refused.snapshot.run, refused.snapshot.head_seq)


def _answer(ack: wire.FollowUpAck | wire.CloseOrderAck, message_id: str) -> Acknowledgement:
    ref = _ref(ack.tenant, ack.order_req_id)
    return Acknowledgement(ref, message_id, _OUTCOMES.get(ack.outcome, Outcome.TRY_AGAIN), ack.detail)


def _event(ref: Ref, event: wire.OrderEvent) -> Event:
    kind = event.WhichOneof("fact") or "unknown"
    fact = getattr(event, kind, None)
    body = {} if fact is None else _object(fact)
    return Event(ref, event.seq, event.run, kind, event.at_ms, body)


def _object(message: Message) -> dict[str, object]:
    return {name: _plain(getattr(message, name)) for name in message.DESCRIPTOR.fields_by_name}


def _plain(value: object) -> object:
    if isinstance(value, str | int | float | bool):
        return value
    return _object(value) if isinstance(value, Message) else [_plain(item) for item in cast("Iterable[object]", value)]
