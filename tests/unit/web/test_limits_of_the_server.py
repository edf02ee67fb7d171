"""What the web server refuses or cuts by itself, over real sockets and with both loops."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
import requests
from flask import Flask

from service_kit.health import Health
from service_kit.measures import Tally
from service_kit.web import shedding
from service_kit.web.app import create_base_app
from service_kit.web.places import HEADROOM
from service_kit.web.server import WebServer
from service_kit.web.socket_loop import PollLoop

TIMEOUT_S = 1.0
#: A deadline, and the two looks of the server that may come before it is seen.
CUT_S = TIMEOUT_S + 3.0
#: More than the buffers of a connection take.
SOME = 1_000_000


class Gate:
    """Holds the requests to /held until it is opened."""

    def __init__(self) -> None:
        self.opened = threading.Event()

    def wait(self) -> dict[str, bool]:
        self.opened.wait(20)
        return {"done": True}


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.opened.set()


@pytest.fixture
def app(gate: Gate) -> Flask:
    app = create_base_app(__name__, health=Health())
    app.add_url_rule("/held", view_func=gate.wait)
    app.add_url_rule("/some", "some", view_func=lambda: "x" * SOME)
    app.add_url_rule("/long", view_func=lambda: "x" * 30_000_000)
    return app


@pytest.fixture(params=["own loop", "waitress's loop"])
def serve(
    app: Flask, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., WebServer]]:
    if request.param == "waitress's loop":
        monkeypatch.setattr("service_kit.web.channel_server.make_loop", PollLoop)
    servers: list[WebServer] = []

    def start(**options: object) -> WebServer:
        server = WebServer(
            app,
            "127.0.0.1",
            0,
            port_setting="REQUESTOR_PORT",
            request_timeout_s=TIMEOUT_S,
            **options,  # type: ignore[arg-type]
        )
        server.start()
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.stop(2.0)


def connect(server: WebServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=10)


def ask(connection: socket.socket, text: str) -> tuple[str, dict[str, str], bytes]:
    """Send a request and read one whole answer: its status line, its headers in lower case, its body."""
    connection.sendall(text.replace("\n", "\r\n").encode())
    return read(connection)


def read(connection: socket.socket) -> tuple[str, dict[str, str], bytes]:
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = connection.recv(65_536)
        assert chunk, f"the connection was closed after {data!r}"
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    status, *lines = head.decode().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    while len(body) < int(headers["content-length"]):
        body += connection.recv(65_536)
    return status, headers, body


def is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(65_536) == b""
    except ConnectionResetError:
        return True


def count_of(tally: Tally, reason: str) -> float:
    return tally.read()[(reason,)]


def until(is_true: Callable[[], bool], timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def assert_problem(answer: tuple[str, dict[str, str], bytes], status: int, code: str) -> dict[str, str]:
    line, headers, body = answer
    assert int(line.split()[1]) == status
    assert headers["content-type"] == "application/problem+json"
    document = json.loads(body)
    assert document["status"] == status
    assert document["type"].endswith(f":{code}")
    assert document["request_id"] == headers["x-request-id"]
    return headers


# ---- what cannot be read


@pytest.mark.parametrize(
    ("text", "status", "code"),
    [
        ("GET /livez HTTP/1.1\nHost: a\nX-Long: " + "x" * 40_000 + "\n\n", 431, "request_header_fields_too_large"),
        ("POST /held HTTP/1.1\nHost: a\nContent-Length: 900000\n\n", 413, "too_large"),
        ("GET /livez HTTP/1.1\nHost: a\nContent-Length: x\n\n", 400, "malformed_input"),
        ("POST /held HTTP/1.1\nHost: a\nTransfer-Encoding: gzip\n\n", 501, "not_implemented"),
    ],
)
def test_what_cannot_be_read_is_answered_with_a_problem_and_closed(
    serve: Callable[..., WebServer], text: str, status: int, code: str
) -> None:
    with connect(serve()) as connection:
        headers = assert_problem(ask(connection, text), status, code)
        assert headers["connection"] == "close"
        assert is_closed(connection)


# ---- who is slow


@pytest.mark.parametrize(
    ("first", "more"),
    [
        (b"", b""),  # says nothing at all
        (b"", b"\r\n"),  # blank lines, which begin no request
        (b"GET /livez HTTP/1.1\r\nHo", b"s"),
        (b"POST /held HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n", b"x"),
        (b"POST /held HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
    ],
)
def test_who_dribbles_a_head_or_a_body_is_cut(serve: Callable[..., WebServer], first: bytes, more: bytes) -> None:
    server = serve()
    begun_s = time.monotonic()
    with connect(server) as connection:
        connection.sendall(first)
        connection.settimeout(0.2)
        while time.monotonic() < begun_s + CUT_S + 2:
            try:
                connection.sendall(more)
                if not connection.recv(100):
                    break
            except TimeoutError:
                continue
            except OSError:
                break
    assert TIMEOUT_S * 0.9 < time.monotonic() - begun_s < CUT_S
    assert count_of(server.cut, "sends_slowly") == 1


@pytest.mark.parametrize("dribbles", [False, True])
def test_who_does_not_read_the_answer_is_cut(serve: Callable[..., WebServer], dribbles: bool) -> None:
    server = serve()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", server.port))
        client.sendall(b"GET /long HTTP/1.1\r\nHost: a\r\n\r\n")
        begun_s = time.monotonic()
        while not count_of(server.cut, "does_not_read"):
            assert time.monotonic() < begun_s + CUT_S + 1
            time.sleep(0.05)
            if dribbles:
                client.recv(100)
        until(lambda: not server._server.active_channels)  # type: ignore[union-attr]
    assert requests.get(f"http://127.0.0.1:{server.port}/livez", timeout=5).ok


def test_the_next_request_of_a_connection_waits_until_its_last_answer_is_read(serve: Callable[..., WebServer]) -> None:
    server = serve(threads=2)
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(10)
        client.connect(("127.0.0.1", server.port))
        client.sendall(b"GET /some HTTP/1.1\r\nHost: a\r\n\r\n" * 20)
        time.sleep(0.5)
        (channel,) = server._server.active_channels.values()  # type: ignore[union-attr]
        assert channel.total_outbufs_len <= SOME
        assert len(channel.requests) >= 15
        assert not server._server.under_way  # type: ignore[union-attr]
        received = 0
        while received < 20 * SOME:
            received += len(client.recv(1_000_000))
    assert count_of(server.cut, "does_not_read") == 0


def test_a_kept_connection_is_not_cut_between_requests(serve: Callable[..., WebServer]) -> None:
    with connect(serve()) as connection:
        for _ in range(2):
            assert "200" in ask(connection, "GET /livez HTTP/1.1\nHost: a\n\n")[0]
            time.sleep(TIMEOUT_S + 1.5)
        assert "200" in ask(connection, "GET /livez HTTP/1.1\nHost: a\n\n")[0]


# ---- connections


def test_above_the_limit_connections_are_told_so_and_livez_answers(serve: Callable[..., WebServer], gate: Gate) -> None:
    server = serve(connection_limit=16)
    with ExitStack() as stack:
        for _ in range(16):
            stack.enter_context(connect(server)).sendall(b"GET /held HTTP/1.1\r\nHost: a\r\n\r\n")
        until(lambda: len(server._server.under_way) == 16)  # type: ignore[union-attr]
        extra = stack.enter_context(connect(server))
        headers = assert_problem(ask(extra, "GET /held HTTP/1.1\nHost: a\n\n"), 503, "overloaded")
        assert int(headers["retry-after"]) >= 1
        assert is_closed(extra)
        status, headers, body = ask(stack.enter_context(connect(server)), "GET /livez HTTP/1.1\nHost: a\n\n")
        assert ("200" in status, json.loads(body), headers["connection"]) == (True, {"status": "alive"}, "close")
        assert count_of(server.shed, "connections") == 1
        crowd = [stack.enter_context(connect(server)) for _ in range(HEADROOM + 10)]
        until(lambda: any(is_closed(one) for one in crowd[HEADROOM:]))
        gate.opened.set()
    until(lambda: not server._server.active_channels)  # type: ignore[union-attr]
    with connect(server) as connection:
        assert "200" in ask(connection, "GET /held HTTP/1.1\nHost: a\n\n")[0]


def test_idle_connections_make_room_for_new_ones(serve: Callable[..., WebServer]) -> None:
    server = serve(connection_limit=16)
    with ExitStack() as stack:
        idle = [stack.enter_context(connect(server)) for _ in range(16)]
        for connection in idle:
            assert "200" in ask(connection, "GET /livez HTTP/1.1\nHost: a\n\n")[0]
        time.sleep(1.2)
        assert "200" in ask(stack.enter_context(connect(server)), "GET /openapi.json HTTP/1.1\nHost: a\n\n")[0]
        assert is_closed(idle[0])
    assert count_of(server.shed, "connections") == 0


def test_one_address_has_a_part_of_the_connections(
    serve: Callable[..., WebServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("service_kit.web.channels.origin_of", lambda _: "203.0.113.7")
    server = serve(connection_limit=40)
    with ExitStack() as stack:
        for _ in range(10):
            one = stack.enter_context(connect(server))
            assert "200" in ask(one, "GET /openapi.json HTTP/1.1\nHost: a\n\n")[0]
        eleventh = stack.enter_context(connect(server))
        assert_problem(ask(eleventh, "GET /openapi.json HTTP/1.1\nHost: a\n\n"), 429, "too_many_connections")
        one.close()
        until(lambda: len(server._server.active_channels) < 10)  # type: ignore[union-attr]
        assert "200" in ask(stack.enter_context(connect(server)), "GET /openapi.json HTTP/1.1\nHost: a\n\n")[0]


# ---- load


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that sheds load soon."""
    monkeypatch.setattr(shedding, "LEAST_UNDER_WAY", 4)
    for module in ("channels", "channel_server"):
        monkeypatch.setattr(f"service_kit.web.{module}.BUSY", 2)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("in_pieces", [False, True])
def test_what_is_too_much_is_refused_at_once_and_livez_answers(
    serve: Callable[..., WebServer], gate: Gate, in_pieces: bool
) -> None:
    server = serve(gathers=False)
    order = "POST /held HTTP/1.1\nHost: a\nX-Request-ID: Mine-1\nContent-Length: 2\n\n{}"
    with ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(connect(server)).sendall(b"GET /held HTTP/1.1\r\nHost: a\r\n\r\n")
        until(lambda: len(server._server.under_way) == 4)  # type: ignore[union-attr]
        client = stack.enter_context(connect(server))
        if in_pieces:  # then the parser reads it, and it is refused all the same
            client.sendall(order[:20].replace("\n", "\r\n").encode())
            time.sleep(0.2)
            answer = ask(client, order[20:])
        else:
            answer = ask(client, order)
        headers = assert_problem(answer, 503, "overloaded")
        assert (headers["retry-after"], headers["x-request-id"]) == ("1", "Mine-1")
        assert "200" in ask(client, "GET /livez HTTP/1.1\nHost: a\n\n")[0]
        assert "200" in ask(client, "GET /readyz HTTP/1.1\nHost: a\n\n")[0]
        assert count_of(server.shed, "load") == 1
        gate.opened.set()
        until(lambda: not server._server.under_way)  # type: ignore[union-attr]
        assert "405" in ask(client, order)[0]


@pytest.mark.usefixtures("small")
def test_who_comes_back_at_once_waits(serve: Callable[..., WebServer]) -> None:
    server = serve(gathers=False)
    with ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(connect(server)).sendall(b"GET /held HTTP/1.1\r\nHost: a\r\n\r\n")
        until(lambda: len(server._server.under_way) == 4)  # type: ignore[union-attr]
        client = stack.enter_context(connect(server))
        begun_s = time.monotonic()
        for _ in range(6):
            assert "503" in ask(client, "GET /held HTTP/1.1\nHost: a\n\n")[0]
    assert time.monotonic() - begun_s >= 5 * shedding.PAUSE_S


@pytest.mark.usefixtures("small")
def test_a_service_that_hangs_does_not_say_that_it_is_alive(
    serve: Callable[..., WebServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shedding, "STUCK_S", 0.5)
    server = serve(gathers=False, threads=4)
    with ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(connect(server)).sendall(b"GET /held HTTP/1.1\r\nHost: a\r\n\r\n")
        until(lambda: server._server.shedding.is_stuck)  # type: ignore[union-attr]
        client = stack.enter_context(connect(server))
        assert "503" in ask(client, "GET /livez HTTP/1.1\nHost: a\n\n")[0]
