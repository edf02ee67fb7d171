"""Where commands find the running service."""

from __future__ import annotations

#: Addresses that say "all of this machine", where it is called at the loop-back one.
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 # these are compared, not listened on


def service_url(host: str, port: int) -> str:
    """The URL at which a service on this machine is called."""
    host = EVERYWHERE.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
