"""How often a name may ask, by a clock of the test's own."""

from __future__ import annotations

import pytest

from service_kit.errors import StoreUnavailable
from service_kit.rates import BURST_S, SLICE_LIVES_S, Grant, OwnBudget, RateLimit


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Shared:
    """A budget that counts how often it is asked."""

    def __init__(self, clock: Clock) -> None:
        self._own = OwnBudget(clock=clock)
        self.calls = 0
        self.is_down = False

    def lease(self, name: str, wanted: int, *, per_s: float, burst: float, is_owed: bool = False) -> Grant:
        self.calls += 1
        if self.is_down:
            raise StoreUnavailable
        return self._own.lease(name, wanted, per_s=per_s, burst=burst, is_owed=is_owed)


@pytest.fixture
def clock() -> Clock:
    return Clock()


def admitted(limit: RateLimit, name: str, tries: int) -> int:
    return sum(not limit.spend(name) for _ in range(tries))


def test_a_burst_and_then_the_rate(clock: Clock) -> None:
    limit = RateLimit("key", 100, clock=clock)
    assert admitted(limit, "a", 1_000) == 100 * BURST_S
    total = 0
    for _ in range(300):
        clock.now += 0.01
        total += admitted(limit, "a", 3)
    assert 298 <= total <= 300
    assert admitted(limit, "b", 10) == 10
    clock.now += BURST_S
    assert admitted(limit, "a", 1_000) == 100 * BURST_S


def test_who_must_wait_is_told_for_how_long_in_whole_seconds(clock: Clock) -> None:
    limit = RateLimit("key", 0.25, clock=clock)
    assert limit.spend("a") == 0
    assert limit.spend("a") == 4
    assert limit.refused_for("a") == 4
    assert limit.refused_for("b") == 0
    clock.now += 3.5
    assert limit.refused_for("a") == 1
    clock.now += 0.6
    assert limit.refused_for("a") == 0
    assert limit.spend("a") == 0
    assert limit.limited == 3


def test_no_rate_is_no_limit(clock: Clock) -> None:
    limit = RateLimit("key", 0, clock=clock)
    assert not limit.is_on
    assert admitted(limit, "a", 10_000) == 10_000


def test_what_is_dear_is_owed_when_it_is_not_there(clock: Clock) -> None:
    limit = RateLimit("address", 100, clock=clock)
    tries = 0
    while not limit.spend("a"):
        limit.charge("a", 20)
        tries += 1
    assert tries == 10
    assert limit.refused_for("a") == 1
    clock.now += 0.05
    assert limit.spend("a")
    clock.now += 0.12
    assert not limit.spend("a")


def test_so_many_names_are_remembered_and_the_idlest_forgotten(clock: Clock) -> None:
    limit = RateLimit("address", 1, most=100, clock=clock)
    assert admitted(limit, "busy", 5) == 2
    for number in range(1_000):
        limit.spend(f"n{number}")
        clock.now += 0.0001
        assert limit.spend("busy")
    assert len(limit._purses) <= 100
    assert len(limit._own) <= 100


def test_a_shared_budget_is_asked_seldom_and_never_overspent(clock: Clock) -> None:
    shared = Shared(clock)
    limits = [RateLimit("key", 100, shared=shared, clock=clock) for _ in range(2)]
    total = 0
    for _ in range(1_000):
        clock.now += 0.01
        total += sum(admitted(limit, "a", 3) for limit in limits)
    assert 990 <= total <= 100 * 10 + 100 * BURST_S
    assert shared.calls < total / 4


def test_what_was_not_spent_is_forgotten(clock: Clock) -> None:
    shared = Shared(clock)
    limit = RateLimit("key", 100, shared=shared, clock=clock)
    assert limit.spend("a") == 0
    clock.now += SLICE_LIVES_S * 1.5
    calls = shared.calls
    assert limit.spend("a") == 0
    assert shared.calls == calls + 1


def test_without_the_shared_budget_each_counts_for_itself(clock: Clock) -> None:
    shared = Shared(clock)
    shared.is_down = True
    limit = RateLimit("key", 10, shared=shared, clock=clock)
    assert admitted(limit, "a", 100) == 10 * BURST_S
