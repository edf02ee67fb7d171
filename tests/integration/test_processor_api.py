from __future__ import annotations

import json
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from processor_app.bootstrap import Processor
from processor_app.domain import OpenStream
from service_kit.change import Ref
from service_kit.web.openapi import undocumented_routes

BASE = "/api/v1/orders"
CANARY = "CANARY-7f3a"
REPLY: dict[str, Any] = {"seller_id": "seller1", "answer": "accepted", "message": "fine", "reply_id": "r1"}


def open_order(processor: Processor, key: str = "A1", session_id: str = "s1") -> None:
    wish = OpenStream(Ref("default", key), session_id, "email", ("seller1",), {"colour": "red"}, 1, "st1", 0, 1)
    processor.orders.take_one(wish)


def assert_problem(answer: TestResponse, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.content_type == "application/problem+json"
    problem = answer.get_json()
    assert problem["status"] == status
    assert problem["request_id"] == answer.headers["X-Request-ID"]
    assert CANARY not in answer.text
    return problem


def kinds(client: FlaskClient, key: str = "A1") -> list[str]:
    return [event["kind"] for event in client.get(f"{BASE}/{key}/events").get_json()["events"]]


def test_an_order_is_shown_with_its_stream_and_actions(processor_client: FlaskClient, processor: Processor) -> None:
    open_order(processor)
    order = processor_client.get(f"{BASE}/A1").get_json()
    assert (order["order_req_id"], order["session_id"], order["state"]) == ("A1", "s1", "live")
    assert (order["token"], order["run"], order["head_seq"], order["is_stream_open"]) == (1, 1, 1, False)
    assert (order["allowed_actions"], order["details"]) == (["reply", "complete"], {"colour": "red"})


def test_a_reply_becomes_an_event(processor_client: FlaskClient, processor: Processor) -> None:
    open_order(processor)
    answer = processor_client.post(f"{BASE}/A1/replies", json=REPLY)
    assert answer.status_code == 200
    assert answer.get_json() == {
        "success": True,
        "message": "Reply processed successfully",
        "order_req_id": "A1",
        "reply_id": "r1",
    }
    assert kinds(processor_client) == ["accepted", "seller_replied"]


def test_a_reply_again_is_one_event_and_other_content_a_conflict(
    processor_client: FlaskClient, processor: Processor
) -> None:
    open_order(processor)
    for _ in range(2):
        assert processor_client.post(f"{BASE}/A1/replies", json=REPLY).status_code == 200
    problem = assert_problem(processor_client.post(f"{BASE}/A1/replies", json={**REPLY, "message": CANARY}), 409)
    assert problem["type"].endswith(":id_taken")
    assert kinds(processor_client) == ["accepted", "seller_replied"]


def test_a_reply_without_an_id_gets_one(processor_client: FlaskClient, processor: Processor) -> None:
    open_order(processor)
    body = {"seller_id": "seller1", "answer": "message"}
    ids = {processor_client.post(f"{BASE}/A1/replies", json=body).get_json()["reply_id"] for _ in range(2)}
    assert len(ids) == 2


def test_a_completion_again_changes_nothing(processor_client: FlaskClient, processor: Processor) -> None:
    open_order(processor)
    for _ in range(2):
        answer = processor_client.post(f"{BASE}/A1/complete", json={"reason": "sold"})
        assert answer.status_code == 200
        assert answer.get_json()["state"] == "completed"
    assert kinds(processor_client) == ["accepted", "completed"]


def test_a_finished_order_takes_no_reply_and_says_what_it_allows(
    processor_client: FlaskClient, processor: Processor
) -> None:
    open_order(processor)
    processor_client.post(f"{BASE}/A1/complete")
    problem = assert_problem(processor_client.post(f"{BASE}/A1/replies", json=REPLY), 409)
    assert (problem["allowed_actions"], problem["state"]) == ([], "completed")


def test_the_log_is_read_in_parts(processor_client: FlaskClient, processor: Processor) -> None:
    open_order(processor)
    for number in range(4):
        processor_client.post(f"{BASE}/A1/replies", json={**REPLY, "reply_id": f"r{number}"})
    seen: list[int] = []
    after = 0
    while (part := processor_client.get(f"{BASE}/A1/events?after={after}&limit=2").get_json())["events"]:
        seen += [event["seq"] for event in part["events"]]
        after = part["last_seq"]
    assert seen == [1, 2, 3, 4, 5]
    assert part["last_seq"] == 5


def test_pages_hold_every_order_once_newest_first(processor_client: FlaskClient, processor: Processor) -> None:
    expected = [f"A{number}" for number in range(7)]
    for key in expected:
        open_order(processor, key)
    seen: list[str] = []
    cursor = ""
    while True:
        page = processor_client.get(f"{BASE}?limit=3{cursor}").get_json()
        seen += [order["order_req_id"] for order in page["orders"]]
        assert page["states"] == {"live": 7}
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == expected[::-1]


def test_orders_are_filtered_by_state_and_session(processor_client: FlaskClient, processor: Processor) -> None:
    open_order(processor, "A1")
    open_order(processor, "B2", "s2")
    processor_client.post(f"{BASE}/B2/complete")

    def found(query: str) -> list[str]:
        return [order["order_req_id"] for order in processor_client.get(f"{BASE}?{query}").get_json()["orders"]]

    assert found("state=live") == ["A1"]
    assert found("session_id=s2&state=completed") == ["B2"]
    assert found("session_id=s2&state=cancelled") == []


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        (f"?cursor={CANARY}", "/cursor"),
        ("?limit=0", "/limit"),
        (f"?limit={CANARY}", "/limit"),
        (f"?state={CANARY}", "/state"),
        (f"?session_id=%20{CANARY}", "/session_id"),
        ("?unknown=1", "/unknown"),
        ("/A1/events?after=-1", "/after"),
        (f"/A1/events?after={CANARY}", "/after"),
        ("/A1/events?limit=1001", "/limit"),
    ],
)
def test_a_bad_query_is_refused_with_the_place(
    processor_client: FlaskClient, processor: Processor, query: str, pointer: str
) -> None:
    open_order(processor)
    problem = assert_problem(processor_client.get(f"{BASE}{query}"), 422)
    assert [fault["pointer"] for fault in problem["errors"]] == [pointer]


UNREADABLE: dict[str, tuple[int, bytes, str]] = {
    "empty": (400, b"", "application/json"),
    "no JSON": (400, f"{{{CANARY}".encode(), "application/json"),
    "no object": (400, f'["{CANARY}"]'.encode(), "application/json"),
    "not UTF-8": (400, b'{"seller_id": "\xff"}', "application/json"),
    "a member twice": (400, f'{{"seller_id": "{CANARY}", "seller_id": "a"}}'.encode(), "application/json"),
    "NaN": (400, b'{"seller_id": NaN}', "application/json"),
    "plain text": (415, json.dumps(REPLY).encode(), "text/plain"),
    "no type": (415, json.dumps(REPLY).encode(), ""),
    "too large": (413, json.dumps({**REPLY, "message": CANARY * 7_000}).encode(), "application/json"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_an_unreadable_reply_is_refused_and_nothing_is_kept(
    processor_client: FlaskClient, processor: Processor, case: str
) -> None:
    open_order(processor)
    status, body, content_type = UNREADABLE[case]
    answer = processor_client.post(f"{BASE}/A1/replies", data=body, content_type=content_type or None)
    assert_problem(answer, status)
    assert kinds(processor_client) == ["accepted"]


@pytest.mark.parametrize(
    ("other", "pointers"),
    [
        ({"unknown": CANARY}, ["/unknown"]),
        ({"seller_id": ...}, ["/seller_id"]),
        ({"seller_id": ..., "answer": ...}, ["/seller_id", "/answer"]),
        ({"seller_id": f"{CANARY} x"}, ["/seller_id"]),
        ({"seller_id": 5}, ["/seller_id"]),
        ({"answer": CANARY}, ["/answer"]),
        ({"answer": True}, ["/answer"]),
        ({"message": "a" * 10_001}, ["/message"]),
        ({"message": f"{CANARY}\u0007"}, ["/message"]),
        ({"message": None}, ["/message"]),
        ({"reply_id": f"{CANARY}\n"}, ["/reply_id"]),
        ({"follow_up_id": f"{CANARY} x"}, ["/follow_up_id"]),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_bad_reply_is_refused_with_the_places_and_nothing_is_kept(
    processor_client: FlaskClient, processor: Processor, other: dict[str, Any], pointers: list[str]
) -> None:
    open_order(processor)
    body = {name: value for name, value in {**REPLY, **other}.items() if value is not ...}
    problem = assert_problem(processor_client.post(f"{BASE}/A1/replies", json=body), 422)
    assert sorted(fault["pointer"] for fault in problem["errors"]) == sorted(pointers)
    assert kinds(processor_client) == ["accepted"]


@pytest.mark.parametrize(
    "body", [{"reason": CANARY * 60}, {"reason": 5}, {"unknown": CANARY}], ids=lambda b: str(b)[:30]
)
def test_a_bad_completion_is_refused_and_the_order_stays_live(
    processor_client: FlaskClient, processor: Processor, body: dict[str, Any]
) -> None:
    open_order(processor)
    problem = assert_problem(processor_client.post(f"{BASE}/A1/complete", json=body), 422)
    assert [fault["pointer"] for fault in problem["errors"]] == [f"/{next(iter(body))}"]
    assert kinds(processor_client) == ["accepted"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", f"/{CANARY}", None),
        ("GET", f"/{CANARY}%00", None),
        ("GET", f"/{CANARY}/events", None),
        ("POST", f"/{CANARY}/replies", REPLY),
        ("POST", f"/{CANARY}/complete", None),
        ("GET", f"/A1/{CANARY}", None),
    ],
)
def test_what_is_unknown_is_not_found(processor_client: FlaskClient, method: str, path: str, body: Any) -> None:
    assert_problem(processor_client.open(f"{BASE}{path}", method=method, json=body), 404)
    assert processor_client.get(BASE).get_json()["states"] == {}


@pytest.mark.parametrize(
    ("method", "path"), [("POST", ""), ("DELETE", "/A1"), ("GET", "/A1/replies"), ("PUT", "/A1/complete")]
)
def test_a_wrong_method_is_refused_with_the_right_ones(processor_client: FlaskClient, method: str, path: str) -> None:
    answer = processor_client.open(f"{BASE}{path}", method=method)
    assert_problem(answer, 405)
    assert answer.headers["Allow"]


def test_a_stopped_store_is_answered_as_unavailable(processor_client: FlaskClient, processor: Processor) -> None:
    processor.store.stop()
    answer = processor_client.post(f"{BASE}/A1/replies", json=REPLY)
    assert_problem(answer, 503)
    assert int(answer.headers["Retry-After"]) > 0


def test_health_answers_as_the_checklist_says(processor_client: FlaskClient) -> None:
    assert processor_client.get("/api/v1/health").get_json() == {"status": "healthy"}
    assert processor_client.get("/livez").status_code == 200
    assert processor_client.get("/readyz").status_code == 503


def test_every_route_is_documented(processor_client: FlaskClient) -> None:
    assert undocumented_routes(processor_client.application) == []


def test_the_openapi_document_is_json_and_names_the_routes(processor_client: FlaskClient) -> None:
    document = json.loads(processor_client.get("/openapi.json").text)
    assert document["openapi"] == "3.1.0"
    assert {f"{BASE}/{{order_req_id}}/replies", f"{BASE}/{{order_req_id}}/complete"} <= set(document["paths"])


def test_metrics_show_the_streams_and_the_store(processor_client: FlaskClient) -> None:
    lines = processor_client.get("/metrics").text.splitlines()
    assert "processor_streams 0.0" in lines
    assert any(line.startswith("processor_store_commit_duration_seconds_count ") for line in lines)
