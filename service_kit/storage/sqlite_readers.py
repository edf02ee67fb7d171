"""The read-only connections of the SQLite engine."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from service_kit.errors import StoreUnavailable

#: Connections at most; a reader that finds none free waits for one.
READERS = 4
_CACHE_KIB = 1024


class ReaderPool:
    """A few connections that any thread may borrow; each is opened when it is first needed."""

    def __init__(self, path: Path) -> None:
        self._uri = f"{path.resolve().as_uri()}?mode=ro"
        #: Guards the three below. The connection used last is lent first: its cache is warm.
        self._changed = threading.Condition()
        self._idle: list[sqlite3.Connection] = []
        self._opened = 0
        self._is_open = True

    @contextmanager
    def connection(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection. Raises `StoreUnavailable` once the pool is closed."""
        connection = self._take()
        try:
            yield connection
        finally:
            self._give_back(connection)

    def _take(self) -> sqlite3.Connection:
        with self._changed:
            while self._is_open and not self._idle and self._opened == READERS:
                self._changed.wait()
            if not self._is_open:
                raise StoreUnavailable("The store is closed.", retry_after_s=1)
            if self._idle:
                return self._idle.pop()
            self._opened += 1
        try:
            return self._connect()
        except BaseException:
            with self._changed:
                self._opened -= 1
                self._changed.notify()
            raise

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._uri, uri=True, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA query_only = ON")
            connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        except BaseException:
            connection.close()
            raise
        return connection

    def _give_back(self, connection: sqlite3.Connection) -> None:
        with self._changed:
            if self._is_open:
                self._idle.append(connection)
            else:
                self._close(connection)
            self._changed.notify()

    def _close(self, connection: sqlite3.Connection) -> None:
        connection.close()
        self._opened -= 1

    def close(self, timeout_s: float = 1.0) -> None:
        """Lend no more, close what is idle, and wait for what is lent; a borrower closes it when he is late."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            self._is_open = False
            while self._idle:
                self._close(self._idle.pop())
            self._changed.notify_all()
            while self._opened and (left_s := deadline - time.monotonic()) > 0:
                self._changed.wait(left_s)
