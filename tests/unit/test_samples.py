from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping

import pytest

from service_kit.errors import StoreUnavailable
from service_kit.samples import Sampler


def counting() -> Iterator[int]:
    number = 0
    while True:
        yield number
        number += 1


@pytest.fixture
def sampler() -> Sampler:
    numbers = counting()
    return Sampler(lambda: {"n": next(numbers)}, every_s=1, kept_s=3)


def test_samples_come_in_the_order_of_time(sampler: Sampler) -> None:
    for _ in range(3):
        sampler.take()
    samples = sampler.since(0)
    assert samples.series == {"n": (0, 1, 2)}
    assert list(samples.at_ms) == sorted(set(samples.at_ms))


def test_the_oldest_sample_goes_when_the_time_is_full(sampler: Sampler) -> None:
    for _ in range(5):
        sampler.take()
    assert sampler.since(0).series == {"n": (2, 3, 4)}


def test_only_what_is_newer_is_answered(sampler: Sampler) -> None:
    for _ in range(3):
        sampler.take()
    known_ms = sampler.since(0).at_ms[1]
    assert sampler.since(known_ms).series == {"n": (2,)}
    assert sampler.since(sampler.since(0).at_ms[-1]).at_ms == ()


def test_a_name_that_comes_later_has_no_number_before() -> None:
    readings: list[dict[str, float]] = [{"a": 1}, {"a": 2, "b": 3}]
    sampler = Sampler(lambda: readings.pop(0))
    sampler.take()
    sampler.take()
    assert sampler.since(0).series == {"a": (1, 2), "b": (None, 3)}


def test_a_reading_that_the_store_refuses_is_a_gap() -> None:
    answers = [{"a": 1.0}, None, {"a": 3.0}]

    def read() -> Mapping[str, float]:
        answer = answers.pop(0)
        if answer is None:
            raise StoreUnavailable
        return answer

    sampler = Sampler(read)
    for _ in range(3):
        sampler.take()
    assert sampler.since(0).series == {"a": (1, None, 3)}


def test_the_component_samples_at_once_and_again_whatever_a_reading_does() -> None:
    seen = threading.Semaphore(0)

    def read() -> Mapping[str, float]:
        seen.release()
        raise RuntimeError("a fault of the reading")

    sampler = Sampler(read, every_s=0.01)
    assert sampler.check() == "no samples are taken"
    sampler.start()
    try:
        assert all(seen.acquire(timeout=5) for _ in range(3))
        assert sampler.check() is None
    finally:
        sampler.stop(5)
    assert sampler.check() is not None
    sampler.stop(5)
