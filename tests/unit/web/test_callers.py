from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import ip_network

import pytest
import requests
from flask import Flask, request

from service_kit.health import Health
from service_kit.seldom import Seldom
from service_kit.web.app import create_base_app
from service_kit.web.callers import ProxyGate, client_address, forwarded_address
from service_kit.web.server import WebServer


@pytest.fixture
def app() -> Flask:
    app = create_base_app(__name__, health=Health())
    app.add_url_rule("/me", view_func=lambda: {"address": client_address(request.environ)})
    return app


def serve(app: Flask, *trusted: str) -> Iterator[WebServer]:
    server = WebServer(app, "127.0.0.1", 0, "X_PORT", trusted_proxies=[ip_network(network) for network in trusted])
    server.start()
    yield server
    server.stop(2.0)


@pytest.fixture
def behind_proxy(app) -> Iterator[WebServer]:
    yield from serve(app, "127.0.0.1/32")


@pytest.fixture
def behind_another(app) -> Iterator[WebServer]:
    yield from serve(app, "192.0.2.0/24", "2001:db8::/32")


@pytest.fixture
def open_server(app) -> Iterator[WebServer]:
    yield from serve(app)


def address_of(server: WebServer, **headers: str) -> str:
    answer = requests.get(f"http://127.0.0.1:{server.port}/me", headers=headers, timeout=5)
    address: str = answer.json()["address"]
    return address


def test_without_a_proxy_nobody_is_believed(open_server):
    assert address_of(open_server) == "127.0.0.1"
    assert address_of(open_server, **{"X-Forwarded-For": "192.0.2.1"}) == "127.0.0.1"


def test_a_proxy_is_believed_for_what_it_has_added_itself(behind_proxy):
    assert address_of(behind_proxy, **{"X-Forwarded-For": "192.0.2.1"}) == "192.0.2.1"
    assert address_of(behind_proxy, **{"X-Forwarded-For": "198.51.100.7, 192.0.2.1"}) == "192.0.2.1"
    assert address_of(behind_proxy) == "127.0.0.1"
    assert address_of(behind_proxy, X_Forwarded_For="192.0.2.1") == "127.0.0.1"


def test_two_headers_count_as_one(behind_proxy):
    with socket.create_connection(("127.0.0.1", behind_proxy.port), timeout=5) as connection:
        lines = ["GET /me HTTP/1.0", "Host: a", "X-Forwarded-For: 198.51.100.7", "X-Forwarded-For: 192.0.2.1", "", ""]
        connection.sendall("\r\n".join(lines).encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert b'"192.0.2.1"' in answer


@pytest.mark.parametrize(
    ("header", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("a, b,2001:DB8::1", "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        *[(broken, "10.0.0.1") for broken in ("", ",", "unknown", "192.0.2.1,", "192.0.2.1:80", "x" * 5000)],
    ],
)
def test_what_is_no_address_is_nobodys(header, address):
    assert forwarded_address(header, "10.0.0.1") == address


def test_who_comes_past_the_proxy_is_cut_unread(behind_another):
    for _ in range(3):
        with pytest.raises(requests.ConnectionError):
            address_of(behind_another)
    assert behind_another.gate.refused.read()[()] >= 3


def test_a_mapped_address_is_the_ipv4_one():
    gate = ProxyGate([ip_network("192.0.2.0/24")])
    assert gate.lets_in("::ffff:192.0.2.9")
    assert not gate.lets_in("::ffff:198.51.100.1")
    assert not gate.lets_in("fe80::1%eth0")


def test_a_cause_is_told_once_and_few_are_told_at_all():
    now = 0.0
    seldom = Seldom(period_s=60.0, most=3, clock=lambda: now)
    assert [seldom.may_tell(cause) for cause in "aabbcdd"] == [True, False, True, False, True, False, False]
    now = 60.0
    assert seldom.may_tell("a")
