"""Schemas: what comes in, field by field, strictly; a text is a text and a number a number.

A view loads with a schema, calls one service method, and dumps::

    request_body = load_body(_INITIATE)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from typing import Any, cast

from flask import Request, request
from flask.globals import request_ctx
from marshmallow import INCLUDE, RAISE, Schema, ValidationError, fields, missing, validate, validates_schema

from service_kit.errors import FieldError, InvalidInput
from service_kit.rules import ID_PATTERN, ID_RULE, MAX_URL, TEXT_PATTERN, text_fault, url_fault
from service_kit.times import parse_rfc3339
from service_kit.web.json_body import read_json_object
from service_kit.web.problems import invalid_input, json_pointer

MAX_PAGE = 1000
MAX_CURSOR = 1024
#: Where the WSGI environment of a request holds its body as it was read, for the audit log.
BODY_KEY = "order_communicator.body"

_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,19}")


class StrictSchema(Schema):
    """A schema that refuses unknown fields; what holds between fields is said by `fault`, not by a hook."""

    class Meta:  # noqa: D106 - the options of the schema
        unknown = RAISE

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._has_further_hooks = self._hooks != StrictSchema._hooks

    def fault(self, data: Mapping[str, Any]) -> FieldError | None:  # noqa: ARG002 - for schemas with such a rule
        """What is wrong with fields that are good each by itself, or None."""
        return None

    @validates_schema(skip_on_field_errors=True)
    def _has_no_fault(self, data: Mapping[str, Any], **_: Any) -> None:
        if (found := self.fault(data)) is not None:
            raise ValidationError(found.message, found.pointer)

    def load(self, data: Any, **options: Any) -> Any:
        """The document as it is read. A good one is spared what marshmallow does to find each fault."""
        if type(data) is dict and not self._has_further_hooks and not any(options.values()):
            with suppress(ValidationError):
                return self._load_good(data)
        return super().load(data, **options)

    def _load_good(self, data: dict[str, Any]) -> dict[str, Any]:
        """Like `load`; raises a `ValidationError` that says nothing when there is any fault."""
        loaded: dict[str, Any] = {}
        known = 0
        for name, field in self.load_fields.items():
            if name in data:
                known += 1
                loaded[name] = field.deserialize(data[name], name, data)
            elif field.required:
                raise ValidationError("")
            elif (default := field.load_default) is not missing:
                loaded[name] = default() if callable(default) else default
        if known != len(data) or self.fault(loaded) is not None:
            raise ValidationError("")
        return loaded


class AnswerSchema(Schema):
    """What an answer holds, for its description; newer releases may add members, and clients must take them."""

    class Meta:  # noqa: D106 - the options of the schema
        unknown = INCLUDE


class CheckedText(fields.String):
    """A text with a rule: a function that answers what is wrong with it, or None."""

    def __init__(self, fault: Callable[[str], str | None], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._fault = fault

    def deserialize(
        self, value: Any, attr: str | None = None, data: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> Any:
        """The text. A good one, as nearly all are, is spared what marshmallow does to find a fault."""
        if type(value) is str and not self.validators and self._fault(value) is None:
            return value
        return super().deserialize(value, attr, data, **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> str:
        text = super()._deserialize(value, attr, data, **kwargs)
        fault = self._fault(text)
        if fault is not None:
            raise ValidationError(fault)
        return text


class TextField(CheckedText):
    """A free text without control characters, except line ends and tabs."""

    def __init__(self, max_length: int, *, min_length: int = 0, **kwargs: Any) -> None:
        def fault(text: str) -> str | None:
            if len(text) < min_length:
                return "must not be empty" if min_length == 1 else f"must be at least {min_length} characters long"
            return text_fault(text, max_length)

        shown: dict[str, Any] = {"maxLength": max_length, "pattern": TEXT_PATTERN}
        shown |= {"minLength": min_length} if min_length else {}
        super().__init__(fault, metadata=shown | kwargs.pop("metadata", {}), **kwargs)


class PatternField(CheckedText):
    """A text that matches a pattern as a whole; ``rule`` says so in words."""

    def __init__(self, pattern: re.Pattern[str], rule: str, **kwargs: Any) -> None:
        def fault(text: str) -> str | None:
            return None if pattern.fullmatch(text) else rule

        shown = {"pattern": f"^{pattern.pattern}$"}
        super().__init__(fault, metadata=shown | kwargs.pop("metadata", {}), **kwargs)


class IdField(PatternField):
    """An identifier that the caller chooses."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(ID_PATTERN, ID_RULE, **kwargs)


def _is_id(value: object) -> bool:
    return type(value) is str and ID_PATTERN.fullmatch(value) is not None


class IdListField(fields.List[str]):
    """A list of identifiers with a rule for the whole: a function that answers what is wrong with it, or None."""

    def __init__(self, fault: Callable[[list[str]], str | None], **kwargs: Any) -> None:
        def check(ids: list[str]) -> None:
            if (found := fault(ids)) is not None:
                raise ValidationError(found)

        shown = {"uniqueItems": True} | kwargs.pop("metadata", {})
        super().__init__(IdField(), validate=check, metadata=shown, **kwargs)
        self._list_fault = fault

    def deserialize(
        self, value: Any, attr: str | None = None, data: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> Any:
        """The list. A good one is spared what marshmallow does to find each fault."""
        if type(value) is list and all(map(_is_id, value)) and self._list_fault(value) is None:
            return value
        return super().deserialize(value, attr, data, **kwargs)


class HttpUrlField(CheckedText):
    """An http or https URL with a host and without user and password."""

    def __init__(self, **kwargs: Any) -> None:
        shown = {"maxLength": MAX_URL, "format": "uri"}
        super().__init__(url_fault, metadata=shown | kwargs.pop("metadata", {}), **kwargs)


class ChoiceField(CheckedText):
    """One text out of a few."""

    def __init__(self, choices: Iterable[str], **kwargs: Any) -> None:
        one_of = tuple(str(choice) for choice in choices)
        rule = f"Must be one of: {', '.join(one_of)}."

        def fault(text: str) -> str | None:
            return None if text in one_of else rule

        super().__init__(fault, metadata={"enum": list(one_of)} | kwargs.pop("metadata", {}), **kwargs)


class IntegerField(fields.Integer):
    """A whole number within both bounds; "5" and 5.0 are none."""

    def __init__(self, lowest: int, highest: int, **kwargs: Any) -> None:
        super().__init__(strict=True, validate=validate.Range(lowest, highest), **kwargs)


class BooleanField(fields.Boolean):
    """true or false; 1, "yes" and the like are neither."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> bool:
        if not isinstance(value, bool):
            raise self.make_error("invalid", input=value)
        return super()._deserialize(value, attr, data, **kwargs)


class QueryIntegerField(fields.Integer):
    """A whole number in a query string, within both bounds."""

    def __init__(self, lowest: int, highest: int, **kwargs: Any) -> None:
        super().__init__(validate=validate.Range(lowest, highest), **kwargs)

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> int:
        # int() alone would take " 5 ", "5_0" and the digits of other scripts.
        if not isinstance(value, str) or not _WHOLE_NUMBER.fullmatch(value):
            raise self.make_error("invalid", input=value)
        return super()._deserialize(value, attr, data, **kwargs)


class TimeField(fields.Field[int]):
    """A point in time as RFC 3339 with an offset; gives milliseconds since 1970."""

    def __init__(self, **kwargs: Any) -> None:
        shown = {"type": "string", "format": "date-time"}
        super().__init__(metadata=shown | kwargs.pop("metadata", {}), **kwargs)

    def _deserialize(self, value: Any, *_: Any, **__: Any) -> int:
        try:
            return parse_rfc3339(value if isinstance(value, str) else "")
        except ValueError:
            raise ValidationError("must be a time such as 2026-11-23T12:00:00Z") from None


class ListQuerySchema(StrictSchema):
    """The query of a list: a page of at most ``limit`` items, from ``cursor`` on."""

    limit = QueryIntegerField(1, MAX_PAGE, load_default=100, metadata={"description": "The size of the page."})
    cursor = TextField(
        MAX_CURSOR, min_length=1, load_default=None, metadata={"description": "next_cursor of the page before."}
    )


class EventsQuerySchema(StrictSchema):
    """The query of a log: at most ``limit`` entries whose number is higher than ``after``."""

    after = QueryIntegerField(0, 2**63 - 1, load_default=0, metadata={"description": "The last seq already known."})
    limit = QueryIntegerField(1, MAX_PAGE, load_default=100, metadata={"description": "The size of the page."})


class EmptyQuerySchema(StrictSchema):
    """The query of a resource that takes no parameters."""


def load_body(schema: Schema) -> dict[str, Any]:
    """The body of the current request as the schema gives it; raises `MalformedInput` or `InvalidInput`."""
    # The request itself: each attribute of the proxy costs as much as a call.
    current: Request = request_ctx.request
    loaded = _load(schema, read_json_object(current))
    current.environ[BODY_KEY] = loaded
    return loaded


def load_optional_body(schema: Schema) -> dict[str, Any]:
    """Like `load_body`, for a request that may come without a body: then the schema's defaults."""
    has_body = bool(request.content_length) or "Transfer-Encoding" in request.headers
    return load_body(schema) if has_body else _load(schema, {})


def load_query(schema: Schema) -> dict[str, Any]:
    """The query of the current request as the schema gives it; raises `InvalidInput`."""
    values: dict[str, str] = {}
    repeated: list[FieldError] = []
    for name, texts in request.args.lists():
        values[name] = texts[0]
        if len(texts) > 1 and name in schema.fields:
            repeated.append(FieldError(json_pointer([name]), "must be given once"))
    if repeated:
        raise InvalidInput(repeated)
    return _load(schema, values)


def _load(schema: Schema, document: dict[str, Any]) -> dict[str, Any]:
    try:
        return cast("dict[str, Any]", schema.load(document))
    except ValidationError as error:
        raise invalid_input(error) from None
