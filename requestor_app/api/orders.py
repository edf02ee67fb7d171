"""The blueprint of orders: a view loads with a schema, calls the service, and answers."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from typing import Any, cast

from flask import Blueprint, current_app, request

from requestor_app.api import answers, schemas
from requestor_app.domain import (
    ActionRefused,
    CloseKind,
    FollowUp,
    FollowUpConflict,
    OrderHeld,
    OrderNotFound,
    OrderRequest,
    TooManyUnsent,
)
from requestor_app.live_limit import TooManyLive
from requestor_app.orders import Orders
from requestor_app.outbox_limit import OutboxFull
from service_kit import rules
from service_kit.access.model import Scope
from service_kit.change import Ref
from service_kit.errors import FieldError, InvalidInput, StoreFull, StoreUnavailable, Unavailable
from service_kit.web.guard import current_principal
from service_kit.web.openapi import operation
from service_kit.web.schemas import EventsQuerySchema, load_body, load_optional_body, load_query

blueprint = Blueprint("orders", __name__, url_prefix="/api/v1/orders")

_INITIATE = schemas.InitiateSchema()
_FOLLOW_UP = schemas.FollowUpSchema()
_CLOSE = schemas.CloseSchema()
_ORDER_QUERY = schemas.OrderQuerySchema()
_STATUS_QUERY = schemas.TrackingQuerySchema()
_EVENTS_QUERY = EventsQuerySchema()


def _orders() -> Orders:
    return cast("Orders", current_app.extensions["orders"])


def _ref(order_req_id: str) -> Ref:
    return Ref(current_principal().tenant, order_req_id)


@blueprint.post("/initiate")
@operation(
    summary="Take an order and open its stream",
    body=schemas.InitiateSchema,
    answer=schemas.InitiatedSchema,
    errors=(OrderHeld, Unavailable, TooManyLive, StoreUnavailable, StoreFull),
    scope=Scope.ORDERS_WRITE,
)
def initiate() -> dict[str, Any]:
    """Answer 200 when the order is claimed on disk, or is live already with the same session and content."""
    data = load_body(_INITIATE)
    is_new = _orders().initiate(
        OrderRequest(
            ref=_ref(data["order_req_id"]),
            session_id=data["session_id"],
            notification_type=data["notification_type"],
            audience=tuple(data["audience"]),
            details=data["details"],
        )
    )
    return {
        "success": True,
        "message": "Order initiated successfully" if is_new else "Order already being processed",
        "order_req_id": data["order_req_id"],
        "session_id": data["session_id"],
    }


@blueprint.post("/followup")
@operation(
    summary="Add a follow-up to an order",
    body=schemas.FollowUpSchema,
    answer=schemas.FollowedUpSchema,
    errors=(OrderNotFound, ActionRefused, FollowUpConflict, TooManyUnsent, OutboxFull, StoreUnavailable, StoreFull),
    headers={"Idempotency-Key": "Names the follow-up when the body has no `follow_up_id`."},
    scope=Scope.ORDERS_WRITE,
)
def follow_up() -> dict[str, Any]:
    """Answer 200 when the note is on disk; repeating it under the same id answers alike and has no second effect."""
    data = load_body(_FOLLOW_UP)
    note = note_of(data, data.get("follow_up_id") or _idempotency_key())
    _orders().follow_up(note)
    return {
        "success": True,
        "message": "Follow-up processed successfully",
        "order_req_id": note.ref.key,
        "follow_up_id": note.follow_up_id,
    }


def note_of(data: Mapping[str, Any], follow_up_id: str | None) -> FollowUp:
    """The note that a loaded `FollowUpSchema` describes; one that nobody has named gets a name of its own."""
    message = data["message"]
    return FollowUp(
        ref=_ref(data["order_req_id"]),
        follow_up_id=follow_up_id or uuid.uuid4().hex,
        audience=tuple(data["audience"]),
        message_type=message["message_type"],
        message=message["message"],
        urls=tuple(message["urls"]),
    )


def _idempotency_key() -> str | None:
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    key = key.strip('"')  # the header is a structured-field string, often sent bare
    if not rules.ID_PATTERN.fullmatch(key):
        raise InvalidInput([FieldError("/Idempotency-Key", rules.ID_RULE)])
    return key


@blueprint.post("/<order_req_id>/complete")
@operation(
    summary="Complete an order",
    body=schemas.CloseSchema,
    body_required=False,
    answer=schemas.ClosedSchema,
    errors=(OrderNotFound, ActionRefused, StoreUnavailable, StoreFull),
    scope=Scope.ORDERS_WRITE,
)
def complete(order_req_id: str) -> dict[str, Any]:
    """Answer 200 when the wish is on disk; the order is ``closing`` until the processor has it."""
    return _close(order_req_id, CloseKind.COMPLETE)


@blueprint.post("/<order_req_id>/cancel")
@operation(
    summary="Cancel an order",
    body=schemas.CloseSchema,
    body_required=False,
    answer=schemas.ClosedSchema,
    errors=(OrderNotFound, ActionRefused, StoreUnavailable, StoreFull),
    scope=Scope.ORDERS_WRITE,
)
def cancel(order_req_id: str) -> dict[str, Any]:
    """Answer 200 when the wish is on disk; the order is ``closing`` until the processor has it."""
    return _close(order_req_id, CloseKind.CANCEL)


def _close(order_req_id: str, kind: CloseKind) -> dict[str, Any]:
    data = load_optional_body(_CLOSE)
    order = _orders().close(_ref(order_req_id), kind, data["reason"])
    done = "Order is being closed" if order.is_unfinished else f"Order {order.state}"
    return {"success": True, "message": done, "order_req_id": order_req_id, "state": str(order.state)}


@blueprint.get("/tracking/status")
@operation(
    summary="Count orders and streams",
    query=schemas.TrackingQuerySchema,
    answer=schemas.TrackingStatusSchema,
    errors=(StoreUnavailable,),
    scope=Scope.ORDERS_READ,
)
def tracking_status() -> dict[str, Any]:
    """Answer the counts over all orders and one page of their ids."""
    query = load_query(_STATUS_QUERY)
    tenant = current_principal().tenant
    status = _orders().tracking_status(tenant, cursor=query.get("cursor"), limit=query["limit"])
    return answers.tracking_status(status, _orders().duplicates_refused(tenant))


@blueprint.get("/tracking/<order_req_id>")
@operation(
    summary="Show the tracking of an order",
    answer=schemas.TrackedOrderSchema,
    errors=(OrderNotFound, StoreUnavailable),
    scope=Scope.ORDERS_READ,
)
def tracked_order(order_req_id: str) -> dict[str, Any]:
    """Answer the order's notes and whether its stream is active."""
    order, notes = _orders().notes(_ref(order_req_id))
    return answers.tracked_order(order, _orders().stream_view(order), notes)


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
    page = _orders().page(
        current_principal().tenant,
        states=[query["state"]] if "state" in query else (),
        session_id=query.get("session_id"),
        cursor=query.get("cursor"),
        limit=query["limit"],
    )
    return answers.order_list(page, _orders())


@blueprint.get("/<order_req_id>")
@operation(
    summary="Show everything about an order",
    answer=schemas.OrderSchema,
    errors=(OrderNotFound, StoreUnavailable),
    scope=Scope.ORDERS_READ,
)
def show_order(order_req_id: str) -> dict[str, Any]:
    """Answer the order with its stream, notes, deliveries and allowed actions."""
    return answers.order(_orders().details(_ref(order_req_id)))


@blueprint.get("/<order_req_id>/events")
@operation(
    summary="Show an order's timeline",
    query=EventsQuerySchema,
    answer=schemas.EventListSchema,
    errors=(OrderNotFound, StoreUnavailable),
    scope=Scope.ORDERS_READ,
)
def order_events(order_req_id: str) -> dict[str, Any]:
    """Answer the events above ``after``, oldest first."""
    query = load_query(_EVENTS_QUERY)
    entries = _orders().events(_ref(order_req_id), after=query["after"], limit=query["limit"])
    return answers.events(order_req_id, entries, query["after"])
