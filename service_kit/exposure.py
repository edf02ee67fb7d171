"""What other machines can reach: a service that they can reach has keys and TLS, or it does not start."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from urllib.parse import urlsplit

from service_kit.errors import StartRefused
from service_kit.networks import IpNetwork, read_address

_GUIDE = "docs/how-to/tls.md shows how."


def is_loopback(host: str) -> bool:
    """Whether a host is this machine for certain: a name other than ``localhost`` may be anything."""
    address = read_address(host.strip("[]"))
    return host.lower() == "localhost" if address is None else address.is_loopback


def web_refusals(prefix: str, host: str, *, requires_keys: bool, trusted_proxies: Sequence[IpNetwork]) -> Iterator[str]:
    """Why the REST interface may not listen where it is set to."""
    if is_loopback(host):
        return
    missing = []
    if not requires_keys:
        command = f"flask --app wsgi_{prefix.lower()} keys create"
        missing.append(f"{prefix}_REQUIRE_KEYS=on (`{command}` makes a key)")
    if not trusted_proxies:
        missing.append(f"{prefix}_TRUSTED_PROXIES to where a TLS proxy connects from")
    if missing:
        yield (
            f"{prefix}_HOST={host} can be reached from other machines: set {' and '.join(missing)}, "
            f"or set {prefix}_HOST=127.0.0.1. {_GUIDE}"
        )


def grpc_refusals(prefix: str, setting: str, host: str, *, has_tls: bool) -> Iterator[str]:
    """Why the gRPC server may not listen where it is set to."""
    if not is_loopback(host) and not has_tls:
        yield (
            f"{setting}={host} lets other machines reach the gRPC server: set {prefix}_TLS_CERT, {prefix}_TLS_KEY, "
            f"{prefix}_TLS_CA and {prefix}_TLS_PEERS (`python dev.py certs` makes the files), "
            f"or set {prefix}_GRPC_HOST=127.0.0.1. {_GUIDE}"
        )


def target_refusals(prefix: str, targets: Iterable[str], *, has_tls: bool) -> Iterator[str]:
    """Why processors may not be called where they are said to be."""
    away = [] if has_tls else [target for target in targets if not is_loopback_target(target)]
    if away:
        yield (
            f"{prefix}_PROCESSORS names other machines ({', '.join(away)}): set {prefix}_TLS_CERT, {prefix}_TLS_KEY "
            f"and {prefix}_TLS_CA (`python dev.py certs` makes the files). {_GUIDE}"
        )


def is_loopback_target(target: str) -> bool:
    """Whether a gRPC target leads to this machine for certain."""
    scheme, colon, rest = target.partition(":")
    if colon and scheme in ("unix", "unix-abstract"):
        return True
    if colon and scheme in ("ipv4", "ipv6"):
        return all(is_loopback(_host_of(address)) for address in rest.split(","))
    if target.startswith("dns:"):
        # A name server may stand before the name: dns://192.0.2.53/orders.example:50052.
        target = rest.rpartition("/")[2]
    return is_loopback(_host_of(target))


def _host_of(address: str) -> str:
    host, colon, port = address.rpartition(":")
    # Without a port, an IPv6 address ends with a colon and digits too.
    return host if colon and port.isdigit() and (host.endswith("]") or ":" not in host) else address


def store_warnings(setting: str, url: str) -> Iterator[str]:
    """What is to be said of a store on another machine."""
    if not url.startswith(("redis://", "redis+")):
        return
    hosts = urlsplit(url).netloc.rpartition("@")[2].split(",")
    if not all(is_loopback(_host_of(host)) for host in hosts):
        yield f"{setting} leads to a Redis on another machine without TLS: all goes there in clear. Use rediss."


def open_proxy_warnings(prefix: str, *, requires_keys: bool, trusted_proxies: Sequence[IpNetwork]) -> Iterator[str]:
    """What is to be said of a proxy that publishes a service without keys."""
    if trusted_proxies and not requires_keys:
        yield (
            f"{prefix}_TRUSTED_PROXIES is set, and {prefix}_REQUIRE_KEYS is off: "
            "whoever the proxy lets through may do everything."
        )


def refuse(refusals: Iterable[str]) -> None:
    """Raise `StartRefused` with all of them, if there is one."""
    found = " ".join(refusals)
    if found:
        raise StartRefused(found)
