"""What the requestor's REST interface reads and answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marshmallow import ValidationError, fields, validate

from requestor_app.domain import OrderState
from service_kit import rules
from service_kit.errors import FieldError
from service_kit.web.schemas import (
    MAX_PAGE,
    AnswerSchema,
    ChoiceField,
    HttpUrlField,
    IdField,
    IdListField,
    ListQuerySchema,
    PatternField,
    QueryIntegerField,
    StrictSchema,
    TextField,
)


def _details_fit(details: Mapping[str, Any]) -> None:
    if (fault := rules.details_fault(details)) is not None:
        raise ValidationError(fault)


def _named_audience_fault(sellers: list[str]) -> str | None:
    return rules.audience_fault(sellers) if sellers else "must name a seller"


class InitiateSchema(StrictSchema):
    """A buyer's order."""

    order_req_id = IdField(required=True, metadata={"examples": ["TEST001"]})
    session_id = IdField(required=True, metadata={"examples": ["sess_test_001"]})
    notification_type = ChoiceField(rules.NOTIFICATION_TYPES, required=True, metadata={"examples": ["email"]})
    audience = IdListField(
        rules.audience_fault,
        load_default=list,
        metadata={
            "maxItems": rules.MAX_AUDIENCE,
            "description": "The sellers who are told of the order.",
            "examples": [["seller1"]],
        },
    )
    details = fields.Dict(
        keys=fields.String(),
        load_default=None,
        validate=_details_fit,
        metadata={
            "description": f"What is ordered, in any form; at most {rules.MAX_DETAILS} characters. Sellers see it.",
            "examples": [{"item": "Oak table", "quantity": 1}],
        },
    )


class InitiatedSchema(AnswerSchema):
    """The answer to an order."""

    success = fields.Boolean(required=True)
    message = fields.String(required=True)
    order_req_id = fields.String(required=True)
    session_id = fields.String(required=True)


class MessageSchema(StrictSchema):
    """The message of a follow-up: a text, links, or both."""

    urls = fields.List(HttpUrlField(), load_default=list, validate=validate.Length(max=rules.MAX_URLS))
    message_type = PatternField(rules.KIND_PATTERN, rules.KIND_RULE, load_default="text")
    message = TextField(
        max_length=rules.MAX_TEXT, load_default="", metadata={"examples": ["Please expedite this order"]}
    )

    def fault(self, data: Mapping[str, Any]) -> FieldError | None:
        """A message has a text or links."""
        fault = rules.message_fault(data["message"], data["urls"])
        return None if fault is None else FieldError("message", fault)


class FollowUpSchema(StrictSchema):
    """What a buyer adds to an order."""

    order_req_id = IdField(required=True, metadata={"examples": ["TEST001"]})
    follow_up_id = IdField(
        metadata={"description": "Names the follow-up; repeating it has no second effect.", "examples": ["note-1"]}
    )
    audience = IdListField(
        _named_audience_fault,
        required=True,
        metadata={"minItems": 1, "maxItems": rules.MAX_AUDIENCE, "examples": [["seller1", "seller2"]]},
    )
    message = fields.Nested(
        MessageSchema,
        required=True,
        metadata={
            "anyOf": [
                {"properties": {"message": {"pattern": r"\S"}}, "required": ["message"]},
                {"properties": {"urls": {"minItems": 1}}, "required": ["urls"]},
            ]
        },
    )


class FollowedUpSchema(AnswerSchema):
    """The answer to a follow-up."""

    success = fields.Boolean(required=True)
    message = fields.String(required=True)
    order_req_id = fields.String(required=True)
    follow_up_id = fields.String(required=True)


class CloseSchema(StrictSchema):
    """Why an order is completed or cancelled; the body may be left out."""

    reason = TextField(
        max_length=rules.MAX_REASON, load_default="", metadata={"examples": ["The buyer has what was ordered"]}
    )


class ClosedSchema(AnswerSchema):
    """The answer to a complete or a cancel: ``closing`` until the processor has it, then the final state."""

    success = fields.Boolean(required=True)
    message = fields.String(required=True)
    order_req_id = fields.String(required=True)
    state = fields.String(required=True)


class TrackingQuerySchema(ListQuerySchema):
    """Which page of order ids to answer; by default as many as a page may hold."""

    limit = QueryIntegerField(1, MAX_PAGE, load_default=MAX_PAGE, metadata={"description": "The size of the page."})


class TrackingStatusSchema(AnswerSchema):
    """Counts over all orders, and one page of their ids."""

    total_orders = fields.Integer(required=True)
    active_streams = fields.Integer(required=True)
    open_streams = fields.Integer(required=True)
    duplicates_refused = fields.Integer(required=True)
    states = fields.Dict(keys=fields.String(), values=fields.Integer(), required=True)
    tracked_order_ids = fields.List(fields.String(), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class TrackedNoteSchema(AnswerSchema):
    """One follow-up in the tracking of an order."""

    follow_up_id = fields.String(required=True)
    audience = fields.List(fields.String(), required=True)
    message_type = fields.String(required=True)
    added_time = fields.String(required=True)


class TrackedOrderSchema(AnswerSchema):
    """The tracking of one order. Its stream is active from the claim to the end of the order."""

    order_req_id = fields.String(required=True)
    session = fields.String(required=True)
    notes_count = fields.Integer(required=True)
    is_stream_active = fields.Boolean(required=True)
    stream_state = fields.String(required=True)
    state = fields.String(required=True)
    notes = fields.List(fields.Nested(TrackedNoteSchema), required=True)


class OrderQuerySchema(ListQuerySchema):
    """Which orders to list."""

    state = ChoiceField(OrderState)
    session_id = IdField()


class OrderSummarySchema(AnswerSchema):
    """One order in a list."""

    order_req_id = fields.String(required=True)
    session_id = fields.String(required=True)
    notification_type = fields.String(required=True)
    state = fields.String(required=True)
    notes_count = fields.Integer(required=True)
    stream_state = fields.String(required=True)
    created_at = fields.String(required=True)
    updated_at = fields.String(required=True)


class OrderListSchema(AnswerSchema):
    """One page of orders, newest first."""

    orders = fields.List(fields.Nested(OrderSummarySchema), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class StreamSchema(AnswerSchema):
    """How the order's stream stands."""

    state = ChoiceField(["connecting", "open", "closed"], required=True)
    since = fields.String(required=True, allow_none=True)
    last_error = fields.String(required=True, allow_none=True)


class OrderNoteSchema(TrackedNoteSchema):
    """One follow-up with its content and what became of it on the way to the processor."""

    message = fields.String(required=True)
    urls = fields.List(fields.String(), required=True)
    relay_state = ChoiceField(["pending", "relayed", "set_aside"], required=True)
    last_error = fields.String(required=True, allow_none=True)


class DeliverySchema(AnswerSchema):
    """How one delivery to a seller stands, as far as the processor has told.

    ``uncertain`` counts the attempts of which nobody knows whether the seller got them.
    """

    delivery_id = fields.String(required=True)
    follow_up_id = fields.String(required=True)
    seller_id = fields.String(required=True)
    channel = fields.String(required=True)
    state = fields.String(required=True)
    attempts = fields.Integer(required=True)
    uncertain = fields.Integer(required=True)
    last_error = fields.String(required=True)
    created_at = fields.String(required=True)
    changed_at = fields.String(required=True)
    next_attempt_at = fields.String(required=True, allow_none=True)


class OrderSchema(AnswerSchema):
    """Everything about one order."""

    order_req_id = fields.String(required=True)
    session_id = fields.String(required=True)
    notification_type = fields.String(required=True)
    audience = fields.List(fields.String(), required=True)
    details = fields.Dict(required=True, allow_none=True)
    state = fields.String(required=True)
    allowed_actions = fields.List(fields.String(), required=True)
    stream = fields.Nested(StreamSchema, required=True)
    owner = fields.String(required=True, allow_none=True)
    token = fields.Integer(required=True)
    run = fields.Integer(required=True)
    applied_seq = fields.Integer(required=True)
    notes_count = fields.Integer(required=True)
    unsent_count = fields.Integer(required=True)
    notes = fields.List(fields.Nested(OrderNoteSchema), required=True)
    deliveries = fields.List(fields.Nested(DeliverySchema), required=True)
    request_id = fields.String(required=True, allow_none=True)
    trace_id = fields.String(required=True, allow_none=True)
    created_at = fields.String(required=True)
    updated_at = fields.String(required=True)


class EventSchema(AnswerSchema):
    """One fact of the order's timeline; ``processor_seq`` numbers those that came from the processor."""

    seq = fields.Integer(required=True)
    kind = fields.String(required=True)
    at = fields.String(required=True)
    origin = ChoiceField(["requestor", "processor"], required=True)
    processor_seq = fields.Integer(required=True, allow_none=True)
    data = fields.Dict(required=True)


class EventListSchema(AnswerSchema):
    """Events above ``after``, oldest first; ask again with ``last_seq`` for what follows."""

    order_req_id = fields.String(required=True)
    events = fields.List(fields.Nested(EventSchema), required=True)
    last_seq = fields.Integer(required=True)
