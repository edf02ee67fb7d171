"""Flask without what these services never use, and pay for on every request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from flask import Flask, Request, Response
from flask.json.provider import DefaultJSONProvider
from werkzeug.routing import MapAdapter


class _FastJson(DefaultJSONProvider):
    """Answers through orjson; what else is turned into JSON goes the usual way."""

    def response(self, *args: Any, **kwargs: Any) -> Response:
        """A response with the value as its body."""
        return Response(orjson.dumps(self._prepare_response_obj(args, kwargs)) + b"\n", mimetype="application/json")


class LeanFlask(Flask):
    """Flask for synchronous views that are matched by their path alone, whatever the host is called."""

    json_provider_class = _FastJson

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
