"""The blueprint of orders at the seller side: a view loads with a schema, calls the service, and answers."""

from __future__ import annotations

import uuid
from typing import Any, cast

from flask import Blueprint, current_app

from processor_app.api import answers, schemas
from processor_app.domain import Answer, Close, IdTaken, OrderFinished, OrderNotFound, OrderState, Reply
from processor_app.orders import Orders
from service_kit.access.model import Forbidden, Scope
from service_kit.change import Ref
from service_kit.errors import StoreFull, StoreUnavailable
from service_kit.web.guard import current_principal
from service_kit.web.openapi import operation
from service_kit.web.schemas import EventsQuerySchema, load_body, load_optional_body, load_query

blueprint = Blueprint("orders", __name__, url_prefix="/api/v1/orders")

_REPLY = schemas.ReplySchema()
_COMPLETE = schemas.CompleteSchema()
_ORDER_QUERY = schemas.OrderQuerySchema()
_EVENTS_QUERY = EventsQuerySchema()


def _orders() -> Orders:
    return cast("Orders", current_app.extensions["orders"])


def _ref(order_req_id: str) -> Ref:
    return Ref(current_principal().tenant, order_req_id)


@blueprint.get("")
@operation(
    summary="List orders",
    query=schemas.OrderQuerySchema,
    answer=schemas.OrderListSchema,
    errors=(StoreUnavailable,),
    scope=Scope.ORDERS_READ,
)
def list_orders() -> dict[str, Any]:
    """Answer one page of orders, newest first."""
    query = load_query(_ORDER_QUERY)
    tenant = current_principal().tenant
    page = _orders().page(
        tenant,
        states=[query["state"]] if "state" in query else (),
        session_id=query.get("session_id"),
        cursor=query["cursor"],
        limit=query["limit"],
    )
    return {
        "orders": [answers.order(o, is_stream_open=_orders().has_open_stream(o.ref)) for o in page.orders],
        "states": _orders().counts(tenant),
        "open_streams": _orders().open_streams(tenant),
        "next_cursor": page.next_cursor,
    }


@blueprint.get("/<order_req_id>")
@operation(
    summary="Show an order",
    answer=schemas.OrderSchema,
    errors=(OrderNotFound, StoreUnavailable),
    scope=Scope.ORDERS_READ,
)
def show_order(order_req_id: str) -> dict[str, Any]:
    """Answer the order and whether its stream is open."""
    order = _orders().get(_ref(order_req_id))
    return answers.order(order, is_stream_open=_orders().has_open_stream(order.ref))


@blueprint.get("/<order_req_id>/events")
@operation(
    summary="Show an order's log",
    query=EventsQuerySchema,
    answer=schemas.EventListSchema,
    errors=(OrderNotFound, StoreUnavailable),
    scope=Scope.ORDERS_READ,
)
def order_events(order_req_id: str) -> dict[str, Any]:
    """Answer the events above ``after``, oldest first."""
    query = load_query(_EVENTS_QUERY)
    entries = _orders().events(_ref(order_req_id), after=query["after"], limit=query["limit"])
    return {"order_req_id": order_req_id, **answers.events(entries, query["after"])}


@blueprint.post("/<order_req_id>/replies")
@operation(
    summary="Answer an order as a seller",
    body=schemas.ReplySchema,
    answer=schemas.RepliedSchema,
    errors=(OrderNotFound, OrderFinished, IdTaken, StoreUnavailable, StoreFull),
    scope=Scope.REPLIES_WRITE,
)
def reply(order_req_id: str) -> dict[str, Any]:
    """Answer 200 when the reply is on disk; it travels to the buyer as an event."""
    data = load_body(_REPLY)
    if current_principal().seller_id not in (None, data["seller_id"]):
        raise Forbidden("This key answers in the name of another seller.")
    reply_id = data.get("reply_id") or uuid.uuid4().hex
    _orders().reply(
        Reply(
            ref=_ref(order_req_id),
            reply_id=reply_id,
            seller_id=data["seller_id"],
            answer=Answer(data["answer"]),
            message=data["message"],
            follow_up_id=data.get("follow_up_id", ""),
        )
    )
    return {
        "success": True,
        "message": "Reply processed successfully",
        "order_req_id": order_req_id,
        "reply_id": reply_id,
    }


@blueprint.post("/<order_req_id>/complete")
@operation(
    summary="Complete an order from the seller side",
    body=schemas.CompleteSchema,
    body_required=False,
    answer=schemas.CompletedSchema,
    errors=(OrderNotFound, OrderFinished, StoreUnavailable, StoreFull),
    scope=Scope.ORDERS_WRITE,
)
def complete(order_req_id: str) -> dict[str, Any]:
    """Answer 200 when the completion is on disk; repeating it changes nothing."""
    data = load_optional_body(_COMPLETE)
    order = _orders().complete(Close(_ref(order_req_id), OrderState.COMPLETED, by="seller", reason=data["reason"]))
    return {
        "success": True,
        "message": "Order completed",
        "order_req_id": order_req_id,
        "state": str(order.state),
    }
