"""What can go wrong with a call. `CallFailed` is the base of all; a `Problem` is what the requestor itself has said."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

_TYPE_PREFIX = "urn:problem:order-communicator:"


class CallFailed(Exception):
    """The call was not answered as it should be; the text says why, in one line."""


class NoAnswer(CallFailed):
    """Nobody has answered, after every retry. Whether the call had an effect is not known; the same again is safe."""


class UnexpectedAnswer(CallFailed):
    """What has answered does not speak as a requestor does."""


class FieldFault(NamedTuple):
    """One wrong field: where it is (a JSON pointer, RFC 6901) and what is wrong."""

    pointer: str
    message: str


class Problem(CallFailed):
    """The requestor has refused the call, or failed: a problem document (RFC 9457)."""

    def __init__(self, status: int, document: Mapping[str, Any], retry_after_s: float | None = None) -> None:
        self.status = status
        #: The last part of the problem's ``type``: it never changes, so programs compare it.
        self.code = str(document.get("type", "")).removeprefix(_TYPE_PREFIX)
        self.title = str(document.get("title", ""))
        self.detail = str(document.get("detail", ""))
        #: Finds the call in the requestor's log.
        self.request_id = str(document.get("request_id", ""))
        self.errors = tuple(_faults(document.get("errors")))
        self.retry_after_s = retry_after_s
        #: Every member of the document.
        self.members = dict(document)
        super().__init__(self._sentence())

    def _sentence(self) -> str:
        faults = "; ".join(f"{fault.pointer.removeprefix('/') or 'body'}: {fault.message}" for fault in self.errors)
        return faults or self.detail or self.title or f"The requestor has answered {self.status}."


class InputRefused(Problem):
    """The input is at fault; ``errors`` names the fields (400, 413, 415, 422)."""


class Unauthorized(Problem):
    """No key was shown, or one that is not good (401)."""


class Forbidden(Problem):
    """The key is good, but not for this call (403)."""


class NotFound(Problem):
    """There is no such order (404)."""


class Conflict(Problem):
    """What is stored does not allow the call (409)."""


class OrderLive(Conflict):
    """The order is live with another session or another content."""


class ActionRefused(Conflict):
    """The order's state does not allow this."""

    @property
    def allowed_actions(self) -> tuple[str, ...]:
        """What it does allow."""
        return tuple(str(action) for action in self.members.get("allowed_actions", ()))


class FollowUpConflict(Conflict):
    """The follow-up id was used before with another content."""


class TooMany(Problem):
    """Too much of the order waits for the processor (429); later the same call may succeed."""


class Unavailable(Problem):
    """The requestor cannot do this just now (503); nothing was accepted."""


class StoreFull(Unavailable):
    """The disk of the requestor's store is full (507); nothing was accepted."""


_BY_CODE: Mapping[str, type[Problem]] = {
    "order_live": OrderLive,
    "action_refused": ActionRefused,
    "follow_up_conflict": FollowUpConflict,
}
_BY_STATUS: Mapping[int, type[Problem]] = {
    400: InputRefused,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    413: InputRefused,
    415: InputRefused,
    422: InputRefused,
    429: TooMany,
    503: Unavailable,
    507: StoreFull,
}


def problem_of(status: int, document: Mapping[str, Any], retry_after_s: float | None) -> Problem:
    """The error for a problem document; one of an unknown kind is a plain `Problem`."""
    by_status = _BY_STATUS.get(status, Problem)
    error = Problem(status, document, retry_after_s)
    return _BY_CODE.get(error.code, by_status)(status, document, retry_after_s)


def _faults(errors: Any) -> list[FieldFault]:
    if not isinstance(errors, list):
        return []
    return [
        FieldFault(str(error.get("pointer", "")), str(error.get("message", "")))
        for error in errors
        if isinstance(error, dict)
    ]
