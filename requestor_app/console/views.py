"""The blueprint of the operator page: pages without data, what they poll, and what they do.

A page is a frame that its script fills; what it polls and does is made for this page, and is no public interface.
"""

from __future__ import annotations

from typing import Any, cast

from flask import Response, current_app, render_template

from requestor_app.api import answers as api_answers
from requestor_app.api import schemas as api_schemas
from requestor_app.api.orders import note_of
from requestor_app.console import answers
from requestor_app.domain import CloseKind, OrderState
from requestor_app.orders import Orders
from requestor_app.overview import Overview
from service_kit.access.model import Scope
from service_kit.change import Ref
from service_kit.samples import Sampler
from service_kit.web.console import answers as console_answers
from service_kit.web.console import schemas
from service_kit.web.console.blueprint import create_console_blueprint
from service_kit.web.console.polls import PollAnswers
from service_kit.web.guard import current_principal, for_scope
from service_kit.web.schemas import load_body, load_query

blueprint = create_console_blueprint(__name__)

_ORDERS_QUERY = answers.OrdersQuerySchema()
_ORDER_QUERY = schemas.OrderQuerySchema()
_PAGE_QUERY = schemas.OrderPageSchema()
_FOLLOW_UP = api_schemas.FollowUpSchema()
_CLOSE = answers.CloseSchema()


def _orders() -> Orders:
    return cast("Orders", current_app.extensions["orders"])


def _overview() -> Overview:
    return cast("Overview", current_app.extensions["overview"])


def _samples() -> Sampler:
    return cast("Sampler", current_app.extensions["samples"])


def _polls() -> PollAnswers:
    return cast("PollAnswers", current_app.extensions["polls"])


def _ref(order_req_id: str) -> Ref:
    return Ref(current_principal().tenant, order_req_id)


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
            **api_answers.order_list(page, _orders()),
        }

    return _polls().answer(state, beside=lambda: console_answers.samples(_samples(), query["after"]))


@blueprint.get("/console/data/order")
@for_scope(Scope.OPERATE)
def order() -> Response:
    """Everything about one order, and the entries of its timeline above ``after``."""
    query = load_query(_ORDER_QUERY)
    ref = _ref(query["id"])
    order = _orders().get(ref)
    version = (order.token, order.state, order.head, order.unsent, order.updated_ms, _orders().stream_view(order))

    def state() -> dict[str, Any]:
        return {"order": api_answers.order(_orders().details(ref)), "head": order.head}

    def beside() -> dict[str, Any]:
        entries = _orders().events(ref, after=query["after"], limit=schemas.MAX_ENTRIES)
        return answers.timeline(ref.key, entries, query["after"])

    return _polls().answer(state, beside=beside, version=version)


# ---- what pages do


@blueprint.post("/console/do/followup")
@for_scope(Scope.OPERATE)
def follow_up() -> dict[str, Any]:
    """Keep a note and relay it; the page names it, so that pressing the button again has no second effect."""
    data = load_body(_FOLLOW_UP)
    note = note_of(data, data.get("follow_up_id"))
    _orders().follow_up(note)
    _polls().forget()
    return {"message": f"The follow-up {note.follow_up_id} is kept and on its way."}


@blueprint.post("/console/do/complete")
@for_scope(Scope.OPERATE)
def complete() -> dict[str, Any]:
    """Ask for the order's end."""
    return _close(CloseKind.COMPLETE)


@blueprint.post("/console/do/cancel")
@for_scope(Scope.OPERATE)
def cancel() -> dict[str, Any]:
    """Ask for the order's end, as a cancellation."""
    return _close(CloseKind.CANCEL)


def _close(kind: CloseKind) -> dict[str, Any]:
    data = load_body(_CLOSE)
    order = _orders().close(_ref(data["order_req_id"]), kind, data["reason"])
    _polls().forget()
    return {"message": "The order is being closed." if order.is_unfinished else f"The order is {order.state}."}
