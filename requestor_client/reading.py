"""Reads JSON into the dataclasses of `requestor_client.answers`, by their annotations.

Unknown members are passed over, because newer releases add some; a missing one that cannot be None, or one of another
type, is an error.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")


def read(cls: type[T], document: Any, place: str = "answer") -> T:
    """An instance from a JSON value. Raises `ValueError` when it does not fit."""
    members = _checked(document, dict, place)
    values = {}
    described: Any = cls  # to mypy, a generic class is not hashable
    for name, hint in _hints(described).items():
        if name not in members and get_origin(hint) is not types.UnionType:
            raise ValueError(f"{place} has no {name}")
        values[name] = _value(hint, members.get(name), f"{place}.{name}")
    return cls(**values)


@cache
def _hints(cls: Any) -> Mapping[str, Any]:
    return get_type_hints(cls)


def _value(wanted: Any, value: Any, place: str) -> Any:
    """A value as an annotation wants it."""
    origin, arguments = get_origin(wanted), get_args(wanted)
    if origin is types.UnionType:  # our unions are "… | None"
        return None if value is None else _value(arguments[0], value, place)
    if origin is tuple:
        items = enumerate(_checked(value, list, place))
        return tuple(_value(arguments[0], item, f"{place}[{index}]") for index, item in items)
    if origin is dict:
        members = _checked(value, dict, place).items()
        return {name: _value(arguments[1], item, f"{place}.{name}") for name, item in members}
    if dataclasses.is_dataclass(wanted):
        return read(wanted, value, place)  # type: ignore[arg-type] # a class, as annotations are
    if wanted is datetime:
        return datetime.fromisoformat(_checked(value, str, place))
    return value if wanted is Any else _checked(value, wanted, place)


def _checked(value: Any, kind: type[Any], place: str) -> Any:
    # A bool is an int to Python, but not to JSON.
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ValueError(f"{place} is no {kind.__name__}")
    return value
