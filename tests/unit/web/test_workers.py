"""Requests that wait leave their thread to others, and no request waits for long behind one that does not."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from service_kit.waiting import Waiter, new_waiter
from service_kit.web.workers import HELD_UP_S, LONG_WAIT_S, Workers

PATIENCE_S = 10.0


class Request:
    """A task that does what it is told."""

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self.thread = ""
        self.done = threading.Event()
        self.is_cancelled = False

    def service(self) -> None:
        self.thread = threading.current_thread().name
        try:
            self._work()
        finally:
            self.done.set()

    def cancel(self) -> None:
        self.is_cancelled = True


def waiting(waiters: list[Waiter]) -> Callable[[], None]:
    """Work that waits until its waiter is woken."""

    def work() -> None:
        waiter = new_waiter()
        waiters.append(waiter)
        waiter.wait()

    return work


def until(is_true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.fixture
def workers() -> Iterator[Workers]:
    workers = Workers(4)
    workers.start()
    yield workers
    assert workers.end(time.monotonic() + PATIENCE_S)


def test_a_hundred_requests_wait_in_fewer_threads_and_all_go_on(workers: Workers) -> None:
    waiters: list[Waiter] = []
    requests = [Request(waiting(waiters)) for _ in range(100)]
    for request in requests:
        workers.add_task(request)
    until(lambda: len(waiters) == len(requests))
    assert not any(request.done.is_set() for request in requests)

    for waiter in waiters:
        waiter.wake()

    assert all(request.done.wait(PATIENCE_S) for request in requests)


def test_a_wake_up_before_the_wait_is_not_lost(workers: Workers) -> None:
    def work() -> None:
        waiter = new_waiter()
        waiter.wake()
        waiter.wait()

    request = Request(work)
    workers.add_task(request)

    assert request.done.wait(PATIENCE_S)


def test_requests_wait_as_often_as_they_like_at_any_depth(workers: Workers) -> None:
    """Each new greenlet would begin at the depth of the one before, until Python sees an endless recursion."""
    waiters: list[Waiter] = []

    def deep(level: int) -> None:
        if level:
            deep(level - 1)
        else:
            waiting(waiters)()

    requests = [Request(lambda: deep(100)) for _ in range(50)]
    for request in requests:
        workers.add_task(request)
    until(lambda: len(waiters) == len(requests))
    for waiter in waiters:
        waiter.wake()

    assert all(request.done.wait(PATIENCE_S) for request in requests)


def test_a_request_behind_one_that_holds_its_thread_gets_another_thread(workers: Workers) -> None:
    release = threading.Event()
    holding = Request(lambda: assert_true(release.wait(PATIENCE_S)))
    workers.add_task(holding)
    until(lambda: holding.thread != "")
    behind = Request(lambda: None)
    workers.add_task(behind)

    begun = time.monotonic()
    while not behind.done.wait(LONG_WAIT_S):  # as the loop of the sockets does
        workers.relieve(time.monotonic())
        assert time.monotonic() - begun < PATIENCE_S
    release.set()

    assert holding.done.wait(PATIENCE_S)
    assert behind.thread != holding.thread


def test_under_load_a_thread_that_is_held_up_gets_another_one_too(workers: Workers) -> None:
    release = threading.Event()
    holding = Request(lambda: assert_true(release.wait(PATIENCE_S)))
    workers.add_task(holding)
    until(lambda: holding.thread != "")
    behind = Request(lambda: None)
    workers.add_task(behind)
    now, looks = time.monotonic(), 0
    while not behind.done.wait(0.001):
        looks += 1
        workers.relieve(now + looks * LONG_WAIT_S * 1.01, is_busy=True)
        assert looks < 1_000
    release.set()
    assert looks * LONG_WAIT_S * 1.01 >= HELD_UP_S


def test_while_its_thread_gets_on_a_crowd_gets_no_other_one(workers: Workers) -> None:
    done: list[str] = []

    def look() -> None:
        done.append(threading.current_thread().name)
        workers.relieve(time.monotonic() + LONG_WAIT_S * (len(done) + 1), is_busy=True)

    crowd = [Request(look) for _ in range(200)]
    for request in crowd:
        workers.add_task(request)
    assert all(request.done.wait(PATIENCE_S) for request in crowd)
    assert len(set(done)) == 1


def test_each_request_gets_a_thread_of_its_own_where_waiting_holds_the_thread() -> None:
    workers = Workers(2, gathers=False)
    workers.start()
    both = threading.Barrier(2, timeout=PATIENCE_S)
    requests = [Request(lambda: assert_true(both.wait() >= 0)) for _ in range(2)]
    for request in requests:
        workers.add_task(request)

    assert all(request.done.wait(PATIENCE_S) for request in requests)
    assert workers.end(time.monotonic() + PATIENCE_S)


def test_what_waits_at_the_end_is_cancelled_and_a_thread_that_is_held_is_told() -> None:
    workers = Workers(1)
    workers.start()
    release = threading.Event()
    holding = Request(lambda: assert_true(release.wait(PATIENCE_S)))
    workers.add_task(holding)
    until(lambda: holding.thread != "")
    queued = Request(lambda: None)
    workers.add_task(queued)

    assert not workers.end(time.monotonic())
    assert queued.is_cancelled
    release.set()
    assert holding.done.wait(PATIENCE_S)


def assert_true(value: bool) -> None:
    assert value
