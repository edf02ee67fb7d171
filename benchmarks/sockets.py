"""What both load generators are made of: kept connections, and no pauses for the garbage collector."""

from __future__ import annotations

import gc
import socket
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.calls import Address

#: As much of an answer is read at a time.
CHUNK = 65_536


def connect(address: Address) -> socket.socket:
    """A connection whose reads and writes never wait."""
    made = socket.create_connection(address, timeout=10)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setblocking(False)
    return made


@contextmanager
def collector_off() -> Iterator[None]:
    """Keep the garbage collector from running meanwhile."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
