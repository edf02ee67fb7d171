"""Reads the head of a request: the usual one by a short way, every other one by Waitress's own parser.

What clients send is nearly always the same few lines. A line that was read once is remembered, so that reading a head
costs a third of what it costs Waitress. Whatever is not plainly usual goes Waitress's way, which alone decides what is
refused: a folded line, a header that comes twice, a transfer coding, bytes that are not printable ASCII.
"""

from __future__ import annotations

import re
from io import BytesIO

from waitress.parser import HTTPRequestParser  # type: ignore[import-untyped]

_START = re.compile(rb"(GET|HEAD|POST|PUT|DELETE) (/(?!/)[A-Za-z0-9/._:~-]*) HTTP/1\.1")
_FIELD = re.compile(rb"([A-Za-z0-9-]+):[ \t]*((?:[!-~]+(?:[ \t]+[!-~]+)*)?)[ \t]*")
_LENGTH = re.compile(r"[0-9]{1,9}")
#: What asks for more than to be handed on.
_UNUSUAL = frozenset({"TRANSFER_ENCODING", "EXPECT", "CONNECTION"})
#: Lines with the same value again and again. None of them is a secret.
_REMEMBERED = frozenset({"HOST", "CONTENT_TYPE", "CONTENT_LENGTH", "ACCEPT", "ACCEPT_ENCODING", "USER_AGENT"})
_MOST_REMEMBERED = 1_000
_LONGEST_REMEMBERED = 256

_remembered: dict[bytes, tuple[str, str]] = {}


class RequestParser(HTTPRequestParser):  # type: ignore[misc] # Waitress has no types
    """Waitress's parser with a short way for the usual head."""

    def parse_header(self, header_plus: bytes) -> None:
        """Read a whole head. Raises what Waitress's own raises."""
        if not self._read_usual(header_plus):
            super().parse_header(header_plus)

    def _read_usual(self, head: bytes) -> bool:
        """Read the head if it is a usual one; otherwise nothing has changed."""
        first_line, *lines = head.split(b"\r\n")
        start = _START.fullmatch(first_line)
        if start is None or lines[-2:] != [b"", b""]:
            return False
        headers: dict[str, str] = {}
        for line in lines[:-2]:
            field = _remembered.get(line) or _read_field(line)
            if field is None or field[0] in headers:
                return False
            headers[field[0]] = field[1]
        self.headers = headers
        self.first_line = first_line
        self.version = "1.1"
        self.command = start[1].decode("ascii")
        self.path = self.request_uri = start[2].decode("ascii")
        self.proxy_scheme = self.proxy_netloc = self.query = self.fragment = ""
        self.url_scheme = self.adj.url_scheme
        self.content_length = int(headers.get("CONTENT_LENGTH", "0"))
        if self.content_length:
            self.body_rcv = _Body(self.content_length)
        return True


def _read_field(line: bytes) -> tuple[str, str] | None:
    """Name (as WSGI writes it) and value of a usual header line, else None."""
    match = _FIELD.fullmatch(line)
    if match is None:
        return None
    name, value = match[1].decode("ascii").upper().replace("-", "_"), match[2].decode("ascii")
    if name in _UNUSUAL or (name == "CONTENT_LENGTH" and not _LENGTH.fullmatch(value)):
        return None
    if name in _REMEMBERED and len(line) <= _LONGEST_REMEMBERED:
        if len(_remembered) >= _MOST_REMEMBERED:
            _remembered.clear()
        _remembered[line] = name, value
    return name, value


class _Body:
    """Receives a body whose length is known; in memory, since the server reads no large ones."""

    error = None

    def __init__(self, length: int) -> None:
        self._remaining = length
        self._parts: list[bytes] = []
        self.completed = False

    def received(self, data: bytes) -> int:
        """Take what belongs to the body; answers how many bytes that is."""
        part = data[: self._remaining]
        self._parts.append(part)
        self._remaining -= len(part)
        self.completed = not self._remaining
        return len(part)

    def getfile(self) -> BytesIO:
        """The body as a file."""
        return BytesIO(self._parts[0] if len(self._parts) == 1 else b"".join(self._parts))

    def getbuf(self) -> _Body:
        """What Waitress closes at the end of the request."""
        return self

    def close(self) -> None:
        """Let the body go."""
        self._parts.clear()
