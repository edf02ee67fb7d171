"""No URL that a seller can name leads into our own network.

Two witnesses: a listener on every address of this machine that counts its connections, and the interpreter's own audit
events, which see every ``connect`` whether or not anybody listens.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest

from processor_app.delivery.channel import AttemptResult, Parcel, Seller, Verdict
from processor_app.delivery.deadline import Address, Resolver, system_resolver
from processor_app.delivery.webhook import WebhookChannel
from processor_app.delivery.webhook_signing import new_secret
from tests.sinks.scripted import ScriptedServer, answering

PARCEL = Parcel(
    "d-1", "follow_up", "A1", "s1", Seller("s", webhook_secrets=(new_secret(),)), 0, 1, "", "n1", message="hi"
)
TAKEN = answering(b"HTTP/1.1 200 OK\r\n\r\n")

_connected: list[Any] = []
_watched = [False]


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "socket.connect" and _watched[0]:
        _connected.append(arguments[1])


sys.addaudithook(_hook)


@pytest.fixture
def connected() -> Iterator[list[Any]]:
    """Every address that this process tries to connect to during the test."""
    _connected.clear()
    _watched[0] = True
    yield _connected
    _watched[0] = False


@pytest.fixture
def listener() -> Iterator[ScriptedServer]:
    """Answers on every address of this machine, IPv6 where there is any."""
    made = ScriptedServer(TAKEN, everywhere=True)
    yield made
    made.close()


def send(url: str, resolver: Resolver = system_resolver, opened: Sequence[str] = ()) -> AttemptResult:
    channel = WebhookChannel([ip_network(network) for network in opened], resolver=resolver, timeout_s=5)
    return channel.send(replace(PARCEL, seller=replace(PARCEL.seller, webhook_url=url)))


def always(*hosts: str) -> Resolver:
    """A name server that always gives these addresses."""

    def resolver(host: str, port: int) -> list[Address]:
        return [_address(found, port) for found in hosts]

    return resolver


def _address(host: str, port: int) -> Address:
    if ":" in host:
        plain, _, scope = host.partition("%")
        return Address(socket.AF_INET6, (plain, port, 0, int(scope or 0)))
    return Address(socket.AF_INET, (host, port))


#: Written as they are in the URL, before the port.
HOSTS = [
    # loopback and "this host", in every way that programs read an IPv4 address
    *[
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "127.255.255.254",
        "2130706433",
        "0x7f000001",
        "0x7F.0.0.1",
        "0x7f.1",
        "017700000001",
        "0177.0.0.1",
    ],
    *[
        "0177.1",
        "127.0.0.01",
        "127.0.0.0x1",
        "0.0.0.0",
        "0",
        "0x0",
        "00000000000",
        "127.0.0.1.",
        "127.0.0.1..",
        "4294967297",
        "127.0.0.1%00",
    ],
    *["127.0.0.1%2e", "%31%32%37.0.0.1", "1.0.0.127.."],
    # in other scripts
    *[
        "１２７.０.０.１",
        "127。0。0。1",
        "127．0．0．1",
        "127｡0｡0｡1",
        "①②⑦.⓪.⓪.①",
        "١٢٧.٠.٠.١",
        "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ",
        "locaⅼhost",
    ],
    # by name
    *["localhost", "LOCALHOST", "localhost.", "ip6-localhost", "localhost.localdomain", "sub.localhost"],
    # IPv6
    *[
        "[::1]",
        "[::]",
        "[0:0:0:0:0:0:0:1]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::ffff:0.0.0.0]",
        "[::127.0.0.1]",
        "[::1%25lo]",
    ],
    *[
        "[::1%lo]",
        "[fe80::1%25eth0]",
        "[fe80::1]",
        "[fc00::1]",
        "[fd00:ec2::254]",
        "[ff02::1]",
        "[fec0::1]",
        "[100::1]",
    ],
    *[
        "[64:ff9b::127.0.0.1]",
        "[64:ff9b::10.0.0.1]",
        "[64:ff9b:1::127.0.0.1]",
        "[2002:7f00:1::]",
        "[2002:a9fe:a9fe::1]",
    ],
    *["[2001:0:7f00:1::]", "[2001::1]", "[2001:db8::1]", "[3fff::1]", "[5f00::1]", "[::ffff:0:127.0.0.1]"],
    # private, shared, link-local, metadata, test, multicast, reserved
    *[
        "10.0.0.1",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "2852039166",
        "0xa9fea9fe",
    ],
    *[
        "0251.0376.0251.0376",
        "[::ffff:169.254.169.254]",
        "192.0.0.192",
        "192.0.2.1",
        "198.18.0.1",
        "198.51.100.1",
        "203.0.113.1",
    ],
    *["192.88.99.1", "224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255"],
    # not one host
    *[
        "user@127.0.0.1",
        "user:pw@127.0.0.1",
        "example.com@127.0.0.1",
        "127.0.0.1#@example.com",
        "example.com\\@127.0.0.1",
    ],
    *["example.com:80\\@127.0.0.1", "[::1", "::1", ".", "..", "a..b", "-a.example"],
    *("", "a" * 64 + ".example", "127.0.0.1 ", "127.0.0.1\t", "\n127.0.0.1", "127.0.0.1\u2028", "127.0.0.1\u200b"),
    *("example.com\x00.127.0.0.1", "exa mple.com"),
]


def test_enough_forms_are_tried() -> None:
    assert len(set(HOSTS)) == len(HOSTS) > 100


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("host", HOSTS)
def test_no_form_of_a_url_leads_inside(scheme: str, host: str, listener: ScriptedServer, connected: list[Any]) -> None:
    result = send(f"{scheme}://{host}:{listener.port}/")
    assert result.verdict in (Verdict.FAILED, Verdict.RETRY)
    assert (listener.connections, connected) == (0, [])


@pytest.mark.parametrize(
    "url", ["ftp://{}/", "file:///etc/passwd", "gopher://{}/", "//{}/", "{}", "http:{}", "http:/{}", "HTTP:\\\\{}"]
)
def test_no_other_scheme_leads_inside(url: str, listener: ScriptedServer, connected: list[Any]) -> None:
    assert send(url.format(f"127.0.0.1:{listener.port}")).verdict == Verdict.FAILED
    assert (listener.connections, connected) == (0, [])


INSIDE = [
    *["127.0.0.1", "0.0.0.0", "10.1.2.3", "100.64.1.1", "169.254.169.254", "224.0.0.1", "255.255.255.255"],
    *["::1", "::", "::ffff:127.0.0.1", "::127.0.0.1", "64:ff9b::7f00:1", "64:ff9b:1::1", "2002:7f00:1::1", "2001::1"],
    *("fe80::1", "fe80::1%1", "fd00::1", "ff02::1", "2606:4700::1111%1", "not an address"),
]


@pytest.mark.parametrize("found", INSIDE)
def test_no_name_that_resolves_to_inside_is_connected(
    found: str, listener: ScriptedServer, connected: list[Any]
) -> None:
    result = send(f"http://seller.example:{listener.port}/", always(found))
    assert result == AttemptResult(Verdict.RETRY, "Not sent: the host has no address in the public internet.")
    assert (listener.connections, connected) == (0, [])


def test_of_several_addresses_only_the_allowed_are_connected(listener: ScriptedServer, connected: list[Any]) -> None:
    resolver = always("10.0.0.1", "::1", "127.0.0.1", "169.254.169.254")
    result = send(f"http://seller.example:{listener.port}/", resolver, opened=["127.0.0.1/32"])
    assert result.verdict == Verdict.DELIVERED
    assert connected == [("127.0.0.1", listener.port)]


def test_a_name_that_changes_its_answer_gains_nothing(listener: ScriptedServer, connected: list[Any]) -> None:
    answers = iter([["127.0.0.2"], ["127.0.0.1"]])
    asked: list[str] = []

    def rebinding(host: str, port: int) -> Sequence[Address]:
        asked.append(host)
        return always(*next(answers))(host, port)

    # 127.0.0.2 stands for a public address. It is asked for once, and what was checked is what is connected.
    url = f"http://rebinding.example:{listener.port}/"
    send(url, rebinding, opened=["127.0.0.2/32"])
    assert (asked, [address[0] for address in connected]) == (["rebinding.example"], ["127.0.0.2"])
    connected.clear()
    assert "no address in the public internet" in send(url, rebinding, opened=["127.0.0.2/32"]).detail
    assert connected == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_leads_nowhere(status: int, listener: ScriptedServer, connected: list[Any]) -> None:
    head = f"HTTP/1.1 {status} There\r\nLocation: http://127.0.0.1:{listener.port}/\r\n\r\n"
    redirecting = ScriptedServer(answering(head.encode()))
    try:
        assert send(f"http://127.0.0.1:{redirecting.port}/", opened=["127.0.0.1/32"]).verdict == Verdict.RETRY
    finally:
        redirecting.close()
    assert (listener.connections, connected) == (0, [("127.0.0.1", redirecting.port)])


def test_an_opened_network_can_be_reached(listener: ScriptedServer) -> None:
    assert send(f"http://127.0.0.1:{listener.port}/", opened=["127.0.0.0/8"]).verdict == Verdict.DELIVERED
    assert listener.connections == 1
