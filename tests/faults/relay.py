"""A wire between the services that this process holds in its hand: it passes on what comes and can be cut."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress

_CHUNK = 65_536


class Relay:
    """Passes connections to a port of this machine on; `cut` ends all that are open, as a broken wire would."""

    def __init__(self, target_port: int, listen_at: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        self._target = ("127.0.0.1", target_port)
        self._listener = socket.create_server(listen_at)
        self.port: int = self._listener.getsockname()[1]
        #: Guards the list of open ends.
        self._lock = threading.Lock()
        self._ends: list[socket.socket] = []
        self._is_open = True
        threading.Thread(target=self._accept, name="relay", daemon=True).start()

    def cut(self) -> int:
        """End every connection; answers how many there were."""
        with self._lock:
            ends, self._ends = self._ends, []
        for end in ends:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        return len(ends) // 2

    def close(self) -> None:
        """Take no more and end what is open."""
        self._is_open = False
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while self._is_open:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            try:
                far = socket.create_connection(self._target)
            except OSError:
                near.close()
                continue
            with self._lock:
                self._ends += (near, far)
            for source, sink in ((near, far), (far, near)):
                threading.Thread(target=_pass_on, args=(source, sink), name="relay-way", daemon=True).start()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while chunk := source.recv(_CHUNK):
            sink.sendall(chunk)
    for end in (source, sink):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
    # Each way closes what it reads from: by then nobody else does.
    source.close()
