from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Outcome(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTCOME_UNSPECIFIED: _ClassVar[Outcome]
    ACCEPTED: _ClassVar[Outcome]
    OUTCOME_FENCED: _ClassVar[Outcome]
    REFUSED: _ClassVar[Outcome]
    TRY_AGAIN: _ClassVar[Outcome]
OUTCOME_UNSPECIFIED: Outcome
ACCEPTED: Outcome
OUTCOME_FENCED: Outcome
REFUSED: Outcome
TRY_AGAIN: Outcome

class TrunkUp(_message.Message):
    __slots__ = ("hello", "opens", "follow_ups", "closes", "acks", "heartbeat")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    OPENS_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_UPS_FIELD_NUMBER: _ClassVar[int]
    CLOSES_FIELD_NUMBER: _ClassVar[int]
    ACKS_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    opens: _containers.RepeatedCompositeFieldContainer[OrderStreamRequest]
    follow_ups: _containers.RepeatedCompositeFieldContainer[FollowUpRequest]
    closes: _containers.RepeatedCompositeFieldContainer[CloseOrderRequest]
    acks: _containers.RepeatedCompositeFieldContainer[EventAck]
    heartbeat: Heartbeat
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., opens: _Optional[_Iterable[_Union[OrderStreamRequest, _Mapping]]] = ..., follow_ups: _Optional[_Iterable[_Union[FollowUpRequest, _Mapping]]] = ..., closes: _Optional[_Iterable[_Union[CloseOrderRequest, _Mapping]]] = ..., acks: _Optional[_Iterable[_Union[EventAck, _Mapping]]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ...) -> None: ...

class TrunkDown(_message.Message):
    __slots__ = ("hello", "streams", "follow_up_acks", "close_acks", "heartbeat", "going_away")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    STREAMS_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_UP_ACKS_FIELD_NUMBER: _ClassVar[int]
    CLOSE_ACKS_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    GOING_AWAY_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    streams: _containers.RepeatedCompositeFieldContainer[OrderStreamResponse]
    follow_up_acks: _containers.RepeatedCompositeFieldContainer[FollowUpAck]
    close_acks: _containers.RepeatedCompositeFieldContainer[CloseOrderAck]
    heartbeat: Heartbeat
    going_away: GoingAway
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., streams: _Optional[_Iterable[_Union[OrderStreamResponse, _Mapping]]] = ..., follow_up_acks: _Optional[_Iterable[_Union[FollowUpAck, _Mapping]]] = ..., close_acks: _Optional[_Iterable[_Union[CloseOrderAck, _Mapping]]] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., going_away: _Optional[_Union[GoingAway, _Mapping]] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("instance_id", "software_version", "now_ms")
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    SOFTWARE_VERSION_FIELD_NUMBER: _ClassVar[int]
    NOW_MS_FIELD_NUMBER: _ClassVar[int]
    instance_id: str
    software_version: str
    now_ms: int
    def __init__(self, instance_id: _Optional[str] = ..., software_version: _Optional[str] = ..., now_ms: _Optional[int] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("now_ms", "queue_depth")
    NOW_MS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_DEPTH_FIELD_NUMBER: _ClassVar[int]
    now_ms: int
    queue_depth: int
    def __init__(self, now_ms: _Optional[int] = ..., queue_depth: _Optional[int] = ...) -> None: ...

class GoingAway(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class EventAck(_message.Message):
    __slots__ = ("tenant", "order_req_id", "seq")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    ORDER_REQ_ID_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    order_req_id: str
    seq: int
    def __init__(self, tenant: _Optional[str] = ..., order_req_id: _Optional[str] = ..., seq: _Optional[int] = ...) -> None: ...

class OrderStreamRequest(_message.Message):
    __slots__ = ("order_req_id", "session_id", "notification_type", "audience", "details", "token", "stream_id", "resume_after", "run", "tenant", "traceparent", "request_id")
    ORDER_REQ_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    NOTIFICATION_TYPE_FIELD_NUMBER: _ClassVar[int]
    AUDIENCE_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    STREAM_ID_FIELD_NUMBER: _ClassVar[int]
    RESUME_AFTER_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    order_req_id: str
    session_id: str
    notification_type: str
    audience: _containers.RepeatedScalarFieldContainer[str]
    details: str
    token: int
    stream_id: str
    resume_after: int
    run: int
    tenant: str
    traceparent: str
    request_id: str
    def __init__(self, order_req_id: _Optional[str] = ..., session_id: _Optional[str] = ..., notification_type: _Optional[str] = ..., audience: _Optional[_Iterable[str]] = ..., details: _Optional[str] = ..., token: _Optional[int] = ..., stream_id: _Optional[str] = ..., resume_after: _Optional[int] = ..., run: _Optional[int] = ..., tenant: _Optional[str] = ..., traceparent: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class OrderStreamResponse(_message.Message):
    __slots__ = ("tenant", "order_req_id", "stream_id", "opened", "refused", "event", "closed")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    ORDER_REQ_ID_FIELD_NUMBER: _ClassVar[int]
    STREAM_ID_FIELD_NUMBER: _ClassVar[int]
    OPENED_FIELD_NUMBER: _ClassVar[int]
    REFUSED_FIELD_NUMBER: _ClassVar[int]
    EVENT_FIELD_NUMBER: _ClassVar[int]
    CLOSED_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    order_req_id: str
    stream_id: str
    opened: StreamOpened
    refused: StreamRefused
    event: OrderEvent
    closed: StreamClosed
    def __init__(self, tenant: _Optional[str] = ..., order_req_id: _Optional[str] = ..., stream_id: _Optional[str] = ..., opened: _Optional[_Union[StreamOpened, _Mapping]] = ..., refused: _Optional[_Union[StreamRefused, _Mapping]] = ..., event: _Optional[_Union[OrderEvent, _Mapping]] = ..., closed: _Optional[_Union[StreamClosed, _Mapping]] = ...) -> None: ...

class StreamOpened(_message.Message):
    __slots__ = ("token", "head_seq", "resumes_after")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    HEAD_SEQ_FIELD_NUMBER: _ClassVar[int]
    RESUMES_AFTER_FIELD_NUMBER: _ClassVar[int]
    token: int
    head_seq: int
    resumes_after: int
    def __init__(self, token: _Optional[int] = ..., head_seq: _Optional[int] = ..., resumes_after: _Optional[int] = ...) -> None: ...

class StreamRefused(_message.Message):
    __slots__ = ("reason", "detail", "highest_token", "snapshot")
    class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        REASON_UNSPECIFIED: _ClassVar[StreamRefused.Reason]
        FENCED: _ClassVar[StreamRefused.Reason]
        INVALID: _ClassVar[StreamRefused.Reason]
        DIVERGED: _ClassVar[StreamRefused.Reason]
        PRUNED: _ClassVar[StreamRefused.Reason]
        UNAVAILABLE: _ClassVar[StreamRefused.Reason]
    REASON_UNSPECIFIED: StreamRefused.Reason
    FENCED: StreamRefused.Reason
    INVALID: StreamRefused.Reason
    DIVERGED: StreamRefused.Reason
    PRUNED: StreamRefused.Reason
    UNAVAILABLE: StreamRefused.Reason
    REASON_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    HIGHEST_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_FIELD_NUMBER: _ClassVar[int]
    reason: StreamRefused.Reason
    detail: str
    highest_token: int
    snapshot: OrderSnapshot
    def __init__(self, reason: _Optional[_Union[StreamRefused.Reason, str]] = ..., detail: _Optional[str] = ..., highest_token: _Optional[int] = ..., snapshot: _Optional[_Union[OrderSnapshot, _Mapping]] = ...) -> None: ...

class OrderSnapshot(_message.Message):
    __slots__ = ("end", "run", "head_seq")
    class End(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        END_UNSPECIFIED: _ClassVar[OrderSnapshot.End]
        COMPLETED: _ClassVar[OrderSnapshot.End]
        CANCELLED: _ClassVar[OrderSnapshot.End]
    END_UNSPECIFIED: OrderSnapshot.End
    COMPLETED: OrderSnapshot.End
    CANCELLED: OrderSnapshot.End
    END_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    HEAD_SEQ_FIELD_NUMBER: _ClassVar[int]
    end: OrderSnapshot.End
    run: int
    head_seq: int
    def __init__(self, end: _Optional[_Union[OrderSnapshot.End, str]] = ..., run: _Optional[int] = ..., head_seq: _Optional[int] = ...) -> None: ...

class StreamClosed(_message.Message):
    __slots__ = ("reason",)
    class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        REASON_UNSPECIFIED: _ClassVar[StreamClosed.Reason]
        SUPERSEDED: _ClassVar[StreamClosed.Reason]
        FAILED: _ClassVar[StreamClosed.Reason]
    REASON_UNSPECIFIED: StreamClosed.Reason
    SUPERSEDED: StreamClosed.Reason
    FAILED: StreamClosed.Reason
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: StreamClosed.Reason
    def __init__(self, reason: _Optional[_Union[StreamClosed.Reason, str]] = ...) -> None: ...

class OrderEvent(_message.Message):
    __slots__ = ("seq", "at_ms", "run", "accepted", "delivery_changed", "seller_replied", "follow_up_accepted", "completed", "cancelled")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    DELIVERY_CHANGED_FIELD_NUMBER: _ClassVar[int]
    SELLER_REPLIED_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_UP_ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_FIELD_NUMBER: _ClassVar[int]
    CANCELLED_FIELD_NUMBER: _ClassVar[int]
    seq: int
    at_ms: int
    run: int
    accepted: OrderAccepted
    delivery_changed: DeliveryChanged
    seller_replied: SellerReplied
    follow_up_accepted: FollowUpAccepted
    completed: OrderCompleted
    cancelled: OrderCancelled
    def __init__(self, seq: _Optional[int] = ..., at_ms: _Optional[int] = ..., run: _Optional[int] = ..., accepted: _Optional[_Union[OrderAccepted, _Mapping]] = ..., delivery_changed: _Optional[_Union[DeliveryChanged, _Mapping]] = ..., seller_replied: _Optional[_Union[SellerReplied, _Mapping]] = ..., follow_up_accepted: _Optional[_Union[FollowUpAccepted, _Mapping]] = ..., completed: _Optional[_Union[OrderCompleted, _Mapping]] = ..., cancelled: _Optional[_Union[OrderCancelled, _Mapping]] = ...) -> None: ...

class OrderAccepted(_message.Message):
    __slots__ = ("notification_type", "audience", "deliveries")
    NOTIFICATION_TYPE_FIELD_NUMBER: _ClassVar[int]
    AUDIENCE_FIELD_NUMBER: _ClassVar[int]
    DELIVERIES_FIELD_NUMBER: _ClassVar[int]
    notification_type: str
    audience: _containers.RepeatedScalarFieldContainer[str]
    deliveries: _containers.RepeatedCompositeFieldContainer[PlannedDelivery]
    def __init__(self, notification_type: _Optional[str] = ..., audience: _Optional[_Iterable[str]] = ..., deliveries: _Optional[_Iterable[_Union[PlannedDelivery, _Mapping]]] = ...) -> None: ...

class PlannedDelivery(_message.Message):
    __slots__ = ("delivery_id", "seller_id", "channel", "state")
    DELIVERY_ID_FIELD_NUMBER: _ClassVar[int]
    SELLER_ID_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    delivery_id: str
    seller_id: str
    channel: str
    state: str
    def __init__(self, delivery_id: _Optional[str] = ..., seller_id: _Optional[str] = ..., channel: _Optional[str] = ..., state: _Optional[str] = ...) -> None: ...

class DeliveryChanged(_message.Message):
    __slots__ = ("delivery_id", "follow_up_id", "seller_id", "channel", "state", "attempts", "last_error", "uncertain", "next_attempt_ms")
    DELIVERY_ID_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_UP_ID_FIELD_NUMBER: _ClassVar[int]
    SELLER_ID_FIELD_NUMBER: _ClassVar[int]
    CHANNEL_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_FIELD_NUMBER: _ClassVar[int]
    LAST_ERROR_FIELD_NUMBER: _ClassVar[int]
    UNCERTAIN_FIELD_NUMBER: _ClassVar[int]
    NEXT_ATTEMPT_MS_FIELD_NUMBER: _ClassVar[int]
    delivery_id: str
    follow_up_id: str
    seller_id: str
    channel: str
    state: str
    attempts: int
    last_error: str
    uncertain: int
    next_attempt_ms: int
    def __init__(self, delivery_id: _Optional[str] = ..., follow_up_id: _Optional[str] = ..., seller_id: _Optional[str] = ..., channel: _Optional[str] = ..., state: _Optional[str] = ..., attempts: _Optional[int] = ..., last_error: _Optional[str] = ..., uncertain: _Optional[int] = ..., next_attempt_ms: _Optional[int] = ...) -> None: ...

class SellerReplied(_message.Message):
    __slots__ = ("reply_id", "seller_id", "answer", "message", "follow_up_id")
    REPLY_ID_FIELD_NUMBER: _ClassVar[int]
    SELLER_ID_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_UP_ID_FIELD_NUMBER: _ClassVar[int]
    reply_id: str
    seller_id: str
    answer: str
    message: str
    follow_up_id: str
    def __init__(self, reply_id: _Optional[str] = ..., seller_id: _Optional[str] = ..., answer: _Optional[str] = ..., message: _Optional[str] = ..., follow_up_id: _Optional[str] = ...) -> None: ...

class FollowUpAccepted(_message.Message):
    __slots__ = ("follow_up_id", "audience", "deliveries")
    FOLLOW_UP_ID_FIELD_NUMBER: _ClassVar[int]
    AUDIENCE_FIELD_NUMBER: _ClassVar[int]
    DELIVERIES_FIELD_NUMBER: _ClassVar[int]
    follow_up_id: str
    audience: _containers.RepeatedScalarFieldContainer[str]
    deliveries: _containers.RepeatedCompositeFieldContainer[PlannedDelivery]
    def __init__(self, follow_up_id: _Optional[str] = ..., audience: _Optional[_Iterable[str]] = ..., deliveries: _Optional[_Iterable[_Union[PlannedDelivery, _Mapping]]] = ...) -> None: ...

class OrderCompleted(_message.Message):
    __slots__ = ("by", "reason")
    BY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    by: str
    reason: str
    def __init__(self, by: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class OrderCancelled(_message.Message):
    __slots__ = ("by", "reason")
    BY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    by: str
    reason: str
    def __init__(self, by: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class FollowUpRequest(_message.Message):
    __slots__ = ("order_req_id", "follow_up_id", "token", "audience", "message_type", "message", "urls", "added_ms", "tenant", "sending", "traceparent", "request_id")
    ORDER_REQ_ID_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_UP_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    AUDIENCE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_TYPE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    URLS_FIELD_NUMBER: _ClassVar[int]
    ADDED_MS_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    SENDING_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    order_req_id: str
    follow_up_id: str
    token: int
    audience: _containers.RepeatedScalarFieldContainer[str]
    message_type: str
    message: str
    urls: _containers.RepeatedScalarFieldContainer[str]
    added_ms: int
    tenant: str
    sending: int
    traceparent: str
    request_id: str
    def __init__(self, order_req_id: _Optional[str] = ..., follow_up_id: _Optional[str] = ..., token: _Optional[int] = ..., audience: _Optional[_Iterable[str]] = ..., message_type: _Optional[str] = ..., message: _Optional[str] = ..., urls: _Optional[_Iterable[str]] = ..., added_ms: _Optional[int] = ..., tenant: _Optional[str] = ..., sending: _Optional[int] = ..., traceparent: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class FollowUpAck(_message.Message):
    __slots__ = ("tenant", "order_req_id", "follow_up_id", "outcome", "detail")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    ORDER_REQ_ID_FIELD_NUMBER: _ClassVar[int]
    FOLLOW_UP_ID_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    order_req_id: str
    follow_up_id: str
    outcome: Outcome
    detail: str
    def __init__(self, tenant: _Optional[str] = ..., order_req_id: _Optional[str] = ..., follow_up_id: _Optional[str] = ..., outcome: _Optional[_Union[Outcome, str]] = ..., detail: _Optional[str] = ...) -> None: ...

class CloseOrderRequest(_message.Message):
    __slots__ = ("order_req_id", "token", "kind", "reason", "tenant", "run", "sending", "traceparent", "request_id")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[CloseOrderRequest.Kind]
        COMPLETE: _ClassVar[CloseOrderRequest.Kind]
        CANCEL: _ClassVar[CloseOrderRequest.Kind]
    KIND_UNSPECIFIED: CloseOrderRequest.Kind
    COMPLETE: CloseOrderRequest.Kind
    CANCEL: CloseOrderRequest.Kind
    ORDER_REQ_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    TENANT_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    SENDING_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    order_req_id: str
    token: int
    kind: CloseOrderRequest.Kind
    reason: str
    tenant: str
    run: int
    sending: int
    traceparent: str
    request_id: str
    def __init__(self, order_req_id: _Optional[str] = ..., token: _Optional[int] = ..., kind: _Optional[_Union[CloseOrderRequest.Kind, str]] = ..., reason: _Optional[str] = ..., tenant: _Optional[str] = ..., run: _Optional[int] = ..., sending: _Optional[int] = ..., traceparent: _Optional[str] = ..., request_id: _Optional[str] = ...) -> None: ...

class CloseOrderAck(_message.Message):
    __slots__ = ("tenant", "order_req_id", "outcome", "detail", "run")
    TENANT_FIELD_NUMBER: _ClassVar[int]
    ORDER_REQ_ID_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    tenant: str
    order_req_id: str
    outcome: Outcome
    detail: str
    run: int
    def __init__(self, tenant: _Optional[str] = ..., order_req_id: _Optional[str] = ..., outcome: _Optional[_Union[Outcome, str]] = ..., detail: _Optional[str] = ..., run: _Optional[int] = ...) -> None: ...
