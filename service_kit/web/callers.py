"""Who calls: the address of a client, also when a proxy stands between."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from service_kit.logs import get_logger
from service_kit.measures import Tally
from service_kit.networks import IpNetwork, is_in_networks, read_address
from service_kit.seldom import Seldom

_log = get_logger(__name__)
#: Where the server says in the WSGI environment which address a trusted proxy has named.
CLIENT_ADDRESS_KEY = "order_communicator.client_address"


def client_address(environ: Mapping[str, Any]) -> str:
    """The address that a request comes from, as a text; behind a trusted proxy the one that the proxy has seen."""
    address: str = environ.get(CLIENT_ADDRESS_KEY) or environ.get("REMOTE_ADDR", "")
    return address


def is_by_https(environ: Mapping[str, Any]) -> bool:
    """Whether the client speaks HTTPS, as a trusted proxy says; from others nobody believes it."""
    schemes: str = environ.get("HTTP_X_FORWARDED_PROTO", "")
    return CLIENT_ADDRESS_KEY in environ and schemes.rpartition(",")[2].strip().lower() == "https"


def forwarded_address(header: str, peer: str) -> str:
    """What the nearest proxy has added to X-Forwarded-For; all before it is what the client says of itself."""
    address = read_address(header.rpartition(",")[2].strip())
    return peer if address is None else str(address)


class ProxyGate:
    """Lets in who connects from a trusted proxy's address, or everybody when no proxy is named."""

    def __init__(self, trusted: Sequence[IpNetwork]) -> None:
        self._trusted = tuple(trusted)
        self._seldom = Seldom()
        #: Connections from elsewhere.
        self.refused = Tally()

    @property
    def is_set(self) -> bool:
        """Whether everybody comes through a proxy."""
        return bool(self._trusted)

    def lets_in(self, peer: str) -> bool:
        """Whether the connection may stay; a refused one is counted, and told of now and then."""
        if not self._trusted or is_in_networks(peer, self._trusted):
            return True
        self.refused.add()
        if self._seldom.may_tell(peer):
            _log.warning(
                "Closed a connection that does not come from a trusted proxy", action="web.peer_refused", peer=peer
            )
        return False
