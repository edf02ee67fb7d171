from __future__ import annotations

import itertools
import threading
from collections import Counter

import pytest

from requestor_app.tracking import OrderTracking, StreamState, StreamView, Tracked
from service_kit.change import Ref

REF = Ref("default", "A1")
ROUNDS = 3_000


@pytest.fixture
def tracking() -> OrderTracking:
    return OrderTracking()


def launch(tracking: OrderTracking, token: int = 1, fingerprint: int = 7) -> bool:
    return tracking.launch(REF, token=token, fingerprint=fingerprint, applied_seq=0, now_ms=1)


def state(tracking: OrderTracking) -> StreamState | None:
    view = tracking.view(REF)
    return None if view is None else view.state


def test_one_thread_gets_the_slot_and_the_next_must_ask_the_store(tracking: OrderTracking) -> None:
    assert isinstance(tracking.reserve(REF, 7, 1), Tracked)
    assert tracking.reserve(REF, 7, 2) is None
    assert len(tracking) == 1


def test_a_released_slot_is_free(tracking: OrderTracking) -> None:
    slot = tracking.reserve(REF, 7, 1)
    assert isinstance(slot, Tracked)
    tracking.release(slot)
    assert len(tracking) == 0
    assert isinstance(tracking.reserve(REF, 7, 2), Tracked)


def test_a_slot_that_was_launched_stays_when_it_is_released(tracking: OrderTracking) -> None:
    slot = tracking.reserve(REF, 7, 1)
    assert isinstance(slot, Tracked)
    assert launch(tracking)
    tracking.release(slot)
    assert state(tracking) is StreamState.CONNECTING


def test_a_released_slot_does_not_free_the_slot_of_another_thread(tracking: OrderTracking) -> None:
    first = tracking.reserve(REF, 7, 1)
    assert isinstance(first, Tracked)
    tracking.release(first)
    second = tracking.reserve(REF, 7, 2)
    tracking.release(first)
    assert tracking.find(REF) is second


def test_a_launched_order_with_the_same_content_is_answered_from_memory(tracking: OrderTracking) -> None:
    launch(tracking)
    view = tracking.reserve(REF, 7, 2)
    assert isinstance(view, StreamView)
    assert (view.state, view.token) == (StreamState.CONNECTING, 1)


def test_a_launched_order_with_another_content_is_the_stores_to_decide(tracking: OrderTracking) -> None:
    launch(tracking)
    assert tracking.reserve(REF, 8, 2) is None


@pytest.mark.parametrize("ending", [StreamState.ENDING, StreamState.DRAINING])
def test_an_order_that_ends_is_the_stores_to_decide(tracking: OrderTracking, ending: StreamState) -> None:
    launch(tracking)
    if ending is StreamState.DRAINING:
        tracking.stop(REF, 1, drain=True)
    else:
        assert tracking.move(REF, "", ending, 2)
    assert state(tracking) is ending
    assert tracking.reserve(REF, 7, 3) is None


def test_an_order_is_launched_once_with_a_token(tracking: OrderTracking) -> None:
    assert launch(tracking, 5)
    assert not launch(tracking, 5)
    assert not launch(tracking, 4)
    assert launch(tracking, 6)


def test_an_order_that_drains_is_launched_with_a_higher_token_only(tracking: OrderTracking) -> None:
    launch(tracking, 5)
    tracking.stop(REF, 5, drain=True)
    assert not launch(tracking, 5)
    assert launch(tracking, 6)
    assert tracking.listed(StreamState.DRAINING) == []


def test_a_stop_leaves_a_newer_run_alone(tracking: OrderTracking) -> None:
    launch(tracking, 5)
    launch(tracking, 6)
    tracking.stop(REF, 5)
    tracking.stop(REF, 5, drain=True)
    assert state(tracking) is StreamState.CONNECTING
    tracking.stop(REF, 6)
    tracking.stop(REF, 6)
    assert len(tracking) == 0


def test_one_thread_opens_the_stream(tracking: OrderTracking) -> None:
    launch(tracking)
    assert tracking.begin_open(REF, 2, "st1", 1) is None
    assert tracking.begin_open(REF, 1, "st1", 1) is not None
    assert tracking.begin_open(REF, 1, "st2", 1) is None


@pytest.mark.parametrize("drain", [False, True])
def test_a_stream_that_has_ended_is_not_opened(tracking: OrderTracking, drain: bool) -> None:
    launch(tracking)
    tracking.stop(REF, 1, drain=drain)
    assert tracking.begin_open(REF, 1, "st1", 1) is None


def test_news_of_an_older_opening_changes_nothing(tracking: OrderTracking) -> None:
    launch(tracking)
    tracking.begin_open(REF, 1, "st2", 1)
    assert not tracking.move(REF, "st1", StreamState.OPEN, 2)
    assert tracking.move(REF, "st2", StreamState.OPEN, 2)
    assert state(tracking) is StreamState.OPEN


def test_a_lost_trunk_makes_every_launched_stream_connect_anew(tracking: OrderTracking) -> None:
    for name, last in (("open", StreamState.OPEN), ("opening", StreamState.OPENING), ("ending", StreamState.ENDING)):
        ref = Ref("default", name)
        tracking.launch(ref, token=1, fingerprint=7, applied_seq=0, now_ms=1)
        tracking.begin_open(ref, 1, "st", 1)
        tracking.move(ref, "st", last, 1)
    drained, reserved = Ref("default", "drained"), Ref("default", "reserved")
    tracking.launch(drained, token=1, fingerprint=7, applied_seq=0, now_ms=1)
    tracking.stop(drained, 1, drain=True)
    tracking.reserve(reserved, 7, 1)
    assert tracking.lose_all("the wire is cut", 9) == 1
    assert tracking.count(StreamState.CONNECTING) == 3
    assert tracking.listed(StreamState.DRAINING) == [drained]
    view = tracking.view(Ref("default", "open"))
    assert view is not None
    assert (view.error, view.since_ms) == ("the wire is cut", 9)
    assert len(tracking) == 5


def opened_on(tracking: OrderTracking, link: str, name: str = "A1") -> Tracked:
    ref = Ref("default", name)
    tracking.launch(ref, token=1, fingerprint=7, applied_seq=3, now_ms=1)
    tracked = tracking.begin_open(ref, 1, f"st-{link}", 1, link=link)
    assert tracked is not None
    tracking.move(ref, f"st-{link}", StreamState.OPEN, 1)
    return tracked


def test_a_lost_link_takes_only_its_own_streams_along(tracking: OrderTracking) -> None:
    opened_on(tracking, "p1", "A1")
    opened_on(tracking, "p2", "A2")
    tracking.launch(Ref("default", "A3"), token=1, fingerprint=7, applied_seq=0, now_ms=1)
    assert tracking.lose_all("gone", 9, link="p1") == 1
    assert set(tracking.listed(StreamState.CONNECTING)) == {Ref("default", "A1"), Ref("default", "A3")}
    assert tracking.listed(StreamState.OPEN) == [Ref("default", "A2")]


def test_an_open_stream_moves_to_another_link_and_what_the_old_one_does_is_of_no_effect(
    tracking: OrderTracking,
) -> None:
    old = opened_on(tracking, "p1")
    assert tracking.begin_open(REF, 1, "st-p1-again", 2, link="p1", is_moving=True) is None
    assert tracking.begin_open(REF, 1, "st-p2", 2, link="p2") is None
    moved = tracking.begin_open(REF, 1, "st-p2", 2, link="p2", is_moving=True)
    assert moved is not None
    assert (moved.link, moved.applied_seq, moved.relayed, state(tracking)) == ("p2", 3, 0, StreamState.OPENING)
    # Threads of the old link are late.
    old.relayed = 99
    assert not tracking.move(REF, "st-p1", StreamState.CONNECTING, 3, "superseded")
    assert moved.relayed == 0
    assert tracking.lose_all("gone", 9, link="p1") == 0
    assert tracking.move(REF, "st-p2", StreamState.OPEN, 4)
    assert tracking.counts()["open"] == 1


def test_after_a_sleep_the_store_decides_about_duplicates(tracking: OrderTracking) -> None:
    launch(tracking)
    assert isinstance(tracking.reserve(REF, 7, 2), StreamView)
    tracking.doubt_all()
    assert tracking.reserve(REF, 7, 3) is None
    launch(tracking, token=2)
    assert isinstance(tracking.reserve(REF, 7, 4), StreamView)


def run_together(count: int, work: threading.Barrier, target) -> None:
    failures: list[BaseException] = []

    def guarded(number: int) -> None:
        try:
            target(number)
        except BaseException as error:  # noqa: BLE001 - told to the test below
            failures.append(error)
            work.abort()

    threads = [threading.Thread(target=guarded, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not failures
    assert not any(thread.is_alive() for thread in threads)


def test_threads_that_launch_one_claim_while_its_last_run_stops_launch_it_once(tracking: OrderTracking) -> None:
    barrier = threading.Barrier(4)
    launched: Counter[int] = Counter()
    opened: Counter[int] = Counter()
    lock = threading.Lock()

    def race(number: int) -> None:
        for token in range(1, ROUNDS + 1):
            barrier.wait(60)
            if number == 0:
                tracking.stop(REF, token - 1)
                continue
            won = launch(tracking, token)
            begun = tracking.begin_open(REF, token, f"st-{number}-{token}", 1) is not None
            with lock:
                launched[token] += won
                opened[token] += begun

    run_together(4, barrier, race)
    assert set(launched.values()) == {1}
    assert set(opened.values()) == {1}
    assert len(launched) == ROUNDS
    tracking.stop(REF, ROUNDS)
    assert len(tracking) == 0


def test_threads_that_reserve_launch_and_stop_leave_nothing_behind(tracking: OrderTracking) -> None:
    barrier = threading.Barrier(4)
    tokens = itertools.count(1)
    launched: Counter[int] = Counter()
    lock = threading.Lock()

    def race(_number: int) -> None:
        for _ in range(ROUNDS):
            barrier.wait(60)
            slot = tracking.reserve(REF, 7, 1)
            with lock:
                token = next(tokens)
            if isinstance(slot, Tracked) or token % 3:
                won = launch(tracking, token)
                with lock:
                    launched[token] += won
                tracking.stop(REF, token)
            if isinstance(slot, Tracked):
                tracking.release(slot)

    run_together(4, barrier, race)
    assert max(launched.values()) == 1
    assert len(tracking) == 0
    assert tracking.count(*StreamState) == 0
