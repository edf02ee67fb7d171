"""What a webhook's URL says, read strictly: what libraries and browsers read in different ways is refused."""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import quote, urlsplit

from service_kit.rules import url_fault

_DEFAULT_PORTS = {"http": 80, "https": 443}
_NAME = re.compile(r"(?=.{1,253}$)(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
#: A last label that programs take for a number, and then the whole name for an IPv4 address in one of its odd forms.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
#: What may stand in a path or query as it is; "%" because it is quoted already.
_PLAIN = "%/:@!$&'()*+,;=~-._?"


class UrlRefused(ValueError):
    """The URL is none that a webhook may have; the text says why, for people."""


@dataclass(frozen=True, slots=True)
class WebhookUrl:
    """A URL in its parts: ``host`` is an ASCII name or an IP address without brackets, ``target`` path and query."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"


def parse_webhook_url(url: str) -> WebhookUrl:
    """The parts of a webhook's URL. Raises `UrlRefused`.

    Plain http is taken: the signature protects the content's origin, but nothing its secrecy; https is for that.
    """
    fault = url_fault(url)
    if fault is not None:
        raise UrlRefused(f"the URL {fault}")
    parts = urlsplit(url)
    port = _DEFAULT_PORTS[parts.scheme] if parts.port is None else parts.port
    if port == 0:
        raise UrlRefused("the URL must not have port 0")
    target = quote(parts.path or "/", safe=_PLAIN) + (f"?{quote(parts.query, safe=_PLAIN)}" if parts.query else "")
    return WebhookUrl(parts.scheme, _host_of(parts.netloc, parts.hostname or ""), port, target)


def webhook_url_fault(url: str) -> str | None:
    """What is wrong with a webhook's URL, or None."""
    try:
        parse_webhook_url(url)
    except UrlRefused as refusal:
        return str(refusal)
    return None


def _host_of(authority: str, host: str) -> str:
    if "[" in authority:
        return _ipv6(host)
    name = _ascii(host).lower().removesuffix(".")
    if not _NAME.fullmatch(name):
        raise UrlRefused("the URL's host is not a name or an IP address")
    if _NUMBER.fullmatch(name.rpartition(".")[2]):
        return _ipv4(name)
    return name


def _ascii(host: str) -> str:
    if host.isascii():
        return host
    try:
        # Makes ASCII digits and dots of full-width ones, too; what it gives is checked like any other name.
        return host.encode("idna").decode("ascii")
    except UnicodeError:
        raise UrlRefused("the URL's host is not a name") from None


def _ipv4(host: str) -> str:
    try:
        return str(IPv4Address(host))
    except ValueError:
        raise UrlRefused("the URL's host is a number, but not an IPv4 address in its usual form") from None


def _ipv6(host: str) -> str:
    try:
        address = IPv6Address(host)
    except ValueError:
        raise UrlRefused("the URL's host is not an IPv6 address") from None
    if address.scope_id is not None:
        raise UrlRefused("the URL's host must not have a zone")
    return str(address)
