"""The JSON object of a request."""

from __future__ import annotations

from typing import Any

from flask import Request
from werkzeug.http import parse_options_header

from service_kit.errors import MalformedInput
from service_kit.strict_json import parse_json_object
from service_kit.web.problems import UnsupportedMediaType

MAX_BODY_BYTES = 65_536

_PLAIN_TYPES = frozenset({"application/json", "application/json; charset=utf-8", "application/json;charset=utf-8"})


def read_json_object(request: Request) -> dict[str, Any]:
    """The JSON object in the body of a request; raises `UnsupportedMediaType` or `MalformedInput`.

    The app's MAX_CONTENT_LENGTH bounds the body: Flask refuses to read a larger one (413).
    """
    environ = request.environ
    _require_json(environ.get("CONTENT_TYPE"))
    if environ.get("HTTP_CONTENT_ENCODING", "identity").lower() != "identity":
        raise UnsupportedMediaType("The body must be sent as it is, without a content coding.")
    length = environ.get("CONTENT_LENGTH", "")
    if length.isascii() and length.isdigit() and int(length) <= (request.max_content_length or 0):
        raw = environ["wsgi.input"].read(int(length))
    else:  # Flask refuses it, or finds its end
        raw = request.get_data(cache=False)
    if not raw:
        raise MalformedInput("The body is empty; a JSON object is expected.")
    return parse_json_object(raw)


def _require_json(content_type: str | None) -> None:
    if content_type in _PLAIN_TYPES:
        return
    media_type, options = parse_options_header(content_type)
    if media_type.lower() != "application/json":
        raise UnsupportedMediaType("The body must be sent as application/json.")
    if options.get("charset", "utf-8").lower() != "utf-8" or (content_type or "").lower().count("charset") > 1:
        raise UnsupportedMediaType("The body must be sent in UTF-8.")
