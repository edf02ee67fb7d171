"""Errors as problem documents (RFC 9457): one table from the class of an error to its HTTP status.

No answer repeats raw input, a URL or the text of an unexpected error.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, current_app, request
from marshmallow import ValidationError
from werkzeug.exceptions import HTTPException

from service_kit.access.model import Forbidden, Unauthorized
from service_kit.errors import (
    Conflict,
    Diverged,
    Fenced,
    FieldError,
    InvalidInput,
    MalformedInput,
    NotFound,
    Pruned,
    ServiceError,
    StoreFull,
    TooMany,
    Unavailable,
)
from service_kit.logs import get_logger

PROBLEM_TYPE = "application/problem+json"
#: Where the WSGI environment of a request holds its id.
REQUEST_ID_KEY = "order_communicator.request_id"
TYPE_PREFIX = "urn:problem:order-communicator:"

#: How many faults of one document are listed: the answer to a bad request stays small.
MAX_ERRORS = 50

_log = get_logger(__name__)
_SANE_NAME = re.compile(r"[ -~]{1,64}")


class UnsupportedMediaType(ServiceError):
    """The body is not sent as what this resource reads."""

    code = "unsupported_media_type"
    title = "The media type is not supported"


class TooLarge(ServiceError):
    """The body is larger than what this resource reads."""

    code = "too_large"
    title = "The request is too large"


class HeadTooLarge(TooLarge):
    """The request line and the headers are larger than what the service reads."""

    code = "request_header_fields_too_large"
    title = "The head of the request is too large"


class ForeignOrigin(ServiceError):
    """The call comes from a page of another site."""

    code = "foreign_origin"
    title = "Not from this page"


class Forged(ForeignOrigin):
    """The call does not carry the token that pages of its session have."""

    code = "csrf_token"


#: The HTTP status of each error; a subclass takes over its parent's.
STATUSES: Mapping[type[ServiceError], HTTPStatus] = {
    ServiceError: HTTPStatus.INTERNAL_SERVER_ERROR,
    MalformedInput: HTTPStatus.BAD_REQUEST,
    Unauthorized: HTTPStatus.UNAUTHORIZED,
    Forbidden: HTTPStatus.FORBIDDEN,
    ForeignOrigin: HTTPStatus.FORBIDDEN,
    NotFound: HTTPStatus.NOT_FOUND,
    Conflict: HTTPStatus.CONFLICT,
    Fenced: HTTPStatus.CONFLICT,
    Diverged: HTTPStatus.CONFLICT,
    Pruned: HTTPStatus.GONE,
    TooLarge: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    HeadTooLarge: HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    UnsupportedMediaType: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    InvalidInput: HTTPStatus.UNPROCESSABLE_ENTITY,
    TooMany: HTTPStatus.TOO_MANY_REQUESTS,
    Unavailable: HTTPStatus.SERVICE_UNAVAILABLE,
    StoreFull: HTTPStatus.INSUFFICIENT_STORAGE,
}

#: When to come back, for errors that do not say it themselves. Room in a store is not made within a second.
RETRY_AFTER_S: Mapping[type[ServiceError], int] = {TooMany: 1, Unavailable: 1, StoreFull: 30}

# What Flask and Werkzeug raise by themselves, in the words of our tree.
_OWN_CLASSES: Mapping[int, type[ServiceError]] = {
    400: MalformedInput,
    404: NotFound,
    413: TooLarge,
    415: UnsupportedMediaType,
    429: TooMany,
    500: ServiceError,
    503: Unavailable,
}
_DETAILS: Mapping[int, str] = {
    404: "There is no such resource.",
    405: "This resource does not take that method.",
    413: "The body is larger than this service reads.",
}
_KEPT_HEADERS = frozenset({"allow", "retry-after", "www-authenticate"})


def status_of(error_class: type[ServiceError]) -> HTTPStatus:
    """The HTTP status of an error class."""
    return next(STATUSES[cls] for cls in error_class.__mro__ if cls in STATUSES)


def retry_after_s(error: type[ServiceError]) -> int | None:
    """When to come back after an error that does not say it itself, or None."""
    return next((RETRY_AFTER_S[cls] for cls in error.__mro__ if cls in RETRY_AFTER_S), None)


def problem_of(error: ServiceError) -> Response:
    """The answer that tells the caller of an error."""
    members: dict[str, Any] = {}
    if isinstance(error, InvalidInput):
        members["errors"] = [fault._asdict() for fault in error.errors[:MAX_ERRORS]]
    members.update(error.extra)
    response = _problem(status_of(type(error)), error.code, error.title, error.detail, members)
    if isinstance(error, Unauthorized | Forbidden):
        response.headers["WWW-Authenticate"] = error.challenge
    wait_s = retry_after_s(type(error)) if error.retry_after_s is None else error.retry_after_s
    if wait_s is not None:
        response.headers["Retry-After"] = str(wait_s)
    return response


def problem_document(status: int, code: str, title: str, detail: str, request_id: str) -> dict[str, Any]:
    """The standard members of a problem document."""
    return {
        "type": TYPE_PREFIX + code,
        "title": title,
        "status": int(status),
        "detail": detail,
        "request_id": request_id,
    }


def invalid_input(error: ValidationError) -> InvalidInput:
    """The faults that a schema found, each with the JSON pointer of its place."""
    return InvalidInput(list(_faults("", error.messages)))


def register_problem_handlers(app: Flask) -> None:
    """Answer every error of an app with a problem document."""
    app.register_error_handler(ServiceError, _answer_service_error)
    app.register_error_handler(HTTPException, _answer_http_exception)
    app.register_error_handler(Exception, _answer_unexpected)


def json_pointer(parts: Iterable[str | int]) -> str:
    """The JSON pointer (RFC 6901) of a place within a document."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def _answer_service_error(error: ServiceError) -> Response:
    if status_of(type(error)) == HTTPStatus.INTERNAL_SERVER_ERROR:
        _log.error("A request failed", action="http.failed", exc_info=error)
    return problem_of(error)


def _answer_http_exception(error: HTTPException) -> Response:
    status = error.code or 500
    own = _OWN_CLASSES.get(status)
    code = own.code if own else re.sub(r"[^a-z]+", "_", error.name.lower())
    title = own.title if own else error.name
    response = _problem(status, code, title, _DETAILS.get(status, f"{title}."), {})
    for name, value in error.get_headers():
        if name.lower() in _KEPT_HEADERS:
            response.headers[name] = value
    return response


def _answer_unexpected(error: Exception) -> Response:
    _log.error("A request failed unexpectedly", action="http.failed", exc_info=error)
    detail = "The service failed. Its log holds the reason under this request_id."
    return _problem(500, ServiceError.code, ServiceError.title, detail, {})


def _problem(status: int, code: str, title: str, detail: str, members: Mapping[str, Any]) -> Response:
    standard = problem_document(status, code, title, detail, request.environ.get(REQUEST_ID_KEY, ""))
    # The standard members come first and cannot be replaced by an extra one.
    document = standard | {name: value for name, value in members.items() if name not in standard}
    return Response(current_app.json.dumps(document), status=int(status), content_type=PROBLEM_TYPE)


def _faults(pointer: str, messages: object) -> Iterator[FieldError]:
    """Walk marshmallow's messages: dicts by field or index, lists of sentences at the leaves."""
    if isinstance(messages, dict):
        for name, inner in messages.items():
            # "_schema" holds what is wrong with the object as a whole. A caller chooses the names of unknown fields;
            # one that is not sane is not repeated.
            is_own_place = name == "_schema" or (isinstance(name, str) and not _SANE_NAME.fullmatch(name))
            yield from _faults(pointer if is_own_place else pointer + json_pointer([name]), inner)
    elif isinstance(messages, Sequence) and not isinstance(messages, str):
        for message in messages:
            yield from _faults(pointer, message)
    else:
        yield FieldError(pointer, str(messages))
