"""A TCP server that does to every connection what a test wants: for servers that do harm."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import TypeAlias

Script: TypeAlias = Callable[[socket.socket], None]


class ScriptedServer:
    """Listens on a free port of loopback, or of every address, counts its connections, and runs the script on each."""

    def __init__(self, script: Script, *, everywhere: bool = False) -> None:
        self._listener = _everywhere() if everywhere else socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections = 0
        self._script = script
        self._thread = threading.Thread(target=self._accept, name="scripted", daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._run, args=(connection,), daemon=True).start()

    def _run(self, connection: socket.socket) -> None:
        # A client that has left is what many of these tests wait for.
        with connection, suppress(OSError):
            self._script(connection)

    def close(self) -> None:
        """Listen no more."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


def _everywhere() -> socket.socket:
    if socket.has_dualstack_ipv6():
        return socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("0.0.0.0", 0))


def answering(*pieces: bytes, pause_s: float = 0.0) -> Script:
    """Read a request, send the pieces, and close."""

    def script(connection: socket.socket) -> None:
        connection.recv(65_536)
        for piece in pieces:
            connection.sendall(piece)
            time.sleep(pause_s)

    return script


def silent(connection: socket.socket) -> None:
    """Neither read nor write for a long time."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
    time.sleep(20)
