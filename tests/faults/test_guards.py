"""Each guard, switched off, makes a fault test find a fault: no test of this folder passes for another reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import requests

from proto import order_service_pb2 as wire
from tests.e2e.conftest import Service, eventually, note_body, order_body, wait_for_stream
from tests.faults import guards
from tests.faults.arena import FAILPOINTS, Arena
from tests.faults.audit import read_store, set_aside_in
from tests.faults.by_hand import claim, trunk_to
from tests.faults.delivery_audit import faults_in
from tests.faults.ledger import Ledger, OrderFacts
from tests.faults.sellers import EMAIL, WEBHOOK, Market
from tests.faults.settling import wait_until_settled
from tests.faults.torture import audit_arena
from tests.integration.test_grpc import close_request, follow_up

ORDER = "o-1"


def insist(service: Service, path: str, body: object) -> None:
    """Post until the answer is 200, as a client does."""

    def post() -> bool:
        try:
            return requests.post(f"{service.url}/api/v1{path}", json=body, timeout=5).status_code == 200
        except requests.ConnectionError:
            return False

    eventually(post, what=f"an answer to {path}")


def faults_of(arena: Arena, facts: OrderFacts) -> list[str]:
    """What is wrong with the one order, once both services have come to rest and ended."""
    wait_until_settled(arena)
    arena.stop()
    faults = audit_arena(arena, Ledger({facts.order_id: facts})).faults
    if count := set_aside_in(arena.requestor.store):
        faults.append(f"set aside: {count} messages")
    return faults


# ---- the scenarios: each injects one fault at one place and answers what it found


def a_note_meets_a_death(arena: Arena, failpoint: str) -> list[str]:
    arena.processor.settings[FAILPOINTS] = failpoint
    arena.start()
    facts = OrderFacts(ORDER, "s1", runs_acked=1, runs_tried=1, notes=["n1"])
    arena.requestor.post("/orders/initiate", order_body(ORDER, notification_type="none"))
    wait_for_stream(arena.requestor, ORDER)
    arena.requestor.post("/orders/followup", note_body(ORDER, "n1"))
    eventually(lambda: arena.deaths["processor"] == 1, what="the processor's death")
    return faults_of(arena, facts)


def the_processor_dies_before_it_keeps_a_note(arena: Arena) -> list[str]:
    return a_note_meets_a_death(arena, "processor.taking=kill@2")  # the opening is the first


def the_processor_dies_before_it_answers_a_note(arena: Arena) -> list[str]:
    return a_note_meets_a_death(arena, "processor.taken=kill@2")


def the_requestor_dies_in_the_commit_of_an_order(arena: Arena) -> list[str]:
    requestor = arena.requestor
    # The first commit is the lease's; no later renewal and no event of a processor comes before the order's.
    requestor.settings |= {"REQUESTOR_LEASE_S": "60", "REQUESTOR_PROCESSORS": "127.0.0.1:1"}
    requestor.settings[FAILPOINTS] = "store.committing=kill@2"
    arena.start()
    insist(requestor, "/orders/initiate", order_body(ORDER, notification_type="none"))
    eventually(lambda: arena.deaths["requestor"] == 1, what="the requestor's death")
    return [] if ORDER in read_store(requestor.store) else [f"lost: order {ORDER}"]


def a_stale_owner_acts(arena: Arena) -> list[str]:
    processor = arena.processor
    processor.start()
    with trunk_to(processor, "old") as (old, _), trunk_to(processor, "new") as (new, _):
        old.send(opens=[claim(ORDER, 1)])
        old.events(1)
        new.send(opens=[claim(ORDER, 2, run=1)])
        old.wait_for(1, "streams", step="closed")
        old.send(opens=[claim(ORDER, 1)])
        eventually(lambda: old.steps("refused") or len(old.steps("opened")) == 2)
        old.send(follow_ups=[follow_up(ORDER)], closes=[close_request(ORDER)])
        (note,), (close,) = old.wait_for(1, "follow_up_acks"), old.wait_for(1, "close_acks")
    found = {
        "accepted: an old opening": len(old.steps("opened")) == 2,
        "forgotten: the new token": read_store(processor.store)[ORDER].token == 1,
        "accepted: an old note": note.outcome == wire.ACCEPTED,
        "accepted: an old close": close.outcome == wire.ACCEPTED,
    }
    return [fault for fault, is_there in found.items() if is_there]


def the_processor_cannot_keep_a_note_and_then_can(arena: Arena) -> list[str]:
    processor = arena.processor
    processor.settings[FAILPOINTS] = "store.beginning=raise@2"  # the opening is the first
    processor.start()
    with trunk_to(processor, "requestor") as (trunk, _):
        trunk.send(opens=[claim(ORDER, 1)])
        trunk.events(1)
        trunk.send(follow_ups=[follow_up(ORDER, follow_up_id="n1", sending=1)])
        trunk.send(follow_ups=[follow_up(ORDER, follow_up_id="n2", sending=1)])  # before the answer is there
        again = [ack.follow_up_id for ack in trunk.wait_for(2, "follow_up_acks") if ack.outcome == wire.TRY_AGAIN]
        assert "n1" in again
        trunk.send(follow_ups=[follow_up(ORDER, follow_up_id=name, sending=2) for name in again])
        trunk.wait_for(2 + len(again), "follow_up_acks")
    notes = [name for _, name, kind, _ in read_store(processor.store)[ORDER].entries if kind == "follow_up_accepted"]
    return [] if notes == ["note:n1", "note:n2"] else [f"disordered: {', '.join(notes)}"]


def the_processor_dies_when_a_note_is_sent(arena: Arena, channel: str) -> list[str]:
    arena.processor.settings[FAILPOINTS] = "processor.delivery.sent=kill@1"
    market = Market(arena)
    try:
        arena.start()
        market.start_sinks()
        market.register("seller1", channel)
        market.begin(f"{channel}-order-1", channel, ["seller1"])
        market.note(f"{channel}-order-1")
        eventually(lambda: arena.deaths["processor"] == 1, what="the processor's death")
        arena.wait_until_ready(arena.processor)
        market.wait_until_ended(timeout_s=20)
        return [fault.partition(":")[0] for fault in faults_in(market)]
    finally:
        market.close()


def the_processor_dies_when_a_mail_is_sent(arena: Arena) -> list[str]:
    return the_processor_dies_when_a_note_is_sent(arena, EMAIL)


def the_processor_dies_when_a_webhook_is_sent(arena: Arena) -> list[str]:
    return the_processor_dies_when_a_note_is_sent(arena, WEBHOOK)


# ---- the guards


@dataclass(frozen=True)
class Guard:
    """A guard of one service, the scenario that needs it, and what that finds without it."""

    name: str
    service_name: str
    scenario: Callable[[Arena], list[str]]
    found: list[str]


GUARDS = [
    Guard(
        "dedupe",
        "processor",
        the_processor_dies_before_it_answers_a_note,
        ["doubled: note n1 at the processor", f"disordered: the notes of order {ORDER} at the processor"],
    ),
    Guard(
        "look-at-what-is-kept",
        "processor",
        the_processor_dies_before_it_answers_a_note,
        ["set aside: 1 messages"],
    ),
    Guard("token-check", "processor", a_stale_owner_acts, ["accepted: an old note", "accepted: an old close"]),
    Guard(
        "token-compare",
        "processor",
        a_stale_owner_acts,
        ["forgotten: the new token", "accepted: an old note", "accepted: an old close"],
    ),
    Guard(
        "ack-awaited",
        "requestor",
        the_processor_dies_before_it_keeps_a_note,
        ["lost: note n1 at the processor"],
    ),
    Guard(
        "ack-after-commit",
        "processor",
        the_processor_dies_before_it_keeps_a_note,
        ["lost: note n1 at the processor"],
    ),
    Guard("turns", "processor", the_processor_cannot_keep_a_note_and_then_can, ["disordered: note:n2, note:n1"]),
    Guard("fsync-order", "requestor", the_requestor_dies_in_the_commit_of_an_order, ["lost: order o-1"]),
    Guard("webhook-id", "processor", the_processor_dies_when_a_webhook_is_sent, ["renamed"]),
    Guard("attempt-remembered", "processor", the_processor_dies_when_a_mail_is_sent, ["repeated"]),
]
SCENARIOS = list(dict.fromkeys(guard.scenario for guard in GUARDS))


def test_every_guard_that_can_be_switched_off_is_here() -> None:
    assert [guard.name for guard in GUARDS] == list(guards.OFF)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_with_every_guard_a_scenario_finds_nothing(arena: Arena, scenario: Callable[[Arena], list[str]]) -> None:
    assert scenario(arena) == []


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.name)
def test_without_a_guard_its_scenario_finds_the_fault(arena: Arena, guard: Guard) -> None:
    service = getattr(arena, guard.service_name)
    service.command = guards.command(guard.service_name, guard.name)
    assert guard.scenario(arena) == guard.found
