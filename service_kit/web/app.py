"""The Flask app that both services start from: request ids, problem documents, headers and the common resources."""

from __future__ import annotations

import re
import time
from uuid import uuid4

from flask import Flask, Response, g, request
from flask.json.provider import DefaultJSONProvider

from service_kit.health import Health
from service_kit.logs import bind_log_context, get_logger, unbind_log_context
from service_kit.web.common import CommonResources, create_common_blueprint
from service_kit.web.json_body import MAX_BODY_BYTES
from service_kit.web.problems import register_problem_handlers

REQUEST_ID_HEADER = "X-Request-ID"

_log = get_logger(__name__)
_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def create_base_app(
    import_name: str,
    *,
    health: Health,
    title: str = "Order communicator",
    version: str = "1",
    max_body_bytes: int = MAX_BODY_BYTES,
) -> Flask:
    """An app with everything that is the same in both services; it starts nothing."""
    app = Flask(import_name, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = max_body_bytes
    # A redirect to the "right" URL would repeat the caller's; there is one way to write each.
    app.url_map.merge_slashes = False
    app.url_map.strict_slashes = False
    if isinstance(app.json, DefaultJSONProvider):
        app.json.sort_keys = False
        app.json.compact = True
        app.json.ensure_ascii = False
    register_problem_handlers(app)
    app.before_request(_begin_request)
    app.after_request(_complete_response)
    app.teardown_request(_end_request)
    app.register_blueprint(create_common_blueprint(CommonResources(health, title, version)))
    return app


def _begin_request() -> None:
    sent = request.headers.get(REQUEST_ID_HEADER, "")
    g.request_id = sent if _SANE_REQUEST_ID.fullmatch(sent) else uuid4().hex
    g.begun_s = time.perf_counter()
    bind_log_context(request_id=g.request_id)


def _complete_response(response: Response) -> Response:
    headers = response.headers
    headers["X-Request-ID"] = g.request_id
    headers["X-Content-Type-Options"] = "nosniff"
    # Answers are the state of this moment; a view that knows better says so itself.
    headers.setdefault("Cache-Control", "no-store")
    took_ms = round((time.perf_counter() - g.begun_s) * 1000, 2)
    _log.debug("Request", action="http.request", method=request.method, path=request.path,
               status=response.status_code, took_ms=took_ms)  # fmt: skip
    return response


def _end_request(_error: BaseException | None) -> None:
    unbind_log_context("request_id")
