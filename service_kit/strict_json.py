"""Reads JSON strictly: what two readers could understand differently is refused."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn, cast

from service_kit.errors import MalformedInput

MAX_DEPTH = 16

_MAX_INTEGER = 2**63 - 1
_MIN_INTEGER = -(2**63)
_MAX_INTEGER_DIGITS = 20


def parse_json_object(raw: bytes) -> dict[str, Any]:
    """The JSON object that these bytes hold; raises `MalformedInput`, whose detail repeats nothing of them."""
    try:
        document = _decoder.decode(raw.decode("utf-8"))
    except UnicodeDecodeError:
        raise MalformedInput("The text is not valid UTF-8.") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise MalformedInput(f"The text is not valid JSON ({place}).") from None
    except RecursionError:
        raise _too_deep() from None
    if not isinstance(document, dict):
        raise MalformedInput("The JSON document is not an object.")
    # Counting brackets is cheap, and nearly every document has too few of them to be too deep.
    if raw.count(b"{") + raw.count(b"[") > MAX_DEPTH and _is_deeper_than(document, MAX_DEPTH):
        raise _too_deep()
    if b"\\u" in raw:
        _refuse_lone_surrogates(document)
    return cast("dict[str, Any]", document)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) != len(pairs):
        raise MalformedInput("An object in the JSON document has the same member twice.")
    return document


def _integer(digits: str) -> int:
    # The length first: turning very many digits into a number is slow.
    if len(digits) <= _MAX_INTEGER_DIGITS:
        number = int(digits)
        if _MIN_INTEGER <= number <= _MAX_INTEGER:
            return number
    raise MalformedInput("A number in the JSON document does not fit into 64 bits.")


def _float(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        raise MalformedInput("A number in the JSON document is too large.")
    return number


def _constant(_name: str) -> NoReturn:
    raise MalformedInput("The text has NaN or Infinity, which JSON does not know.")


# Made once: json.loads() with hooks builds a decoder for each call.
_decoder = json.JSONDecoder(object_pairs_hook=_object, parse_int=_integer, parse_float=_float, parse_constant=_constant)


def _too_deep() -> MalformedInput:
    return MalformedInput(f"The JSON document is nested deeper than {MAX_DEPTH} levels.")


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
        raise MalformedInput("A text in the JSON document has an escape that is no character.") from None
