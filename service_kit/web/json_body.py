"""Reads the JSON object of a request, strictly: what two readers could understand differently is refused.

No detail repeats what was sent.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn, cast

from flask import Request
from werkzeug.http import parse_options_header

from service_kit.errors import MalformedInput
from service_kit.web.problems import UnsupportedMediaType

MAX_BODY_BYTES = 65_536
MAX_DEPTH = 16

_MAX_INTEGER = 2**63 - 1
_MIN_INTEGER = -(2**63)
_MAX_INTEGER_DIGITS = 20
_PLAIN_TYPES = frozenset({"application/json", "application/json; charset=utf-8", "application/json;charset=utf-8"})


def read_json_object(request: Request) -> dict[str, Any]:
    """The JSON object in the body of a request; raises `UnsupportedMediaType` or `MalformedInput`.

    The app's MAX_CONTENT_LENGTH bounds the body: Flask refuses to read a larger one (413).
    """
    _require_json(request.environ.get("CONTENT_TYPE"))
    return parse_json_object(request.get_data(cache=False))


def parse_json_object(raw: bytes) -> dict[str, Any]:
    """The JSON object that these bytes hold; raises `MalformedInput`."""
    if not raw:
        raise MalformedInput("The body is empty; a JSON object is expected.")
    try:
        document = _decoder.decode(raw.decode("utf-8"))
    except UnicodeDecodeError:
        raise MalformedInput("The body is not valid UTF-8.") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise MalformedInput(f"The body is not valid JSON ({place}).") from None
    except RecursionError:
        raise _too_deep() from None
    if not isinstance(document, dict):
        raise MalformedInput("The body must be a JSON object.")
    # Counting brackets is cheap, and nearly every body has too few of them to be too deep.
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH and _is_deeper_than(document, MAX_DEPTH):
        raise _too_deep()
    if b"\\u" in raw:
        _refuse_lone_surrogates(document)
    return cast("dict[str, Any]", document)


def _require_json(content_type: str | None) -> None:
    if content_type in _PLAIN_TYPES:
        return
    media_type, options = parse_options_header(content_type)
    if media_type.lower() != "application/json":
        raise UnsupportedMediaType("The body must be sent as application/json.")
    if options.get("charset", "utf-8").lower() != "utf-8":
        raise UnsupportedMediaType("The body must be sent in UTF-8.")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise MalformedInput("An object in the body has the same member twice.")
    return document


def _integer(digits: str) -> int:
    # The length first: turning very many digits into a number is slow.
    if len(digits) <= _MAX_INTEGER_DIGITS:
        number = int(digits)
        if _MIN_INTEGER <= number <= _MAX_INTEGER:
            return number
    raise MalformedInput("A number in the body does not fit into 64 bits.")


def _float(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise MalformedInput("A number in the body is too large.")
    return number


def _constant(_name: str) -> NoReturn:
    raise MalformedInput("The body has NaN or Infinity, which JSON does not know.")


# Made once: json.loads() with hooks builds a decoder for each call.
_decoder = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant)


def _too_deep() -> MalformedInput:
    return MalformedInput(f"The body is nested deeper than {MAX_DEPTH} levels.")


def _is_deeper_than(value: object, levels: int) -> bool:
    if isinstance(value, dict):
        children: Any = value.values()
    elif isinstance(value, list):
        children = value
    else:
        return False
    return levels == 0 or any(_is_deeper_than(child, levels - 1) for child in children)


def _refuse_lone_surrogates(document: dict[str, Any]) -> None:
    """Half of a UTF-16 pair is no character: it can be stored nowhere."""
    try:
        json.dumps(document, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise MalformedInput("A text in the body has an escape that is no character.") from None
