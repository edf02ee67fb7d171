"""The benchmarks' load generator against a small server."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from benchmarks.calls import Address, Call
from benchmarks.load import Plan, run_plan


class Server(ThreadingHTTPServer):
    """Answers 200; 503 below /busy; and drops the connection below /cut."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.paths: list[str] = []
        self.connections = 0

    @property
    def address(self) -> Address:
        return Address("127.0.0.1", self.server_port)

    def process_request(self, request, client_address):
        self.connections += 1
        super().process_request(request, client_address)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        if self.path.startswith("/cut"):
            self.close_connection = True
            return
        self.send_response(503 if self.path.startswith("/busy") else 200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def plan(server: Server, paths: list[str], *, clients: int, seconds: float = 30, repeat: bool = False) -> Plan:
    return Plan(server.address, [Call(path).encode(server.address) for path in paths], clients, seconds, repeat)


def test_every_request_is_sent_once_over_as_many_connections_as_there_are_clients(server: Server) -> None:
    paths = [f"/{number}" for number in range(200)]
    outcome = run_plan(plan(server, paths, clients=4))
    assert sorted(server.paths) == sorted(paths)
    assert server.connections == 4
    assert sorted(outcome.requests) == list(range(200))
    assert not outcome.errors
    assert len(outcome.sent_s) == len(outcome.took_s) == 200
    for sent_s, took_s in zip(outcome.sent_s, outcome.took_s, strict=True):
        assert outcome.began_s <= sent_s < sent_s + took_s <= outcome.ended_s + 1e-9
    assert outcome.per_s == pytest.approx(200 / outcome.seconds)


def test_a_refusal_and_a_lost_connection_are_counted_and_the_rest_goes_on(server: Server) -> None:
    outcome = run_plan(plan(server, ["/0", "/busy", "/2", "/cut", "/4", "/5"], clients=1))
    assert list(outcome.requests) == [0, 2, 4, 5]
    assert outcome.errors == {"status 503": 1, "ConnectionError": 1}
    assert server.connections == 2


def test_a_repeated_plan_ends_with_its_time(server: Server) -> None:
    outcome = run_plan(plan(server, ["/a", "/b"], clients=2, seconds=0.2, repeat=True))
    assert len(outcome.took_s) > 2
    assert set(outcome.requests) == {0, 1}
    assert 0.1 < outcome.seconds < 5
