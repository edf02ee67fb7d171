"""Reads HTTP requests strictly: what two servers in a row could understand differently is refused.

Waitress is lenient where RFC 9112 leaves a choice, and here and there where it does not. Whoever can make a proxy and
the server behind it disagree about where a request ends can hide a second request in the first. After a refusal the
connection ends, so nothing that follows is read as a request.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

from waitress.buffers import OverflowableBuffer  # type: ignore[import-untyped]
from waitress.parser import HTTPRequestParser, ParsingError  # type: ignore[import-untyped]
from waitress.task import ErrorTask  # type: ignore[import-untyped]
from waitress.utilities import BadRequest, Error  # type: ignore[import-untyped]

from service_kit.errors import MalformedInput, ServiceError
from service_kit.logs import get_logger
from service_kit.web.problems import PROBLEM_TYPE, TooLarge, problem_document
from service_kit.web.request_head import RequestParser

#: More fields than any client or proxy sends.
MAX_HEADER_FIELDS = 100

_MAX_CHUNK_LINE = 512
_MAX_TRAILER_BYTES = 8_192
_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Z]+) ([\x21-\x7e]+) HTTP/([0-9]\.[0-9])")
_REQUEST_LINE_START = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Z]")
#: The target of a request: a path, or a whole URL as proxies get it. Two slashes in front would count as one.
_TARGET = re.compile(rb"(?:https?://[A-Za-z0-9.\-_\[\]:]+)?/(?!/)[^#]*")
_HOST = re.compile(r"(?:(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{0,5})?)?")
#: A slash, a backslash or a control character that a path hides, and a % that quotes nothing.
_HIDDEN_IN_PATH = re.compile(rb"%(?:2[Ff]|5[Cc]|[01][0-9A-Fa-f]|7[Ff]|(?![0-9A-Fa-f]{2}))")
_CHUNK_SIZE = re.compile(
    rb"([0-9A-Fa-f]{1,8})(?:[ \t]*;[ \t]*" + _TOKEN + rb'(?:=(?:"[\t !#-\[\]-~]*"|' + _TOKEN + rb"))?)*"
)
_TRAILER = re.compile(_TOKEN + rb":[\t\x20-\x7e\x80-\xff]*")

_log = get_logger(__name__)


class Refusal(Error):  # type: ignore[misc] # Waitress has no types
    """Why a request is not served; the detail repeats nothing of it."""

    def __init__(self, status: HTTPStatus, detail: str) -> None:
        super().__init__(detail)
        self.code = int(status)
        self.reason = status.phrase


class StrictParser(RequestParser):
    """The parser of all requests, behind checks of its own."""

    #: Waitress logs it of every request that fails, also of one that has none.
    path = ""
    command = ""
    completed = False
    error: Any = None
    body_rcv: Any = None

    def received(self, data: bytes) -> int:
        """Take bytes; answers how many of them belong to this request."""
        if self.body_rcv is None and not self.header_plus.strip(b"\r\n"):
            # Waitress would skip white space of any kind before a request.
            begun = data.lstrip(b"\r\n")
            if begun and not _REQUEST_LINE_START.match(begun):
                self.error = Refusal(HTTPStatus.BAD_REQUEST, "This is no HTTP request.")
                self.completed = True
                return len(data)
        taken: int = super().received(data)
        if self.completed:
            # Nothing more is wanted. Waitress would ask for it, and take the next request for this one's body.
            self.expect_continue = False
        return taken

    def parse_header(self, header_plus: bytes) -> None:
        """Read the head of the request."""
        # In a usual head nothing can be understood in two ways, but for the Host.
        if not self._read_usual(header_plus):
            self.error = self._fault_of(header_plus)
            if self.error is None:
                self._read_unusual(header_plus)
        if self.error is None:
            self.error = self._fault_of_fields(header_plus)
        if self.error is not None:
            self.body_rcv, self.content_length = None, 0
        elif self.chunked:
            self.body_rcv = StrictChunks(self.body_rcv.getbuf())

    def _read_unusual(self, head: bytes) -> None:
        try:
            HTTPRequestParser.parse_header(self, head)
        except ValueError:  # a length of thousands of digits, a URL with half an IPv6 address
            raise ParsingError("cannot be read") from None

    def _fault_of(self, head: bytes) -> Refusal | None:
        """What is wrong with a head before its fields are read."""
        match = _REQUEST_LINE.fullmatch(head[: head.find(b"\r\n")])
        if match is None:
            return Refusal(HTTPStatus.BAD_REQUEST, "The request line is not valid.")
        method, target, version = match.groups()
        if version not in (b"1.1", b"1.0"):
            return Refusal(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "This service speaks HTTP/1.1.")
        is_known = _TARGET.fullmatch(target) or (target == b"*" and method == b"OPTIONS")
        if not is_known or _HIDDEN_IN_PATH.search(target.partition(b"?")[0]):
            return Refusal(HTTPStatus.BAD_REQUEST, "The request's target is none, or has what no path may have.")
        if b"\r\n " in head or b"\r\n\t" in head:
            return Refusal(HTTPStatus.BAD_REQUEST, "A header field goes on in a second line.")
        if head.count(b"\r\n") > MAX_HEADER_FIELDS + 2:  # the request line, and the empty one
            return Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The request has too many header fields.")
        return None

    def _fault_of_fields(self, head: bytes) -> Refusal | None:
        """What is wrong with the fields of a head that Waitress could read."""
        fields = self.headers
        if len(fields) > MAX_HEADER_FIELDS:
            return Refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "The request has too many header fields.")
        if not _HOST.fullmatch(fields.get("HOST", "" if self.version == "1.0" else "none at all")):
            return Refusal(HTTPStatus.BAD_REQUEST, "The request needs one Host field with a name.")
        if self.chunked or "TRANSFER_ENCODING" in fields:
            if self.version == "1.0" or "CONTENT_LENGTH" in fields:
                return Refusal(HTTPStatus.BAD_REQUEST, "The length of the body is said in two ways, or not at all.")
            if _values_of(b"transfer-encoding", head) != [b"chunked"]:
                return Refusal(HTTPStatus.NOT_IMPLEMENTED, "The only transfer coding that is read is chunked, once.")
        if "EXPECT" in fields and fields["EXPECT"].lower() != "100-continue":
            return Refusal(HTTPStatus.EXPECTATION_FAILED, "The only expectation that is met is 100-continue.")
        return None


def _values_of(name: bytes, head: bytes) -> list[bytes]:
    pairs = (line.partition(b":") for line in head.split(b"\r\n")[1:])
    return [value.strip(b" \t").lower() for field, _, value in pairs if field.lower() == name]


class StrictChunks:
    """The body of a chunked request, as Waitress asks for it.

    Waitress's own takes a size that ends with a bare line feed, and empty lines before one.
    """

    completed = False
    error: Error | None = None

    def __init__(self, buffer: OverflowableBuffer) -> None:
        self._buffer = buffer
        #: The beginning of a line whose end has not come.
        self._held = b""
        #: How much of the present chunk is to come.
        self._left = 0
        self._is_chunk_end_due = False
        self._is_last_seen = False
        self._trailer_bytes = 0

    def __len__(self) -> int:
        return len(self._buffer)

    def getfile(self) -> Any:
        """The content, to read."""
        return self._buffer.getfile()

    def getbuf(self) -> OverflowableBuffer:
        """The buffer, to close."""
        return self._buffer

    def received(self, data: bytes) -> int:
        """Take bytes; answers how many of them belong to this body."""
        rest = self._held + data
        self._held = b""
        while rest and not self.completed and self.error is None:
            if self._left:
                piece = rest[: self._left]
                self._buffer.append(piece)
                self._left -= len(piece)
                self._is_chunk_end_due = not self._left
                rest = rest[len(piece) :]
                continue
            line, end, more = rest.partition(b"\r\n")
            if len(line) > _MAX_CHUNK_LINE:
                self.error = BadRequest("")
            elif not end:
                self._held, rest = rest, b""
            else:
                rest = more
                self._take_line(line)
        return len(data) - len(rest)

    def _take_line(self, line: bytes) -> None:
        if self._is_chunk_end_due:
            self._is_chunk_end_due = False
            is_good = not line
        elif self._is_last_seen:
            self.completed = not line
            self._trailer_bytes += len(line)
            is_good = not line or (self._trailer_bytes <= _MAX_TRAILER_BYTES and bool(_TRAILER.fullmatch(line)))
        else:
            match = _CHUNK_SIZE.fullmatch(line)
            is_good = match is not None
            if match is not None:
                self._left = int(match[1], 16)
                self._is_last_seen = not self._left
        if not is_good:
            self.error = BadRequest("")


#: What is told of a request that Waitress refuses by itself: its own words repeat what came in.
_DETAILS: Mapping[int, str] = {
    400: "The request is no valid HTTP.",
    413: "The body is larger than this service reads.",
    431: "The head of the request is larger than this service reads.",
    500: "The service failed.",
    501: "The request's transfer coding is not read here.",
}
_CODES: Mapping[int, type[ServiceError]] = {400: MalformedInput, 413: TooLarge, 500: ServiceError}


class ProblemTask(ErrorTask):  # type: ignore[misc] # Waitress has no types
    """Answers a request that cannot be served with a problem document, and ends the connection."""

    def execute(self) -> None:
        """Write the answer."""
        error = self.request.error
        status = HTTPStatus(error.code)
        own = _CODES.get(status)
        code = own.code if own else status.name.lower()
        title = own.title if own else status.phrase
        detail = error.body if isinstance(error, Refusal) else _DETAILS.get(status, f"{status.phrase}.")
        request_id = uuid.uuid4().hex
        content = json.dumps(problem_document(status, code, title, detail, request_id)).encode()
        self.status = f"{status} {status.phrase}"
        self.response_headers += [
            ("Content-Type", PROBLEM_TYPE),
            ("Content-Length", str(len(content))),
            ("X-Request-ID", request_id),
            ("X-Content-Type-Options", "nosniff"),
            ("Cache-Control", "no-store"),
        ]
        self.set_close_on_finish()
        self.content_length = len(content)
        _log.debug("Refused what is no request", action="http.unreadable", status=int(status), request_id=request_id)
        self.write(b"" if self.request.command == "HEAD" else content)
