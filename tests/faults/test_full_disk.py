"""A full disk: nothing is acknowledged that is not kept, readiness says why, and room is all that it takes to go on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.e2e.conftest import Service, eventually
from tests.faults.arena import Arena
from tests.faults.audit import read_store, set_aside_in
from tests.faults.buyer import Buyer, until_refused
from tests.faults.settling import wait_until_settled
from tests.faults.small_disk import SmallDisk, small_disk
from tests.faults.torture import audit_arena

pytestmark = pytest.mark.usefixtures("root")

NO_ROOM = "The store has no room left."
#: The kinds of problems that a status may stand for.
KINDS = {507: ("store_full",), 503: ("store_unavailable", "unavailable")}
ORDERS = 40
#: A healed service is ready again so soon after somebody looks.
HEALED_S = 5.0


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    with small_disk(tmp_path / "disk", mib=8) as made:
        yield made


@pytest.fixture
def buyer(arena: Arena) -> Buyer:
    return Buyer(arena)


def start_on(disk: SmallDisk, service: Service, arena: Arena, buyer: Buyer) -> None:
    """Start both services, one of them with its store on the small disk, and give them work."""
    disk.hold_store_of(service)
    arena.start()
    buyer.open_orders(f"A{number}" for number in range(ORDERS))
    for facts in buyer.orders:
        assert buyer.note(facts, f"{facts.order_id}-before").ok


def assert_problem(answer: requests.Response) -> None:
    """A refusal as decision 8 wants it: 507 or 503, with a time to come back and without a word about this machine."""
    assert answer.status_code in (503, 507)
    assert answer.headers["content-type"] == "application/problem+json"
    assert int(answer.headers["retry-after"]) > 0
    problem = answer.json()
    assert problem["status"] == answer.status_code
    assert problem["type"].removeprefix("urn:problem:order-communicator:") in KINDS[answer.status_code]
    assert "/" not in problem["detail"]


def readiness(service: Service) -> tuple[int, dict[str, Any]]:
    """The status of /readyz, and what each check says that is not fine."""
    answer = requests.get(f"{service.url}/readyz", timeout=5)
    return answer.status_code, {name: c["detail"] for name, c in answer.json()["checks"].items() if not c["ok"]}


def is_ready(service: Service) -> bool:
    return readiness(service) == (200, {})


def notes_in(store: Path) -> dict[str, list[str]]:
    """The follow-ups of every order as the requestor's file has them."""
    return {
        key: [body["follow_up_id"] for _, _, kind, body in kept.entries if kind == "note_added"]
        for key, kept in read_store(store).items()
    }


def replies_in(store: Path) -> dict[str, list[str]]:
    """The sellers' replies of every order as the processor's file has them."""
    return {
        key: [body["reply_id"] for _, _, kind, body in kept.entries if kind == "seller_replied"]
        for key, kept in read_store(store).items()
    }


def assert_all_is_well(arena: Arena, buyer: Buyer) -> None:
    """Everything that was acknowledged has arrived once, in order; nobody was restarted."""
    wait_until_settled(arena)
    assert arena.deaths == {"requestor": 0, "processor": 0}
    arena.stop()
    assert audit_arena(arena, buyer.ledger).faults == []
    assert set_aside_in(arena.requestor.store) == 0


def test_a_requestor_without_room_acknowledges_nothing_that_it_does_not_keep(
    arena: Arena, disk: SmallDisk, buyer: Buyer
) -> None:
    requestor = arena.requestor
    start_on(disk, requestor, arena, buyer)
    first, *others = buyer.orders

    disk.fill()
    refused = until_refused(lambda number: buyer.note(first, f"full-{number}"))
    assert refused.status_code == 507
    assert_problem(refused)
    assert readiness(requestor)[1]["store"] == NO_ROOM
    # The database's own log may have room for what is smaller; that too comes to its end.
    assert_problem(until_refused(lambda number: buyer.initiate(f"B{number}")))
    assert_problem(until_refused(lambda number: buyer.complete(others.pop())))
    assert_problem(until_refused(lambda number: buyer.note(first, f"refused-{number}")))
    # The instance's lease cannot be renewed either, so in the end it stops acting.
    eventually(lambda: "lease" in readiness(requestor)[1], what="the end of the lease")
    assert readiness(requestor)[0] == 503
    refused = buyer.initiate("C")
    assert refused.status_code == 503
    assert_problem(refused)
    assert requestor.get(f"/orders/{first.order_id}")["stream"]["state"] == "connecting"

    kept = notes_in(requestor.store)
    assert {facts.order_id: facts.notes for facts in buyer.orders} == kept
    assert "C" not in kept

    disk.make_room()
    eventually(lambda: is_ready(requestor), timeout_s=HEALED_S, what="the requestor's readiness")
    assert buyer.initiate("C").ok
    assert buyer.note(first, "refused-0").ok
    eventually(arena.has_all_streams, timeout_s=HEALED_S, what="the streams")
    assert buyer.complete(first).ok
    assert_all_is_well(arena, buyer)


def test_a_processor_without_room_acknowledges_nothing_that_it_does_not_keep_and_loses_no_note(
    arena: Arena, disk: SmallDisk, buyer: Buyer
) -> None:
    processor = arena.processor
    start_on(disk, processor, arena, buyer)
    arena.wait_until_quiet()
    first, second, *others = buyer.orders

    disk.fill()
    refused = until_refused(lambda number: buyer.reply(first, f"full-{number}"))
    assert refused.status_code == 507
    assert_problem(refused)
    assert readiness(processor) == (503, {"store": NO_ROOM})
    assert_problem(buyer.complete_as_seller(first))
    # The requestor has room: it takes what comes and keeps it for later.
    assert is_ready(arena.requestor)
    for facts in (first, second, *others):
        for number in range(5):
            assert buyer.note(facts, f"{facts.order_id}-{number}").ok
    assert buyer.initiate("B0").ok
    assert buyer.complete(second).ok
    eventually(lambda: NO_ROOM in arena.requestor.log, what="the refusal of the new stream")
    for number, facts in enumerate(others):
        answer = buyer.reply(facts, f"{facts.order_id}-{number}")
        if not answer.ok:
            assert_problem(answer)
    assert_problem(buyer.reply(first, "refused"))
    assert readiness(processor) == (503, {"store": NO_ROOM})

    at_processor = replies_in(processor.store)
    assert {facts.order_id: facts.replies for facts in buyer.orders if facts.order_id != "B0"} == at_processor

    disk.make_room()
    eventually(lambda: is_ready(processor), timeout_s=HEALED_S, what="the processor's readiness")
    assert buyer.reply(first, "refused").ok
    eventually(arena.has_all_streams, timeout_s=HEALED_S, what="the streams")
    arena.wait_until_quiet(timeout_s=HEALED_S)
    assert buyer.complete_as_seller(first).ok
    assert_all_is_well(arena, buyer)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_requestor_that_cannot_start_for_want_of_room_says_so_in_one_line_and_starts_when_there_is(
    arena: Arena, disk: SmallDisk, buyer: Buyer, end: str
) -> None:
    requestor, processor = arena.requestor, arena.processor
    disk.hold_store_of(requestor)
    for service in arena.both:
        service.start()
    buyer.open_orders(["A0"])
    assert buyer.note(buyer.orders[0], "n1").ok
    getattr(requestor, end)()

    disk.fill()
    before = len(requestor.log)
    requestor.launch()
    assert requestor.wait() == 1
    (line,) = [line for line in requestor.log[before:].splitlines() if not line.startswith("{")]
    assert "The store" in line

    disk.make_room()
    requestor.start()
    wait_until_settled(arena)
    for service in reversed(arena.both):
        assert service.stop() == 0
    assert processor.process.returncode == 0
    assert audit_arena(arena, buyer.ledger).faults == []
