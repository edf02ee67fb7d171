"""The blueprint of the seller directory: a view loads with a schema, calls the service, and answers."""

from __future__ import annotations

from typing import Any, cast

from flask import Blueprint, current_app

from processor_app.api import answers, schemas
from processor_app.delivery.directory import SellerDirectory
from processor_app.delivery.sellers import NoWebhook, SellerNotFound, SellerWish
from service_kit.access.model import Scope
from service_kit.errors import FieldError, InvalidInput, StoreFull, StoreUnavailable
from service_kit.rules import ID_PATTERN, ID_RULE
from service_kit.web.guard import current_principal
from service_kit.web.openapi import operation
from service_kit.web.schemas import EventsQuerySchema, ListQuerySchema, load_body, load_query

blueprint = Blueprint("sellers", __name__, url_prefix="/api/v1/sellers")

_WISH = schemas.SellerWishSchema()
_LIST_QUERY = ListQuerySchema()
_EVENTS_QUERY = EventsQuerySchema()


def _directory() -> SellerDirectory:
    return cast("SellerDirectory", current_app.extensions["sellers"])


@blueprint.get("")
@operation(
    summary="List sellers",
    query=ListQuerySchema,
    answer=schemas.SellerListSchema,
    errors=(StoreUnavailable,),
    scope=Scope.SELLERS_WRITE,
)
def list_sellers() -> dict[str, Any]:
    """Answer one page of sellers, newest first."""
    query = load_query(_LIST_QUERY)
    page = _directory().page(current_principal().tenant, cursor=query["cursor"], limit=query["limit"])
    return {"sellers": [answers.seller(entry) for entry in page.entries], "next_cursor": page.next_cursor}


@blueprint.get("/<seller_id>")
@operation(
    summary="Show a seller",
    answer=schemas.SellerSchema,
    errors=(SellerNotFound, StoreUnavailable),
    scope=Scope.SELLERS_WRITE,
)
def show_seller(seller_id: str) -> dict[str, Any]:
    """Answer the seller's entry without its secrets."""
    return answers.seller(_directory().get(current_principal().tenant, seller_id))


@blueprint.put("/<seller_id>")
@operation(
    summary="Register or change a seller",
    body=schemas.SellerWishSchema,
    answer=schemas.SellerPutSchema,
    errors=(StoreUnavailable, StoreFull),
    scope=Scope.SELLERS_WRITE,
)
def put_seller(seller_id: str) -> dict[str, Any]:
    """Answer the entry once it is on disk, and the webhook's secret if the URL is a new one."""
    if not ID_PATTERN.fullmatch(seller_id):
        raise InvalidInput([FieldError("/seller_id", ID_RULE)])
    data = load_body(_WISH)
    wish = SellerWish(
        name=data["name"],
        email=data["email"],
        webhook_url=data["webhook_url"],
        channels=tuple(sorted(set(data["channels"]))),
        language=data["language"],
    )
    entry, secret = _directory().put(current_principal().tenant, seller_id, wish)
    return answers.seller(entry) if secret is None else {**answers.seller(entry), "webhook_secret": secret}


@blueprint.delete("/<seller_id>")
@operation(
    summary="Remove a seller",
    answer=schemas.SellerRemovedSchema,
    errors=(SellerNotFound, StoreUnavailable, StoreFull),
    scope=Scope.SELLERS_WRITE,
)
def remove_seller(seller_id: str) -> dict[str, Any]:
    """Answer 200 when the entry is gone; what is still to be sent to the seller waits from its next attempt on."""
    _directory().remove(current_principal().tenant, seller_id)
    return {"success": True, "message": "Seller removed", "seller_id": seller_id}


@blueprint.post("/<seller_id>/rotate-secret")
@operation(
    summary="Give a seller's webhook a new secret",
    answer=schemas.SellerSecretSchema,
    errors=(SellerNotFound, NoWebhook, StoreUnavailable, StoreFull),
    scope=Scope.SELLERS_WRITE,
)
def rotate_secret(seller_id: str) -> dict[str, Any]:
    """Answer the new secret; what is sent is signed with it and with the one before."""
    return {"seller_id": seller_id, "webhook_secret": _directory().rotate_secret(current_principal().tenant, seller_id)}


@blueprint.get("/<seller_id>/events")
@operation(
    summary="Show who changed a seller's entry",
    query=EventsQuerySchema,
    answer=schemas.SellerHistorySchema,
    errors=(SellerNotFound, StoreUnavailable),
    scope=Scope.SELLERS_WRITE,
)
def seller_events(seller_id: str) -> dict[str, Any]:
    """Answer the changes above ``after``, oldest first."""
    query = load_query(_EVENTS_QUERY)
    entries = _directory().history(current_principal().tenant, seller_id, after=query["after"], limit=query["limit"])
    return {"seller_id": seller_id, **answers.events(entries, query["after"])}
