"""A requestor's store full of unfinished work, made with the real steps and the real engine, as a crash leaves it."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from requestor_app import domain
from requestor_app.domain import FollowUp, OrderRequest
from service_kit.change import DEFAULT_TENANT, Ref, Step
from service_kit.storage.sqlite import SqliteStore
from service_kit.times import now_ms
from tests.faults.ledger import Ledger, OrderFacts

#: The instance that left them; it is not alive.
_OWNER = "requestor-of-yesterday"
#: Orders in one commit.
_BATCH = 200


def make_big_store(path: Path, *, orders: int, notes_each: int) -> Ledger:
    """Make a store with live orders and their unsent notes; answers what its buyers were told."""
    ledger = Ledger()
    store = SqliteStore(path)
    store.start()
    try:
        for start in range(0, orders, _BATCH):
            steps: list[Step] = []
            for number in range(start, min(start + _BATCH, orders)):
                facts = OrderFacts(f"A{number}", "s1", runs_acked=1, runs_tried=1, is_live=True)
                facts.notes = [f"n{note}" for note in range(notes_each)]
                ledger.orders[facts.order_id] = facts
                steps += _steps(facts)
            results = store.update_all(steps)
            assert not [result for result in results if result is None or isinstance(result, Exception)]
    finally:
        store.stop()
    return ledger


def _steps(facts: OrderFacts) -> Iterator[Step]:
    ref, at_ms = Ref(DEFAULT_TENANT, facts.order_id), now_ms()
    request = OrderRequest(ref, facts.session_id, "none", ("seller1",))
    yield Step(ref, partial(domain.initiate, request=request, owner=_OWNER, now_ms=at_ms))
    for note_id in facts.notes:
        note = FollowUp(ref, note_id, ("seller1",), "text", "Please expedite this order")
        decide = partial(domain.add_follow_up, note=note, now_ms=at_ms)
        yield Step(ref, decide, entry_ids=(domain.note_entry_id(note_id),))
