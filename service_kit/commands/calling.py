"""Where commands find the running service, and by which key they call it."""

from __future__ import annotations

import os
from collections.abc import Mapping

#: Addresses that say "all of this machine", where it is called at the loop-back one.
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 # these are compared, not listened on


def key_variable(service: str) -> str:
    """The variable that holds the key by which commands call a service. Arguments of a process anybody can read."""
    return f"ORDER_COMMUNICATOR_{service.upper()}_KEY"


def shown_key(service: str, environ: Mapping[str, str] = os.environ) -> str | None:
    """The key by which commands call a service; None when there is none."""
    return environ.get(key_variable(service), "").strip() or None


def service_url(host: str, port: int) -> str:
    """The URL at which a service on this machine is called."""
    host = EVERYWHERE.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
