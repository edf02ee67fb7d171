"""Numbers that are counted as things happen: how often, and how long it took.

What a component knows anyway is read when somebody asks (`service_kit.metrics`). These are for what nobody would know
afterwards. They stand on the path of every request, so counting one costs less than a microsecond.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import NamedTuple, TypeAlias

#: The values of a metric's labels, in the order of their names.
LabelValues: TypeAlias = tuple[str, ...]

#: Bounds of spans of time in seconds, from a read in memory to a call that somebody gives up.
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
#: Bounds of what takes from moments to days.
LONG_SECONDS = (0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1_800.0, 7_200.0, 43_200.0, 172_800.0)
#: Bounds of the size of a batch.
SIZES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000)


class Tally:
    """Counts events, apart for each combination of label values. ``known`` are counted from zero."""

    def __init__(self, *labels: str, known: Iterable[LabelValues] = ()) -> None:
        self.labels = labels
        #: Guards the counts: an addition reads and writes.
        self._lock = threading.Lock()
        self._counts: dict[LabelValues, float] = dict.fromkeys(known if labels else [()], 0.0)

    def add(self, *values: str, by: float = 1) -> None:
        """Count an event, or as many as are given."""
        with self._lock:
            self._counts[values] = self._counts.get(values, 0.0) + by

    def read(self) -> Mapping[LabelValues, float]:
        """The counts so far."""
        with self._lock:
            return dict(self._counts)


class Distribution(NamedTuple):
    """How often a number was at most each bound, the last being infinity; and the sum of all."""

    cumulative: tuple[int, ...]
    total: float


class Histogram:
    """Counts into which of some ranges a number falls, apart for each combination of label values."""

    def __init__(self, *labels: str, bounds: Sequence[float] = SECONDS, known: Iterable[LabelValues] = ()) -> None:
        self.labels = labels
        self.bounds = tuple(bounds)
        #: Guards the series: an addition reads and writes.
        self._lock = threading.Lock()
        self._series: dict[LabelValues, _Series] = {
            values: _Series(len(self.bounds)) for values in (known if labels else [()])
        }

    def observe(self, number: float, *values: str) -> None:
        """Count one number."""
        index = bisect_left(self.bounds, number)
        with self._lock:
            series = self._series.get(values)
            if series is None:
                series = self._series[values] = _Series(len(self.bounds))
            series.counts[index] += 1
            series.total += number

    def read(self) -> Mapping[LabelValues, Distribution]:
        """What was counted so far."""
        with self._lock:
            return {
                values: Distribution(tuple(accumulate(series.counts)), series.total)
                for values, series in self._series.items()
            }


class _Series:
    __slots__ = ("counts", "total")

    def __init__(self, bounds: int) -> None:
        self.counts = [0] * (bounds + 1)
        self.total = 0.0
