"""The settings that both services have for who may come in, and how often."""

from __future__ import annotations

from dataclasses import dataclass

from service_kit.networks import IpNetwork, networks
from service_kit.settings import flag, integer, setting


@dataclass(frozen=True, slots=True)
class DoorSettings:
    """Keys, the proxy in front, rates and connections."""

    require_keys: bool = setting(
        False,
        parse=flag(),
        help="Whether calls need a key (Authorization: Bearer); without, anybody who reaches the port may do anything.",
    )
    trusted_proxies: tuple[IpNetwork, ...] = setting(
        (),
        parse=networks("127.0.0.1/32,10.1.0.0/16"),
        help="Networks that the TLS proxy connects from; when set, connections from elsewhere are closed, and the "
        "client's address is the last one of X-Forwarded-For.",
    )
    key_rate: int | None = setting(
        None,
        parse=integer(0, 1_000_000, 500),
        help="How many requests a second one key may send; 0 is no limit. Unset: 500 where keys are needed, else no "
        "limit.",
    )
    address_rate: int | None = setting(
        None,
        parse=integer(0, 1_000_000, 1000),
        help="The same for one address, for which a wrong key counts as twenty. Unset: 1000 where keys are needed, "
        "else no limit.",
    )
    max_connections: int = setting(
        1000,
        parse=integer(16, 100_000, 1000),
        help="How many connections the REST interface has at a time (480 at most on Windows), of which one address may "
        "have a quarter.",
    )
