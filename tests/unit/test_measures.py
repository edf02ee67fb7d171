from __future__ import annotations

import threading
import timeit

from service_kit.measures import Histogram, Tally


def test_a_tally_counts_apart_for_each_label_and_from_zero_for_those_that_are_known():
    tally = Tally("channel", "outcome", known=[("email", "delivered"), ("email", "failed")])
    tally.add("email", "delivered")
    tally.add("webhook", "retry", by=2)
    assert tally.read() == {("email", "delivered"): 1, ("email", "failed"): 0, ("webhook", "retry"): 2}


def test_a_tally_without_labels_is_one_number():
    tally = Tally()
    assert tally.read() == {(): 0}
    tally.add()
    assert tally.read() == {(): 1}


def test_a_number_on_a_bound_counts_as_not_above_it():
    histogram = Histogram(bounds=(1, 2))
    for number in (0.5, 1, 1.5, 2, 99):
        histogram.observe(number)
    (distribution,) = histogram.read().values()
    assert distribution.cumulative == (2, 4, 5)
    assert distribution.total == 104


def test_nothing_is_lost_when_many_threads_count():
    tally, histogram = Tally("a"), Histogram("a")

    def count() -> None:
        for _ in range(5_000):
            tally.add("x")
            histogram.observe(0.5, "x")

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert tally.read() == {("x",): 40_000}
    distribution = histogram.read()[("x",)]
    assert distribution.cumulative[-1] == distribution.total * 2 == 40_000


def test_counting_a_request_costs_less_than_three_microseconds():
    histogram = Histogram("method", "route", "status")
    rounds = 2_000
    best_s = min(timeit.repeat(lambda: histogram.observe(0.004, "POST", "/x", "2xx"), number=rounds, repeat=20))
    assert best_s / rounds < 3e-6
