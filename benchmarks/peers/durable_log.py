"""A log on disk for the asyncio peers: SQLite with group commit, as well made as the order communicator's store.

One thread owns the connection. What has queued up since the last commit goes as one statement into one transaction
(WAL, ``synchronous=FULL``), and its futures are resolved by one call into the event loop.
"""

from __future__ import annotations

import asyncio
import json
import queue
import sqlite3
import threading
from collections.abc import Sequence
from typing import Any, Protocol

Row = tuple[str, str, str]


class Log(Protocol):
    """Keeps what must outlive the process."""

    async def append(self, order: str, kind: str, body: Any) -> None:
        """Return when it is kept."""

    def append_soon(self, order: str, kind: str, body: Any) -> None:
        """Have it kept without waiting."""

    def rows(self) -> list[tuple[str, str, Any]]:
        """Everything that earlier processes have kept, oldest first."""


class NoLog:
    """Keeps nothing."""

    async def append(self, order: str, kind: str, body: Any) -> None:
        """Return at once."""

    def append_soon(self, order: str, kind: str, body: Any) -> None:
        """Do nothing."""

    def rows(self) -> list[tuple[str, str, Any]]:
        """Nothing."""
        return []


class DurableLog:
    """Keeps rows in a SQLite file."""

    def __init__(self, path: str) -> None:
        self._connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = FULL")
        self._connection.execute(
            "CREATE TABLE IF NOT EXISTS log (id INTEGER PRIMARY KEY, order_id TEXT, kind TEXT, body TEXT)"
        )
        self._old = [
            (order, kind, json.loads(body))
            for order, kind, body in self._connection.execute("SELECT order_id, kind, body FROM log ORDER BY id")
        ]
        self._queue: queue.SimpleQueue[tuple[Row, asyncio.Future[None] | None]] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None

    def rows(self) -> list[tuple[str, str, Any]]:
        """Everything that earlier processes have kept; given out once."""
        old, self._old = self._old, []
        return old

    async def append(self, order: str, kind: str, body: Any) -> None:
        """Return after the fsync."""
        done = self._running_loop().create_future()
        self._queue.put(((order, kind, json.dumps(body, separators=(",", ":"))), done))
        await done

    def append_soon(self, order: str, kind: str, body: Any) -> None:
        """Have it written with the next commit."""
        self._running_loop()
        self._queue.put(((order, kind, json.dumps(body, separators=(",", ":"))), None))

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            threading.Thread(target=self._write, name="log-writer", daemon=True).start()
        return self._loop

    def _write(self) -> None:
        execute = self._connection.execute
        while True:
            batch = [self._queue.get()]
            while not self._queue.empty():
                batch.append(self._queue.get())
            execute("BEGIN IMMEDIATE")
            self._connection.executemany(
                "INSERT INTO log (order_id, kind, body) VALUES (?, ?, ?)", [row for row, _ in batch]
            )
            execute("COMMIT")
            waiting = [done for _, done in batch if done is not None]
            if waiting and self._loop is not None:
                self._loop.call_soon_threadsafe(_resolve, waiting)


def _resolve(waiting: Sequence[asyncio.Future[None]]) -> None:
    for done in waiting:
        # Its caller may have gone away meanwhile.
        if not done.done():
            done.set_result(None)


def open_log(path: str | None) -> Log:
    """The log at a path; without one, nothing is kept."""
    return NoLog() if path is None else DurableLog(path)
