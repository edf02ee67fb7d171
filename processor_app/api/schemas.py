"""What the processor's REST interface reads and answers."""

from __future__ import annotations

import re

from marshmallow import fields, validate

from processor_app.delivery.delivery import CHANNELS, RETRYABLE, DeliveryState
from processor_app.delivery.webhook_url import webhook_url_fault
from processor_app.domain import Answer, OrderState
from service_kit import rules
from service_kit.web.schemas import (
    AnswerSchema,
    CheckedText,
    ChoiceField,
    IdField,
    ListQuerySchema,
    PatternField,
    StrictSchema,
    TextField,
    TimeField,
)

MAX_NAME = 200
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Z]{2})?")


class ReplySchema(StrictSchema):
    """A seller's answer to the order, or to one follow-up."""

    seller_id = IdField(required=True, metadata={"examples": ["seller1"]})
    answer = ChoiceField(Answer, required=True, metadata={"examples": ["accepted"]})
    message = TextField(max_length=rules.MAX_TEXT, load_default="", metadata={"examples": ["On its way"]})
    follow_up_id = IdField(metadata={"description": "The follow-up that is answered; without it, the order."})
    reply_id = IdField(
        metadata={"description": "Names the reply; repeating it has no second effect.", "examples": ["reply-1"]}
    )


class RepliedSchema(AnswerSchema):
    """The answer to a reply."""

    success = fields.Boolean(required=True)
    message = fields.String(required=True)
    order_req_id = fields.String(required=True)
    reply_id = fields.String(required=True)


class CompleteSchema(StrictSchema):
    """Why the order is complete; the body may be left out."""

    reason = TextField(max_length=rules.MAX_REASON, load_default="", metadata={"examples": ["Handed over"]})


class CompletedSchema(AnswerSchema):
    """The answer to a completion."""

    success = fields.Boolean(required=True)
    message = fields.String(required=True)
    order_req_id = fields.String(required=True)
    state = fields.String(required=True)


class OrderQuerySchema(ListQuerySchema):
    """Which orders to list."""

    state = ChoiceField(OrderState)
    session_id = IdField()


class OrderSchema(AnswerSchema):
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
    request_id = fields.String(required=True, allow_none=True)
    trace_id = fields.String(required=True, allow_none=True)
    created_at = fields.String(required=True)
    updated_at = fields.String(required=True)


class OrderListSchema(AnswerSchema):
    """One page of orders, newest first, and the counts over all."""

    orders = fields.List(fields.Nested(OrderSchema), required=True)
    states = fields.Dict(keys=fields.String(), values=fields.Integer(), required=True)
    open_streams = fields.Integer(required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class EventSchema(AnswerSchema):
    """One numbered fact of the order's life."""

    seq = fields.Integer(required=True)
    kind = fields.String(required=True)
    at = fields.String(required=True)
    data = fields.Dict(required=True)


class EventListSchema(AnswerSchema):
    """Events above ``after``, oldest first; ask again with ``last_seq`` for what follows."""

    order_req_id = fields.String(required=True)
    events = fields.List(fields.Nested(EventSchema), required=True)
    last_seq = fields.Integer(required=True)


def _name_fault(text: str) -> str | None:
    return rules.header_fault(text) or rules.text_fault(text, MAX_NAME)


def _email_fault(text: str) -> str | None:
    return rules.email_fault(text) if text else None


def _webhook_fault(text: str) -> str | None:
    return webhook_url_fault(text) if text else None


class SellerWishSchema(StrictSchema):
    """A seller as the directory is to have it; what is left out is empty."""

    name = CheckedText(_name_fault, load_default="", metadata={"maxLength": MAX_NAME, "examples": ["Seller One"]})
    email = CheckedText(
        _email_fault, load_default="", metadata={"maxLength": rules.MAX_EMAIL, "examples": ["one@example.com"]}
    )
    webhook_url = CheckedText(
        _webhook_fault, load_default="", metadata={"maxLength": rules.MAX_URL, "examples": ["https://one.example/hook"]}
    )
    channels = fields.List(
        ChoiceField(CHANNELS),
        load_default=list,
        validate=validate.Length(max=len(CHANNELS)),
        metadata={"description": "Channels that the seller wants beside the one that an order names."},
    )
    language = PatternField(_LANGUAGE, "must be a language such as en or de-AT", load_default="en")


class SellerSchema(AnswerSchema):
    """An entry of the seller directory. Secrets are only counted."""

    seller_id = fields.String(required=True)
    name = fields.String(required=True)
    email = fields.String(required=True)
    webhook_url = fields.String(required=True)
    webhook_disabled = fields.String(required=True, allow_none=True)
    live_secrets = fields.Integer(required=True)
    channels = fields.List(fields.String(), required=True)
    language = fields.String(required=True)
    created_at = fields.String(required=True)
    updated_at = fields.String(required=True)


class SellerPutSchema(SellerSchema):
    """The entry, with the webhook's secret if it has a new one: it is shown this once."""

    webhook_secret = fields.String()


class SellerSecretSchema(AnswerSchema):
    """The new secret of a webhook; the one before is still valid."""

    seller_id = fields.String(required=True)
    webhook_secret = fields.String(required=True)


class SellerRemovedSchema(AnswerSchema):
    """The answer to a removal."""

    success = fields.Boolean(required=True)
    message = fields.String(required=True)
    seller_id = fields.String(required=True)


class SellerListSchema(AnswerSchema):
    """One page of the directory, newest first."""

    sellers = fields.List(fields.Nested(SellerSchema), required=True)
    next_cursor = fields.String(required=True, allow_none=True)


class SellerHistorySchema(AnswerSchema):
    """Changes of an entry above ``after``, oldest first."""

    seller_id = fields.String(required=True)
    events = fields.List(fields.Nested(EventSchema), required=True)
    last_seq = fields.Integer(required=True)


class DeliveryQuerySchema(ListQuerySchema):
    """Which deliveries to list."""

    state = ChoiceField(DeliveryState)
    seller_id = IdField()
    order_req_id = IdField()


class RetrySchema(StrictSchema):
    """Which deliveries to send again; without a body all that are dead."""

    state = ChoiceField(RETRYABLE, load_default=str(DeliveryState.DEAD))
    seller_id = IdField(metadata={"examples": ["seller1"]})
    order_req_id = IdField()
    created_from = TimeField(metadata={"description": "Those that were made at this time or later."})
    created_before = TimeField(metadata={"description": "Those that were made before this time."})


class RetriedSchema(AnswerSchema):
    """How many deliveries are sent again; unless it is complete, the same call again finds more."""

    success = fields.Boolean(required=True)
    message = fields.String(required=True)
    count = fields.Integer(required=True)
    is_complete = fields.Boolean(required=True)


class DeliverySchema(AnswerSchema):
    """One message for one seller over one channel.

    ``uncertain`` counts the attempts of which nobody knows whether the seller got them.
    """

    delivery_id = fields.String(required=True)
    order_req_id = fields.String(required=True)
    follow_up_id = fields.String(required=True)
    seller_id = fields.String(required=True)
    channel = fields.String(required=True)
    state = fields.String(required=True)
    attempts = fields.Integer(required=True)
    uncertain = fields.Integer(required=True)
    last_error = fields.String(required=True)
    created_at = fields.String(required=True)
    updated_at = fields.String(required=True)
    next_attempt_at = fields.String(required=True, allow_none=True)


class DeliveryListSchema(AnswerSchema):
    """One page of deliveries, newest first, and the counts over all."""

    deliveries = fields.List(fields.Nested(DeliverySchema), required=True)
    states = fields.Dict(keys=fields.String(), values=fields.Integer(), required=True)
    next_cursor = fields.String(required=True, allow_none=True)
