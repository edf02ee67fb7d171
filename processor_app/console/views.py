"""The blueprint of the operator page: pages without data, what they poll, and what they do.

A page is a frame that its script fills; what it polls and does is made for this page, and is no public interface.
"""

from __future__ import annotations

from typing import Any, cast

from flask import Response, current_app, render_template

from processor_app.api import answers as api_answers
from processor_app.console import answers
from processor_app.delivery.deliveries import Deliveries
from processor_app.delivery.delivery import DeliveryState
from processor_app.delivery.directory import SellerDirectory
from processor_app.domain import Close, OrderState
from processor_app.orders import Orders
from processor_app.overview import Overview
from service_kit.access.model import Scope
from service_kit.change import Ref
from service_kit.samples import Sampler
from service_kit.storage.contract import MessageFilter
from service_kit.web.console import answers as console_answers
from service_kit.web.console import schemas
from service_kit.web.console.blueprint import create_console_blueprint
from service_kit.web.console.polls import PollAnswers
from service_kit.web.guard import current_principal, for_scope
from service_kit.web.schemas import load_body, load_query

blueprint = create_console_blueprint(__name__)

#: Deliveries that an order's page shows, the newest; the page of deliveries has all.
MAX_DELIVERIES = 1_000

_ORDERS_QUERY = answers.OrdersQuerySchema()
_ORDER_QUERY = schemas.OrderQuerySchema()
_PAGE_QUERY = schemas.OrderPageSchema()
_DELIVERIES_QUERY = answers.DeliveriesQuerySchema()
_SELLERS_QUERY = answers.SellersQuerySchema()
_COMPLETE = answers.CompleteSchema()
_RETRY = answers.RetrySchema()
_RETRY_SELLER = answers.RetrySellerSchema()


def _orders() -> Orders:
    return cast("Orders", current_app.extensions["orders"])


def _deliveries() -> Deliveries:
    return cast("Deliveries", current_app.extensions["deliveries"])


def _sellers() -> SellerDirectory:
    return cast("SellerDirectory", current_app.extensions["sellers"])


def _overview() -> Overview:
    return cast("Overview", current_app.extensions["overview"])


def _samples() -> Sampler:
    return cast("Sampler", current_app.extensions["samples"])


def _polls() -> PollAnswers:
    return cast("PollAnswers", current_app.extensions["polls"])


# ---- pages


@blueprint.get("/")
@for_scope(Scope.OPERATE)
def home() -> str:
    """The overview and the table of orders."""
    return render_template("console/home.html", states=[str(state) for state in OrderState])


@blueprint.get("/console/order")
@for_scope(Scope.OPERATE)
def order_page() -> str:
    """The page of one order, whether there is one or not."""
    return render_template("console/order.html", order_req_id=load_query(_PAGE_QUERY)["id"])


@blueprint.get("/console/deliveries")
@for_scope(Scope.OPERATE)
def deliveries_page() -> str:
    """The table of deliveries."""
    return render_template("console/deliveries.html", states=[str(state) for state in DeliveryState])


@blueprint.get("/console/sellers")
@for_scope(Scope.OPERATE)
def sellers_page() -> str:
    """The directory of sellers."""
    return render_template("console/sellers.html")


# ---- what pages poll


@blueprint.get("/console/data/orders")
@for_scope(Scope.OPERATE)
def orders() -> Response:
    """How things stand, and one page of the table of orders; beside it the samples since the last ones."""
    query = load_query(_ORDERS_QUERY)

    def state() -> dict[str, Any]:
        page = _orders().page(
            current_principal().tenant,
            prefix=query["prefix"],
            states=[query["state"]] if "state" in query else (),
            session_id=query["session_id"],
            cursor=query["cursor"],
            limit=query["limit"],
        )
        return {
            "now": answers.overview(_overview().look(current_principal().tenant)),
            **console_answers.sampled(_samples()),
            "orders": [
                answers.order_row(order, is_stream_open=_orders().has_open_stream(order.ref)) for order in page.orders
            ],
            "next_cursor": page.next_cursor,
        }

    return _polls().answer(state, beside=lambda: console_answers.samples(_samples(), query["after"]))


@blueprint.get("/console/data/order")
@for_scope(Scope.OPERATE)
def order() -> Response:
    """Everything about one order, and the entries of its timeline above ``after``."""
    query = load_query(_ORDER_QUERY)
    ref = Ref(current_principal().tenant, query["id"])
    order = _orders().get(ref)
    is_open = _orders().has_open_stream(ref)
    version = (order.token, order.state, order.head_seq, order.updated_ms, is_open)

    def state() -> dict[str, Any]:
        wanted = MessageFilter(current_principal().tenant, (), key=ref.key)
        page = _deliveries().page(wanted, cursor=None, limit=MAX_DELIVERIES)
        return {"order": answers.order(order, page, is_stream_open=is_open), "head": order.head_seq}

    def beside() -> dict[str, Any]:
        entries = _orders().events(ref, after=query["after"], limit=schemas.MAX_ENTRIES)
        return answers.timeline(entries, query["after"])

    return _polls().answer(state, beside=beside, version=version)


@blueprint.get("/console/data/deliveries")
@for_scope(Scope.OPERATE)
def deliveries() -> Response:
    """One page of the table of deliveries."""
    query = load_query(_DELIVERIES_QUERY)

    def state() -> dict[str, Any]:
        wanted = MessageFilter(
            current_principal().tenant,
            states=(query["state"],) if "state" in query else (),
            address=query["seller_id"],
            key=query["order_req_id"],
        )
        page = _deliveries().page(wanted, cursor=query["cursor"], limit=query["limit"])
        return {
            "deliveries": [answers.delivery(ref, each) for ref, each in page.deliveries],
            "next_cursor": page.next_cursor,
        }

    return _polls().answer(state)


@blueprint.get("/console/data/sellers")
@for_scope(Scope.OPERATE)
def sellers() -> Response:
    """One page of the directory."""
    query = load_query(_SELLERS_QUERY)

    def state() -> dict[str, Any]:
        page = _sellers().find_entries(
            current_principal().tenant, prefix=query["prefix"], cursor=query["cursor"], limit=query["limit"]
        )
        entries = [api_answers.seller(each) for each in page.entries]
        # What stands in a query may be a receiver's password, and who may operate need not be the one who manages.
        shown = [{**entry, "webhook_url": entry["webhook_url"].partition("?")[0]} for entry in entries]
        return {"sellers": shown, "next_cursor": page.next_cursor}

    return _polls().answer(state)


# ---- what pages do


@blueprint.post("/console/do/retry")
@for_scope(Scope.OPERATE)
def retry() -> dict[str, Any]:
    """Send a dead or retrying delivery again, now."""
    ref, delivery = _deliveries().retry(current_principal().tenant, load_body(_RETRY)["delivery_id"])
    _polls().forget()
    return {"message": f"The {delivery.channel} to {delivery.seller_id} for order {ref.key} is sent again."}


@blueprint.post("/console/do/retry-seller")
@for_scope(Scope.OPERATE)
def retry_seller() -> dict[str, Any]:
    """Send again all that was given up at one seller."""
    seller_id = load_body(_RETRY_SELLER)["seller_id"]
    wanted = MessageFilter(current_principal().tenant, (DeliveryState.DEAD,), address=seller_id)
    retried = _deliveries().retry_all(wanted)
    _polls().forget()
    rest = "" if retried.is_complete else " There are more: send again once more."
    return {"message": f"Dead deliveries to {seller_id} that are sent again: {retried.count}.{rest}"}


@blueprint.post("/console/do/complete")
@for_scope(Scope.OPERATE)
def complete() -> dict[str, Any]:
    """Complete an order from the seller side."""
    data = load_body(_COMPLETE)
    ref = Ref(current_principal().tenant, data["order_req_id"])
    order = _orders().complete(Close(ref, OrderState.COMPLETED, by="seller", reason=data["reason"]))
    _polls().forget()
    return {"message": f"The order is {order.state}."}
