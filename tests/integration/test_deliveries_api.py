from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest
from flask.testing import FlaskClient

from processor_app.bootstrap import Processor
from processor_app.delivery import deliveries as deliveries_module
from processor_app.delivery.delivery import DeliveryState, delivery_of, message_of
from processor_app.domain import FollowUp, OpenStream, change_of, existing
from service_kit.change import Change, Ref, Snapshot, Step
from service_kit.times import rfc3339
from tests.integration.test_processor_api import CANARY, assert_problem

BASE = "/api/v1/deliveries"


def order(processor: Processor, key: str = "A1", *audience: str) -> Ref:
    ref = Ref("default", key)
    processor.orders.take_one(OpenStream(ref, "s", "email", audience, None, 1, f"st-{key}", 0, 1))
    return ref


def note(processor: Processor, ref: Ref, note_id: str, *audience: str) -> None:
    processor.orders.take_one(FollowUp(ref, note_id, 1, audience, "text", "hello", (), 5))


def turn(processor: Processor, ref: Ref, state: DeliveryState) -> None:
    """Bring every delivery of an order into a state."""
    messages = processor.store.messages(ref)

    def decide(snapshot: Snapshot) -> Change:
        before, found = existing(snapshot)
        puts = []
        for message in snapshot.messages.values():
            delivery = delivery_of(message)
            puts.append(message_of(replace(delivery, state=state, attempts=3, last_error="No.")))
        return change_of(before, found, before.updated_ms, puts=puts)

    processor.store.update(Step(ref, decide, message_ids=tuple(m.message_id for m in messages)))


def listed(client: FlaskClient, query: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get(f"{BASE}?{query}").get_json()["deliveries"]
    return found


def test_a_delivery_is_shown_with_all_that_is_known_of_it(processor_client: FlaskClient, processor: Processor) -> None:
    ref = order(processor)
    note(processor, ref, "n1", "s1")
    (shown,) = listed(processor_client)
    assert {name: value for name, value in shown.items() if not name.endswith(("_at", "_id"))} == {
        "channel": "email",
        "state": "waiting",
        "attempts": 0,
        "uncertain": 0,
        "last_error": "",
    }
    assert (shown["order_req_id"], shown["follow_up_id"], shown["seller_id"]) == ("A1", "n1", "s1")
    assert shown["next_attempt_at"] is None
    assert shown["created_at"] == shown["updated_at"]
    turn(processor, ref, DeliveryState.RETRYING)
    (shown,) = listed(processor_client)
    assert shown["next_attempt_at"] is not None


def test_deliveries_are_filtered_and_counted(processor_client: FlaskClient, processor: Processor) -> None:
    first, second = order(processor, "A1", "s1", "s2"), order(processor, "A2", "s1")
    note(processor, second, "n1", "s2")
    turn(processor, second, DeliveryState.DEAD)

    def found(query: str) -> list[tuple[str, str]]:
        return sorted((d["order_req_id"], d["seller_id"]) for d in listed(processor_client, query))

    assert found("") == [("A1", "s1"), ("A1", "s2"), ("A2", "s1"), ("A2", "s2")]
    assert found("state=dead") == [("A2", "s1"), ("A2", "s2")]
    assert found("seller_id=s1") == [("A1", "s1"), ("A2", "s1")]
    assert found("order_req_id=A2&seller_id=s2") == [("A2", "s2")]
    assert found("order_req_id=A2&state=waiting") == []
    assert processor_client.get(BASE).get_json()["states"] == {"waiting": 2, "dead": 2}
    assert first != second


def test_pages_hold_every_delivery_once_newest_first(processor_client: FlaskClient, processor: Processor) -> None:
    ref = order(processor)
    for number in range(7):
        note(processor, ref, f"n{number}", "s1", "s2")
        time.sleep(0.002)
    for query in ("", "&seller_id=s1", "&order_req_id=A1", "&state=waiting"):
        seen: list[str] = []
        cursor = ""
        while True:
            page = processor_client.get(f"{BASE}?limit=3{query}{cursor}").get_json()
            seen += [d["follow_up_id"] for d in page["deliveries"]]
            if page["next_cursor"] is None:
                break
            cursor = f"&cursor={page['next_cursor']}"
        assert list(dict.fromkeys(seen)) == [f"n{number}" for number in reversed(range(7))]
        assert len(seen) == (7 if "seller" in query else 14)


@pytest.mark.parametrize("state", [DeliveryState.DEAD, DeliveryState.RETRYING])
def test_a_failed_delivery_is_sent_again_now(
    processor_client: FlaskClient, processor: Processor, state: DeliveryState
) -> None:
    turn(processor, order(processor, "A1", "s1"), state)
    (delivery,) = listed(processor_client)
    answer = processor_client.post(f"{BASE}/{delivery['delivery_id']}/retry")
    assert answer.status_code == 200
    assert (answer.get_json()["state"], answer.get_json()["attempts"]) == ("pending", 3)
    assert listed(processor_client) == [answer.get_json()]


@pytest.mark.parametrize("state", sorted(set(DeliveryState) - {DeliveryState.DEAD, DeliveryState.RETRYING}))
def test_any_other_is_not_and_the_answer_says_which_are(
    processor_client: FlaskClient, processor: Processor, state: DeliveryState
) -> None:
    turn(processor, order(processor, "A1", "s1"), state)
    (delivery,) = listed(processor_client)
    problem = assert_problem(processor_client.post(f"{BASE}/{delivery['delivery_id']}/retry"), 409)
    assert (problem["state"], problem["allowed_states"]) == (state, ["dead", "retrying"])
    assert listed(processor_client) == [delivery]


@pytest.mark.parametrize("name", [CANARY, "d1-" + "0" * 20, "d18f0-" + "a" * 20, "%00", "note:1"])
def test_an_unknown_delivery_is_not_found(processor_client: FlaskClient, processor: Processor, name: str) -> None:
    order(processor, "A1", "s1")
    assert_problem(processor_client.post(f"{BASE}/{name}/retry"), 404)


def test_a_delivery_of_another_tenant_is_not_found(processor_client: FlaskClient, processor: Processor) -> None:
    ref = Ref("other", "A1")
    processor.orders.take_one(OpenStream(ref, "s", "email", ("s1",), None, 1, "st", 0, 1))
    (message,) = processor.store.messages(ref)
    assert_problem(processor_client.post(f"{BASE}/{message.message_id}/retry"), 404)
    assert listed(processor_client) == []


def test_a_range_of_dead_deliveries_is_sent_again(processor_client: FlaskClient, processor: Processor) -> None:
    for key in ("A1", "A2", "A3"):
        turn(processor, order(processor, key, "s1", "s2"), DeliveryState.DEAD)
        time.sleep(0.01)
    turn(processor, order(processor, "A4", "s1"), DeliveryState.RETRYING)

    def retried(**wanted: str) -> int:
        answer = processor_client.post(f"{BASE}/retry", json=wanted).get_json()
        assert answer["is_complete"] is True
        return int(answer["count"])

    times = {d["order_req_id"]: d["created_at"] for d in listed(processor_client)}
    assert retried(order_req_id="A1", seller_id="s1") == 1
    assert retried(order_req_id="A1") == 1
    assert retried(created_from=times["A2"], created_before=times["A3"]) == 2
    assert retried(seller_id="absent") == 0
    assert processor_client.post(f"{BASE}/retry").get_json()["count"] == 2
    assert retried() == 0
    assert processor_client.get(BASE).get_json()["states"] == {"pending": 6, "retrying": 1}
    assert retried(state="retrying") == 1


def test_one_call_sends_a_bounded_number_again_and_says_that_there_are_more(
    processor_client: FlaskClient, processor: Processor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliveries_module, "MAX_RETRIED", 4)
    monkeypatch.setattr(deliveries_module, "_BATCH", 3)
    turn(processor, order(processor, "A1", *(f"s{number}" for number in range(10))), DeliveryState.DEAD)
    answers = [processor_client.post(f"{BASE}/retry").get_json() for _ in range(3)]
    assert [(answer["count"], answer["is_complete"]) for answer in answers] == [(4, False), (4, False), (2, True)]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"state": "delivered"}, "/state"),
        ({"state": CANARY}, "/state"),
        ({"seller_id": f"{CANARY} x"}, "/seller_id"),
        ({"created_from": CANARY}, "/created_from"),
        ({"created_before": 5}, "/created_before"),
        ({"created_before": "2026-11-23T12:00:00"}, "/created_before"),
        ({"unknown": CANARY}, "/unknown"),
    ],
    ids=str,
)
def test_a_bad_range_is_refused_and_nothing_is_sent(
    processor_client: FlaskClient, processor: Processor, body: dict[str, Any], pointer: str
) -> None:
    turn(processor, order(processor, "A1", "s1"), DeliveryState.DEAD)
    problem = assert_problem(processor_client.post(f"{BASE}/retry", json=body), 422)
    assert [fault["pointer"] for fault in problem["errors"]] == [pointer]
    assert processor_client.get(BASE).get_json()["states"] == {"dead": 1}


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        (f"cursor={CANARY}", "/cursor"),
        (f"state={CANARY}", "/state"),
        (f"seller_id=%20{CANARY}", "/seller_id"),
        ("limit=0", "/limit"),
    ],
)
def test_a_bad_query_is_refused_with_the_place(processor_client: FlaskClient, query: str, pointer: str) -> None:
    problem = assert_problem(processor_client.get(f"{BASE}?{query}"), 422)
    assert [fault["pointer"] for fault in problem["errors"]] == [pointer]


def test_times_are_taken_with_any_offset(processor_client: FlaskClient, processor: Processor) -> None:
    turn(processor, order(processor, "A1", "s1"), DeliveryState.DEAD)
    body = {"created_from": "2001-01-01T00:00:00+02:00", "created_before": rfc3339(2**42)}
    assert processor_client.post(f"{BASE}/retry", json=body).get_json()["count"] == 1
