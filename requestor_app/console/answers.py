"""What the requestor's operator page asks with, and what it is answered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from marshmallow import fields, validate

from requestor_app.api import answers as api_answers
from requestor_app.api import schemas as api_schemas
from requestor_app.domain import OrderState
from requestor_app.overview import Situation
from service_kit.change import Entry
from service_kit.times import rfc3339
from service_kit.web.console.schemas import OverviewQuerySchema
from service_kit.web.schemas import IdField


class OrdersQuerySchema(OverviewQuerySchema):
    """Which orders to list: those of a state and of a session, whose id begins with a text."""

    state = fields.String(validate=validate.OneOf([str(state) for state in OrderState]))
    session_id = IdField(load_default=None)
    prefix = IdField(load_default=None)


class CloseSchema(api_schemas.CloseSchema):
    """Which order is to end, and why."""

    order_req_id = IdField(required=True)


def overview(now: Situation) -> dict[str, Any]:
    """How things stand."""
    oldest_ms = now.oldest_pending_ms
    return {
        "orders": {str(state): now.orders.get(state, 0) for state in OrderState},
        "streams": now.streams,
        "duplicates_refused": now.duplicates_refused,
        "notes": {
            "pending": now.pending,
            "set_aside": now.set_aside,
            "oldest_at": None if oldest_ms is None else rfc3339(oldest_ms),
        },
        "link": {"is_up": now.link_error is None, "error": now.link_error},
        "instances": [{"name": each.name, "is_this": each.is_this, "is_gone": each.is_gone} for each in now.instances],
    }


def timeline(order_req_id: str, entries: Sequence[Entry], after: int) -> dict[str, Any]:
    """What is sent beside an order: the entries of its timeline above ``after``."""
    return {"timeline": api_answers.events(order_req_id, entries, after)}
