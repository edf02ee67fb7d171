"""A start with very much unfinished work, and the limits that keep it from growing without end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import requests

from requestor_app.domain import MAX_UNSENT_PER_ORDER
from requestor_app.outbox_limit import MAX_UNSENT
from tests.e2e.conftest import Service, eventually
from tests.faults.arena import Arena, pending_in
from tests.faults.audit import read_store
from tests.faults.big_store import make_big_store
from tests.faults.buyer import Buyer
from tests.faults.measures import Holdings, cpu_seconds
from tests.faults.settling import wait_until_settled
from tests.faults.torture import audit_arena

ORDERS = 5_000
NOTES_EACH = MAX_UNSENT // ORDERS
#: A requestor is ready so soon, whatever it has to do.
READY_S = 10.0
#: All notes are at the processor so soon after it is there. On two idle cores it takes a quarter of that.
SENT_S = 40.0
#: What each process holds in memory at most.
MOST_MEMORY = 160 * 2**20


@contextmanager
def watching_memory(*services: Service) -> Iterator[dict[str, int]]:
    """The most that each service held while the block ran, as it comes to be known."""
    most = {service.name: 0 for service in services}
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.1):
            for service in services:
                most[service.name] = max(most[service.name], Holdings.of(service).memory)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield most
    finally:
        over.set()
        watcher.join()


def assert_refused(answer: requests.Response, status: int, kind: str) -> None:
    """A problem of this kind that says when to come back."""
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == f"urn:problem:order-communicator:{kind}"
    assert int(answer.headers["retry-after"]) > 0


@pytest.mark.slow
@pytest.mark.alone
def test_a_hundred_thousand_unsent_notes_of_five_thousand_orders_are_sent_once_and_in_order(arena: Arena) -> None:
    buyer = Buyer(arena)
    buyer.ledger.add(make_big_store(arena.requestor.store, orders=ORDERS, notes_each=NOTES_EACH))
    first = buyer.orders[0]

    began = time.monotonic()
    arena.requestor.start()
    ready_s = time.monotonic() - began
    assert ready_s <= READY_S
    status = arena.status()
    assert (status["active_streams"], status["open_streams"]) == (ORDERS, 0)
    # There are as many as may wait: one more is refused before anything of it is kept; a new order is none.
    assert_refused(buyer.note(first, "one-too-many"), 503, "outbox_full")
    assert pending_in(arena.requestor.store) == MAX_UNSENT
    assert buyer.initiate("B0").ok

    arena.processor.start()
    began = time.monotonic()
    with watching_memory(*arena.both) as most:
        wait_until_settled(arena, SENT_S)
    sent_s = time.monotonic() - began
    cpu = ", ".join(f"{service.name} {cpu_seconds(service):.1f} s of CPU" for service in arena.both)
    peaks = ", ".join(f"{name} {most[name] / 2**20:.0f} MiB" for name in most)
    print(f"ready after {ready_s:.1f} s, all sent after {sent_s:.1f} s, {cpu}, {peaks}")
    assert max(most.values()) <= MOST_MEMORY

    assert buyer.note(first, "one-too-many").ok
    wait_until_settled(arena)
    for service in reversed(arena.both):
        assert service.stop(timeout_s=10) == 0
        assert '"level":"error"' not in service.log
    assert audit_arena(arena, buyer.ledger).faults == []


def test_an_order_takes_a_thousand_unsent_notes_and_refuses_the_next_until_there_is_room(arena: Arena) -> None:
    buyer = Buyer(arena)
    buyer.ledger.add(make_big_store(arena.requestor.store, orders=2, notes_each=MAX_UNSENT_PER_ORDER - 1))
    full, other = buyer.orders
    arena.requestor.start()

    assert buyer.note(full, "last").ok
    assert_refused(buyer.note(full, "one-too-many"), 429, "too_many_unsent")
    assert buyer.note(full, "last").ok  # again: it is kept already
    assert buyer.note(other, "last").ok  # the limit is the order's own
    kept = read_store(arena.requestor.store)
    assert [kept[facts.order_id].body["notes_count"] for facts in (full, other)] == [MAX_UNSENT_PER_ORDER] * 2
    assert "note:one-too-many" not in {entry_id for _, entry_id, *_ in kept[full.order_id].entries}

    arena.processor.start()
    eventually(lambda: buyer.note(full, "one-too-many").ok, what="room for the note")
    wait_until_settled(arena)
    for service in reversed(arena.both):
        assert service.stop() == 0
    assert audit_arena(arena, buyer.ledger).faults == []
