"""What /docs shows of an OpenAPI document: its calls in groups, each with its fields, its answers and lines to try."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import quote

from service_kit.rules import TEXT_PATTERN

#: How deep fields of fields are shown; our documents end before.
_DEPTH = 5
_COMMON_TAGS = frozenset({"health", "documentation"})


class Field(NamedTuple):
    """One field of a body, or one parameter."""

    name: str
    type: str
    is_required: bool
    description: str
    rules: tuple[str, ...]


class Answer(NamedTuple):
    """One answer of a call."""

    status: str
    description: str
    media_type: str
    fields: tuple[Field, ...]
    #: The last part of the ``type`` of each problem that it may tell.
    codes: tuple[str, ...]


class Call(NamedTuple):
    """One operation."""

    anchor: str
    method: str
    path: str
    summary: str
    description: str
    parameters: tuple[tuple[str, Field], ...]
    body: tuple[Field, ...]
    is_body_required: bool
    answers: tuple[Answer, ...]
    curl: str
    powershell: str


class Group(NamedTuple):
    """The operations with one tag."""

    name: str
    calls: tuple[Call, ...]


def groups_of(document: Mapping[str, Any], url: str) -> tuple[Group, ...]:
    """The calls of a document by their first tag, in the order of the document; ``url`` is where the service is."""
    schemas = document.get("components", {}).get("schemas", {})
    groups: dict[str, list[Call]] = {}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            call = _call(method.upper(), path, operation, schemas, url)
            groups.setdefault(operation["tags"][0], []).append(call)
    # What the service is for comes first, what every service has comes last.
    names = sorted(groups, key=lambda name: name in _COMMON_TAGS)
    return tuple(Group(name, tuple(groups[name])) for name in names)


def _call(method: str, path: str, operation: Mapping[str, Any], schemas: Mapping[str, Any], url: str) -> Call:
    parameters = operation.get("parameters", ())
    body = operation.get("requestBody", {})
    _, media = _content_of(body)
    address = url + _example_path(path, parameters)
    example = media.get("example")
    return Call(
        anchor=operation["operationId"],
        method=method,
        path=path,
        summary=operation["summary"],
        description=operation.get("description", ""),
        parameters=tuple((item["in"], _parameter(item)) for item in parameters),
        body=tuple(_fields(media.get("schema", {}), schemas)),
        is_body_required=bool(body.get("required")),
        answers=tuple(_answer(status, answer, schemas) for status, answer in operation["responses"].items()),
        curl=curl_line(method, address, example),
        powershell=powershell_line(method, address, example),
    )


# ---- lines to try


def curl_line(method: str, url: str, body: Any = None) -> str:
    """A call as a line for bash and its kin."""
    words = ["curl", *([] if method == "GET" else ["-X", method]), url]
    if body is not None:
        words += ["-H", "Content-Type: application/json", "-d", _json(body)]
    return shlex.join(words)


def powershell_line(method: str, url: str, body: Any = None) -> str:
    """A call as a line for PowerShell, which strips the quotes of what it hands to curl.exe."""
    line = f"Invoke-RestMethod -Method {method.capitalize()} {_powershell_text(url)}"
    return line if body is None else f"{line} -ContentType application/json -Body {_powershell_text(_json(body))}"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _powershell_text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _example_path(path: str, parameters: Sequence[Mapping[str, Any]]) -> str:
    for parameter in parameters:
        if parameter["in"] == "path":
            path = path.replace(f"{{{parameter['name']}}}", quote(str(parameter.get("example", "1")), safe=""))
    return path


# ---- fields


def _content_of(holder: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    """The first media type of a body or an answer, and what is said of it."""
    for media_type, media in holder.get("content", {}).items():
        return media_type, media
    return "", {}


def _parameter(parameter: Mapping[str, Any]) -> Field:
    schema = parameter["schema"]
    return Field(
        parameter["name"],
        _type_of(schema),
        bool(parameter.get("required")),
        parameter.get("description", schema.get("description", "")),
        tuple(_rules(schema)),
    )


def _answer(status: str, answer: Mapping[str, Any], schemas: Mapping[str, Any]) -> Answer:
    media_type, media = _content_of(answer)
    codes = tuple(media.get("examples", ()))
    # The fields of a problem document are the same everywhere: they are shown once, with the answers' codes here.
    fields = () if codes else tuple(_fields(media.get("schema", {}), schemas))
    return Answer(status, answer["description"], media_type, fields, codes)


def _fields(
    schema: Mapping[str, Any], schemas: Mapping[str, Any], prefix: str = "", depth: int = _DEPTH
) -> Iterator[Field]:
    """The fields of an object, those of inner objects behind their own."""
    schema = _resolved(schema, schemas)
    required = schema.get("required", ())
    for name, outer in schema.get("properties", {}).items():
        field = _resolved(outer, schemas)
        yield Field(
            prefix + name,
            _type_of(field),
            name in required,
            outer.get("description", field.get("description", "")),
            tuple(_rules(field)),
        )
        inner, mark = _inner(field)
        if inner is not None and depth:
            yield from _fields(inner, schemas, f"{prefix}{name}{mark}.", depth - 1)


def _inner(schema: Mapping[str, Any]) -> tuple[Mapping[str, Any] | None, str]:
    if "items" in schema:
        return schema["items"], "[]"
    if isinstance(schema.get("additionalProperties"), dict):
        return schema["additionalProperties"], ".*"
    return (schema, "") if "properties" in schema else (None, "")


def _resolved(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Mapping[str, Any]:
    found: Mapping[str, Any] = schemas[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    return found


def _type_of(schema: Mapping[str, Any]) -> str:
    if "$ref" in schema:
        return "object"
    kind = schema.get("type", "any")
    names = list(kind) if isinstance(kind, list) else [kind]
    if "items" in schema:
        names[names.index("array")] = f"array of {_type_of(schema['items'])}"
    return " or ".join(names)


def _rules(schema: Mapping[str, Any]) -> Iterator[str]:
    """What a value must keep, in words."""
    if "enum" in schema:
        yield "one of " + ", ".join(str(value) for value in schema["enum"] if value is not None)
    for name, words in (
        ("format", "as {}"),
        ("pattern", "no control characters" if schema.get("pattern") == TEXT_PATTERN else "matches {}"),
        ("minimum", "at least {}"),
        ("maximum", "at most {}"),
        ("minLength", "at least {} characters"),
        ("maxLength", "at most {} characters"),
        ("minItems", "at least {} items"),
        ("maxItems", "at most {} items"),
    ):
        if name in schema:
            yield words.format(schema[name])
    if schema.get("default") not in (None, "", []):
        yield f"without it {_json(schema['default'])}"
