"""An order's details, an object of any shape, as rows that a person can read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, NamedTuple

from service_kit.rules import one_line

MAX_ROWS = 40
_MAX_VALUE = 500


class DetailRow(NamedTuple):
    """A label and a text."""

    label: str
    text: str


class Details(NamedTuple):
    """The rows that are shown, and whether there are more."""

    rows: tuple[DetailRow, ...]
    has_more: bool


def details_of(details: Mapping[str, Any] | None) -> Details:
    """The first rows of an order's details; nested values have the path as their label."""
    rows = tuple(islice(_rows((), details or {}), MAX_ROWS + 1))
    return Details(rows[:MAX_ROWS], len(rows) > MAX_ROWS)


def _rows(path: tuple[str, ...], value: Any) -> Iterator[DetailRow]:
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _rows((*path, one_line(str(key).replace("_", " "))), inner)
    elif isinstance(value, list | tuple) and any(isinstance(item, Mapping | list | tuple) for item in value):
        for number, item in enumerate(value, start=1):
            yield from _rows((*path, str(number)), item)
    else:
        yield DetailRow(" › ".join(path), _text(value))


def _text(value: Any) -> str:
    match value:
        case None:
            return "–"
        case bool():
            return "✓" if value else "✗"
        case list() | tuple():
            text = ", ".join(_text(item) for item in value) or "–"
        case _:
            text = one_line(str(value))
    return text if len(text) <= _MAX_VALUE else text[:_MAX_VALUE] + " …"
