"""The Flask app that both services start from: request ids, headers, problem documents and the common resources."""

from __future__ import annotations

import itertools
import logging
import re
import secrets
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from flask import Flask

from service_kit.health import Health
from service_kit.logs import bind_log_context, get_logger, unbind_log_context
from service_kit.metrics import Metrics
from service_kit.web.common import CommonResources, create_common_blueprint
from service_kit.web.json_body import MAX_BODY_BYTES
from service_kit.web.lean_flask import LeanFlask
from service_kit.web.problems import REQUEST_ID_KEY, register_problem_handlers

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_log = get_logger(__name__)
#: Where a view says in the WSGI environment what the log shows in the place of a path that is a secret.
LOGGED_PATH_KEY = "order_communicator.logged_path"
_SANE_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
# A request's id has to be unlike all others, not hard to guess; drawing each costs a call of the system.
_PROCESS = secrets.token_hex(8)
_request_numbers = itertools.count(1)


def create_base_app(
    import_name: str,
    *,
    health: Health,
    title: str = "Order communicator",
    version: str = "1",
    metrics: Metrics | None = None,
    max_body_bytes: int = MAX_BODY_BYTES,
) -> Flask:
    """An app with everything that is the same in both services; it starts nothing."""
    app = LeanFlask(import_name, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = max_body_bytes
    # There is one way to write a URL: a redirect to it would repeat what the caller wrote.
    app.url_map.merge_slashes = False
    app.url_map.strict_slashes = False
    register_problem_handlers(app)
    app.register_blueprint(create_common_blueprint(CommonResources(health, title, version, metrics)))
    app.wsgi_app = _Envelope(app.wsgi_app)  # type: ignore[method-assign] # as Flask's documentation wraps an app
    return app


class _Envelope:
    """What surrounds every request: its id, the headers that every answer has, and a line in the log.

    It wraps the WSGI app, because hooks of Flask cost ten times as much on each request.
    """

    def __init__(self, wsgi_app: WSGIApplication) -> None:
        self._wsgi_app = wsgi_app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        begun_s = time.perf_counter()
        request_id = environ.get("HTTP_X_REQUEST_ID", "")
        if not _SANE_REQUEST_ID.fullmatch(request_id):
            request_id = f"{_PROCESS}{next(_request_numbers):016x}"
        environ[REQUEST_ID_KEY] = request_id

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            # An answer is the state of this moment; a view that knows better says so itself.
            if "cache-control" not in {name.lower() for name, _ in headers}:
                headers.append(("Cache-Control", "no-store"))
            headers += [("X-Request-ID", request_id), ("X-Content-Type-Options", "nosniff")]
            if _log.is_enabled_for(logging.DEBUG):
                took_ms = round((time.perf_counter() - begun_s) * 1000, 2)
                path = environ.get(LOGGED_PATH_KEY, environ["PATH_INFO"])
                _log.debug(f"{environ['REQUEST_METHOD']} {path} {status}", action="http.request", took_ms=took_ms)
            return start_response(status, headers, exc_info)

        bound = bind_log_context(request_id=request_id)
        try:
            return self._wsgi_app(environ, start)
        finally:
            unbind_log_context(bound)
