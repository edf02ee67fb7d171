"""The blueprint of deliveries: a view loads with a schema, calls the service, and answers."""

from __future__ import annotations

from typing import Any, cast

from flask import Blueprint, current_app

from processor_app.api import answers, schemas
from processor_app.delivery.deliveries import Deliveries
from processor_app.delivery.lifecycle import DeliveryNotFound, DeliveryNotRetryable
from service_kit.access.model import Scope
from service_kit.errors import StoreFull, StoreUnavailable
from service_kit.storage.contract import MessageFilter
from service_kit.web.guard import current_principal
from service_kit.web.openapi import operation
from service_kit.web.schemas import load_optional_body, load_query

blueprint = Blueprint("deliveries", __name__, url_prefix="/api/v1/deliveries")

_QUERY = schemas.DeliveryQuerySchema()
_RETRY = schemas.RetrySchema()


def _deliveries() -> Deliveries:
    return cast("Deliveries", current_app.extensions["deliveries"])


@blueprint.get("")
@operation(
    summary="List deliveries",
    query=schemas.DeliveryQuerySchema,
    answer=schemas.DeliveryListSchema,
    errors=(StoreUnavailable,),
    scope=Scope.OPERATE,
)
def list_deliveries() -> dict[str, Any]:
    """Answer one page of deliveries, newest first."""
    query = load_query(_QUERY)
    page = _deliveries().page(_filter(query), cursor=query["cursor"], limit=query["limit"])
    return {
        "deliveries": [answers.delivery(ref, delivery) for ref, delivery in page.deliveries],
        "states": _deliveries().counts(current_principal().tenant),
        "next_cursor": page.next_cursor,
    }


@blueprint.post("/<delivery_id>/retry")
@operation(
    summary="Send a delivery again, now",
    answer=schemas.DeliverySchema,
    errors=(DeliveryNotFound, DeliveryNotRetryable, StoreUnavailable, StoreFull),
    scope=Scope.OPERATE,
)
def retry(delivery_id: str) -> dict[str, Any]:
    """Answer the delivery, which is pending again with a whole schedule of retries before it."""
    return answers.delivery(*_deliveries().retry(current_principal().tenant, delivery_id))


@blueprint.post("/retry")
@operation(
    summary="Send many deliveries again, now",
    body=schemas.RetrySchema,
    body_required=False,
    answer=schemas.RetriedSchema,
    errors=(StoreUnavailable, StoreFull),
    scope=Scope.OPERATE,
)
def retry_all() -> dict[str, Any]:
    """Answer how many are pending again."""
    retried = _deliveries().retry_all(_filter(load_optional_body(_RETRY)))
    return {
        "success": True,
        "message": f"{retried.count} deliveries are sent again",
        "count": retried.count,
        "is_complete": retried.is_complete,
    }


def _filter(wanted: dict[str, Any]) -> MessageFilter:
    times = {f"{name}_ms": wanted[name] for name in ("created_from", "created_before") if name in wanted}
    return MessageFilter(
        current_principal().tenant,
        states=(wanted["state"],) if "state" in wanted else (),
        address=wanted.get("seller_id"),
        key=wanted.get("order_req_id"),
        **times,
    )
