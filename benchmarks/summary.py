"""Statistics: percentiles of one run, medians and spreads over rounds, ratios between contenders, slopes."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import NamedTuple


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that so many percent of the values do not exceed, read between neighbours. Raises for no values."""
    if not values:
        raise ValueError("no values")
    ordered = sorted(values)
    place = (len(ordered) - 1) * percent / 100
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (place - below)


class Spread(NamedTuple):
    """The median of some rounds, and between what they lie."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of at least one value."""
        return cls(statistics.median(values), min(values), max(values))


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> Spread | None:
    """How ours compares with theirs, round by round: the two runs of a round stood side by side.

    None when there is no common round or theirs is zero.
    """
    quotients = [mine / yours for mine, yours in zip(ours, theirs, strict=False) if yours]
    return Spread.of(quotients) if quotients else None


def change_over_sizes(points: Sequence[tuple[float, float]]) -> float:
    """How a cost changes from the smallest to the largest size, in percent of its mean.

    It is the slope of the straight line that fits the costs best over the logarithm of the size.
    """
    if len(points) < 2:
        raise ValueError("a slope needs two points")
    sizes = [math.log10(size) for size, _ in points]
    costs = [cost for _, cost in points]
    slope = statistics.linear_regression(sizes, costs).slope
    return 100 * slope * (max(sizes) - min(sizes)) / statistics.mean(costs)
