from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from processor_app.delivery.addresses import AddressGuard
from processor_app.delivery.webhook_url import UrlRefused, parse_webhook_url, webhook_url_fault
from service_kit.networks import networks

#: The first and the last address of every special-purpose range, and a neighbour outside where it is global.
SPECIAL = [
    "0.0.0.0",
    "0.255.255.255",
    "10.0.0.0",
    "10.255.255.255",
    "100.64.0.0",
    "100.127.255.255",
    "127.0.0.0",
    "127.255.255.255",
    "169.254.0.0",
    "169.254.255.255",
    "172.16.0.0",
    "172.31.255.255",
    "192.0.0.0",
    "192.0.0.255",
    "192.0.2.0",
    "192.0.2.255",
    "192.31.196.0",
    "192.52.193.0",
    "192.88.99.0",
    "192.168.0.0",
    "192.168.255.255",
    "192.175.48.0",
    "198.18.0.0",
    "198.19.255.255",
    "198.51.100.0",
    "203.0.113.0",
    "203.0.113.255",
    "224.0.0.0",
    "239.255.255.255",
    "240.0.0.0",
    "255.255.255.255",
    "::",
    "::1",
    "::8.8.8.8",
    "::ffff:10.0.0.1",
    "::ffff:0:8.8.8.8",
    "64:ff9b::10.0.0.1",
    "64:ff9b:1::8.8.8.8",
    "100::1",
    "1000::1",
    "2001::",
    "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff",
    "2001:db8::",
    "2002::",
    "2002:808:808::1",
    "2620:4f:8000::1",
    "3fff::1",
    "4000::1",
    "5f00::1",
    "fc00::",
    "fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
    "fe80::1",
    "febf::1",
    "fec0::1",
    "ff00::1",
    "ff0e::1",
]
GLOBAL = [
    "1.0.0.0",
    "9.255.255.255",
    "11.0.0.0",
    "100.63.255.255",
    "100.128.0.0",
    "126.255.255.255",
    "128.0.0.0",
    "169.253.255.255",
    "169.255.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.0.1.0",
    "192.167.255.255",
    "192.169.0.0",
    "198.17.255.255",
    "198.20.0.0",
    "223.255.255.255",
    "8.8.8.8",
    "2000::1",
    "2001:200::1",
    "2001:4860:4860::8888",
    "2003::1",
    "2606:4700::1111",
    "3ffe::1",
    "::ffff:8.8.8.8",
    "64:ff9b::8.8.8.8",
]


@pytest.mark.parametrize("address", SPECIAL)
def test_a_special_address_is_refused(address: str) -> None:
    assert not AddressGuard().allows(ip_address(address))


@pytest.mark.parametrize("address", GLOBAL)
def test_a_public_address_is_allowed(address: str) -> None:
    assert AddressGuard().allows(ip_address(address))


@pytest.mark.parametrize(("address", "is_allowed"), [("127.0.0.1", True), ("::ffff:127.0.0.1", True), ("::1", False)])
def test_an_opened_network_opens_itself_alone(address: str, is_allowed: bool) -> None:
    guard = AddressGuard([ip_network("127.0.0.0/8")])
    assert guard.allows(ip_address(address)) is is_allowed
    assert not guard.allows(ip_address("10.0.0.1"))


def test_networks_are_read_from_a_list() -> None:
    assert networks().read("127.0.0.0/8, ::1/128") == (ip_network("127.0.0.0/8"), ip_network("::1/128"))
    for wrong in ("127.0.0.1/8", "127.0.0.0/33", "x", "127.0.0.0/8,", "localhost"):
        with pytest.raises(ValueError, match=r".*"):
            networks().read(wrong)


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("https://a.example", ("https", "a.example", 443, "/", "a.example")),
        ("http://A.Example.:80/x?y#z", ("http", "a.example", 80, "/x?y", "a.example")),
        ("https://a.example:8443//x/../y%20ü", ("https", "a.example", 8443, "//x/../y%20%C3%BC", "a.example:8443")),
        ("https://bücher.example/", ("https", "xn--bcher-kva.example", 443, "/", "xn--bcher-kva.example")),
        ("https://８.８.８.８/", ("https", "8.8.8.8", 443, "/", "8.8.8.8")),
        ("http://[2606:4700:0::1111]:81/", ("http", "2606:4700::1111", 81, "/", "[2606:4700::1111]:81")),
        ("https://a_b.example/", ("https", "a_b.example", 443, "/", "a_b.example")),
    ],
)
def test_a_url_is_read_in_its_parts(url: str, parts: tuple[object, ...]) -> None:
    read = parse_webhook_url(url)
    assert (read.scheme, read.host, read.port, read.target, read.authority) == parts


@pytest.mark.parametrize(
    ("url", "fault"),
    [
        ("http://0x7f.1/", "the URL's host is a number, but not an IPv4 address in its usual form"),
        ("http://1.2.3/", "the URL's host is a number, but not an IPv4 address in its usual form"),
        ("http://[1::2::3]/", "the URL must be an http or https URL"),
        ("http://[fe80::1%25eth0]/", "the URL's host must not have a zone"),
        ("http://a..example/", "the URL's host is not a name or an IP address"),
        ("http://a.example:0/", "the URL must not have port 0"),
        ("http://a.example:99999/", "the URL must be an http or https URL"),
        ("http://user@a.example/", "the URL must not carry a user name or password"),
        ("ftp://a.example/", "the URL must be an http or https URL"),
        ("http://" + "ü" * 70 + ".example/", "the URL's host is not a name"),
        ("https://a.example/" + "x" * 2048, "the URL must be at most 2048 characters long"),
    ],
)
def test_a_url_that_is_refused_says_why(url: str, fault: str) -> None:
    assert webhook_url_fault(url) == fault
    with pytest.raises(UrlRefused):
        parse_webhook_url(url)


def test_a_good_url_has_no_fault() -> None:
    assert webhook_url_fault("https://a.example/hook") is None
