"""Raw HTTP requests, each with what a server must answer: none is sent by an honest client, but for a few to compare.

In a body ``HIDDEN`` stands for a whole request that would change something: it must never be run.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

HIDDEN = b"<hidden>"
#: How a connection is afterwards: ended by the server, kept for the next request, or waiting for more.
CLOSED, KEPT, WAITING = "closed", "kept", "waiting"

_HELLO = b"5\r\nhello\r\n0\r\n\r\n"


class RawCase(NamedTuple):
    """What is sent, the statuses of the answers in order, and what becomes of the connection."""

    name: str
    sent: bytes
    statuses: tuple[int, ...]
    end: str = CLOSED
    #: Whether the answer may be lost, because the server closes while the client still sends.
    may_be_cut: bool = False


def _get(*fields: bytes, target: bytes = b"/livez", version: bytes = b"HTTP/1.1", method: bytes = b"GET") -> bytes:
    """A request for a resource that every service has; with the fields that are given instead of a Host."""
    lines = [b" ".join([method, target, version]), *(fields or (b"Host: a",))]
    return b"\r\n".join([*lines, b"", b""])


def _post(*fields: bytes, body: bytes = b"", version: bytes = b"HTTP/1.1") -> bytes:
    """A request with a body; its resource takes no POST, so 405 says that the server has read it to its end."""
    return _get(b"Host: a", *fields, method=b"POST", version=version) + body


def _chunked(body: bytes) -> bytes:
    return _post(b"Transfer-Encoding: chunked", body=body)


def all_cases() -> list[RawCase]:
    """Every case; their names are unique."""
    cases = [
        *_lengths_that_disagree(),
        *_transfer_codings(),
        *_content_lengths(),
        *_chunks(),
        *_request_lines(),
        *_targets(),
        *_header_fields(),
        *_hosts(),
        *_expectations(),
        *_bodies(),
        *_pipelines(),
        *_other_protocols(),
    ]
    assert len({case.name for case in cases}) == len(cases)
    return cases


def _lengths_that_disagree() -> Iterator[RawCase]:
    te, body = b"Transfer-Encoding: chunked", b"0\r\n\r\n" + HIDDEN
    for length in (b"0", b"5", b"6", b"500"):
        yield RawCase(f"CL {length.decode()} and TE", _post(b"Content-Length: " + length, te, body=body), (400,))
        yield RawCase(f"TE and CL {length.decode()}", _post(te, b"Content-Length: " + length, body=body), (400,))
    yield RawCase("CL and TE in HTTP/1.0", _post(b"Content-Length: 5", te, body=body, version=b"HTTP/1.0"), (400,))
    yield RawCase("TE in HTTP/1.0", _post(te, body=body, version=b"HTTP/1.0"), (400,))
    yield RawCase("CL, TE and CL", _post(b"Content-Length: 5", te, b"Content-Length: 5", body=body), (400,))


def _transfer_codings() -> Iterator[RawCase]:
    body = b"0\r\n\r\n" + HIDDEN
    for coding in (
        *(b"identity", b"gzip", b"gzip, chunked", b"chunked, gzip", b"chunked, chunked", b"chunked,identity"),
        *(
            b"xchunked",
            b"chunkedx",
            b"chunked;q=1",
            b'"chunked"',
            b",chunked",
            b"chunked,",
            b"chun ked",
            b"chunked\xa0",
        ),
        *(b"compress", b"deflate", b"trailers", b"cow", b"\x85chunked", b"chunked, ,chunked"),
    ):
        yield RawCase(f"TE {coding!r}", _post(b"Transfer-Encoding: " + coding, body=body), (501,))
    for coding in (
        b"\x0bchunked",
        b"chunked\x0c",
        b"chunked\x00",
        b"\x00chunked",
        b"chu\x01nked",
        b"chunked\n",
        b"\nchunked",
    ):
        yield RawCase(f"TE {coding!r}", _post(b"Transfer-Encoding: " + coding, body=body), (400,))
    for field in (
        *(b"Transfer-Encoding : chunked", b" Transfer-Encoding: chunked", b"\tTransfer-Encoding: chunked"),
        *(b"Transfer-Encoding\t: chunked", b"Transfer-Encoding\x00: chunked", b"Transfer-\x00Encoding: chunked"),
        *(b"Transfer-Encoding:\r\n chunked", b"Transfer-Encoding:\r\n\tchunked", b"Transfer-Encoding\r\n : chunked"),
        *(b"Transfer Encoding: chunked", b"Transfer-Encoding", b"X: y\rTransfer-Encoding: chunked"),
        *(b"X: y\nTransfer-Encoding: chunked", b"\nTransfer-Encoding: chunked", b"X:\r\r\nTransfer-Encoding: chunked"),
    ):
        yield RawCase(f"field {field!r}", _post(field, body=body), (400,))
    # A name with an underscore is another name: the body that the caller means is then read as a request, and is none.
    yield RawCase("TE with an underscore", _post(b"Transfer_Encoding: chunked", body=body), (405, 400))
    yield RawCase("CL with an underscore", _post(b"Content_Length: 7", body=b"\x00" + HIDDEN), (405, 400))
    yield RawCase("TE twice", _post(*[b"Transfer-Encoding: chunked"] * 2, body=body), (501,))
    for good in (b"chunked", b"Chunked", b"CHUNKED", b"  chunked  ", b"\tchunked"):
        yield RawCase(f"good TE {good!r}", _post(b"transfer-encoding:" + good, body=_HELLO), (405,), KEPT)


def _content_lengths() -> Iterator[RawCase]:
    for length in (
        *(b"+5", b"-5", b"- 5", b"5,5", b"5, 5", b"5, 6", b"5 5", b"0x5", b"5.0", b"5;", b"1e1", b"", b"five", b"5_0"),
        *("٥".encode(), b"5\x00", b"\x005", b"5\xa0", b"\x0b5", b"5\x0c", b"9" * 5_000, b"0" * 5_000 + b"5"),
    ):
        name = f"CL {length[:12]!r} of {len(length)}"
        yield RawCase(name, _post(b"Content-Length: " + length, body=b"hello" + HIDDEN), (400,))
    for field in (b"Content-Length : 5", b" Content-Length: 5", b"Content-Length\r\n : 5", b"Content-Length:\r\n 5"):
        yield RawCase(f"field {field!r}", _post(field, body=b"hello" + HIDDEN), (400,))
    for second in (b"5", b"6", b"0"):
        fields = (b"Content-Length: 5", b"Content-Length: " + second)
        yield RawCase(f"CL 5, then {second.decode()}", _post(*fields, body=b"hello" + HIDDEN), (400,))
    for length in (b"262144", b"300000", b"99999999999999999999", b"9" * 4_000):
        name = f"CL too large, {len(length)} digits, {length[:3].decode()}"
        yield RawCase(name, _post(b"Content-Length: " + length, body=HIDDEN), (413,))
    yield RawCase("good CL", _post(b"Content-Length: 5", body=b"hello"), (405,), KEPT)
    yield RawCase("good CL with noughts", _post(b"Content-Length: 0005", body=b"hello"), (405,), KEPT)
    yield RawCase("good CL in HTTP/1.0", _post(b"Content-Length: 5", body=b"hello", version=b"HTTP/1.0"), (405,))


def _chunks() -> Iterator[RawCase]:
    for size in (
        *(
            b"g",
            b"",
            b"-1",
            b"+5",
            b"0x5",
            b" 5",
            b"5 ",
            b"\t5",
            b"5\t",
            b"5\n",
            b"\n5",
            b"5\r",
            b"5\x00",
            b"\x005",
            b"5.0",
        ),
        *(
            b"FFFFFFFFF",
            b"000000005",
            b"5,",
            b"5;",
            b"5; ",
            b"5;=b",
            b"5;a=",
            b'5;a="',
            b'5;a="b',
            b"5;a\n",
            b"5;a=\x00",
        ),
        *(b"5;a=b\n", b'5;a="\n"', b"5;\xff", b"5 5", b"5;" + b"a" * 600, b"\xc2\xb5", b"5;a b", b"5;a=b c", b"five"),
    ):
        name = f"chunk size {size[:12]!r} of {len(size)}"
        yield RawCase(name, _chunked(size + b"\r\nhello\r\n0\r\n\r\n" + HIDDEN), (400,))
    for body in (
        *(b"3\r\nhello\r\n0\r\n\r\n", b"4\r\nhello\r\n0\r\n\r\n", b"5\r\nhello0\r\n\r\n", b"5\r\nhello\n0\r\n\r\n"),
        *(b"5\r\nhello\r0\r\n\r\n", b"5\r\nhello\r\n\r\n0\r\n\r\n", b"5\nhello\r\n0\r\n\r\n", b"5\r\nhelloXX0\r\n\r\n"),
        *(b"0\r\nX y\r\n\r\n", b"0\r\nX: \x00\r\n\r\n", b"0\r\n X: y\r\n\r\n", b"0\r\nX: y\n\r\n", b"0\r\n: y\r\n\r\n"),
        *(
            b"0\r\nGET /livez HTTP/1.1\r\n\r\n",
            b"0\r\n" + b"X: y\r\n" * 3_000 + b"\r\n",
            b"0\r\nX: " + b"y" * 9_000 + b"\r\n\r\n",
        ),
    ):
        yield RawCase(
            f"chunks {body[:30]!r} of {len(body)}", _chunked(body + HIDDEN), (400,), may_be_cut=len(body) > 8_000
        )
    for body in (
        *(
            _HELLO,
            b"0\r\n\r\n",
            b"5;a\r\nhello\r\n0\r\n\r\n",
            b"5;a=b\r\nhello\r\n0\r\n\r\n",
            b'5;a="b c";d\r\nhello\r\n0\r\n\r\n',
        ),
        *(
            b"05\r\nhello\r\n00\r\n\r\n",
            b"5 ;a\r\nhello\r\n0\r\n\r\n",
            b"0\r\nX: y\r\nZ:\r\n\r\n",
            b"a\r\n0123456789\r\n0\r\n\r\n",
        ),
    ):
        yield RawCase(f"good chunks {body!r}", _chunked(body), (405,), KEPT)
    yield RawCase("chunks that never end", _chunked(b"FFFFFFFF\r\nhello"), (), WAITING)
    yield RawCase("half a chunk size", _chunked(b"5"), (), WAITING)
    yield RawCase("chunks without the last", _chunked(b"5\r\nhello\r\n"), (), WAITING)
    yield RawCase("trailers that never end", _chunked(b"0\r\nX: y\r\n"), (), WAITING)
    yield RawCase("too much in chunks", _chunked((b"2000\r\n" + b"x" * 8192 + b"\r\n") * 40), (413,), may_be_cut=True)


def _request_lines() -> Iterator[RawCase]:
    for line in (
        *(b"GET /livez", b"GET /livez ", b"GET", b"GET ", b"/livez", b"GET  /livez HTTP/1.1", b"GET /livez  HTTP/1.1"),
        *(b"GET /livez HTTP/1.1 ", b"GET /livez HTTP/1.1\t", b"GET\t/livez HTTP/1.1", b"GET /livez\tHTTP/1.1"),
        *(
            b"GET /livez HTTP/1.1\x0b",
            b"GET /livez HTTP/1.1 x",
            b"GET /livez http/1.1",
            b"GET /livez HTTP/1",
            b"GET /livez HTTP/",
        ),
        *(
            b"GET /livez HTTP/1.10",
            b"GET /livez HTTP/01.1",
            b"GET /livez HTTP/1.1.1",
            b"GET /livez HTTP/a.b",
            b"GET /livez XTTP/1.1",
        ),
        *(
            b"GET /livez HTTP /1.1",
            b"GET /livez HTTP/1,1",
            b"GET /li vez HTTP/1.1",
            b"get /livez HTTP/1.1",
            b"Get /livez HTTP/1.1",
        ),
        *(
            b"G\x00ET /livez HTTP/1.1",
            b"GE(T /livez HTTP/1.1",
            b"GET\xa0/livez HTTP/1.1",
            b"\xffGET /livez HTTP/1.1",
            b"{} HTTP/1.1",
        ),
        *(b" GET /livez HTTP/1.1", b"\tGET /livez HTTP/1.1", b"\x0bGET /livez HTTP/1.1", b"\x00GET /livez HTTP/1.1"),
        *(b"GET /livez HTTP/1.1\r", b"GET /livez\nHTTP/1.1", b"GET /livez HTTP/1.1\nX: y", b"GET\r/livez HTTP/1.1"),
    ):
        yield RawCase(f"request line {line!r}", line + b"\r\nHost: a\r\n\r\n", (400,))
    for version in (b"0.9", b"1.2", b"1.9", b"2.0", b"3.0", b"9.9", b"0.0"):
        yield RawCase(f"version {version.decode()}", _get(version=b"HTTP/" + version), (505,))
    yield RawCase("bare line feeds", b"GET /livez HTTP/1.1\nHost: a\n\n", (), WAITING)
    yield RawCase("bare line feeds, then a head's end", b"GET /livez HTTP/1.1\nHost: a\n\n\r\n\r\n", (400,))
    yield RawCase("lone carriage returns", b"GET /livez HTTP/1.1\rHost: a\r\r", (), WAITING)
    yield RawCase("lone carriage returns, then a head's end", b"GET /livez HTTP/1.1\rHost: a\r\r\r\n\r\n", (400,))
    yield RawCase("empty lines before", b"\r\n\r\n\r\n" + _get(), (200,), KEPT)
    yield RawCase("empty lines only", b"\r\n" * 50, (), KEPT)
    for method in (b"TRACE", b"CONNECT", b"BREW", b"DELETE", b"PUT", b"M-SEARCH", b"A" * 5_000):
        yield RawCase(f"method {method[:10].decode()}", _get(method=method), (405,), KEPT)
    yield RawCase("HEAD", _get(method=b"HEAD"), (200,), KEPT)
    yield RawCase("OPTIONS", _get(method=b"OPTIONS"), (200,), KEPT)


def _targets() -> Iterator[RawCase]:
    for target in (
        *(
            b"livez",
            b"//livez",
            b"http://a//livez",
            b"?a",
            b"*",
            b"a:443",
            b"a.example:443",
            b"http://",
            b"http:///livez",
            b"http://[::1/livez",
            b"http:/livez",
        ),
        *(
            b"ftp://a/livez",
            b"file:///etc/passwd",
            b"javascript:alert(1)",
            b"http://u:p@a/livez",
            b"http://a b/livez",
            b"#a",
        ),
        *(
            b"/livez#a",
            b"/livez\x00",
            b"/livez\x7f",
            b"/livez\xff",
            "/l\u0131vez".encode(),
            b"/livez\x1b[2J",
            b"http://a?b/c",
        ),
        *(
            b"/livez%",
            b"/livez%1",
            b"/livez%zz",
            b"/livez%00",
            b"/livez%0d%0aX:y",
            b"/livez%2f",
            b"/livez%2F..",
            b"/x%5clivez",
        ),
        *(b"/%2e%2e%2flivez", b"/livez%7f", b"/livez%1b", b"/livez%09", b"/api/v1/orders/a%2fevents"),
    ):
        yield RawCase(f"target {target!r}", _get(target=target), (400,))
    for target in (
        *(b"/LIVEZ", b"/livez//", b"/./livez", b"/x/../livez", b"/livez;a=b", b"/livez%c0%af", b"/%ff%fe"),
        *(b"/livez%20", b"/..%c0%af..", b"/livez%25%32%66", b"/" + b"a" * 30_000, b"/livez\\", b"/%E2%80%AElivez"),
    ):
        yield RawCase(f"target {target[:30]!r}", _get(target=target), (404,), KEPT)
    for target in (
        b"/livez/",
        b"/livez?",
        b"/livez?a=%00",
        b"/livez?a=%zz",
        b"/liv%65z",
        b"http://b/livez",
        b"https://b:99/livez?x",
    ):
        yield RawCase(f"target {target!r}", _get(target=target), (200,), KEPT)
    yield RawCase("target of 40,000 characters", _get(target=b"/" + b"a" * 40_000), (431,), may_be_cut=True)
    yield RawCase("a host to connect to", _get(method=b"CONNECT", target=b"a:443"), (400,))
    yield RawCase("OPTIONS *", _get(method=b"OPTIONS", target=b"*"), (404,), KEPT)


def _header_fields() -> Iterator[RawCase]:
    for field in (
        *(
            b"no colon",
            b": no name",
            b"a b: c",
            b"a\t: c",
            b"a : c",
            b"(a): c",
            b"a\x00: c",
            b"a: \x00",
            b"a: b\x00c",
            b"a: \x7f",
        ),
        *(
            b"a: \x1b[2J",
            b"a: b\rc",
            b"a: b\nc",
            b"a: b\x0bc",
            b"a: \x08",
            b"\xc3\xa4: b",
            b"a: b\r\n c",
            b"a: b\r\n\tc",
            b"a: b\r\n ",
        ),
        *(b'"a": b', b"a,b: c", b"a/b: c", b"{a}: b", b"a=b: c", b"\x01: a"),
    ):
        yield RawCase(f"header field {field!r}", _get(b"Host: a", field), (400,))
    for field in (
        *(
            b"a:",
            b"a: ",
            b"a:b",
            b"a:\tb\t",
            b"a: \xff\xfe",
            b"a: b\tc",
            b"a_b: c",
            b"!#$%&'*+-.^`|~1: a",
            b"Range: bytes=0-0",
        ),
        *(
            b"If-None-Match: *",
            b"Upgrade: h2c",
            b"Upgrade: websocket",
            b"Connection: upgrade",
            b"TE: trailers",
            b"Cookie: " + b"a=b; " * 900,
        ),
        *(
            b"X-HTTP-Method-Override: DELETE",
            b"X-Forwarded-For: \xff",
            b"Forwarded: for=x",
            b"X-Original-URL: /metrics",
        ),
        *(
            b"Connection: content-length",
            b"Proxy: http://x",
            b"Trailer: Content-Length",
            b"traceparent: \xff",
            b"X-Request-ID: <b>",
        ),
    ):
        yield RawCase(f"good field {field[:40]!r}", _get(b"Host: a", field), (200,), KEPT)
    yield RawCase("10,000 fields", _get(b"Host: a", *[b"a:b"] * 10_000), (431,), may_be_cut=True)
    yield RawCase("5,000 fields", _get(b"Host: a", *[b"a:b"] * 5_000), (431,))
    yield RawCase("101 fields", _get(b"Host: a", *[b"a: b"] * 100), (431,))
    yield RawCase("100 fields", _get(b"Host: a", *[b"a: b"] * 99), (200,), KEPT)
    yield RawCase("a field of 40,000 bytes", _get(b"Host: a", b"a: " + b"b" * 40_000), (431,), may_be_cut=True)
    yield RawCase("a field of 30,000 bytes", _get(b"Host: a", b"a: " + b"b" * 30_000), (200,), KEPT)
    yield RawCase("a name of 40,000 bytes", _get(b"Host: a", b"a" * 40_000 + b": b"), (431,), may_be_cut=True)
    yield RawCase("a close", _get(b"Host: a", b"Connection: close"), (200,))
    yield RawCase(
        "an upgrade to h2c", _get(b"Host: a", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c"), (200,), KEPT
    )


def _hosts() -> Iterator[RawCase]:
    for host in (
        *(
            b"a b",
            b"a/b",
            b"a@b",
            b"a:b",
            b"a:1:2",
            b"a,b",
            b"a, a",
            b"http://a",
            b"a?b",
            b"a#b",
            b"[::1",
            b"::1",
            b"<a>",
            b"a:123456",
        ),
        *("ä".encode(), b"a\\b", b"a;b", b"'", b"a" * 300),
    ):
        yield RawCase(f"host {host[:20]!r}", _get(b"Host: " + host), (400,))
    yield RawCase("no host", _get(b"X: y"), (400,))
    yield RawCase("two hosts", _get(b"Host: a", b"Host: b"), (400,))
    yield RawCase("the same host twice", _get(b"Host: a", b"Host: a"), (400,))
    for host in (b"", b"a", b"127.0.0.1:8004", b"[::1]:8004", b"a.example.", b"a_b", b"a:"):
        yield RawCase(f"good host {host!r}", _get(b"Host: " + host), (200,), KEPT)
    yield RawCase("no host in HTTP/1.0", _get(b"X: y", version=b"HTTP/1.0"), (200,))
    yield RawCase("kept in HTTP/1.0", _get(b"Connection: keep-alive", version=b"HTTP/1.0"), (200,), KEPT)


def _expectations() -> Iterator[RawCase]:
    expect = b"Expect: 100-continue"
    yield RawCase("expects to continue, and does", _post(expect, b"Content-Length: 5", body=b"hello"), (100, 405), KEPT)
    yield RawCase(
        "expects to continue, with chunks", _post(expect, b"Transfer-Encoding: chunked", body=_HELLO), (100, 405), KEPT
    )
    yield RawCase("expects to continue and says nothing", _post(expect, b"Content-Length: 5"), (100,), WAITING)
    yield RawCase("expects to continue without a body", _get(b"Host: a", expect), (200,), KEPT)
    yield RawCase("expects to continue without a body, twice", _get(b"Host: a", expect) * 2, (200, 200), KEPT)
    yield RawCase("expects to continue, too large", _post(expect, b"Content-Length: 999999"), (413,))
    yield RawCase("expects to continue, wrong length", _post(expect, b"Content-Length: x"), (400,))
    for other in (b"200-ok", b"100-continue, 100-continue", b"100", b"continue"):
        fields = (b"Expect: " + other, b"Content-Length: 5")
        yield RawCase(f"expects {other.decode()}", _post(*fields, body=b"hello" + HIDDEN), (417,))


def _bodies() -> Iterator[RawCase]:
    for cut in (1, 10, 25, 35):
        yield RawCase(f"a head of {cut} bytes", _get(b"Host: a", b"X: y")[:cut], (), WAITING)
    yield RawCase("a head but for one byte", _get()[:-1], (), WAITING)
    yield RawCase("a body that is too short", _post(b"Content-Length: 50", body=b"hello"), (), WAITING)
    yield RawCase("a body that is too long", _post(b"Content-Length: 5", body=b"hello\x00" + HIDDEN), (405, 400))
    yield RawCase("a body without a length", _post(body=b"{}\r\n\r\n" + HIDDEN), (405, 400))
    yield RawCase("a GET with a body", _get(b"Host: a", b"Content-Length: 5") + b"hello", (200,), KEPT)
    yield RawCase("a GET with chunks", _get(b"Host: a", b"Transfer-Encoding: chunked") + _HELLO, (200,), KEPT)
    yield RawCase("a HEAD with a body", _get(b"Host: a", b"Content-Length: 5", method=b"HEAD") + b"hello", (200,), KEPT)
    yield RawCase("a HEAD that is refused", _get(b"Host: a", b"bad", method=b"HEAD"), (400,))
    yield RawCase("300,000 bytes", _post(b"Content-Length: 300000", body=b"x" * 300_000), (413,), may_be_cut=True)
    yield RawCase("200,000 bytes", _post(b"Content-Length: 200000", body=b"x" * 200_000), (405,), KEPT)


def _pipelines() -> Iterator[RawCase]:
    for count in (2, 10, 50):
        yield RawCase(f"{count} at once", _get() * count, (200,) * count, KEPT)
    yield RawCase("a bad one between", _get() + b"x\r\n\r\n" + _get(), (200, 400))
    yield RawCase("a bad one, then a hidden one", b"BAD\r\n\r\n" + HIDDEN, (400,))
    yield RawCase("a close, then a hidden one", _get(b"Host: a", b"Connection: close") + HIDDEN, (200,))
    yield RawCase("HTTP/1.0, then a hidden one", _get(version=b"HTTP/1.0") + HIDDEN, (200,))
    yield RawCase("an unknown version, then a hidden one", _get(version=b"HTTP/2.0") + HIDDEN, (505,))
    yield RawCase("too large, then a hidden one", _post(b"Content-Length: 999999") + HIDDEN, (413,))
    yield RawCase("a body, then half a head", _post(b"Content-Length: 5", body=b"helloGET /liv"), (405,), WAITING)


def _other_protocols() -> Iterator[RawCase]:
    for name, sent in (
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 200),
        ("noughts", b"\x00" * 1_000),
        ("high bytes", b"\xff" * 1_000),
        ("JSON", b'{"a": 1}\r\n\r\n'),
        ("HTML", b"<html>\r\n\r\n"),
        ("a redis call", b"*1\r\n$4\r\nPING\r\n\r\n\r\n"),
        ("a mail", b"EHLO a\r\nMAIL FROM:<a@b>\r\n\r\n"),
        ("SSH", b"SSH-2.0-OpenSSH\r\n\r\n"),
        ("a status line", b"HTTP/1.1 200 OK\r\nHost: a\r\n\r\n"),
        ("a PROXY line", b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + _get()),
        ("a PROXY head of version 2", b"\r\n\r\n\x00\r\nQUIT\n" + b"\x21\x11\x00\x0c" + b"\x00" * 12 + _get()),
    ):
        yield RawCase(name, sent, (400,))
    yield RawCase("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00", (505,))
