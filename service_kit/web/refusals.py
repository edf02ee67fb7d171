"""Answers that need no app: problem documents as bytes, for what the server itself refuses."""

from __future__ import annotations

import json
import os
from http import HTTPStatus

from service_kit.errors import Overloaded, ServiceError, TooManyConnections
from service_kit.origin import REQUEST_ID
from service_kit.web.problems import (
    PROBLEM_TYPE,
    problem_document,
    retry_after_s,
    status_of,
)

#: Stands in a document until the id of the request takes its place.
_ID = "{id}"


class Refusal:
    """One answer, made once; each copy has its own request id."""

    def __init__(self, status: int, document: dict[str, object], retry_after_s: int | None = None) -> None:
        self.status = int(status)
        reason = HTTPStatus(status).phrase
        lines = [
            f"HTTP/1.1 {int(status)} {reason}",
            f"Content-Type: {PROBLEM_TYPE if status >= HTTPStatus.BAD_REQUEST else 'application/json'}",
            "Cache-Control: no-store",
            "X-Content-Type-Options: nosniff",
        ]
        if retry_after_s is not None:
            lines.append(f"Retry-After: {retry_after_s}")
        self._head = "\r\n".join([*lines, "X-Request-ID: "]).encode("ascii")
        before, found, after = json.dumps(document).partition(_ID)
        self._before, self._after = before.encode(), after.encode() + b"\n"
        self._has_id = bool(found)

    def answer(self, request_id: str, date: str, *, closes: bool = False, has_body: bool = True) -> bytes:
        """The answer to one request."""
        name = request_id.encode("ascii")
        body = b"%b%b%b" % (self._before, name if self._has_id else b"", self._after)
        return b"%b%b\r\nContent-Length: %d\r\nDate: %b\r\n%b\r\n%b" % (
            self._head,
            name,
            len(body),
            date.encode("ascii"),
            b"Connection: close\r\n" if closes else b"",
            body if has_body else b"",
        )


def refusal_of(error: type[ServiceError], detail: str, *, wait_s: int | None = None) -> Refusal:
    """The refusal that tells of an error."""
    status = status_of(error)
    document = problem_document(status, error.code, error.title, detail, _ID)
    return Refusal(status, document, retry_after_s(error) if wait_s is None else wait_s)


def request_id_of(wanted: str) -> str:
    """The id that a caller has given its request, or a new one."""
    return wanted if wanted and REQUEST_ID.fullmatch(wanted) else os.urandom(16).hex()


#: Everything is well, as the app says it.
ALIVE = Refusal(HTTPStatus.OK, {"status": "alive"})
OVERLOADED = refusal_of(Overloaded, "More comes in than the service can do. Nothing was accepted; send it again later.")
CROWDED = refusal_of(Overloaded, "All connections are taken. Nothing was accepted; send it again later.")
CROWDED_ADDRESS = refusal_of(TooManyConnections, "Close connections of this address, or use those that are open.")
