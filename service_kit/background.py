"""A component whose work is done by a thread of its own."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod


class Background(ABC):
    """Starts and stops the thread; what it does is `_run`, which ends soon after ``_stopping`` is set."""

    name: str
    #: What `check` says when the thread does not run.
    not_running: str

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin."""
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """End after what runs now. Safe to call twice."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def check(self) -> str | None:
        """None while the thread runs."""
        return None if self._thread is not None and self._thread.is_alive() else self.not_running

    @abstractmethod
    def _run(self) -> None:
        """Work until ``_stopping`` is set."""
