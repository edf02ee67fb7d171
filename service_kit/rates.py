"""How often a key or an address may ask: so many a second, and twice as many at once after a rest.

Several instances share one budget. None of them asks for each request: it takes a tenth of a second's worth at a time
and spends it by itself. What is given out is never more than the rate allows, so neither is what is spent.
"""

from __future__ import annotations

import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, Protocol

from service_kit.errors import StoreUnavailable
from service_kit.logs import get_logger
from service_kit.seldom import Seldom

_log = get_logger(__name__)

#: The burst is what comes in within so long.
BURST_S = 2.0
#: An instance takes as much of a shared budget as is spent within so long, and forgets what it has not spent by then.
SLICE_S, SLICE_LIVES_S = 0.1, 1.0
#: So many names are remembered; whoever has not asked for the longest time is forgotten first.
MOST_NAMES = 20_000


class Grant(NamedTuple):
    """A part of a budget, and for how long there is no more of it: less than nothing while there is."""

    granted: int
    wait_s: float


class Budget(Protocol):
    """What several instances share."""

    def lease(self, name: str, wanted: int, *, per_s: float, burst: float, is_owed: bool = False) -> Grant:
        """Take a part of a name's budget; what ``is_owed`` is taken also when it is not there.

        Raises `StoreUnavailable`.
        """


class OwnBudget:
    """The budgets of one process: for each name the time at which it is whole again."""

    def __init__(self, *, most: int = MOST_NAMES, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = most
        self._clock = clock
        self._whole_at: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._whole_at)

    def lease(self, name: str, wanted: int, *, per_s: float, burst: float, is_owed: bool = False) -> Grant:
        """Take a part of a name's budget; one caller at a time."""
        now = self._clock()
        whole_at = max(now, self._whole_at.get(name, now))
        # A part of a millionth is what computing with fractions costs.
        room = wanted if is_owed else math.floor(burst - (whole_at - now) * per_s + 1e-6)
        granted = min(wanted, room)
        if granted <= 0:
            return Grant(0, whole_at - now - (burst - 1) / per_s)
        self._whole_at[name] = whole_at + granted / per_s
        self._whole_at.move_to_end(name)
        if len(self._whole_at) > self._most:
            self._whole_at.popitem(last=False)
        return Grant(granted, whole_at + granted / per_s - now - (burst - 1) / per_s)


class _Purse:
    __slots__ = ("asks_at", "left", "refused_until", "taken_at")

    def __init__(self) -> None:
        #: What may be spent, and since when.
        self.left = 0
        self.taken_at = 0.0
        #: Until when nobody asks for more.
        self.refused_until = self.asks_at = 0.0


class RateLimit:
    """Says how long a name must wait until it may ask again. Any thread may call it."""

    def __init__(
        self,
        kind: str,
        per_s: float,
        *,
        shared: Budget | None = None,
        most: int = MOST_NAMES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kind = kind
        self._per_s = per_s
        self._burst = max(1.0, per_s * BURST_S)
        self._shared = shared
        self._own = OwnBudget(most=most, clock=clock)
        self._most = most
        self._clock = clock
        #: Guards the budgets and the purses.
        self._lock = threading.Lock()
        self._purses: OrderedDict[str, _Purse] = OrderedDict()
        self._seldom = Seldom()
        #: How often somebody was told to wait, about: what two threads count at once may count once.
        self.limited = 0

    @property
    def is_on(self) -> bool:
        """Whether there is a limit at all."""
        return self._per_s > 0

    def refused_for(self, name: str) -> int:
        """For how many seconds a name that was refused must still wait; 0 for others. It spends nothing."""
        purse = self._purses.get(name)
        if purse is None or purse.refused_until <= (now := self._clock()):
            return 0
        self._note(name)
        return _whole_seconds(purse.refused_until - now)

    def spend(self, name: str) -> int:
        """Count a request; for how many seconds its name must wait, or 0 when it may be done."""
        if not self.is_on:
            return 0
        now = self._clock()
        with self._lock:
            purse = self._purse(name)
            if purse.left and now - purse.taken_at <= SLICE_LIVES_S:
                purse.left -= 1
                return 0
            purse.left = 0
            wait_s = max(purse.refused_until, purse.asks_at) - now
        # Outside of the lock: another instance's Redis may take its time.
        grant = Grant(0, wait_s) if wait_s > 0 else self._lease(purse, name, now)
        with self._lock:
            if grant.granted:
                purse.left += grant.granted - 1
                purse.taken_at = now
                return 0
            purse.refused_until = now + max(grant.wait_s, 1 / self._per_s)
        self._note(name)
        return _whole_seconds(purse.refused_until - now)

    def charge(self, name: str, cost: int) -> None:
        """Count something that weighs as much as so many requests, whether or not they are left: then it is owed."""
        if not self.is_on:
            return
        now = self._clock()
        with self._lock:
            purse = self._purse(name)
            purse.left = 0
        grant = self._take(name, cost, is_owed=True)
        purse.refused_until = max(purse.refused_until, now + grant.wait_s)

    def _purse(self, name: str) -> _Purse:
        purse = self._purses.get(name)
        if purse is None:
            purse = self._purses[name] = _Purse()
            if len(self._purses) > self._most:
                self._purses.popitem(last=False)
        self._purses.move_to_end(name)
        return purse

    def _lease(self, purse: _Purse, name: str, now: float) -> Grant:
        wanted = 1 if self._shared is None else max(1, math.ceil(self._per_s * SLICE_S))
        grant = self._take(name, wanted)
        if self._shared is not None and grant.granted < wanted:
            # Used up: to ask for each that comes in would cost more than it brings.
            purse.asks_at = now + SLICE_S
        return grant

    def _take(self, name: str, wanted: int, *, is_owed: bool = False) -> Grant:
        sizes = {"per_s": self._per_s, "burst": self._burst}
        if self._shared is not None:
            with suppress(StoreUnavailable):  # else each instance counts for itself
                return self._shared.lease(f"{self._kind}:{name}", wanted, **sizes, is_owed=is_owed)
            wanted = wanted if is_owed else 1
        with self._lock:
            return self._own.lease(name, wanted, **sizes, is_owed=is_owed)

    def _note(self, name: str) -> None:
        self.limited += 1
        if self._seldom.may_tell(name):
            _log.warning(
                f"Asked more often than {self._per_s:g} times a second",
                action="web.rate_limited",
                by=self._kind,
                who=name,
            )


def _whole_seconds(wait_s: float) -> int:
    return max(1, math.ceil(wait_s))
