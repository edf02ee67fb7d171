"""Sign in with a key, and out again. Where no key is needed, there is nothing of it.

A session is a signed cookie (see `Sessions`) that the guard looks at. These pages work without a script, and what is
typed in is never repeated.
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import parse_qsl, urlencode

from flask import Blueprint, current_app, make_response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from service_kit.access.model import Scope
from service_kit.access.sessions import Session, SessionOver, Sessions, SignInRefused
from service_kit.web.callers import is_by_https
from service_kit.web.guard import (
    CONSOLE,
    CSRF_FIELD,
    act_for,
    current_session,
    for_anybody,
    for_scope,
    for_strangers,
    session_cookie_name,
)
from service_kit.web.problems import problem_of
from service_kit.web.schemas import BODY_KEY

_SIGN_IN = f"{CONSOLE}.sign_in_page"
_HOME = f"{CONSOLE}.home"
#: What a token says of itself that is no secret.
_KEY_ID = re.compile(r"oc_([a-z0-9]{12})_")


def add_sign_in(blueprint: Blueprint) -> None:
    """Add the sign-in to an operator page."""
    blueprint.add_url_rule("/console/sign-in", view_func=sign_in_page)
    blueprint.add_url_rule("/console/sign-in", view_func=sign_in, methods=["POST"])
    blueprint.add_url_rule("/console/sign-out", view_func=sign_out, methods=["POST"])
    blueprint.register_error_handler(SessionOver, _lead_to_sign_in)
    blueprint.register_error_handler(SignInRefused, _refuse_sign_in)
    blueprint.context_processor(_who_is_signed_in)
    blueprint.after_request(_renew)


@for_anybody
def sign_in_page() -> Response:
    """The form, or the page itself where nobody needs to sign in."""
    landing = _landing_of(request.args.get("next", ""))
    sessions = _sessions()
    if sessions is None or _own_session(sessions) is not None:
        return redirect(landing, HTTPStatus.SEE_OTHER)
    return _form(landing, HTTPStatus.OK)


@for_strangers
def sign_in() -> Response:
    """Begin a session with the key of the form, and lead to the page that was wanted."""
    landing = _landing_of(request.form.get("next", ""))
    sessions = _sessions()
    if sessions is None:
        return redirect(landing, HTTPStatus.SEE_OTHER)
    token = request.form.get("key", "").strip()
    shown = _KEY_ID.match(token)
    request.environ[BODY_KEY] = {"key_id": shown[1] if shown else ""}
    session, principal = sessions.sign_in(token)
    act_for(request, principal)
    # The session before this one is nobody's now, and its cookie is replaced.
    if (former := _own_session(sessions)) is not None:
        sessions.end(former)
    response = redirect(landing, HTTPStatus.SEE_OTHER)
    _set_cookie(response, sessions, session)
    return response


@for_scope(Scope.OPERATE)
def sign_out() -> Response:
    """End the session."""
    sessions, session = _sessions(), current_session()
    response = redirect(url_for(_SIGN_IN), HTTPStatus.SEE_OTHER)
    if sessions is not None and session is not None:
        sessions.end(session)
        _delete_cookie(response, sessions)
    return response


def _lead_to_sign_in(error: SessionOver) -> Response:
    """A page leads to the sign-in and comes back from there; who is no person hears of the problem."""
    is_page = request.path in _page_paths()
    if is_page:
        query = request.query_string.decode("latin-1")
        wanted = f"{request.path}?{query}" if query else request.path
        place = url_for(_SIGN_IN) if wanted == "/" else url_for(_SIGN_IN, next=wanted)
        response = redirect(place, HTTPStatus.SEE_OTHER)
    elif request.endpoint == f"{CONSOLE}.sign_out":
        response = redirect(url_for(_SIGN_IN), HTTPStatus.SEE_OTHER)
    else:
        response = problem_of(error)
    sessions = _sessions()
    if sessions is not None and session_cookie_name(sessions, request.environ) in request.cookies:
        _delete_cookie(response, sessions)
    return response


def _refuse_sign_in(error: SignInRefused) -> Response:
    response = _form(_landing_of(request.form.get("next", "")), HTTPStatus.UNAUTHORIZED, fault=error.title)
    response.headers["WWW-Authenticate"] = error.challenge
    return response


def _form(landing: str, status: HTTPStatus, *, fault: str = "") -> Response:
    # A browser keeps the cookie back from a link on another site: then one more step is all it takes.
    is_from_elsewhere = request.headers.get("Sec-Fetch-Site") == "cross-site"
    page = render_template("console/sign_in.html", landing=landing, fault=fault, is_from_elsewhere=is_from_elsewhere)
    return make_response(page, status)


def _landing_of(wanted: str) -> str:
    """Where a sign-in leads: to one of our own pages, known by its exact path, and else to the first one."""
    path, _, query = wanted.partition("?")
    if path not in _page_paths():
        return url_for(_HOME)
    return request.root_path + path + (f"?{urlencode(parse_qsl(query))}" if query else "")


def _page_paths() -> frozenset[str]:
    """The paths of the pages: what the console answers to a GET that is neither data nor a file nor the sign-in."""
    return frozenset(
        rule.rule
        for rule in current_app.url_map.iter_rules()
        if rule.endpoint.partition(".")[0] == CONSOLE
        and "GET" in (rule.methods or ())
        and not rule.arguments
        and not rule.rule.startswith("/console/data/")
        and rule.endpoint != _SIGN_IN
    )


# ---- cookies


def _sessions() -> Sessions | None:
    """The sessions, where there are any."""
    return cast("Sessions | None", current_app.extensions.get("sessions"))


def _own_session(sessions: Sessions) -> Session | None:
    """The good session of whoever asks, where none is needed."""
    try:
        return sessions.read(request.cookies.get(session_cookie_name(sessions, request.environ), ""))[0]
    except SessionOver:
        return None


def _set_cookie(response: Response, sessions: Sessions, session: Session) -> None:
    name, is_secure = session_cookie_name(sessions, request.environ), is_by_https(request.environ)
    response.set_cookie(name, sessions.cookie_of(session), path="/", secure=is_secure, httponly=True, samesite="Strict")


def _delete_cookie(response: Response, sessions: Sessions) -> None:
    name, is_secure = session_cookie_name(sessions, request.environ), is_by_https(request.environ)
    response.delete_cookie(name, path="/", secure=is_secure, httponly=True, samesite="Strict")


def _renew(response: Response) -> Response:
    """Note in the cookie, now and then, that the session is in use."""
    sessions, session = _sessions(), current_session()
    if sessions is not None and session is not None and not response.headers.get("Set-Cookie"):
        renewed = sessions.renewed(session)
        if renewed is not None:
            _set_cookie(response, sessions, renewed)
    return response


def _who_is_signed_in() -> dict[str, Any]:
    """For the templates: the key's name and the token of the session, or None."""
    sessions, session = _sessions(), current_session()
    if sessions is None or session is None:
        return {"signed_in": None}
    token = sessions.csrf_token_of(session)
    return {"signed_in": {"name": sessions.name_of(session), "csrf_field": CSRF_FIELD, "csrf_token": token}}
