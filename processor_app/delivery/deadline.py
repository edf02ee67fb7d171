"""One deadline over a whole conversation with a stranger, however slowly it answers.

A time-out of a socket begins anew with every byte, so a server that dribbles could hold a worker for ever. These
sockets get what is left of the deadline before each call, and stop reading when a bound is reached.
"""

from __future__ import annotations

import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

#: How long one of several addresses may take to connect, so that a dead one leaves time for the next.
_CONNECT_S = 5.0


class Address(NamedTuple):
    """Where to connect: an address family and what ``connect`` takes."""

    family: socket.AddressFamily
    sockaddr: tuple[Any, ...]


#: Looks a host up, like the system does.
Resolver: TypeAlias = Callable[[str, int], Sequence[Address]]


class TooMuchReceived(OSError):
    """The other side sends more than anybody wants to read."""


class Bounds:
    """What one conversation may cost: seconds from now, and bytes received."""

    def __init__(self, seconds: float, max_received: int) -> None:
        self._ends_s = time.monotonic() + seconds
        self._receivable = max_received

    def left_s(self) -> float:
        """The time that is left. Raises `TimeoutError` when there is none."""
        left_s = self._ends_s - time.monotonic()
        if left_s <= 0:
            raise TimeoutError("timed out")
        return left_s

    def shorten(self, seconds: float) -> None:
        """End at the latest so many seconds from now."""
        self._ends_s = min(self._ends_s, time.monotonic() + seconds)

    def count(self, received: int) -> None:
        """Count received bytes. Raises `TooMuchReceived` above the bound."""
        self._receivable -= received
        if self._receivable < 0:
            raise TooMuchReceived("the answer is too long")


class BoundSocket(socket.socket):
    """A TCP socket under bounds."""

    bounds: Bounds

    def recv_into(self, buffer: WriteableBuffer, nbytes: int = 0, flags: int = 0) -> int:
        """Receive within the bounds."""
        self.settimeout(self.bounds.left_s())
        received = super().recv_into(buffer, nbytes, flags)
        self.bounds.count(received)
        return received

    def sendall(self, data: ReadableBuffer, flags: int = 0) -> None:
        """Send everything within the deadline."""
        self.settimeout(self.bounds.left_s())
        super().sendall(data, flags)


class BoundTlsSocket(ssl.SSLSocket):
    """A TLS socket under bounds."""

    bounds: Bounds

    def recv_into(self, buffer: WriteableBuffer, nbytes: int | None = None, flags: int = 0) -> int:
        """Receive within the bounds."""
        self.settimeout(self.bounds.left_s())
        received = super().recv_into(buffer, nbytes, flags)
        self.bounds.count(received)
        return received

    def send(self, data: ReadableBuffer, flags: int = 0) -> int:
        """Send some of it within the deadline; ``sendall`` goes through here."""
        self.settimeout(self.bounds.left_s())
        return super().send(data, flags)


class BoundTlsContext(ssl.SSLContext):
    """A TLS context whose sockets keep the bounds of those that they wrap, the handshake included."""

    sslsocket_class = BoundTlsSocket

    def wrap_socket(self, sock: socket.socket, *args: Any, **options: Any) -> ssl.SSLSocket:
        """Do the handshake within the deadline. Raises `TypeError` for a socket without bounds."""
        if not isinstance(sock, BoundSocket):
            raise TypeError("only a bound socket can be wrapped")
        sock.settimeout(sock.bounds.left_s())
        wrapped = super().wrap_socket(sock, *args, **options)
        if isinstance(wrapped, BoundTlsSocket):
            wrapped.bounds = sock.bounds
        return wrapped


def verifying_context() -> BoundTlsContext:
    """A context that checks certificates and host names against the system's authorities."""
    context = BoundTlsContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_default_certs()
    return context


def system_resolver(host: str, port: int) -> Sequence[Address]:
    """The addresses that the system gives for a host. Raises `OSError`."""
    answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [Address(family, sockaddr) for family, _, _, _, sockaddr in answers]


def resolve(host: str, port: int, bounds: Bounds, resolver: Resolver) -> Sequence[Address]:
    """Look a host up, in a thread of its own, because the system's look-up knows no time-out. Raises `OSError`."""
    answers: queue.SimpleQueue[Sequence[Address] | Exception] = queue.SimpleQueue()

    def look_up() -> None:
        try:
            answers.put(resolver(host, port))
        except Exception as error:  # noqa: BLE001 - raised again in the thread that waits
            answers.put(error)

    threading.Thread(target=look_up, name="look-up", daemon=True).start()
    try:
        answer = answers.get(timeout=bounds.left_s())
    except queue.Empty:
        raise TimeoutError("timed out") from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def connect(addresses: Sequence[Address], bounds: Bounds) -> BoundSocket:
    """Connect to the first of the addresses that answers. Raises the `OSError` of the last."""
    failure = OSError("there is no address")
    for address in addresses:
        connecting = BoundSocket(address.family, socket.SOCK_STREAM)
        connecting.bounds = bounds
        try:
            connecting.settimeout(min(bounds.left_s(), _CONNECT_S))
            connecting.connect(address.sockaddr)
            connecting.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError as error:
            connecting.close()
            failure = error
        else:
            return connecting
    raise failure
