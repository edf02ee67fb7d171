"""The reply page: plain HTML that works without JavaScript, and changes nothing until a button is pressed.

Programs that look at mail open links, too, so a GET has no effect. Every answer is a page, errors as well, because a
person reads it; and no answer lets the link out of the browser.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any, cast

from flask import Blueprint, Response, current_app, g, redirect, render_template, request
from marshmallow import Schema, fields, validate
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge, UnsupportedMediaType
from werkzeug.wrappers import Response as BaseResponse

from processor_app.delivery.details import details_of
from processor_app.domain import Answer, OrderNotFound
from processor_app.phrases import FALLBACK, LANGUAGES
from processor_app.replies.desk import MAX_MESSAGE, MAX_MESSAGES, Case, Fault, Post, ReplyDesk
from processor_app.replies.links import LinkExpired, LinkInvalid
from service_kit.errors import Unavailable
from service_kit.logs import get_logger
from service_kit.web.app import LOGGED_PATH_KEY
from service_kit.web.openapi import operation

blueprint = Blueprint("replies", __name__, url_prefix="/reply")

#: What went wrong, as a status and the phrase that says it.
_ERRORS: Mapping[type[Exception], tuple[int, str]] = {
    LinkInvalid: (400, "invalid"),
    OrderNotFound: (404, "unknown"),
    LinkExpired: (410, "expired"),
    RequestEntityTooLarge: (413, "too_large"),
    HTTPException: (400, "invalid"),
    Unavailable: (503, "unavailable"),
    Exception: (500, "unavailable"),
}
_CSP = "default-src 'none'; style-src 'nonce-{nonce}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
_HTML = "text/html"
_PAGES: Mapping[int, str] = {
    400: "The link is cut off or changed",
    404: "The order is not known",
    409: "The order has ended, or the link is used up",
    410: "The link's time is over",
    500: "The page failed",
    503: "The answer cannot be taken just now",
}

_log = get_logger(__name__)


class ReplyFormSchema(Schema):
    """What the form of the reply page sends."""

    answer = fields.String(required=True, validate=validate.OneOf([str(answer) for answer in Answer]))
    message = fields.String(metadata={"maxLength": MAX_MESSAGE})
    number = fields.String(metadata={"description": "Which message of the seller this is; the form fills it in."})


def _desk() -> ReplyDesk:
    return cast("ReplyDesk", current_app.extensions["reply_desk"])


@blueprint.before_request
def _hide_link() -> None:
    """Keep the link out of the log: whoever reads it there could answer."""
    request.environ[LOGGED_PATH_KEY] = f"{blueprint.url_prefix}/***"


@blueprint.get("/", defaults={"token": ""}, endpoint="cut_off")
@blueprint.get("/<path:token>")
@operation(summary="Show what a reply link is for", answer_type=_HTML, tags=["reply page"], answers=_PAGES, public=True)
def show(token: str) -> Response:
    """Answer the page of the case, with the form while it can be answered."""
    return _page(_desk().open(token), is_sent="sent" in request.args)


@blueprint.post("/<path:token>")
@operation(
    summary="Answer by a reply link",
    answer_type=_HTML,
    status=303,
    tags=["reply page"],
    form=ReplyFormSchema,
    answers={**_PAGES, 413: "The form is too large", 422: "The message is empty, too long or has control characters"},
    public=True,
)
def answer(token: str) -> BaseResponse:
    """Take the answer and lead back to the page; posting again has no second effect."""
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise UnsupportedMediaType
    desk = _desk()
    form = request.form
    post = Post(form.get("answer", ""), form.get("message", ""), form.get("number", ""))
    fault = desk.take(desk.open(token), post)
    if fault is not None:
        return _page(desk.open(token), fault=fault, draft=post.message)
    # Relative, so that it also holds behind a proxy that adds a path.
    return redirect("?sent", code=303)


def _page(case: Case, *, is_sent: bool = False, fault: Fault | None = None, draft: str = "") -> Response:
    """The page that fits how the case stands."""
    if case.final is not None and is_sent:
        return _rendered(200, "reply/answered.html", case=case, is_sent=True)
    if case.is_over:
        return _rendered(409, "reply/over.html", case=case)
    if case.final is not None:
        return _rendered(409, "reply/answered.html", case=case, is_sent=False)
    status = 200 if fault is None else 409 if fault is Fault.CROSSED else 422
    details = details_of(case.order.details if case.note is None else None)
    return _rendered(
        status, "reply/form.html", case=case, details=details, is_sent=is_sent, fault=fault, draft=draft[:MAX_MESSAGE]
    )


def _rendered(status: int, template: str, **context: Any) -> Response:
    language = request.accept_languages.best_match(LANGUAGES, FALLBACK)
    g.nonce = secrets.token_urlsafe(16)
    page = render_template(
        template,
        nonce=g.nonce,
        language=language,
        t=LANGUAGES[language],
        max_messages=MAX_MESSAGES,
        max_message=MAX_MESSAGE,
        **context,
    )
    return Response(page, status=status, content_type="text/html; charset=utf-8")


@blueprint.errorhandler(Exception)
def _answer_error(error: Exception) -> Response:
    status, phrase = next(_ERRORS[cls] for cls in type(error).__mro__ if cls in _ERRORS)
    if status >= 500:
        _log.error("A reply page failed", action="reply.failed", exc_info=error)
    return _rendered(status, "reply/error.html", phrase=phrase)


@blueprint.after_request
def _protect(response: BaseResponse) -> BaseResponse:
    response.headers["Content-Security-Policy"] = _CSP.format(nonce=g.get("nonce", ""))
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers["X-Frame-Options"] = "DENY"
    response.headers["X-Robots-Tag"] = "noindex, nofollow"
    response.headers["Cache-Control"] = "no-store"
    return response
