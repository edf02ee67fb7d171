"""Which addresses a webhook may reach: those of the public internet, and networks that the operator opens.

A seller names the URL, so it must not lead into our own network (server-side request forgery). The check looks at the
addresses that were resolved, and the connection goes to one of these very addresses: a name that changes its answer
between the check and the connection gains nothing.

The lists are IANA's special-purpose registries and stand here in full, because ``is_global`` of the ipaddress module
differs between releases of Python and takes multicast for global.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from processor_app.delivery.deadline import Address
from service_kit.networks import IpAddress, IpNetwork

_SPECIAL_V4 = tuple(
    IPv4Network(network)
    for network in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
        *("192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16"),
        *("192.175.48.0/24", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
    )
)
#: Global unicast. Loopback, unique local, link-local, site-local, multicast and IPv4-compatible are all outside.
_GLOBAL_V6 = IPv6Network("2000::/3")
#: Within it: protocol assignments (Teredo and ORCHID too), documentation, 6to4, AS112.
_SPECIAL_V6 = tuple(
    IPv6Network(network) for network in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20", "2620:4f:8000::/48")
)
#: Prefixes before an IPv4 address that the packet really goes to: mapped (RFC 4291), NAT64 (RFC 6052).
_AROUND_V4 = (IPv6Network("::ffff:0:0/96"), IPv6Network("64:ff9b::/96"))


class AddressRefused(Exception):
    """None of a host's addresses may be reached; the text says why, for people."""


class AddressGuard:
    """Lets through what is global or within one of the opened networks."""

    def __init__(self, opened: Sequence[IpNetwork] = ()) -> None:
        self._opened = tuple(opened)

    def allows(self, address: IpAddress) -> bool:
        """Whether a webhook may connect to the address."""
        target = _target_of(address)
        return _is_global(target) or any(target in network for network in self._opened)

    def choose(self, addresses: Sequence[Address]) -> list[Address]:
        """The addresses that may be reached, in their order. Raises `AddressRefused` when there is none."""
        allowed = [address for address in addresses if self._allows_socket_address(address)]
        if not allowed:
            raise AddressRefused("the host has no address in the public internet")
        return allowed

    def _allows_socket_address(self, address: Address) -> bool:
        host, scope_id = address.sockaddr[0], address.sockaddr[3] if len(address.sockaddr) > 3 else 0
        if scope_id:
            return False
        try:
            return self.allows(ip_address(host))
        except ValueError:
            return False


def _target_of(address: IpAddress) -> IpAddress:
    """The IPv4 address that an IPv6 one leads to, or the address itself."""
    if isinstance(address, IPv6Address) and any(address in network for network in _AROUND_V4):
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def _is_global(address: IpAddress) -> bool:
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _SPECIAL_V4)
    return address in _GLOBAL_V6 and not any(address in network for network in _SPECIAL_V6)
