"""Waiting for another thread: by a lock, or, in a thread that runs many requests, by letting the next one run.

A web thread that waits for a commit under a lock costs two changes of thread, which is as much as a fifth of the work
on an order. As greenlets the requests of one thread change within it. Nobody may wait while he holds a lock: the one
who wants it next may be a request of the same thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol


class Waiter(Protocol):
    """One wait of one thread or request; made before what is waited for begins."""

    def wait(self) -> None:
        """Return after `wake`; by whoever made it, once."""

    def wake(self) -> None:
        """End the wait, also one that has not begun; from any thread, once."""


class _LockWaiter:
    """Waits under a bare lock, at half the cost of an Event."""

    __slots__ = ("_lock",)

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()

    def wait(self) -> None:
        self._lock.acquire()

    def wake(self) -> None:
        self._lock.release()


class _Here(threading.local):
    """How the current thread waits."""

    make_waiter: Callable[[], Waiter] = _LockWaiter


_here = _Here()


def new_waiter() -> Waiter:
    """A wait of the caller, as his thread waits."""
    return _here.make_waiter()


def wait_by(make_waiter: Callable[[], Waiter]) -> None:
    """Let everything that the current thread runs from now on wait this way."""
    _here.make_waiter = make_waiter
