"""A circuit breaker: after failures in a row it lets nothing through but a probe, after pauses that grow.

    closed ──5 failures in a row──▶ open ──pause over──▶ one probe ──success──▶ closed
                                     ▲                       └──failure──▶ open, with twice the pause

Whoever has it guards it against other threads. Times are milliseconds of one clock that the caller reads.
"""

from __future__ import annotations

FAILURES_TO_OPEN = 5


class Breaker:
    """The breaker of one seller's channel."""

    __slots__ = (
        "_failures",
        "_first_pause_ms",
        "_longest_pause_ms",
        "_pause_ms",
        "is_open",
        "is_probing",
        "try_at_ms",
    )

    def __init__(self, *, first_pause_ms: int, longest_pause_ms: int) -> None:
        self._first_pause_ms = self._pause_ms = first_pause_ms
        self._longest_pause_ms = longest_pause_ms
        self._failures = 0
        self.is_open = False
        #: The one attempt that an open breaker lets through is under way.
        self.is_probing = False
        #: The earliest time of the next attempt.
        self.try_at_ms = 0

    @property
    def is_unremarkable(self) -> bool:
        """Whether a new breaker would do as well."""
        return not self._failures and not self.try_at_ms

    def may_try(self, now_ms: int) -> bool:
        """Whether an attempt may begin."""
        return not self.is_probing and now_ms >= self.try_at_ms

    def begin(self) -> bool:
        """Note that an attempt begins; answers whether it is the probe."""
        self.is_probing = self.is_open
        return self.is_probing

    def skip(self, *, is_probe: bool) -> None:
        """Note that the attempt did not take place after all."""
        if is_probe:
            self.is_probing = False

    def forgive(self) -> None:
        """End the pause: something has changed, so the next probe may begin at once."""
        self.try_at_ms = 0
        self._pause_ms = self._first_pause_ms

    def succeed(self) -> bool:
        """Note a success; answers whether this closes the breaker."""
        was_open = self.is_open
        self.is_open = self.is_probing = False
        self._failures = self.try_at_ms = 0
        self._pause_ms = self._first_pause_ms
        return was_open

    def fail(self, now_ms: int, *, is_probe: bool, wished_pause_ms: int = 0) -> bool:
        """Note a failure, and how long the receiver wants to be left alone; answers whether this opens the breaker."""
        self._failures += 1
        opens = not self.is_open and self._failures >= FAILURES_TO_OPEN
        pause_ms = min(wished_pause_ms, self._longest_pause_ms)
        if is_probe:
            self.is_probing = False
            self._pause_ms = min(self._pause_ms * 2, self._longest_pause_ms)
        if opens or is_probe:
            self.is_open = True
            pause_ms = max(pause_ms, self._pause_ms)
        self.try_at_ms = max(self.try_at_ms, now_ms + pause_ms) if pause_ms else self.try_at_ms
        return opens
