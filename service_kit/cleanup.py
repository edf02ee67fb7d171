"""A component that removes what is past its retention, again and again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from service_kit.background import Background
from service_kit.logs import get_logger
from service_kit.times import now_ms, rfc3339

#: What one step removes; callers that write wait no longer than for these.
BATCH = 500
#: Between two batches, so that the store is free for others most of the time.
_BREATH_S = 0.02

log = get_logger(__name__)


class Cleanup(Background):
    """Calls ``remove(limit)``, which answers how many it removed, until there is nothing left; then waits."""

    name = "cleanup"
    not_running = "the cleanup is not running"

    def __init__(self, remove: Callable[[int], int], *, every_s: float) -> None:
        super().__init__()
        self._remove = remove
        self._every_s = every_s
        self._last_run_ms: int | None = None
        self._last_removed = 0
        self._removed = 0
        self._last_error: str | None = None

    @property
    def last_run_s(self) -> float | None:
        """When the last run ended, in seconds since 1970; None before the first."""
        return None if self._last_run_ms is None else self._last_run_ms / 1000

    @property
    def removed(self) -> int:
        """How many orders were removed since the start."""
        return self._removed

    def facts(self) -> Mapping[str, Any]:
        """When the last run ended, what it removed, and why it failed if it did."""
        last_run = None if self._last_run_ms is None else rfc3339(self._last_run_ms)
        return {"last_run": last_run, "removed": self._last_removed, "last_error": self._last_error}

    def _run(self) -> None:
        while not self._stopping.is_set():
            removed, error = self._remove_all()
            self._last_removed, self._last_error, self._last_run_ms = removed, error, now_ms()
            self._removed += removed
            if removed:
                log.info(
                    f"Removed {removed} orders that are past their retention", action="cleanup.done", orders=removed
                )
            self._stopping.wait(self._every_s)

    def _remove_all(self) -> tuple[int, str | None]:
        removed = 0
        try:
            while not self._stopping.is_set():
                step = self._remove(BATCH)
                removed += step
                if step == 0:
                    break
                self._stopping.wait(_BREATH_S)
        except Exception as error:
            log.error("The cleanup failed", action="cleanup.failed", exc_info=error)
            return removed, type(error).__name__
        return removed, None
