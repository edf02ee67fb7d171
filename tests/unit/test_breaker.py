from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from processor_app.delivery.breaker import FAILURES_TO_OPEN, Breaker


@pytest.fixture
def breaker() -> Breaker:
    return Breaker(first_pause_ms=100, longest_pause_ms=1_000)


def fail_often(breaker: Breaker, now_ms: int = 0) -> list[bool]:
    return [breaker.fail(now_ms, is_probe=breaker.begin()) for _ in range(FAILURES_TO_OPEN)]


def probe(breaker: Breaker, now_ms: int) -> bool:
    """Let the probe begin and fail."""
    assert breaker.may_try(now_ms)
    is_probe = breaker.begin()
    breaker.fail(now_ms, is_probe=is_probe)
    return is_probe


def test_it_opens_after_failures_in_a_row_and_says_so_once(breaker: Breaker) -> None:
    assert fail_often(breaker) == [False, False, False, False, True]
    assert not breaker.may_try(99)
    assert breaker.may_try(100)


def test_a_success_between_failures_keeps_it_closed(breaker: Breaker) -> None:
    for _ in range(5):
        for _ in range(FAILURES_TO_OPEN - 1):
            breaker.fail(0, is_probe=False)
        assert breaker.succeed() is False
    assert breaker.may_try(0)
    assert breaker.is_unremarkable


def test_one_probe_at_a_time_passes_an_open_breaker(breaker: Breaker) -> None:
    fail_often(breaker)
    assert breaker.begin() is True
    assert not breaker.may_try(10_000)


def test_the_pause_doubles_with_each_failed_probe_up_to_the_longest(breaker: Breaker) -> None:
    fail_often(breaker)
    pauses = []
    now_ms = 100
    for _ in range(6):
        assert probe(breaker, now_ms)
        pauses.append(breaker.try_at_ms - now_ms)
        now_ms = breaker.try_at_ms
    assert pauses == [200, 400, 800, 1_000, 1_000, 1_000]


def test_a_successful_probe_closes_it_and_the_next_opening_begins_with_the_first_pause(breaker: Breaker) -> None:
    fail_often(breaker)
    probe(breaker, 100)
    breaker.begin()
    assert breaker.succeed() is True
    assert breaker.succeed() is False
    fail_often(breaker, 5_000)
    assert breaker.try_at_ms == 5_100


def test_a_probe_that_did_not_take_place_gives_its_turn_back(breaker: Breaker) -> None:
    fail_often(breaker)
    breaker.skip(is_probe=breaker.begin())
    assert breaker.may_try(100)
    assert breaker.is_open


def test_a_straggler_from_before_the_opening_neither_ends_the_probe_nor_lengthens_the_pause(breaker: Breaker) -> None:
    fail_often(breaker)
    assert breaker.begin() is True
    breaker.fail(100, is_probe=False)
    breaker.skip(is_probe=False)
    assert not breaker.may_try(100)
    assert breaker.try_at_ms == 100


def test_a_receiver_that_wants_to_be_left_alone_is_as_far_as_the_longest_pause(breaker: Breaker) -> None:
    breaker.fail(0, is_probe=False, wished_pause_ms=600)
    assert (breaker.may_try(599), breaker.may_try(600)) == (False, True)
    assert not breaker.is_open
    breaker.fail(600, is_probe=False, wished_pause_ms=10**9)
    assert breaker.try_at_ms == 1_600


def test_a_shorter_wish_does_not_end_a_longer_pause(breaker: Breaker) -> None:
    breaker.fail(0, is_probe=False, wished_pause_ms=600)
    breaker.fail(0, is_probe=False, wished_pause_ms=10)
    assert breaker.try_at_ms == 600


def test_a_breaker_that_is_forgiven_probes_at_once_and_stays_open(breaker: Breaker) -> None:
    fail_often(breaker)
    probe(breaker, 100)
    breaker.forgive()
    assert breaker.may_try(100)
    assert breaker.is_open
    assert probe(breaker, 100)
    assert breaker.try_at_ms == 300


class BreakerLife(RuleBasedStateMachine):
    """Attempts that begin when they may and end in any order and way."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = Breaker(first_pause_ms=10, longest_pause_ms=100)
        self.now_ms = 0
        self.running: list[bool] = []

    @rule(ms=st.integers(1, 200))
    def wait(self, ms: int) -> None:
        self.now_ms += ms

    @precondition(lambda self: self.breaker.may_try(self.now_ms))
    @rule()
    def begin(self) -> None:
        self.running.append(self.breaker.begin())

    @precondition(lambda self: self.running)
    @rule(end=st.sampled_from(["success", "failure", "skip"]), which=st.integers(0, 9))
    def end(self, end: str, which: int) -> None:
        is_probe = self.running.pop(which % len(self.running))
        if end == "success":
            self.breaker.succeed()
            self.running = [False for _ in self.running]  # what was a probe is none any more
        elif end == "failure":
            self.breaker.fail(self.now_ms, is_probe=is_probe)
        else:
            self.breaker.skip(is_probe=is_probe)

    @invariant()
    def at_most_one_probe_runs(self) -> None:
        assert sum(self.running) <= 1

    @invariant()
    def it_never_stays_shut_for_longer_than_the_longest_pause(self) -> None:
        if not any(self.running):
            assert self.breaker.may_try(self.now_ms + 100)


BreakerLife.TestCase.settings = settings(deadline=None, max_examples=200, stateful_step_count=40)
test_whatever_ends_how_it_always_opens_again = BreakerLife.TestCase
