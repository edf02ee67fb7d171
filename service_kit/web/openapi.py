"""The OpenAPI document, built from what the views say about themselves.

`operation` only attaches metadata: a documented view is called as fast as any other.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeAlias, TypeVar, cast

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Flask
from marshmallow import Schema, fields
from werkzeug.routing import Rule

from service_kit.errors import InvalidInput, MalformedInput, ServiceError
from service_kit.web.console.blueprint import NAME as CONSOLE
from service_kit.web.problems import PROBLEM_TYPE, TooLarge, UnsupportedMediaType, status_of

OPENAPI_VERSION = "3.1.0"

View = TypeVar("View", bound=Callable[..., Any])
SchemaLike: TypeAlias = Schema | type[Schema]

_ATTRIBUTE = "__operation__"
_UNDOCUMENTED_METHODS = frozenset({"HEAD", "OPTIONS"})
_PARAMETER = re.compile(r"<(?:(?P<converter>[^:<>()]+)(?:\([^<>]*\))?:)?(?P<name>[^<>]+)>")
_CONVERTER_SCHEMAS = {"int": {"type": "integer", "minimum": 0}, "uuid": {"type": "string", "format": "uuid"}}


@dataclass(frozen=True, slots=True)
class Operation:
    """What a view says about itself."""

    summary: str
    body: SchemaLike | None
    body_required: bool
    query: SchemaLike | None
    answer: SchemaLike | None
    answer_type: str
    status: int
    errors: tuple[type[ServiceError], ...]
    tags: tuple[str, ...]


class FieldErrorSchema(Schema):
    """One fault of an input document."""

    pointer = fields.String(required=True, metadata={"description": "A JSON pointer (RFC 6901)."})
    message = fields.String(required=True)


class ProblemSchema(Schema):
    """A problem document (RFC 9457)."""

    type = fields.String(required=True)
    title = fields.String(required=True)
    status = fields.Integer(required=True)
    detail = fields.String(required=True)
    request_id = fields.String(required=True)
    errors = fields.List(fields.Nested(FieldErrorSchema))


def operation(
    *,
    summary: str,
    body: SchemaLike | None = None,
    body_required: bool = True,
    query: SchemaLike | None = None,
    answer: SchemaLike | None = None,
    answer_type: str = "application/json",
    status: int = 200,
    errors: Sequence[type[ServiceError]] = (),
    tags: Sequence[str] = (),
) -> Callable[[View], View]:
    """Document a view; the decorator stands below the route's."""
    described = Operation(summary, body, body_required, query, answer, answer_type, status, tuple(errors), tuple(tags))

    def attach(view: View) -> View:
        setattr(view, _ATTRIBUTE, described)
        return view

    return attach


def undocumented_routes(app: Flask) -> list[str]:
    """The routes whose view has no `operation`; files and the operator page aside."""
    return sorted(rule.rule for rule in _rules(app) if _operation_of(app, rule) is None)


def build_openapi(app: Flask, title: str, version: str) -> dict[str, Any]:
    """The OpenAPI document of all documented routes of an app."""
    spec = APISpec(title=title, version=version, openapi_version=OPENAPI_VERSION, plugins=[MarshmallowPlugin()])
    spec.components.schema("Problem", schema=ProblemSchema)
    ids: set[str] = set()
    for rule in _rules(app):
        described = _operation_of(app, rule)
        if described is None:
            continue
        methods = sorted((rule.methods or set()) - _UNDOCUMENTED_METHODS)
        operations = {}
        for method in methods:
            operation_id = rule.endpoint.replace(".", "_") + (f"_{method.lower()}" if len(methods) > 1 else "")
            if operation_id in ids:
                raise ValueError(f"two routes have the operation id {operation_id}: give one an endpoint of its own")
            ids.add(operation_id)
            operations[method.lower()] = _document_operation(described, rule, operation_id)
        spec.path(path=_PARAMETER.sub(r"{\g<name>}", rule.rule), operations=operations)
    return spec.to_dict()


def _rules(app: Flask) -> Iterator[Rule]:
    return (
        rule
        for rule in app.url_map.iter_rules()
        if rule.endpoint.rpartition(".")[2] != "static" and rule.endpoint.partition(".")[0] != CONSOLE
    )


def _operation_of(app: Flask, rule: Rule) -> Operation | None:
    return cast("Operation | None", getattr(app.view_functions.get(rule.endpoint), _ATTRIBUTE, None))


def _document_operation(described: Operation, rule: Rule, operation_id: str) -> dict[str, Any]:
    document: dict[str, Any] = {"operationId": operation_id, "summary": described.summary}
    if described.tags:
        document["tags"] = list(described.tags)
    parameters: list[dict[str, Any]] = [
        {
            "in": "path",
            "name": match["name"],
            "required": True,
            "schema": _CONVERTER_SCHEMAS.get(match["converter"] or "", {"type": "string"}),
        }
        for match in _PARAMETER.finditer(rule.rule)
    ]
    if described.query is not None:
        parameters.append({"in": "query", "schema": described.query})
    if parameters:
        document["parameters"] = parameters
    if described.body is not None:
        content = {"application/json": {"schema": described.body}}
        document["requestBody"] = {"required": described.body_required, "content": content}
    document["responses"] = {str(described.status): _document_answer(described)} | _document_problems(described)
    return document


def _document_answer(described: Operation) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": described.summary}
    if described.answer is not None:
        answer["content"] = {described.answer_type: {"schema": described.answer}}
    elif described.answer_type != "application/json":
        answer["content"] = {described.answer_type: {"schema": {"type": "string"}}}
    return answer


def _document_problems(described: Operation) -> dict[str, Any]:
    """One answer for each status that the errors of the operation have."""
    errors = list(described.errors)
    if described.body is not None:
        errors += [MalformedInput, TooLarge, UnsupportedMediaType, InvalidInput]
    elif described.query is not None:
        errors.append(InvalidInput)
    errors.append(ServiceError)
    titles: defaultdict[HTTPStatus, dict[str, None]] = defaultdict(dict)
    for error in errors:
        titles[status_of(error)][error.title] = None
    return {
        str(int(status)): {
            "description": "; ".join(titles_of_status),
            "content": {PROBLEM_TYPE: {"schema": "Problem"}},
        }
        for status, titles_of_status in sorted(titles.items())
    }
