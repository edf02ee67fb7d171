"""The error tree of both services.

A class stands for one meaning. It carries a stable ``code`` (the last part of the problem's ``type``) and a
``title``; the ``detail`` of an instance is written for the person who reads the answer, and never repeats raw input.
The web edge maps classes to HTTP statuses (`service_kit.web.problems`), the gRPC edge to status codes
(`service_kit.rpc.statuses`). A subclass takes over its parent's mapping.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple


class FieldError(NamedTuple):
    """One fault of an input document: where it is (a JSON pointer, RFC 6901) and what is wrong."""

    pointer: str
    message: str


class ServiceError(Exception):
    """Base of every error that a caller may see."""

    code: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal error"

    def __init__(self, detail: str = "", *, retry_after_s: int | None = None, **extra: Any) -> None:
        super().__init__(detail or self.title)
        self.detail = detail or self.title
        self.retry_after_s = retry_after_s
        #: Further members of the answer, such as ``allowed_actions``.
        self.extra = extra


class MalformedInput(ServiceError):
    """The input is not a document of the expected form at all (not JSON, not an object)."""

    code = "malformed_input"
    title = "The request cannot be read"


class InvalidInput(ServiceError):
    """The input can be read, but fields in it are wrong; ``errors`` names each."""

    code = "invalid_input"
    title = "The request has invalid fields"

    def __init__(self, errors: Sequence[FieldError], detail: str = "One or more fields are not valid.") -> None:
        super().__init__(detail)
        self.errors = tuple(errors)


class NotFound(ServiceError):
    """What the caller named does not exist, or is not the caller's."""

    code = "not_found"
    title = "Not found"


class Conflict(ServiceError):
    """The input is fine, but what is stored does not allow it."""

    code = "conflict"
    title = "Conflict with the current state"


class Fenced(ServiceError):
    """The caller's token is lower than the highest known one: somebody else holds the order now."""

    code = "fenced"
    title = "A newer owner holds this order"


class Diverged(ServiceError):
    """The two sides' histories contradict each other, as after a restored backup; a person must look."""

    code = "diverged"
    title = "The two services' histories differ"


class Pruned(ServiceError):
    """The history that was asked for is no longer kept; ``extra`` says where the order stands."""

    code = "pruned"
    title = "The history is no longer kept"


class TooMany(ServiceError):
    """A limit of the service is reached; later the same call may succeed."""

    code = "too_many"
    title = "Too many requests"


class TooManyConnections(TooMany):
    """One address holds as many connections as one may."""

    code = "too_many_connections"
    title = "Too many connections from one address"


class RateExceeded(TooMany):
    """A key or an address asks more often than it may; nothing was accepted."""

    code = "rate_exceeded"
    title = "Too many requests"


class Unavailable(ServiceError):
    """The service cannot do this now; nothing was accepted."""

    code = "unavailable"
    title = "Service unavailable"


class Overloaded(Unavailable):
    """More comes in than the service can do; nothing was accepted."""

    code = "overloaded"
    title = "The service is overloaded"


class StoreUnavailable(Unavailable):
    """The store cannot be reached or written; nothing was accepted."""

    code = "store_unavailable"
    title = "The store is not available"


class StoreFull(StoreUnavailable):
    """The store has no room left; nothing was accepted."""

    code = "store_full"
    title = "The store is full"


class StartRefused(Exception):
    """The service must not start as it is set up; the text is one line that says what to change."""
