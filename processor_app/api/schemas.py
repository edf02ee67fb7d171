"""What the processor's REST interface reads and answers."""

from __future__ import annotations

from marshmallow import fields, validate

from processor_app.domain import Answer, OrderState
from service_kit import rules
from service_kit.web.schemas import IdField, ListQuerySchema, StrictSchema, TextField


class ReplySchema(StrictSchema):
    """A seller's answer to the order, or to one follow-up."""

    seller_id = IdField(required=True, metadata={"example": "seller1"})
    answer = fields.String(
        required=True, validate=validate.OneOf([str(answer) for answer in Answer]), metadata={"example": "accepted"}
    )
    message = TextField(max_length=rules.MAX_TEXT, load_default="")
    follow_up_id = IdField(load_default="")
    reply_id = IdField(metadata={"description": "Names the reply; repeating it has no second effect."})


class RepliedSchema(StrictSchema):
    """The answer to a reply."""

    success = fields.Boolean(required=True)
    message = fields.String(required=True)
    order_req_id = fields.String(required=True)
    reply_id = fields.String(required=True)


class CompleteSchema(StrictSchema):
    """Why the order is complete; the body may be left out."""

    reason = TextField(max_length=rules.MAX_REASON, load_default="")


class CompletedSchema(StrictSchema):
    """The answer to a completion."""

    success = fields.Boolean(required=True)
    message = fields.String(required=True)
    order_req_id = fields.String(required=True)
    state = fields.String(required=True)


class OrderQuerySchema(ListQuerySchema):
    """Which orders to list."""

    state = fields.String(validate=validate.OneOf([str(state) for state in OrderState]))
    session_id = IdField()


class OrderSchema(StrictSchema):
    """One order as the seller side knows it."""

    order_req_id = fields.String(required=True)
    session_id = fields.String(required=True)
    notification_type = fields.String(required=True)
    audience = fields.List(fields.String(), required=True)
    details = fields.Dict(required=True, allow_none=True)
    state = fields.String(required=True)
    allowed_actions = fields.List(fields.String(), required=True)
    is_stream_open = fields.Boolean(required=True)
    token = fields.Integer(required=True)
    run = fields.Integer(required=True)
    head_seq = fields.Integer(required=True)
    notes_count = fields.Integer(required=True)
    created_at = fields.String(required=True)
    updated_at = fields.String(required=True)


class OrderListSchema(StrictSchema):
    """One page of orders, newest first, and the counts over all."""

    orders = fields.List(fields.Nested(OrderSchema), required=True)
    states = fields.Dict(keys=fields.String(), values=fields.Integer(), required=True)
    open_streams = fields.Integer(required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class EventSchema(StrictSchema):
    """One numbered fact of the order's life."""

    seq = fields.Integer(required=True)
    kind = fields.String(required=True)
    at = fields.String(required=True)
    data = fields.Dict(required=True)


class EventListSchema(StrictSchema):
    """Events above ``after``, oldest first; ask again with ``last_seq`` for what follows."""

    order_req_id = fields.String(required=True)
    events = fields.List(fields.Nested(EventSchema), required=True)
    last_seq = fields.Integer(required=True)
