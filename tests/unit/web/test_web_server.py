from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Iterator

import pytest
import requests
from flask import Flask, request

from service_kit.errors import StartRefused
from service_kit.health import Health
from service_kit.web.app import create_base_app
from service_kit.web.json_body import read_json_object
from service_kit.web.server import WebServer
from service_kit.web.socket_loop import PollLoop

#: Far more than the buffers of a connection take.
LONG = 20_000_000


@pytest.fixture
def app() -> Flask:
    app = create_base_app(__name__, health=Health())

    def sleep(seconds: float) -> dict[str, bool]:
        time.sleep(seconds)
        return {"done": True}

    app.add_url_rule("/long", view_func=lambda: "x" * LONG)
    app.add_url_rule("/sleep/<float:seconds>", view_func=sleep)
    app.add_url_rule("/body", "body", lambda: read_json_object(request), methods=["POST"])
    return app


def make_server(app: Flask, port: int = 0, **options) -> WebServer:
    return WebServer(app, "127.0.0.1", port, port_setting="REQUESTOR_PORT", **options)


@pytest.fixture(params=["own loop", "waitress's loop"])
def server(app, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[WebServer]:
    if request.param == "waitress's loop":  # what systems without epoll use
        monkeypatch.setattr("service_kit.web.channel_server.make_loop", PollLoop)
    server = make_server(app, request_timeout_s=1.0)
    server.start()
    yield server
    server.stop(2.0)


def url_of(server: WebServer, path: str) -> str:
    return f"http://127.0.0.1:{server.port}{path}"


def web_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("web")]


def in_thread(call) -> tuple[threading.Thread, list]:
    results: list = []

    def run() -> None:
        try:
            results.append(call())
        except requests.RequestException as error:
            results.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, results


def test_it_serves_on_a_free_port(server):
    answer = requests.get(url_of(server, "/livez"), timeout=5)
    assert answer.json() == {"status": "alive"}
    assert "Server" not in answer.headers
    assert server.check() is None
    assert server.queue_depth == 0


def test_a_taken_port_refuses_the_start_with_one_helpful_line(app, server):
    second = make_server(app, server.port)
    with pytest.raises(StartRefused) as refused:
        second.start()
    line = str(refused.value)
    assert f"Port {server.port} is already in use" in line
    assert "REQUESTOR_PORT" in line
    assert f"netstat -ano | findstr :{server.port}" in line
    assert "\n" not in line
    assert second.check() == "not serving"
    second.stop(1.0)
    assert requests.get(url_of(server, "/livez"), timeout=5).ok


def test_a_port_that_is_bound_but_not_yet_listened_on_is_taken_too(app):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        with pytest.raises(StartRefused, match="already in use"):
            make_server(app, other.getsockname()[1]).start()


def test_an_address_of_another_machine_refuses_the_start(app):
    server = WebServer(app, "192.0.2.1", 0, port_setting="REQUESTOR_PORT")
    with pytest.raises(StartRefused, match="REQUESTOR_HOST"):
        server.start()


def test_stopping_leaves_no_thread_and_frees_the_port(app):
    before = web_threads()
    server = make_server(app)
    server.start()
    with requests.Session() as session:
        session.get(url_of(server, "/livez"), timeout=5)
        begun_s = time.monotonic()
        server.stop(30.0)
    assert time.monotonic() - begun_s < 15.0, "an idle connection must not delay the stop"
    assert web_threads() == before
    assert server.check() == "not serving"
    server.stop(5.0)
    again = make_server(app, server.port)
    again.start()
    again.stop(5.0)


def test_a_running_request_is_finished_before_the_stop(app):
    server = make_server(app)
    server.start()
    thread, results = in_thread(lambda: requests.get(url_of(server, "/sleep/0.5"), timeout=5))
    time.sleep(0.2)
    server.stop(5.0)
    thread.join()
    assert results[0].json() == {"done": True}


def test_waiting_requests_are_finished_too(app):
    server = make_server(app, threads=1)
    server.start()
    waiting = [in_thread(lambda: requests.get(url_of(server, "/sleep/0.2"), timeout=5)) for _ in range(4)]
    time.sleep(0.1)
    assert server.queue_depth > 0
    server.stop(5.0)
    for thread, results in waiting:
        thread.join()
        assert results[0].json() == {"done": True}


def test_a_request_that_overruns_the_stop_is_cut(app):
    server = make_server(app)
    server.start()
    thread, results = in_thread(lambda: requests.get(url_of(server, "/sleep/8.0"), timeout=30))
    time.sleep(0.2)
    begun_s = time.monotonic()
    server.stop(0.5)
    assert time.monotonic() - begun_s < 7
    thread.join()
    assert isinstance(results[0], requests.ConnectionError)
    # Its thread ends by itself, when the view does.
    give_up_s = time.monotonic() + 30
    while web_threads() and time.monotonic() < give_up_s:
        time.sleep(0.05)
    assert web_threads() == []


def test_no_new_connection_is_taken_while_stopping(app):
    server = make_server(app)
    server.start()
    thread, _ = in_thread(lambda: requests.get(url_of(server, "/sleep/0.8"), timeout=5))
    time.sleep(0.2)
    stopping = threading.Thread(target=server.stop, args=(5.0,))
    stopping.start()
    time.sleep(0.2)
    with pytest.raises(requests.ConnectionError):
        requests.get(url_of(server, "/livez"), timeout=5)
    thread.join()
    stopping.join()


def test_a_sender_who_dribbles_is_cut_at_the_deadline(server):
    begun_s = time.monotonic()
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
        connection.sendall(b"POST /body HTTP/1.1\r\nHost: a\r\nContent-Length: 1000\r\n\r\n")
        with pytest.raises(OSError):  # noqa: PT011, PT012 - reset or broken pipe, as the system has it
            while time.monotonic() < begun_s + 10:
                connection.sendall(b"x")
                time.sleep(0.05)
    assert 0.8 < time.monotonic() - begun_s < 5


def test_a_connection_may_be_used_for_longer_than_one_request_may_take(server):
    with requests.Session() as session:
        for _ in range(5):
            assert session.get(url_of(server, "/livez"), timeout=5).ok
            time.sleep(0.3)


def test_a_body_over_the_limit_is_answered_by_the_app_with_a_problem(server):
    headers = {"Content-Type": "application/json"}
    answer = requests.post(url_of(server, "/body"), data=b"x" * 100_000, headers=headers, timeout=5)
    assert answer.status_code == 413
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_a_chunked_body_is_bounded_and_read_like_any_other(server):
    chunks = (b'{"a":', b"1}")
    answer = requests.post(
        url_of(server, "/body"), data=iter(chunks), headers={"Content-Type": "application/json"}, timeout=5
    )
    assert answer.json() == {"a": 1}
    answer = requests.post(
        url_of(server, "/body"),
        data=iter([b" " * 10_000] * 10),
        headers={"Content-Type": "application/json"},
        timeout=5,
    )
    assert answer.status_code == 413


@pytest.mark.skipif(sys.platform == "win32", reason="select() of Windows takes 512 sockets")
def test_more_connections_than_select_could_watch_are_served(app):
    resource = pytest.importorskip("resource")
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 4096:
        pytest.skip("the limit of open files is below 4096")
    server = make_server(app, connection_limit=2000)
    server.start()
    connections: list[socket.socket] = []
    try:
        connections += [socket.create_connection(("127.0.0.1", server.port), timeout=5) for _ in range(1100)]
        assert requests.get(url_of(server, "/livez"), timeout=5).ok
    finally:
        for connection in connections:
            connection.close()
        server.stop(5.0)


def test_a_slow_reader_gets_all_of_a_long_answer_while_others_are_served(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as slow:
        slow.sendall(b"GET /long HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        received = len(slow.recv(1000))
        assert requests.get(url_of(server, "/livez"), timeout=5).ok
        while chunk := slow.recv(1_000_000):
            received += len(chunk)
    assert received > LONG


def test_requests_sent_at_once_on_one_connection_are_answered_in_their_order(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        request = b"GET %s HTTP/1.1\r\nHost: x\r\n\r\n"
        client.sendall(request % b"/sleep/0.05" + request % b"/livez" + request % b"/sleep/0.01")
        text = b""
        while text.count(b'{"') < 3:
            text += client.recv(10_000)
    assert [text.find(word) for word in (b"done", b"alive")] == sorted(text.find(word) for word in (b"done", b"alive"))
    assert text.count(b"done") == 2


def test_a_client_that_leaves_in_the_middle_of_its_request_frees_its_place(server):
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
            client.sendall(b"GET /sleep/0.05 HTTP/1.1\r\nHost: x\r\n\r\n")
    assert requests.get(url_of(server, "/livez"), timeout=5).ok
    deadline = time.monotonic() + 5
    while server._server.active_channels and time.monotonic() < deadline:
        time.sleep(0.05)
    assert server._server.active_channels == {}


def test_requests_are_answered_beside_many_idle_connections(server):
    idle = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(300)]
    try:
        with requests.Session() as session:
            for _ in range(20):
                assert session.get(url_of(server, "/livez"), timeout=5).ok
    finally:
        for connection in idle:
            connection.close()
