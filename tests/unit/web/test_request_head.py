"""The short way of reading a head says what Waitress's own parser says, whatever is sent."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from waitress.adjustments import Adjustments  # type: ignore[import-untyped]
from waitress.parser import HTTPRequestParser  # type: ignore[import-untyped]

from service_kit.web import request_head
from service_kit.web.request_head import RequestParser

ADJUSTMENTS = Adjustments()
SEEN = [
    "command",
    "path",
    "query",
    "fragment",
    "version",
    "request_uri",
    "first_line",
    "headers",
    "content_length",
    "chunked",
    "url_scheme",
    "proxy_scheme",
    "proxy_netloc",
    "connection_close",
    "expect_continue",
    "completed",
    "empty",
    "headers_finished",
]

START_LINES = st.sampled_from(
    [
        b"GET / HTTP/1.1",
        b"POST /api/v1/orders/initiate HTTP/1.1",
        b"GET /a?b=c HTTP/1.1",
        b"GET //a HTTP/1.1",
        b"GET /a%20b HTTP/1.1",
        b"GET http://x/a HTTP/1.1",
        b"GET / HTTP/1.0",
        b"get / HTTP/1.1",
        b"GET  / HTTP/1.1",
        b"GET /a;b HTTP/1.1",
        b"OPTIONS * HTTP/1.1",
        b"GET /",
    ]
)
NAMES = st.sampled_from(
    [b"Host", b"Content-Length", b"content-length", b"X-A", b"X_A", b"Connection", b"Expect", b"Transfer-Encoding", b""]
)
VALUES = st.one_of(
    st.sampled_from(
        [b"0", b"5", b"+5", b"5 ", b"\t5", b"5, 5", b"chunked", b"close", b"100-continue", b"a b", b"a\tb"]
    ),
    st.binary(max_size=6),
)
LINES = st.one_of(st.builds(lambda name, value: name + b": " + value, NAMES, VALUES), st.binary(max_size=8))


def read(parser_class: type[Any], head: bytes, body: bytes) -> dict[str, Any]:
    """Everything that the server asks of a parser that has received a request."""
    parser = parser_class(ADJUSTMENTS)
    consumed = parser.received(head)
    if not parser.completed:
        parser.received(body)
    seen = {name: getattr(parser, name, None) for name in SEEN}
    seen["error"] = None if parser.error is None else (type(parser.error), parser.error.body)
    seen["body"] = parser.get_body_stream().read() if parser.error is None else None
    parser.close()
    return {**seen, "consumed": consumed}


@given(START_LINES, st.lists(LINES, max_size=5), st.binary(max_size=12))
@example(b"POST / HTTP/1.1", [b"Host: x", b"Content-Length: 5"], b"hello and more")
@example(b"POST / HTTP/1.1", [b"Content-Length: 5", b"Content-Length: 5"], b"hello")
@example(b"GET / HTTP/1.1", [b"Host: x", b" folded"], b"")
@example(b"GET / HTTP/1.1", [b"Content-Length: 1234567890123"], b"")
def test_both_ways_agree(start: bytes, lines: list[bytes], body: bytes) -> None:
    head = b"\r\n".join([start, *lines, b"", b""])
    assert read(RequestParser, head, body) == read(HTTPRequestParser, head, body)


@pytest.mark.parametrize("cut", [1, 16, 30, 60, 70])
def test_a_request_may_come_in_pieces(cut: int) -> None:
    request = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 11\r\n\r\nhello world"
    parser = RequestParser(ADJUSTMENTS)
    for piece in (request[:cut], request[cut:]):
        rest = piece
        while rest:
            rest = rest[parser.received(rest) :]
    assert parser.completed
    assert parser.get_body_stream().read() == b"hello world"
    assert parser.headers == {"HOST": "x", "CONTENT_TYPE": "text/plain", "CONTENT_LENGTH": "11"}


def test_secrets_are_not_remembered_and_what_is_stays_bounded() -> None:
    for number in range(3_000):
        lines = f"Host: h{number}\r\nAuthorization: Bearer oc_{number}\r\nCookie: a={number}\r\n"
        RequestParser(ADJUSTMENTS).received(f"GET / HTTP/1.1\r\n{lines}\r\n".encode())
    assert len(request_head._remembered) <= 1_000
    assert {name for name, _ in request_head._remembered.values()} <= request_head._REMEMBERED
