"""Wire messages from and to the domain's values. What comes in is checked by the same rules as REST input."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from processor_app.domain import Close, FollowUp, OpenStream, OrderState
from processor_app.streams import (
    CloseAnswer,
    Control,
    FollowUpAnswer,
    GoingAway,
    Opened,
    Refused,
    Stream,
    Superseded,
)
from proto import order_service_pb2 as wire
from service_kit import rules
from service_kit.change import DEFAULT_TENANT, Body, Entry, Ref
from service_kit.errors import (
    Diverged,
    Fenced,
    FieldError,
    InvalidInput,
    MalformedInput,
    Pruned,
    ServiceError,
    TooMany,
    Unavailable,
)
from service_kit.origin import origin_from_peer
from service_kit.strict_json import parse_json_object

#: What one message may carry, all its parts counted. A requestor's is about 64 KB, and a part has 20 bytes or more.
MAX_PARTS = 10_000
MAX_NUMBER = 2**63 - 1
#: The last millisecond of the year 9999: later ones are no dates.
MAX_TIME_MS = 253_402_300_799_999


class _Faults:
    """Collects what is wrong with one message, so that the caller hears of everything at once."""

    def __init__(self) -> None:
        self.found: list[FieldError] = []

    def add(self, field: str, fault: str | None) -> None:
        if fault is not None:
            self.found.append(FieldError(f"/{field}", fault))

    def check_pattern(self, field: str, value: str, pattern: re.Pattern[str], rule: str) -> None:
        self.add(field, None if pattern.fullmatch(value) else rule)

    def check_id(self, field: str, value: str) -> None:
        self.check_pattern(field, value, rules.ID_PATTERN, rules.ID_RULE)

    def check_audience(self, values: Sequence[str]) -> None:
        self.add("audience", rules.audience_fault(values))
        for index, value in enumerate(values[: rules.MAX_AUDIENCE]):
            self.check_id(f"audience/{index}", value)

    def check_urls(self, values: Sequence[str]) -> None:
        if len(values) > rules.MAX_URLS:
            self.add("urls", f"must have at most {rules.MAX_URLS} links")
        for index, value in enumerate(values[: rules.MAX_URLS]):
            self.add(f"urls/{index}", rules.url_fault(value))

    def check_number(self, field: str, value: int, lowest: int, highest: int = MAX_NUMBER) -> None:
        if not lowest <= value <= highest:
            bound = "" if highest == MAX_NUMBER else f" and at most {highest}"
            self.add(field, f"must be at least {lowest}{bound}")

    def raise_any(self) -> None:
        if self.found:
            raise InvalidInput(self.found)


def ref_of(message: Any) -> Ref:
    """The order that a message is about; no tenant means the default one."""
    return Ref(message.tenant or DEFAULT_TENANT, message.order_req_id)


def _check_ref(faults: _Faults, message: Any) -> Ref:
    ref = ref_of(message)
    faults.check_id("tenant", ref.tenant)
    faults.check_id("order_req_id", ref.key)
    return ref


def open_stream_of(request: wire.OrderStreamRequest) -> OpenStream:
    """Read a wish for a stream. Raises `InvalidInput`."""
    faults = _Faults()
    ref = _check_ref(faults, request)
    audience = tuple(request.audience)
    faults.check_id("session_id", request.session_id)
    faults.check_id("stream_id", request.stream_id)
    if request.notification_type not in rules.NOTIFICATION_TYPES:
        faults.add("notification_type", f"must be one of {', '.join(rules.NOTIFICATION_TYPES)}")
    faults.check_audience(audience)
    faults.check_number("token", request.token, 1)
    if not 1 <= request.run <= max(request.token, 1):
        faults.add("run", "must be at least 1 and at most the token")
    faults.check_number("resume_after", request.resume_after, 0)
    details = _details_of(faults, request.details)
    faults.raise_any()
    return OpenStream(
        ref=ref,
        session_id=request.session_id,
        notification_type=request.notification_type,
        audience=audience,
        details=details,
        token=request.token,
        stream_id=request.stream_id,
        resume_after=request.resume_after,
        run=request.run,
        origin=origin_from_peer(request.traceparent, request.request_id),
    )


def _details_of(faults: _Faults, text: str) -> Body | None:
    if not text:
        return None
    # The text may have blanks and escapes that do not count; how many, nobody need find out.
    if len(text) > 2 * rules.MAX_DETAILS:
        faults.add("details", f"must be at most {rules.MAX_DETAILS} characters long as JSON")
        return None
    try:
        details = parse_json_object(text.encode("utf-8"))
    except MalformedInput as error:
        faults.add("details", f"must be a JSON object. {error.detail}")
        return None
    faults.add("details", rules.details_fault(details))
    return details


def follow_up_of(request: wire.FollowUpRequest) -> FollowUp:
    """Read a follow-up. Raises `InvalidInput`."""
    faults = _Faults()
    ref = _check_ref(faults, request)
    audience, urls = tuple(request.audience), tuple(request.urls)
    faults.check_id("follow_up_id", request.follow_up_id)
    faults.check_audience(audience)
    faults.add("audience", None if audience else "must name at least one seller")
    faults.check_pattern("message_type", request.message_type, rules.KIND_PATTERN, rules.KIND_RULE)
    faults.add(
        "message", rules.text_fault(request.message, rules.MAX_TEXT) or rules.message_fault(request.message, urls)
    )
    faults.check_urls(urls)
    faults.check_number("token", request.token, 1)
    faults.check_number("added_ms", request.added_ms, 0, MAX_TIME_MS)
    faults.check_number("sending", request.sending, 0)
    faults.raise_any()
    return FollowUp(
        ref=ref,
        follow_up_id=request.follow_up_id,
        token=request.token,
        audience=audience,
        message_type=request.message_type,
        message=request.message,
        urls=urls,
        added_ms=request.added_ms,
        origin=origin_from_peer(request.traceparent, request.request_id),
    )


_END_OF = {
    wire.CloseOrderRequest.COMPLETE: OrderState.COMPLETED,
    wire.CloseOrderRequest.CANCEL: OrderState.CANCELLED,
}


def close_of(request: wire.CloseOrderRequest) -> Close:
    """Read a buyer's close. Raises `InvalidInput`."""
    faults = _Faults()
    ref = _check_ref(faults, request)
    end = _END_OF.get(request.kind)
    if end is None:
        faults.add("kind", "must be COMPLETE or CANCEL")
    faults.add("reason", rules.text_fault(request.reason, rules.MAX_REASON))
    faults.check_number("token", request.token, 1)
    faults.check_number("sending", request.sending, 0)
    if not 0 <= request.run <= max(request.token, 1):
        faults.add("run", "must be at least 0 and at most the token")
    faults.raise_any()
    return Close(
        ref=ref,
        end=end or OrderState.COMPLETED,
        by="buyer",
        reason=request.reason,
        token=request.token,
        run=request.run,
        origin=origin_from_peer(request.traceparent, request.request_id),
    )


# ---- refusals of what cannot be read


def check_parts(message: wire.TrunkUp) -> None:
    """Raise `InvalidInput` when a message carries more than a requestor ever sends at once: reading it would take all
    memory, since what is empty takes two bytes and its refusal hundreds.
    """
    if len(message.opens) + len(message.follow_ups) + len(message.closes) + len(message.acks) > MAX_PARTS:
        raise InvalidInput([FieldError("", f"must have at most {MAX_PARTS} parts")])


def name_of(peer: wire.Hello) -> str:
    """What the other end calls itself, for logs."""
    return peer.instance_id if rules.ID_PATTERN.fullmatch(peer.instance_id) else "unknown"


def _known(text: str) -> str:
    """An id to answer with, or nothing when it breaks the rule: then no order is called so, and it may be long."""
    return text if rules.ID_PATTERN.fullmatch(text) else ""


def _known_ref(message: Any) -> Ref:
    ref = ref_of(message)
    return Ref(_known(ref.tenant), _known(ref.key))


def refused_open(request: wire.OrderStreamRequest, error: ServiceError) -> Control:
    """The answer to a wish for a stream that breaks a rule."""
    return Refused(_known_ref(request), _known(request.stream_id), error)


def refused_follow_up(request: wire.FollowUpRequest, error: ServiceError) -> Control:
    """The answer to a follow-up that breaks a rule."""
    return FollowUpAnswer(_known_ref(request), _known(request.follow_up_id), error)


def refused_close(request: wire.CloseOrderRequest, error: ServiceError) -> Control:
    """The answer to a close that breaks a rule."""
    return CloseAnswer(_known_ref(request), request.run, error)


# ---- to the wire


def _event(entry: Entry) -> wire.OrderEvent:
    event = wire.OrderEvent(seq=entry.seq, at_ms=entry.at_ms, run=entry.body["run"])
    _FACTS[entry.kind](event, entry.body)
    return event


def _fact(kind: str, message: type[Any]) -> Callable[[wire.OrderEvent, Body], None]:
    fields = tuple(message.DESCRIPTOR.fields_by_name)

    def put(event: wire.OrderEvent, body: Body) -> None:
        fact = message(**{field: body[field] for field in fields if field in body})
        getattr(event, kind).CopyFrom(fact)

    return put


#: How an entry's body becomes the fact of an event: the fields that both have, by name.
_FACTS: Mapping[str, Callable[[wire.OrderEvent, Body], None]] = {
    field.name: _fact(field.name, getattr(wire, field.message_type.name))
    for field in wire.OrderEvent.DESCRIPTOR.oneofs_by_name["fact"].fields
    if field.message_type is not None
}


def event_response(stream: Stream, entry: Entry) -> wire.OrderStreamResponse:
    """One event of a stream."""
    return wire.OrderStreamResponse(
        tenant=stream.ref.tenant, order_req_id=stream.ref.key, stream_id=stream.stream_id, event=_event(entry)
    )


def stream_response(control: Opened | Refused | Superseded) -> wire.OrderStreamResponse:
    """The opening, the refusal or the ending of a stream."""
    response = wire.OrderStreamResponse(
        tenant=control.ref.tenant, order_req_id=control.ref.key, stream_id=control.stream_id
    )
    match control:
        case Opened():
            response.opened.token = control.token
            response.opened.head_seq = control.head_seq
            response.opened.resumes_after = control.resumes_after
        case Refused():
            response.refused.reason = _refusal_of(control.error)
            response.refused.detail = detail_of(control.error)
            response.refused.highest_token = control.error.extra.get("highest_token", 0)
            if isinstance(control.error, Pruned):
                response.refused.snapshot.CopyFrom(_snapshot_of(control.error))
        case Superseded():
            response.closed.reason = wire.StreamClosed.SUPERSEDED
    return response


_ENDS = {"completed": wire.OrderSnapshot.COMPLETED, "cancelled": wire.OrderSnapshot.CANCELLED}


def _snapshot_of(error: Pruned) -> wire.OrderSnapshot:
    end = _ENDS[error.extra["ended"]]
    return wire.OrderSnapshot(end=end, run=error.extra["run"], head_seq=error.extra["head_seq"])


def detail_of(error: ServiceError) -> str:
    """A sentence for people; for invalid input with each field's fault."""
    if isinstance(error, InvalidInput):
        return " ".join([error.detail, *(f"{fault.pointer} {fault.message};" for fault in error.errors)])
    return error.detail


def _refusal_of(error: ServiceError) -> wire.StreamRefused.Reason:
    match error:
        case Fenced():
            return wire.StreamRefused.FENCED
        case InvalidInput() | MalformedInput():
            return wire.StreamRefused.INVALID
        case Diverged():
            return wire.StreamRefused.DIVERGED
        case Pruned():
            return wire.StreamRefused.PRUNED
        case Unavailable() | TooMany():
            return wire.StreamRefused.UNAVAILABLE
        case _:
            return wire.StreamRefused.INVALID


def _outcome_of(error: ServiceError | None) -> wire.Outcome:
    match error:
        case None:
            return wire.ACCEPTED
        case Fenced():
            return wire.OUTCOME_FENCED
        case Unavailable():
            return wire.TRY_AGAIN
        case _:
            return wire.REFUSED


def follow_up_ack(answer: FollowUpAnswer) -> wire.FollowUpAck:
    """What became of a follow-up."""
    return wire.FollowUpAck(
        tenant=answer.ref.tenant,
        order_req_id=answer.ref.key,
        follow_up_id=answer.follow_up_id,
        outcome=_outcome_of(answer.error),
        detail="" if answer.error is None else detail_of(answer.error),
    )


def close_ack(answer: CloseAnswer) -> wire.CloseOrderAck:
    """What became of a close."""
    return wire.CloseOrderAck(
        tenant=answer.ref.tenant,
        order_req_id=answer.ref.key,
        run=answer.run,
        outcome=_outcome_of(answer.error),
        detail="" if answer.error is None else detail_of(answer.error),
    )


def trunk_messages(
    controls: Iterable[Control], events: Iterable[tuple[Stream, Entry]], *, limit_bytes: int
) -> Iterator[wire.TrunkDown]:
    """Answers, then events, as few messages of about ``limit_bytes`` at most; none for nothing."""
    message, size = wire.TrunkDown(), 0
    for name, item in itertools.chain(map(_control, controls), (("streams", event_response(*pair)) for pair in events)):
        item_size = item.ByteSize()
        if size and size + item_size > limit_bytes:
            yield message
            message, size = wire.TrunkDown(), 0
        if name == "going_away":
            message.going_away.CopyFrom(item)
        else:
            getattr(message, name).append(item)
        size += item_size + 1
    if size:
        yield message


def _control(control: Control) -> tuple[str, Any]:
    """A trunk message's field and what to put there."""
    match control:
        case FollowUpAnswer():
            return "follow_up_acks", follow_up_ack(control)
        case CloseAnswer():
            return "close_acks", close_ack(control)
        case GoingAway():
            return "going_away", wire.GoingAway(reason=control.reason)
        case _:
            return "streams", stream_response(control)
