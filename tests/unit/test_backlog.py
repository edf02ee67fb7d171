from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from processor_app.delivery.backlog import SLOW_MS, Backlog, Passage, Turn
from processor_app.delivery.breaker import FAILURES_TO_OPEN
from processor_app.delivery.doors import AT_A_TIME, Job
from processor_app.delivery.retries import RetrySchedule
from service_kit.change import Message, Ref

SCHEDULE = RetrySchedule((1.0, 10.0))
_numbers = itertools.count(1)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now_ms = 1_000_000
        #: How much later it is after each look.
        self.tick_ms = 0

    def __call__(self) -> int:
        self.now_ms += self.tick_ms
        return self.now_ms


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def backlog(clock: Clock) -> Backlog:
    return Backlog(SCHEDULE, places=4, clock=clock)


def order(number: int) -> Ref:
    return Ref("default", f"order{number}")


def message(name: str = "", seller: str = "s1", *, state: str = "pending", due_ms: int = 0, seq: int = 0) -> Message:
    number = next(_numbers)
    return Message(name or f"d{number}", seq or number, "email", {"round_ms": 1_000_000}, state, seller, due_ms=due_ms)


def put(backlog: Backlog, ref: Ref, *messages: Message) -> None:
    backlog.apply(ref, messages)


def take(backlog: Backlog) -> Job | None:
    """What a worker would get now, without waiting."""
    with backlog._lock:
        job = backlog._begin_next()
        backlog._running += job is not None
        return job


def take_all(backlog: Backlog) -> list[str]:
    jobs = []
    while (job := take(backlog)) is not None:
        jobs.append(job.item.delivery_id)
    return jobs


def taken(backlog: Backlog) -> Job:
    job = take(backlog)
    assert job is not None
    return job


def deliver(backlog: Backlog, job: Job) -> Turn | None:
    return backlog.finish(job, message(job.item.delivery_id, state="delivered"), Passage.PASSED)


def fail(backlog: Backlog, job: Job, due_ms: int, *, wished_pause_s: float | None = None) -> Turn | None:
    again = message(job.item.delivery_id, job.door.key.seller_id, state="retrying", due_ms=due_ms, seq=job.item.seq)
    return backlog.finish(job, again, Passage.BLOCKED, wished_pause_s=wished_pause_s)


def ring(backlog: Backlog) -> None:
    """What the clerk does when it wakes up."""
    with backlog._lock:
        backlog._ring()


# ---- the order of a lane


def test_deliveries_of_one_order_to_one_seller_go_one_by_one_in_the_order_of_their_events(backlog: Backlog) -> None:
    put(backlog, order(1), message("c", seq=3), message("a", seq=1), message("b", seq=2))
    sent = []
    while (job := take(backlog)) is not None:
        assert take(backlog) is None
        sent.append(job.item.delivery_id)
        deliver(backlog, job)
    assert sent == ["a", "b", "c"]


def test_a_later_one_waits_while_an_earlier_one_is_to_be_tried_again(backlog: Backlog, clock: Clock) -> None:
    put(backlog, order(1), message("a", seq=1), message("b", seq=2))
    fail(backlog, taken(backlog), clock.now_ms + 500)
    assert take(backlog) is None
    clock.now_ms += 500
    ring(backlog)
    job = taken(backlog)
    assert job.item.delivery_id == "a"
    backlog.finish(job, message("a", state="dead"), Passage.BLOCKED)
    assert take_all(backlog) == ["b"]


def test_one_that_is_sent_again_goes_before_later_ones_that_have_not_begun(backlog: Backlog) -> None:
    put(backlog, order(1), message("b", seq=2, due_ms=2_000_000))
    put(backlog, order(1), message("a", seq=1))
    assert take_all(backlog) == ["a"]


def test_other_orders_and_other_sellers_do_not_wait(backlog: Backlog) -> None:
    put(backlog, order(1), message("a", "s1"), message("b", "s2"))
    put(backlog, order(2), message("c", "s3"))
    assert sorted(take_all(backlog)) == ["a", "b", "c"]


# ---- doors


def test_few_at_a_time_go_to_one_seller_and_a_single_one_until_one_has_passed(backlog: Backlog) -> None:
    for number in range(9):
        put(backlog, order(number), message())
    first = taken(backlog)
    assert take(backlog) is None
    deliver(backlog, first)
    assert len(take_all(backlog)) == AT_A_TIME


def test_sellers_take_turns(backlog: Backlog) -> None:
    for number in range(3):
        put(backlog, order(number), *(message(f"{seller}{number}", seller) for seller in ("a", "b", "c")))
    served = []
    while (job := take(backlog)) is not None:
        served.append(job.item.delivery_id)
        deliver(backlog, job)
    assert [name[0] for name in served[:3]] == ["a", "b", "c"]
    assert sorted(served) == sorted(f"{seller}{number}" for seller in "abc" for number in range(3))


def test_what_has_been_due_for_longest_goes_first(backlog: Backlog) -> None:
    put(backlog, order(1), message("young", due_ms=900))
    put(backlog, order(2), message("old", due_ms=100))
    put(backlog, order(3), message("later", due_ms=10**9))
    job = taken(backlog)
    assert job.item.delivery_id == "old"
    deliver(backlog, job)
    assert take_all(backlog) == ["young"]


def test_a_place_for_each_attempt_and_no_more(backlog: Backlog) -> None:
    put(backlog, order(1), *(message(seller=f"s{number}") for number in range(9)))
    assert len(take_all(backlog)) == 4


def test_what_is_put_again_is_not_doubled(backlog: Backlog, clock: Clock) -> None:
    one = message("a", due_ms=clock.now_ms + 100)
    put(backlog, order(1), one)
    put(backlog, order(1), replace(one, due_ms=0))
    assert take_all(backlog) == ["a"]
    assert backlog.facts().queued == 1


# ---- slow sellers


def test_slow_attempts_give_their_places_to_others(backlog: Backlog, clock: Clock) -> None:
    put(backlog, order(1), *(message(seller=f"slow{number}") for number in range(4)))
    put(backlog, order(1), *(message(seller=f"quick{number}") for number in range(4)))
    assert len(take_all(backlog)) == 4
    clock.now_ms += SLOW_MS
    assert len(take_all(backlog)) == 4
    assert backlog.facts().slow_sellers == 4


def test_sellers_that_are_known_to_be_slow_have_few_places_of_their_own(backlog: Backlog, clock: Clock) -> None:
    for number in range(6):
        put(backlog, order(1), message(seller=f"slow{number}"))
    for _ in range(6):
        job = taken(backlog)
        clock.now_ms += SLOW_MS
        fail(backlog, job, clock.now_ms)
    put(backlog, order(2), *(message(f"quick{number}", f"quick{number}") for number in range(4)))
    names = take_all(backlog)
    assert [name for name in names if name.startswith("quick")] == [f"quick{number}" for number in range(4)]
    assert len(names) == 4 + 2


def test_a_seller_that_is_quick_again_is_slow_no_more(backlog: Backlog, clock: Clock) -> None:
    put(backlog, order(1), message("a"))
    job = taken(backlog)
    clock.now_ms += SLOW_MS
    fail(backlog, job, clock.now_ms)
    assert backlog.facts().slow_sellers == 1
    deliver(backlog, taken(backlog))
    assert backlog.facts().slow_sellers == 0


def test_a_worker_waits_no_longer_for_a_place_than_until_an_attempt_is_slow() -> None:
    backlog = Backlog(SCHEDULE, places=1)
    put(backlog, order(1), message("hangs", "s1"))
    first = backlog.take()
    assert first is not None
    put(backlog, order(1), message("waits", "s2"))
    second = backlog.take()
    assert second is not None
    assert second.item.delivery_id == "waits"
    assert second.begun_ms - first.begun_ms >= SLOW_MS


# ---- doors that are shut


def block(backlog: Backlog, clock: Clock, seller: str = "s1") -> list[Turn | None]:
    """Fail as often as opens the seller's breaker; five deliveries of five orders are left to be tried again."""
    for number in range(FAILURES_TO_OPEN):
        put(backlog, order(100 + number), message(seller=seller))
    return [fail(backlog, taken(backlog), clock.now_ms + 60_000) for _ in range(FAILURES_TO_OPEN)]


def test_a_seller_that_fails_in_a_row_is_left_alone_and_then_probed_with_one(backlog: Backlog, clock: Clock) -> None:
    assert block(backlog, clock) == [None, None, None, None, Turn.OPENED]
    put(backlog, order(1), message("a"))
    put(backlog, order(2), message("b"))
    assert take_all(backlog) == []
    assert backlog.facts().open_breakers == 1
    clock.now_ms += 1000
    ring(backlog)
    assert len(take_all(backlog)) == 1


def test_a_probe_that_passes_lets_all_others_go(backlog: Backlog, clock: Clock) -> None:
    block(backlog, clock)
    for number in range(3):
        put(backlog, order(number), message())
    clock.now_ms += 1000
    ring(backlog)
    assert deliver(backlog, taken(backlog)) is Turn.CLOSED
    assert len(take_all(backlog)) == 2
    assert backlog.facts().open_breakers == 0


def test_other_sellers_do_not_notice_an_open_breaker(backlog: Backlog, clock: Clock) -> None:
    block(backlog, clock)
    put(backlog, order(1), message("a", "s1"), message("b", "s2"))
    assert take_all(backlog) == ["b"]


def test_what_was_tried_for_long_enough_is_given_up_while_nothing_passes(backlog: Backlog, clock: Clock) -> None:
    block(backlog, clock)
    clock.now_ms += SCHEDULE.span_ms
    fresh = replace(message("fresh", due_ms=clock.now_ms), body={"round_ms": clock.now_ms})
    put(backlog, order(1), message("old"))
    put(backlog, order(2), fresh)
    ring(backlog)
    expired = taken(backlog)
    assert (expired.item.delivery_id, expired.is_expired, expired.is_probe) == ("old", True, False)
    backlog.finish(expired, message("old", state="dead"), Passage.UNTRIED)
    job = taken(backlog)
    assert (job.item.delivery_id, job.is_expired, job.is_probe) == ("fresh", False, True)


def test_nothing_is_given_up_for_its_age_where_something_passes(backlog: Backlog, clock: Clock) -> None:
    put(backlog, order(1), message("old"))
    clock.now_ms += SCHEDULE.span_ms * 10
    assert not taken(backlog).is_expired


def test_nothing_is_given_up_until_the_seller_has_been_silent_for_as_long_as_a_delivery_is_tried(
    backlog: Backlog, clock: Clock
) -> None:
    clock.now_ms += SCHEDULE.span_ms * 10
    put(backlog, order(1), message("passed"))
    put(backlog, order(2), message("old", due_ms=clock.now_ms + SCHEDULE.span_ms - 1))
    deliver(backlog, taken(backlog))
    block(backlog, clock)
    clock.now_ms += SCHEDULE.span_ms - 1
    ring(backlog)
    probe = taken(backlog)
    assert (probe.is_expired, probe.is_probe) == (False, True)
    clock.now_ms += 1
    fail(backlog, probe, clock.now_ms)
    clock.now_ms += SCHEDULE.span_ms
    ring(backlog)
    assert taken(backlog).is_expired


def test_a_probe_without_an_attempt_leaves_the_next_turn_to_another(backlog: Backlog, clock: Clock) -> None:
    block(backlog, clock)
    put(backlog, order(1), message("a"))
    put(backlog, order(2), message("b"))
    clock.now_ms += 1000
    ring(backlog)
    backlog.finish(taken(backlog), message("a", state="waiting"), Passage.UNTRIED)
    assert taken(backlog).is_probe


def test_a_wish_to_be_left_alone_holds_for_all_that_goes_to_the_seller(backlog: Backlog, clock: Clock) -> None:
    for number in range(3):
        put(backlog, order(number), message())
    fail(backlog, taken(backlog), clock.now_ms + 60_000, wished_pause_s=5.0)
    assert take_all(backlog) == []
    clock.now_ms += 5_000
    ring(backlog)
    assert len(take_all(backlog)) == 1


def test_a_seller_whose_entry_is_changed_is_probed_at_once(backlog: Backlog, clock: Clock) -> None:
    block(backlog, clock)
    put(backlog, order(1), message("a"))
    put(backlog, order(2), message("b"))
    assert take_all(backlog) == []
    backlog.seller_changed("default", "other")
    assert take_all(backlog) == []
    backlog.seller_changed("default", "s1")
    assert len(take_all(backlog)) == 1
    assert backlog.facts().open_breakers == 1


def test_what_a_person_sends_again_is_a_probe_at_once(backlog: Backlog, clock: Clock) -> None:
    block(backlog, clock)
    backlog.retry(order(1), [message("a", seq=1), message("b", seq=2)])
    assert take_all(backlog) == ["a"]


# ---- what nobody knows


@pytest.mark.timeout(10)
def test_a_pause_that_ends_while_a_worker_looks_holds_nobody_up(backlog: Backlog, clock: Clock) -> None:
    for number in range(3):
        put(backlog, order(number), message())
    deliver(backlog, taken(backlog))
    fail(backlog, taken(backlog), clock.now_ms, wished_pause_s=1)  # while the door is queued for the third
    clock.now_ms += 998
    clock.tick_ms = 1
    assert take(backlog) is None
    clock.tick_ms, clock.now_ms = 0, clock.now_ms + 1
    ring(backlog)
    assert take(backlog) is not None


def test_an_unknown_outcome_holds_its_lane_until_the_store_is_asked(backlog: Backlog) -> None:
    put(backlog, order(1), message("a", seq=1), message("b", seq=2))
    put(backlog, order(2), message("c"))
    backlog.finish(taken(backlog), None, Passage.UNTRIED)
    other = taken(backlog)
    assert other.item.delivery_id == "c"
    deliver(backlog, other)
    assert take(backlog) is None
    errands = backlog.next_errands(0)
    assert errands is not None
    assert errands.refs == {order(1)}
    backlog.resolve(order(1), [message("a", state="delivered", seq=1), message("b", seq=2)])
    assert take_all(backlog) == ["b"]


def test_a_change_by_somebody_else_during_an_attempt_is_looked_up(backlog: Backlog, clock: Clock) -> None:
    put(backlog, order(1), message("a", seq=1))
    job = taken(backlog)
    put(backlog, order(1), message("a", seq=1))
    fail(backlog, job, clock.now_ms + 10**9)
    assert take(backlog) is None
    backlog.resolve(order(1), [message("a", seq=1)])
    assert take_all(backlog) == ["a"]


def test_an_attempt_of_our_own_that_has_just_ended_is_not_taken_for_one_that_runs(backlog: Backlog) -> None:
    backlog.resolve(order(1), [message("a", state="sending", due_ms=10**9), message("b")])
    assert backlog.facts().queued == 1


def test_a_store_that_did_not_answer_is_asked_again(backlog: Backlog) -> None:
    backlog.look_again([order(1)])
    backlog.seller_changed("default", "s1")
    errands = backlog.next_errands(0)
    assert errands is not None
    empty = backlog.next_errands(0)
    assert empty is not None
    assert (empty.refs, empty.sellers) == (set(), set())
    backlog.put_back(errands)
    again = backlog.next_errands(0)
    assert again == errands


def test_one_that_waits_has_its_seller_looked_up(backlog: Backlog) -> None:
    put(backlog, order(1), message(seller="s9", state="waiting"))
    errands = backlog.next_errands(0)
    assert errands is not None
    assert errands.sellers == {("default", "s9")}
    assert backlog.facts().queued == 0


def test_an_idle_backlog_remembers_nothing(backlog: Backlog) -> None:
    for number in range(20):
        put(backlog, order(number), message(seller=f"s{number % 3}"))
    while (job := take(backlog)) is not None:
        deliver(backlog, job)
    assert (backlog._items, backlog._doors, backlog._quick_jobs, backlog._slow_jobs) == ({}, {}, {}, {})


# ---- threads


def test_the_clerk_wakes_up_for_what_is_due_later() -> None:
    backlog = Backlog(SCHEDULE, places=1)
    later = backlog._clock() + 60
    put(backlog, order(1), message("a", due_ms=later))
    with ThreadPoolExecutor(1) as pool:
        job = pool.submit(backlog.take)
        assert backlog.next_errands(60) is not None
        found = job.result(30)
    assert found is not None
    assert found.begun_ms >= later


def test_closing_ends_every_wait(backlog: Backlog) -> None:
    waits: list[Callable[[], object]] = [backlog.take, lambda: backlog.next_errands(60)]
    with ThreadPoolExecutor(6) as pool:
        ends = [pool.submit(wait) for wait in waits * 3]
        backlog.close()
        assert [end.result(10) for end in ends] == [None] * 6


def test_workers_send_everything_once_in_order_whatever_the_threads_do() -> None:
    backlog = Backlog(RetrySchedule((0.001,)), places=6)
    orders, sellers, notes = 8, 4, 15
    total = orders * sellers * notes
    sent: dict[tuple[str, str], list[int]] = {}
    failed: set[str] = set()
    done = threading.Event()
    lock = threading.Lock()

    def work() -> None:
        while (job := backlog.take()) is not None:
            if job.item.seq % 3 == 0 and job.item.delivery_id not in failed:
                failed.add(job.item.delivery_id)
                fail(backlog, job, 0)
                continue
            with lock:
                sent.setdefault((job.ref.key, job.door.key.seller_id), []).append(job.item.seq)
                if sum(map(len, sent.values())) == total:
                    done.set()
            deliver(backlog, job)

    def keep() -> None:
        while backlog.next_errands(0.05) is not None:
            pass

    with ThreadPoolExecutor(8) as pool:
        for _ in range(6):
            pool.submit(work)
        pool.submit(keep)
        for seq in range(1, notes + 1):
            for number in range(orders):
                put(backlog, order(number), *(message(seller=f"s{s}", seq=seq) for s in range(sellers)))
        finished = done.wait(30)
        backlog.close()
    assert finished, backlog.facts()
    assert all(seqs == list(range(1, notes + 1)) for seqs in sent.values())
