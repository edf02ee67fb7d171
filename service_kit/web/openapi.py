"""The OpenAPI document, built from what the views say about themselves.

`operation` only attaches metadata: a documented view is called as fast as any other.
"""

from __future__ import annotations

import inspect
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeAlias, TypeVar, cast

from apispec import APISpec
from apispec.ext.marshmallow import MarshmallowPlugin
from flask import Flask
from marshmallow import Schema, fields
from werkzeug.routing import Rule

from service_kit.access.model import BadKey, Forbidden, Scope, Unauthorized
from service_kit.errors import InvalidInput, MalformedInput, Overloaded, RateExceeded, ServiceError
from service_kit.rules import ID_PATTERN
from service_kit.web.console.blueprint import NAME as CONSOLE
from service_kit.web.glossary import GLOSSARY
from service_kit.web.guard import Door, door_of, for_anybody, for_scope
from service_kit.web.problems import (
    PROBLEM_TYPE,
    HeadTooLarge,
    TooLarge,
    UnsupportedMediaType,
    problem_document,
    retry_after_s,
    status_of,
)
from service_kit.web.schemas import AnswerSchema

OPENAPI_VERSION = "3.1.0"

View = TypeVar("View", bound=Callable[..., Any])
SchemaLike: TypeAlias = Schema | type[Schema]

_ATTRIBUTE = "__operation__"
_UNDOCUMENTED_METHODS = frozenset({"HEAD", "OPTIONS"})
_PARAMETER = re.compile(r"<(?:(?P<converter>[^:<>()]+)(?:\([^<>]*\))?:)?(?P<name>[^<>]+)>")
_CONVERTER_SCHEMAS: Mapping[str, Mapping[str, Any]] = {
    "int": {"type": "integer", "minimum": 0},
    "uuid": {"type": "string", "format": "uuid"},
}
_JSON, _FORM = "application/json", "application/x-www-form-urlencoded"
#: What the document calls the way in.
_SCHEME = "key"
_ABOUT_KEYS = """\
An API key, `oc_<id>_<secret>`, with the scope that the operation names. Where the service does not need keys, it takes
calls without one."""
_ABOUT = """\
Every answer has the header `X-Request-ID`, and takes over the one of its request when that is sane. Times are RFC 3339
in UTC, and bodies are JSON of at most 64 KiB. An error is a problem document (RFC 9457) whose `type` says which; a
method that a resource does not take is answered 405. What has no effect when it is repeated may be sent again after a
429, 503 or 507, and after no answer at all.

A client must take members that are not described here: newer releases add some."""


@dataclass(frozen=True, slots=True)
class PathParameter:
    """What a part of a path stands for."""

    description: str
    example: str
    pattern: str = f"^{ID_PATTERN.pattern}$"


#: The words that both services use in their paths. The examples fit those of the bodies.
PATH_PARAMETERS: Mapping[str, PathParameter] = {
    "order_req_id": PathParameter("The order, as its buyer has named it.", "TEST001"),
    "seller_id": PathParameter("The seller, as the directory names it.", "seller1"),
    "delivery_id": PathParameter(
        "The delivery, as the list of deliveries names it.", "d1a2109c68c0-14a423f7704ca665e666"
    ),
    "token": PathParameter("The signed part of a reply link.", "WzE3NjQ.c2lnbmVk", "^[A-Za-z0-9._-]+$"),
}


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
    answers: Mapping[int, str]
    headers: Mapping[str, str]
    form: SchemaLike | None


class FieldErrorSchema(AnswerSchema):
    """One fault of an input document."""

    pointer = fields.String(required=True, metadata={"description": "A JSON pointer (RFC 6901)."})
    message = fields.String(required=True, metadata={"description": "What is wrong there."})


class ProblemSchema(AnswerSchema):
    """A problem document (RFC 9457)."""

    type = fields.String(required=True, metadata={"description": "Which problem it is; this never changes."})
    title = fields.String(required=True, metadata={"description": "The problem in words."})
    status = fields.Integer(required=True, metadata={"description": "The status of the answer."})
    detail = fields.String(required=True, metadata={"description": "What a person should know."})
    request_id = fields.String(required=True, metadata={"description": "Finds the call in the log."})
    errors = fields.List(fields.Nested(FieldErrorSchema), metadata={"description": "Each wrong field of the input."})


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
    answers: Mapping[int, str] | None = None,
    headers: Mapping[str, str] | None = None,
    form: SchemaLike | None = None,
    scope: Scope | None = None,
    whole: bool = False,
    public: bool = False,
) -> Callable[[View], View]:
    """Document a view; the decorator stands below the route's.

    ``answers`` are further statuses that come with an answer of the same form. ``headers`` of the request may be left
    out. ``form`` is a body as a browser sends it. Without ``tags`` the name of the blueprint is one.

    A key of this ``scope`` opens the route (``whole``: see `for_scope`), or none is needed: it is ``public``.
    """
    described = Operation(
        summary,
        body,
        body_required,
        query,
        answer,
        answer_type,
        status,
        tuple(errors),
        tuple(tags),
        answers or {},
        headers or {},
        form,
    )

    def attach(view: View) -> View:
        setattr(view, _ATTRIBUTE, described)
        if public:
            return for_anybody(view)
        return view if scope is None else for_scope(scope, whole=whole)(view)

    return attach


def undocumented_routes(app: Flask) -> list[str]:
    """The routes whose view has no `operation`; files and the operator page aside."""
    return sorted(rule.rule for rule in _rules(app) if _operation_of(app, rule) is None)


def build_openapi(app: Flask, title: str, version: str) -> dict[str, Any]:
    """The OpenAPI document of all documented routes of an app."""
    spec = APISpec(
        title=title,
        version=version,
        openapi_version=OPENAPI_VERSION,
        info={"description": _ABOUT},
        servers=[{"url": "/", "description": "The service that answers this document."}],
        plugins=[MarshmallowPlugin()],
    )
    spec.components.security_scheme(_SCHEME, {"type": "http", "scheme": "bearer", "description": _ABOUT_KEYS})
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
            about = inspect.getdoc(app.view_functions[rule.endpoint]) or ""
            door = door_of(app.view_functions[rule.endpoint])
            operations[method.lower()] = _document_operation(described, rule, door, operation_id, about)
        spec.path(path=_PARAMETER.sub(r"{\g<name>}", rule.rule), operations=operations)
    document: dict[str, Any] = spec.to_dict()
    _add_meanings(document)
    _add_body_examples(document)
    return document


def _rules(app: Flask) -> Iterator[Rule]:
    return (
        rule
        for rule in app.url_map.iter_rules()
        if rule.endpoint.rpartition(".")[2] != "static" and rule.endpoint.partition(".")[0] != CONSOLE
    )


def _operation_of(app: Flask, rule: Rule) -> Operation | None:
    return cast("Operation | None", getattr(app.view_functions.get(rule.endpoint), _ATTRIBUTE, None))


def _document_operation(
    described: Operation, rule: Rule, door: Door | None, operation_id: str, about: str
) -> dict[str, Any]:
    document: dict[str, Any] = {"operationId": operation_id, "summary": described.summary}
    if about:
        document["description"] = about
    document["tags"] = list(described.tags) or [rule.endpoint.rpartition(".")[0] or "service"]
    scope = None if door is None else door.scope
    document["security"] = [] if scope is None else [{_SCHEME: [str(scope)]}]
    parameters = [_path_parameter(match["name"], match["converter"]) for match in _PARAMETER.finditer(rule.rule)]
    if described.query is not None:
        parameters.append({"in": "query", "schema": described.query})
    parameters += [
        {"in": "header", "name": name, "required": False, "description": text, "schema": {"type": "string"}}
        for name, text in described.headers.items()
    ]
    if parameters:
        document["parameters"] = parameters
    if described.body is not None:
        document["requestBody"] = {
            "required": described.body_required,
            "content": {_JSON: {"schema": described.body}},
        }
    elif described.form is not None:
        document["requestBody"] = {"required": True, "content": {_FORM: {"schema": described.form}}}
    answers = {str(status): _answer(described, text) for status, text in described.answers.items()}
    problems = _document_problems(described, needs_key=scope is not None)
    for status, answer in answers.items():
        # What the server itself refuses it answers with a problem document, also where a view answers with a page.
        answer["content"] = problems.get(status, {}).get("content", {}) | answer["content"]
    first = {str(described.status): _answer(described, described.summary)}
    document["responses"] = first | dict(sorted((problems | answers).items()))
    return document


def _path_parameter(name: str, converter: str | None) -> dict[str, Any]:
    schema = _CONVERTER_SCHEMAS.get(converter or "", {"type": "string"})
    parameter: dict[str, Any] = {"in": "path", "name": name, "required": True, "schema": schema}
    known = PATH_PARAMETERS.get(name)
    if known is not None:
        parameter |= {"description": known.description, "example": known.example}
        parameter["schema"] = {**schema, "pattern": known.pattern}
    return parameter


def _answer(described: Operation, text: str) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": text, "headers": dict(_ANSWER_HEADERS)}
    if described.answer is not None:
        answer["content"] = {described.answer_type: {"schema": described.answer}}
    elif described.answer_type != _JSON:
        answer["content"] = {described.answer_type: {"schema": {"type": "string"}}}
    else:
        answer["content"] = {_JSON: {"schema": {"type": "object"}}}
    return answer


_ANSWER_HEADERS = {"X-Request-ID": {"description": "Finds the call in the log.", "schema": {"type": "string"}}}
_RETRY_HEADER = {"Retry-After": {"description": "When to send it again, in seconds.", "schema": {"type": "integer"}}}


def _document_problems(described: Operation, *, needs_key: bool) -> dict[str, Any]:
    """One answer for each status that the errors of the operation have, with each error as an example."""
    errors = [MalformedInput, *((Unauthorized, BadKey, Forbidden) if needs_key else ()), *described.errors]
    if described.body is not None:
        errors += [TooLarge, UnsupportedMediaType, InvalidInput]
    elif described.query is not None:
        errors.append(InvalidInput)
    errors += [RateExceeded, HeadTooLarge, ServiceError, Overloaded]
    by_status: defaultdict[HTTPStatus, dict[str, type[ServiceError]]] = defaultdict(dict)
    for error in errors:
        by_status[status_of(error)][error.code] = error
    return {str(int(status)): _document_problem(list(found.values())) for status, found in sorted(by_status.items())}


def _document_problem(errors: Sequence[type[ServiceError]]) -> dict[str, Any]:
    examples = {error.code: {"summary": error.title, "value": _example_of(error)} for error in errors}
    is_temporary = any(retry_after_s(error) is not None for error in errors)
    return {
        "description": "; ".join(dict.fromkeys(error.title for error in errors)),
        "headers": _ANSWER_HEADERS | (_RETRY_HEADER if is_temporary else {}),
        "content": {PROBLEM_TYPE: {"schema": "Problem", "examples": examples}},
    }


def _example_of(error: type[ServiceError]) -> dict[str, Any]:
    document = problem_document(status_of(error), error.code, error.title, f"{error.title}.", "5f0c9a7b21d34e68")
    if issubclass(error, InvalidInput):
        document["errors"] = [{"pointer": "/session_id", "message": "Missing data for required field."}]
    return document


def _add_meanings(document: Mapping[str, Any]) -> None:
    """Say of each member and parameter what it means, unless it says so itself."""
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    parameters = [parameter for operation in operations for parameter in operation.get("parameters", ())]
    named = [(parameter["name"], parameter) for parameter in parameters if "description" not in parameter["schema"]]
    for schema in document["components"]["schemas"].values():
        named += schema.get("properties", {}).items()
    for name, described in named:
        if name in GLOSSARY:
            described.setdefault("description", GLOSSARY[name])


# ---- examples of bodies


def _add_body_examples(document: Mapping[str, Any]) -> None:
    """Give each body an example, put together from those of its fields."""
    schemas = document["components"]["schemas"]
    for path in document["paths"].values():
        for described in path.values():
            content = described.get("requestBody", {}).get("content", {})
            for media in content.values():
                media["example"] = example_of(media["schema"], schemas)


def example_of(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Any:
    """A value that fits a schema: what its examples say, and what is required."""
    if "$ref" in schema:
        return example_of(schemas[schema["$ref"].rpartition("/")[2]], schemas)
    if schema.get("examples"):
        return schema["examples"][0]
    if "enum" in schema:
        return schema["enum"][0]
    if "properties" not in schema:
        return {"array": [], "integer": schema.get("minimum", 1), "boolean": True, "object": {}}.get(
            schema.get("type", ""), schema.get("default", "text")
        )
    required = schema.get("required", ())
    return {
        name: example_of(field, schemas)
        for name, field in schema["properties"].items()
        if name in required or "examples" in field or "$ref" in field
    }
