"""How many connections there may be, in all and from one address."""

from __future__ import annotations

import ipaddress
import sys
from collections import Counter
from contextlib import suppress

if sys.platform != "win32":
    import resource

#: A few more than the limit are taken, to be told so and to ask for /livez.
HEADROOM = 24
#: So many idle connections are closed together when there is no room for a new one.
CLOSED_TOGETHER = 16


#: Files that a process has open beside its connections: stores, logs, calls to other services.
OTHER_FILES = 512


def allow_open_files(connections: int) -> None:
    """Let the process have a connection's file open for each, as far as the system lets it."""
    if sys.platform != "win32":
        wanted = connections + HEADROOM + OTHER_FILES
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if soft != resource.RLIM_INFINITY and soft < wanted:
            with suppress(ValueError, OSError):  # macOS has further limits
                resource.setrlimit(
                    resource.RLIMIT_NOFILE, (wanted if hard == resource.RLIM_INFINITY else min(wanted, hard), hard)
                )


def origin_of(address: str) -> str:
    """Whom an address counts for: of IPv6 a whole network of 64 bits, which one user has; empty for this machine."""
    try:
        known = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(known, ipaddress.IPv6Address):
        if known.ipv4_mapped is not None:
            known = known.ipv4_mapped
        elif not known.is_loopback:
            return str(ipaddress.IPv6Address(int(known) >> 64 << 64))
    return "" if known.is_loopback else str(known)


class AddressCounts:
    """Counts the connections of each address. Only the thread of the loop may call it."""

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._counts: Counter[str] = Counter()

    def enter(self, origin: str) -> bool:
        """Count a connection, and say whether its address may have it."""
        if not origin or self._most is None:
            return True
        self._counts[origin] += 1
        return self._counts[origin] <= self._most

    def leave(self, origin: str) -> None:
        """Count a connection no more that was counted."""
        if origin and self._most is not None:
            self._counts[origin] -= 1
            if not self._counts[origin]:
                del self._counts[origin]
