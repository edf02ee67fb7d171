"""Networks as settings name them, and addresses that lie in them."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import TypeAlias

from service_kit.settings import Parser

IpAddress: TypeAlias = IPv4Address | IPv6Address
IpNetwork: TypeAlias = IPv4Network | IPv6Network


def networks(example: str = "127.0.0.0/8,10.1.0.0/16") -> Parser[tuple[IpNetwork, ...]]:
    """One or more networks with commas between them."""

    def read(raw: str) -> tuple[IpNetwork, ...]:
        return tuple(ip_network(item.strip()) for item in raw.split(","))

    return Parser(read, "must be a list of networks with commas", example)


def read_address(text: str) -> IpAddress | None:
    """The address that a text is, or None; an IPv4 address in IPv6's clothes is the IPv4 address."""
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def is_in_networks(text: str, allowed: Sequence[IpNetwork]) -> bool:
    """Whether a text is an address in one of the networks."""
    address = read_address(text)
    return address is not None and any(address in network for network in allowed)
