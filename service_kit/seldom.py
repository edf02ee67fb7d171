"""Log lines that a stranger can cause: once for each cause, and a few at most, so that nobody fills the log."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

#: A cause is told of again after so long, and no more than so many causes in that time.
PERIOD_S = 600.0
MOST = 20


class Seldom:
    """Says whether to tell of something now."""

    def __init__(
        self, period_s: float = PERIOD_S, most: int = MOST, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._period_s = period_s
        self._most = most
        self._clock = clock
        #: Guards what was told of.
        self._lock = threading.Lock()
        self._told: set[str] = set()
        self._began_at = clock()

    def may_tell(self, cause: str) -> bool:
        """True for the first of its kind in a period, as long as few others were told of."""
        now = self._clock()
        with self._lock:
            if now - self._began_at >= self._period_s:
                self._told.clear()
                self._began_at = now
            if cause in self._told or len(self._told) >= self._most:
                return False
            self._told.add(cause)
            return True
