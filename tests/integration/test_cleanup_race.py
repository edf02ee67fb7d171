"""What happens to an order at the moment of its cleanup: whatever is accepted stays, whoever wins the race."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

import processor_app.domain as processor_domain
import requestor_app.domain as requestor_domain
from processor_app import steps
from processor_app.bootstrap import Processor
from processor_app.domain import Close, OpenStream
from requestor_app.bootstrap import Requestor
from requestor_app.domain import ActionRefused, Event, FollowUp, OrderRequest
from service_kit.change import DEFAULT_TENANT, Ref, Step
from service_kit.errors import NotFound
from service_kit.storage.contract import Store
from service_kit.times import now_ms

ORDERS = 600
CALLERS = 4
RETENTION_S = 60.0
#: The orders ended before that.
LONG_AGO_MS = 10 * 60_000
#: What one step of the cleanup removes: little, so that it keeps pace with the callers.
STEP = 10

REFS = [Ref(DEFAULT_TENANT, f"A{number}") for number in range(ORDERS)]


def do_all(store: Store, steps: list[Step]) -> None:
    """Apply steps that all must change something."""
    assert not [result for result in store.update_all(steps) if result is None or isinstance(result, Exception)]


def race(act: Callable[[Ref], None], clean: Callable[[], int]) -> int:
    """Let callers act on the orders from the oldest on, while the cleanup removes from there; how many it removed.

    A few are removed before anybody acts on them, and a few the other way round, whoever is faster after that.
    """
    removed = clean()
    for ref in REFS[-STEP:]:
        act(ref)
    left = iter(REFS[STEP:-STEP] + REFS[:STEP])
    lock = threading.Lock()

    def call() -> None:
        while True:
            with lock:
                ref = next(left, None)
            if ref is None:
                return
            act(ref)

    with ThreadPoolExecutor(CALLERS) as pool:
        callers = [pool.submit(call) for _ in range(CALLERS)]
        while not all(caller.done() for caller in callers):
            removed += clean()
        for caller in callers:
            caller.result()
    return removed


# ---- the requestor


def request_of(ref: Ref) -> OrderRequest:
    return OrderRequest(ref, "s1", "none")


def note_of(ref: Ref, note_id: str) -> FollowUp:
    return FollowUp(ref, note_id, ("seller1",), "text", "hello")


@pytest.fixture
def ended_long_ago(requestor: Requestor) -> Requestor:
    """A requestor whose orders ended before the retention; each had one run, with the token 1."""
    at_ms = now_ms() - LONG_AGO_MS
    for ref in REFS:
        assert requestor.orders.initiate(request_of(ref))
        requestor.tracking.stop(ref, 1)
    for kind, seq in (("accepted", 1), ("completed", 2)):
        events = {ref: [Event(ref, seq, 1, kind, at_ms, {})] for ref in REFS}
        receive = partial(requestor_domain.receive, acknowledgements=[], token=1, now_ms=at_ms)
        do_all(requestor.store, [Step(ref, partial(receive, events=events[ref])) for ref in REFS])
    return requestor


def test_an_order_that_is_initiated_again_while_it_is_cleaned_up_is_live_with_its_new_run(
    ended_long_ago: Requestor,
) -> None:
    orders, store = ended_long_ago.orders, ended_long_ago.store

    def initiate_and_note(ref: Ref) -> None:
        assert orders.initiate(request_of(ref))
        assert orders.follow_up(note_of(ref, "n1"))

    removed = race(initiate_and_note, lambda: orders.purge(RETENTION_S, STEP))
    assert 0 < removed < ORDERS  # some were removed first, some were initiated first
    assert orders.purge(RETENTION_S, ORDERS) == 0
    assert store.counts(DEFAULT_TENANT) == {"live": ORDERS}
    runs = 0
    for ref in REFS:
        kinds = [entry.kind for entry in store.entries(ref)]
        assert kinds[-2:] == ["initiated", "note_added"]
        assert orders.get(ref).token > 1
        assert [message.message_id for message in store.messages(ref)] == ["note:n1"]
        runs += kinds.count("initiated")
    assert runs == ORDERS + (ORDERS - removed)


def test_a_late_follow_up_to_an_order_that_is_cleaned_up_is_refused_and_leaves_nothing(
    ended_long_ago: Requestor,
) -> None:
    orders, store = ended_long_ago.orders, ended_long_ago.store
    refused: list[type[Exception]] = []

    def note_late(ref: Ref) -> None:
        with pytest.raises((ActionRefused, NotFound)) as caught:
            orders.follow_up(note_of(ref, "late"))
        refused.append(caught.type)

    race(note_late, lambda: orders.purge(RETENTION_S, STEP))
    assert len(refused) == ORDERS
    while orders.purge(RETENTION_S, ORDERS):
        pass
    assert store.counts(DEFAULT_TENANT) == {}
    assert store.outbox_counts() == {}


# ---- the processor


def wish_of(ref: Ref, run: int) -> OpenStream:
    return OpenStream(ref, "s1", "none", (), None, token=run, stream_id=f"st{run}", resume_after=0, run=run)


def test_an_order_whose_next_run_begins_while_it_is_pruned_and_removed_is_live_with_that_run(
    processor: Processor,
) -> None:
    orders, store = processor.orders, processor.store
    at_ms = now_ms() - LONG_AGO_MS
    opening = partial(steps.open_stream, routes={}, now_ms=at_ms)
    closing = partial(steps.close, now_ms=at_ms)
    do_all(store, [Step(ref, partial(opening, wish=wish_of(ref, 1))) for ref in REFS])
    end = processor_domain.OrderState.COMPLETED
    do_all(store, [Step(ref, partial(closing, wish=Close(ref, end, "seller"))) for ref in REFS])
    # Every second one was pruned long ago, so that its record goes at once.
    pruning = partial(steps.prune, before_ms=now_ms(), now_ms=at_ms)
    do_all(store, [Step(ref, pruning) for ref in REFS[::2]])

    def begin_next_run(ref: Ref) -> None:
        assert orders.take_one(wish_of(ref, 2)) is not None

    removed = race(begin_next_run, lambda: orders.prune(RETENTION_S, STEP))
    assert 0 < removed < ORDERS
    orders.prune(RETENTION_S, ORDERS)
    assert store.counts(DEFAULT_TENANT) == {"live": ORDERS}
    for ref in REFS:
        last = store.entries(ref)[-1]
        assert (last.kind, last.body["run"]) == ("accepted", 2)
        assert (orders.get(ref).run, orders.get(ref).head_seq) == (2, last.seq)
