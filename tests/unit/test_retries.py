from __future__ import annotations

import pytest

from processor_app.delivery.retries import MAX_RETRY_AFTER_S, RetrySchedule

SCHEDULE = RetrySchedule((5.0, 300.0))


@pytest.mark.parametrize(("tries", "pause_ms"), [(1, 5_000), (2, 300_000), (3, None), (4, None)])
def test_each_failed_try_has_its_pause_and_the_last_has_none(tries: int, pause_ms: int | None) -> None:
    assert SCHEDULE.pause_ms(tries, jitter=1.0, retry_after_s=None) == pause_ms


def test_the_pause_is_stretched_by_the_jitter() -> None:
    assert [SCHEDULE.pause_ms(1, jitter=j, retry_after_s=None) for j in (0.9, 1.1)] == [4_500, 5_500]


@pytest.mark.parametrize(("wish_s", "pause_ms"), [(0.0, 4_500), (4.0, 4_500), (60.0, 60_000)])
def test_a_receivers_wish_is_never_undercut(wish_s: float, pause_ms: int) -> None:
    assert SCHEDULE.pause_ms(1, jitter=0.9, retry_after_s=wish_s) == pause_ms


def test_a_wish_without_end_is_bounded() -> None:
    assert SCHEDULE.pause_ms(1, jitter=1.0, retry_after_s=1e12) == int(MAX_RETRY_AFTER_S * 1000)


def test_a_wish_gives_no_further_try() -> None:
    assert SCHEDULE.pause_ms(3, jitter=1.0, retry_after_s=10.0) is None


def test_the_span_is_all_pauses_together() -> None:
    assert SCHEDULE.span_ms == 305_000
