"""The threads that run a web server's requests, behind one queue."""

from __future__ import annotations

import queue
import threading
import time
from typing import Protocol

from service_kit.logs import get_logger

_log = get_logger(__name__)


class Task(Protocol):
    """What Waitress hands over: one connection whose next request is complete."""

    def service(self) -> None:
        """Run the request and send the answer."""

    def cancel(self) -> None:
        """Give the request up."""


class Workers:
    """Waitress's task dispatcher over a `queue.SimpleQueue`, which wakes a thread without the detour of a condition."""

    def __init__(self, count: int) -> None:
        self._tasks: queue.SimpleQueue[Task | None] = queue.SimpleQueue()
        self._threads = [
            threading.Thread(target=self._run, name=f"web-{number}", daemon=True) for number in range(count)
        ]

    @property
    def queue_depth(self) -> int:
        """How many requests wait for a thread."""
        return self._tasks.qsize()

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def add_task(self, task: Task) -> None:
        """Let the next free thread run it."""
        self._tasks.put(task)

    def end(self, deadline: float) -> bool:
        """Cancel what waits, end the threads, and answer whether all have ended by the deadline."""
        self._cancel_waiting()
        for _ in self._threads:
            self._tasks.put(None)
        for thread in self._threads:
            thread.join(max(0.01, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _cancel_waiting(self) -> None:
        while True:
            try:
                task = self._tasks.get_nowait()
            except queue.Empty:
                return
            if task is not None:
                task.cancel()

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                task.service()
            except Exception:  # noqa: BLE001 - whatever it is, the thread goes on with the next request
                _log.exception("A request failed outside the app", action="web.task_failed")
