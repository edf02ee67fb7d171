"""What the processor's operator page asks with, and what it is answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from marshmallow import fields, validate

from processor_app.api import answers as api_answers
from processor_app.api import schemas as api_schemas
from processor_app.delivery.deliveries import DeliveryPage
from processor_app.delivery.delivery import RETRYABLE, Delivery, DeliveryState
from processor_app.domain import Order, OrderState
from processor_app.overview import Situation
from service_kit.change import Entry, Ref
from service_kit.times import rfc3339
from service_kit.web.console.schemas import OverviewQuerySchema, TableQuerySchema
from service_kit.web.schemas import IdField, StrictSchema, TextField


class OrdersQuerySchema(OverviewQuerySchema):
    """Which orders to list: those of a state and of a session, whose id begins with a text."""

    state = fields.String(validate=validate.OneOf([str(state) for state in OrderState]))
    session_id = IdField(load_default=None)
    prefix = IdField(load_default=None)


class DeliveriesQuerySchema(TableQuerySchema):
    """Which deliveries to list."""

    state = fields.String(validate=validate.OneOf([str(state) for state in DeliveryState]))
    seller_id = IdField(load_default=None)
    order_req_id = IdField(load_default=None)


class SellersQuerySchema(TableQuerySchema):
    """Which sellers to list: those whose id begins with a text."""

    prefix = IdField(load_default=None)


class CompleteSchema(api_schemas.CompleteSchema):
    """Which order is complete, and why."""

    order_req_id = IdField(required=True)


class RetrySchema(StrictSchema):
    """Which delivery to send again."""

    delivery_id = TextField(max_length=64, required=True)


class RetrySellerSchema(StrictSchema):
    """Whose deliveries to send again."""

    seller_id = IdField(required=True)


def overview(now: Situation) -> dict[str, Any]:
    """How things stand."""
    oldest_ms = now.oldest_active_ms
    return {
        "orders": {str(state): now.orders.get(state, 0) for state in OrderState},
        "streams": {"open": now.open_streams},
        "deliveries": {
            **{str(state): now.deliveries.get(state, 0) for state in DeliveryState},
            "oldest_at": None if oldest_ms is None else rfc3339(oldest_ms),
        },
        "open_breakers": now.open_breakers,
        "slow_sellers": now.slow_sellers,
        "sellers": now.sellers,
        "link": {"is_up": now.is_linked, "error": None if now.is_linked else "no requestor is connected"},
        "requestors": [{"name": peer} for peer in now.requestors],
    }


def delivery(ref: Ref, delivery: Delivery) -> dict[str, Any]:
    """A delivery and whether it can be sent again."""
    return {**api_answers.delivery(ref, delivery), "is_retryable": delivery.state in RETRYABLE}


def order_row(order: Order, *, is_stream_open: bool) -> dict[str, Any]:
    """An order in the table, without what may be large."""
    answer = api_answers.order(order, is_stream_open=is_stream_open)
    return {name: value for name, value in answer.items() if name != "details"}


def order(order: Order, deliveries: DeliveryPage, *, is_stream_open: bool) -> dict[str, Any]:
    """Everything about one order but its timeline."""
    return {
        **api_answers.order(order, is_stream_open=is_stream_open),
        "deliveries": [delivery(ref, each) for ref, each in deliveries.deliveries],
    }


def timeline(entries: Sequence[Entry], after: int) -> dict[str, Any]:
    """What is sent beside an order: the entries of its timeline above ``after``."""
    return {"timeline": api_answers.events(entries, after)}
