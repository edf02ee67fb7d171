"""Flask without what these services never use, and pay for on every request."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

import orjson
from flask import Flask, Request, Response
from flask.globals import request_ctx
from flask.json.provider import DefaultJSONProvider
from werkzeug.routing import MapAdapter

from service_kit.access.model import ANYBODY
from service_kit.web.audited import Auditor
from service_kit.web.guard import READING, Guard, act_for

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment
    from flask.typing import ResponseReturnValue


class _JsonResponse(Response):
    """A response that is one piece of JSON: it goes to the server as it is."""

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Werkzeug's own looks for what a JSON answer has not: a location, a stream, something to close."""
        if environ["REQUEST_METHOD"] == "HEAD" or self.status_code < HTTPStatus.OK or "Location" in self.headers:
            return super().__call__(environ, start_response)
        start_response(self.status, list(self.headers))
        return [self.get_data()]


class _FastJson(DefaultJSONProvider):
    """Answers through orjson; what else is turned into JSON goes the usual way."""

    def response(self, *args: Any, **kwargs: Any) -> Response:
        """A response with the value as its body."""
        body = orjson.dumps(self._prepare_response_obj(args, kwargs)) + b"\n"
        return _JsonResponse(body, content_type="application/json")


class LeanFlask(Flask):
    """Flask for synchronous views that are matched by their path alone, whatever the host is called."""

    json_provider_class = _FastJson
    #: Looks at the key of every request; without one, anybody may do anything.
    guard: Guard | None = None
    #: Keeps what is done here in the audit log.
    auditor: Auditor | None = None

    def preprocess_request(self) -> ResponseReturnValue | None:
        """Find out whom the request acts for, before anything else is done for it."""
        request = request_ctx.request
        if self.guard is None:
            act_for(request, ANYBODY)
        else:
            self.guard.admit(request, self.view_functions)
        return super().preprocess_request()

    def process_response(self, response: Response) -> Response:
        """Finish an answer, errors too, and note what was done."""
        response = super().process_response(response)
        if self.auditor is not None and request_ctx.request.method not in READING:
            self.auditor.note(request_ctx.request, response, self.view_functions)
        return response

    def create_url_adapter(self, request: Request | None) -> MapAdapter | None:
        """Match by method and path; Flask would take the host's name apart first."""
        if request is None:
            return super().create_url_adapter(None)
        return MapAdapter(
            self.url_map,
            server_name="",
            script_name=request.root_path,
            subdomain="",
            url_scheme=request.scheme,
            path_info=request.path,
            default_method=request.method,
        )

    def ensure_sync(self, func: Callable[..., Any]) -> Callable[..., Any]:
        """The function itself: Flask would look at each call whether it is a coroutine."""
        return func
