"""The Flask app that both services start from: request ids, headers, problem documents and the common resources."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from flask import Flask

from service_kit.access.opening import Access
from service_kit.health import Health
from service_kit.logs import bind_log_context, get_logger, unbind_log_context
from service_kit.measures import Histogram
from service_kit.metrics import Metrics
from service_kit.origin import REQUEST_ID, Origin, read_traceparent
from service_kit.tracing import Span, SpanKind, SpanSink, begin_trace, reset_origin, set_origin
from service_kit.web.audited import Auditor
from service_kit.web.callers import client_address
from service_kit.web.common import CommonResources, create_common_blueprint
from service_kit.web.documentation import create_documentation_blueprint
from service_kit.web.guard import Guard
from service_kit.web.json_body import MAX_BODY_BYTES
from service_kit.web.lean_flask import LeanFlask
from service_kit.web.meter import Meter
from service_kit.web.problems import REQUEST_ID_KEY, register_problem_handlers

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

_log = get_logger(__name__)
#: How a request counts that the app did not answer: what is raised past Flask is answered by the server.
_NO_ANSWER = ("none", "none", "5xx")
#: Where a view says in the WSGI environment what the log shows in the place of a path that is a secret.
LOGGED_PATH_KEY = "order_communicator.logged_path"


def create_base_app(
    import_name: str,
    *,
    health: Health,
    title: str = "Order communicator",
    version: str = "1",
    metrics: Metrics | None = None,
    spans: SpanSink | None = None,
    max_body_bytes: int = MAX_BODY_BYTES,
    access: Access | None = None,
    meter: Meter | None = None,
) -> Flask:
    """An app with everything that is the same in both services; it starts nothing.

    ``access`` may make it need keys, ``meter`` may limit how often who asks.
    """
    app = LeanFlask(import_name, static_folder=None)
    if access is not None:
        app.extensions |= {"access_store": access.store, "keyring": access.keyring}
        app.extensions |= {"sessions": access.sessions if access.is_needed else None, "audit": access.audit}
        app.guard = Guard(access.keyring, access.sessions) if access.is_needed else None
        app.auditor = Auditor(access.audit)
    app.meter = meter if meter is not None and meter.is_on else None
    app.config["MAX_CONTENT_LENGTH"] = max_body_bytes
    # There is one way to write a URL: a redirect to it would repeat what the caller wrote.
    app.url_map.merge_slashes = False
    app.url_map.strict_slashes = False
    register_problem_handlers(app)
    app.register_blueprint(create_common_blueprint(CommonResources(health, metrics)))
    app.register_blueprint(create_documentation_blueprint(title, version))
    # Failures begin at zero, so that the first one is an increase.
    times = Histogram("method", "route", "status", known=[_NO_ANSWER])
    if metrics is not None:
        app.extensions["metrics"] = metrics
        metrics.histogram("http_request_duration_seconds", "Time of each request, by route and class of status.", times)
    app.wsgi_app = _Envelope(app.wsgi_app, times, spans)  # type: ignore[method-assign] # as Flask's documentation wraps
    return app


class _Envelope:
    """What surrounds every request: its origin, the headers that every answer has, a line in the log, and its time.

    It wraps the WSGI app, because hooks of Flask cost ten times as much on each request.
    """

    def __init__(self, wsgi_app: WSGIApplication, times: Histogram, spans: SpanSink | None) -> None:
        self._wsgi_app = wsgi_app
        self._times = times
        self._spans = spans
        #: Of traces that begin here: whether their spans are told of.
        self._flags = "00" if spans is None else "01"

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        begun_s = time.perf_counter()
        request_id = environ.get("HTTP_X_REQUEST_ID", "")
        if request_id and not REQUEST_ID.fullmatch(request_id):
            request_id = ""
        origin = begin_trace(environ.get("HTTP_TRACEPARENT"), request_id, self._flags)
        environ[REQUEST_ID_KEY] = request_id = origin.request_id
        place = _NO_ANSWER

        def start(status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:
            nonlocal place
            place = _place_of(environ, status)
            # An answer is the state of this moment; a view that knows better says so itself.
            if "cache-control" not in {name.lower() for name, _ in headers}:
                headers.append(("Cache-Control", "no-store"))
            headers += [("X-Request-ID", request_id), ("X-Content-Type-Options", "nosniff")]
            if _log.is_enabled_for(logging.DEBUG):
                took_ms = round((time.perf_counter() - begun_s) * 1000, 2)
                path = environ.get(LOGGED_PATH_KEY, environ["PATH_INFO"])
                line = f"{environ['REQUEST_METHOD']} {path} {status}"
                _log.debug(line, action="http.request", took_ms=took_ms, client=client_address(environ))
            return start_response(status, headers, exc_info)

        bound = bind_log_context(request_id=request_id, trace_id=origin.trace_id)
        token = set_origin(origin)
        try:
            return self._wsgi_app(environ, start)
        finally:
            reset_origin(token)
            unbind_log_context(bound)
            took_s = time.perf_counter() - begun_s
            self._times.observe(took_s, *place)
            if self._spans is not None:
                self._spans.record(_span_of(origin, environ.get("HTTP_TRACEPARENT", ""), place, took_s))


def _place_of(environ: WSGIEnvironment, status: str) -> tuple[str, str, str]:
    """Method, route and class of the status; a caller who asks for what there is not cannot make up new ones."""
    # Only while the app answers: Flask takes its request out of the environment at the end.
    request = environ.get("werkzeug.request")
    rule = None if request is None else request.url_rule
    method, route = ("none", "none") if rule is None else (environ["REQUEST_METHOD"], rule.rule)
    return method, route, f"{status[0]}xx"


def _span_of(origin: Origin, header: str, place: tuple[str, str, str], took_s: float) -> Span:
    method, route, status = place
    parent = Origin(read_traceparent(header) or "")
    ended_ns = time.time_ns()
    return Span(
        name=f"{method} {route}",
        kind=SpanKind.SERVER,
        origin=origin,
        parent_id=parent.span_id,
        begun_ns=ended_ns - int(took_s * 1e9),
        ended_ns=ended_ns,
        attributes={"http.request.method": method, "http.route": route, "request_id": origin.request_id},
        failure=status if status == "5xx" else None,
    )
