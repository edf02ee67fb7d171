"""When a delivery is tried again, and when it is given up."""

from __future__ import annotations

from dataclasses import dataclass

#: The longest wish of a receiver to be left alone that is honoured; a longer one would keep a delivery open for ever.
MAX_RETRY_AFTER_S = 86_400.0


@dataclass(frozen=True, slots=True)
class RetrySchedule:
    """The pauses after each failed attempt, in seconds; after the last one's attempt a delivery is dead."""

    pauses_s: tuple[float, ...]

    @property
    def span_ms(self) -> int:
        """How long a delivery is tried when nothing else delays it."""
        return int(sum(self.pauses_s) * 1000)

    def pause_ms(self, tries: int, *, jitter: float, retry_after_s: float | None) -> int | None:
        """The pause after so many failed attempts; None when there is to be no other.

        ``jitter`` stretches or shortens it (0.9 to 1.1), so that what failed together is not tried together. The
        receiver's wish is never undercut.
        """
        if tries > len(self.pauses_s):
            return None
        wished_s = min(retry_after_s or 0.0, MAX_RETRY_AFTER_S)
        return int(max(self.pauses_s[tries - 1] * jitter, wished_s) * 1000)
