"""A component that reads a service's numbers again and again and remembers the last hour of them, in memory.

The operator page draws its charts from these, so that they are there without any other program.
"""

from __future__ import annotations

import itertools
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from service_kit.background import Background
from service_kit.errors import ServiceError
from service_kit.logs import get_logger
from service_kit.times import now_ms

EVERY_S = 5.0
KEPT_S = 3_600.0

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Samples:
    """Samples in the order of time: when each was taken, and for each name its numbers; None where it had none."""

    at_ms: tuple[int, ...]
    series: dict[str, tuple[float | None, ...]]


class Sampler(Background):
    """Calls ``read``, which answers the numbers of this moment by name.

    A reading that the store refuses is a sample without numbers, which a chart shows as a gap.
    """

    name = "samples"
    not_running = "no samples are taken"

    def __init__(
        self, read: Callable[[], Mapping[str, float]], *, every_s: float = EVERY_S, kept_s: float = KEPT_S
    ) -> None:
        super().__init__()
        self._read = read
        self._every_s = every_s
        #: Guards the ring, which a reader copies while the thread appends to it.
        self._lock = threading.Lock()
        self._ring: deque[tuple[int, Mapping[str, float]]] = deque(maxlen=max(1, round(kept_s / every_s)))

    @property
    def newest_ms(self) -> int:
        """When the newest sample was taken; 0 before the first."""
        with self._lock:
            return self._ring[-1][0] if self._ring else 0

    def since(self, after_ms: int) -> Samples:
        """The samples that were taken later than the given time."""
        with self._lock:
            newest_first = itertools.takewhile(lambda sample: sample[0] > after_ms, reversed(self._ring))
            found = list(newest_first)[::-1]
        names = dict.fromkeys(name for _, numbers in found for name in numbers)
        return Samples(
            at_ms=tuple(at_ms for at_ms, _ in found),
            series={name: tuple(numbers.get(name) for _, numbers in found) for name in names},
        )

    def take(self) -> None:
        """Take one sample now."""
        try:
            numbers = self._read()
        except ServiceError as error:
            log.warning("A sample could not be taken", action="samples.read_failed", why=error.code)
            numbers = {}
        with self._lock:
            # A clock that is set back must not make the newest sample look old.
            last_ms = self._ring[-1][0] if self._ring else 0
            self._ring.append((max(now_ms(), last_ms + 1), numbers))

    def _run(self) -> None:
        while True:
            try:
                self.take()
            except Exception as error:
                log.error("A sample could not be taken", action="samples.failed", exc_info=error)
            if self._stopping.wait(self._every_s):
                return
