from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from requestor_app import domain
from requestor_app.bootstrap import Requestor
from requestor_app.domain import Event
from service_kit.change import Ref, Step
from service_kit.web.openapi import undocumented_routes

BASE = "/api/v1/orders"
CANARY = "CANARY-7f3a"
ORDER: dict[str, Any] = {
    "order_req_id": "A1",
    "session_id": "s1",
    "notification_type": "email",
    "audience": ["seller1"],
    "details": {"colour": "red"},
}
NOTE: dict[str, Any] = {
    "order_req_id": "A1",
    "follow_up_id": "n1",
    "audience": ["seller1", "seller2"],
    "message": {"urls": ["https://a.example/x"], "message_type": "text", "message": "hello"},
}


def initiate(client: FlaskClient, key: str = "A1", **other: Any) -> TestResponse:
    return client.post(f"{BASE}/initiate", json={**ORDER, "order_req_id": key, **other})


def total(client: FlaskClient) -> int:
    return client.get(f"{BASE}/tracking/status").get_json()["total_orders"]


def assert_problem(answer: TestResponse, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.content_type == "application/problem+json"
    problem = answer.get_json()
    assert problem["status"] == status
    assert problem["type"].startswith("urn:problem:order-communicator:")
    assert problem["title"]
    assert problem["detail"]
    assert problem["request_id"] == answer.headers["X-Request-ID"]
    assert CANARY not in answer.text
    return problem


# ---- what is asked for


def test_a_new_order_is_answered_as_initiated(requestor_client: FlaskClient) -> None:
    answer = initiate(requestor_client)
    assert answer.status_code == 200
    assert answer.get_json() == {
        "success": True,
        "message": "Order initiated successfully",
        "order_req_id": "A1",
        "session_id": "s1",
    }
    assert total(requestor_client) == 1


def test_a_second_initiate_opens_no_stream(requestor_client: FlaskClient, requestor: Requestor) -> None:
    initiate(requestor_client)
    answer = initiate(requestor_client)
    assert answer.status_code == 200
    assert answer.get_json()["message"] == "Order already being processed"
    status = requestor_client.get(f"{BASE}/tracking/status").get_json()
    assert (status["total_orders"], status["active_streams"], status["duplicates_refused"]) == (1, 1, 1)
    assert len(requestor.tracking) == 1
    assert requestor_client.get(f"{BASE}/A1").get_json()["token"] == 1


@pytest.mark.parametrize("other", [{"session_id": f"s-{CANARY}"}, {"audience": []}, {"details": None}], ids=str)
def test_a_live_order_with_another_session_or_content_is_refused(
    requestor_client: FlaskClient, other: dict[str, Any]
) -> None:
    initiate(requestor_client, session_id="s-secret")
    problem = assert_problem(initiate(requestor_client, **{"session_id": "s-secret", **other}), 409)
    assert problem["type"].endswith(":order_live")
    assert "s-secret" not in json.dumps(problem)


def test_an_order_without_a_processor_is_connecting(requestor_client: FlaskClient) -> None:
    initiate(requestor_client)
    order = requestor_client.get(f"{BASE}/A1").get_json()
    assert order["stream"]["state"] == "connecting"
    assert (order["state"], order["allowed_actions"]) == ("live", ["followup", "complete", "cancel"])
    assert (order["token"], order["run"], order["applied_seq"], order["unsent_count"]) == (1, 1, 0, 0)
    assert (order["audience"], order["details"], order["deliveries"]) == (["seller1"], {"colour": "red"}, [])
    assert order["created_at"].endswith("Z")


def test_a_delivery_is_shown_as_its_last_event_says_however_many_there_are(
    requestor_client: FlaskClient, requestor: Requestor
) -> None:
    initiate(requestor_client)
    ref = Ref("default", "A1")
    planned = {"delivery_id": "d1", "seller_id": "seller1", "channel": "email", "state": "pending"}
    told = {**planned, "follow_up_id": "", "attempts": 1, "last_error": "", "uncertain": 0, "next_attempt_ms": 0}
    events = [Event(ref, 1, 1, "accepted", 1000, {"deliveries": [planned]})]
    events += [Event(ref, n, 1, "delivery_changed", n, {**told, "state": "retrying"}) for n in range(2, 2500)]
    events.append(Event(ref, 2500, 1, "delivery_changed", 2500, {**told, "state": "delivered", "attempts": 2499}))
    requestor.store.update(Step(ref, partial(domain.receive, events=events, acknowledgements=(), token=1, now_ms=1)))
    (delivery,) = requestor_client.get(f"{BASE}/A1").get_json()["deliveries"]
    assert (delivery["state"], delivery["attempts"], delivery["changed_at"][-5:]) == ("delivered", 2499, ".500Z")


def test_a_follow_up_is_tracked_and_listed(requestor_client: FlaskClient) -> None:
    initiate(requestor_client)
    answer = requestor_client.post(f"{BASE}/followup", json=NOTE)
    assert answer.status_code == 200
    assert answer.get_json() == {
        "success": True,
        "message": "Follow-up processed successfully",
        "order_req_id": "A1",
        "follow_up_id": "n1",
    }
    tracked = requestor_client.get(f"{BASE}/tracking/A1").get_json()
    assert (tracked["order_req_id"], tracked["session"], tracked["notes_count"]) == ("A1", "s1", 1)
    assert tracked["is_stream_active"] is True
    (note,) = tracked["notes"]
    assert (note["audience"], note["message_type"]) == (["seller1", "seller2"], "text")
    (shown,) = requestor_client.get(f"{BASE}/A1").get_json()["notes"]
    assert (shown["message"], shown["urls"], shown["relay_state"]) == ("hello", ["https://a.example/x"], "pending")


def test_a_follow_up_again_is_one_note_and_other_content_a_conflict(requestor_client: FlaskClient) -> None:
    initiate(requestor_client)
    answers = [requestor_client.post(f"{BASE}/followup", json=NOTE) for _ in range(2)]
    assert answers[0].get_json() == answers[1].get_json()
    other = {**NOTE, "message": {"message": CANARY}}
    problem = assert_problem(requestor_client.post(f"{BASE}/followup", json=other), 409)
    assert problem["type"].endswith(":follow_up_conflict")
    assert requestor_client.get(f"{BASE}/tracking/A1").get_json()["notes_count"] == 1


@pytest.mark.parametrize("key", ["key-1", '"key-1"'])
def test_an_idempotency_key_names_the_follow_up(requestor_client: FlaskClient, key: str) -> None:
    initiate(requestor_client)
    body = {name: value for name, value in NOTE.items() if name != "follow_up_id"}
    for _ in range(2):
        answer = requestor_client.post(f"{BASE}/followup", json=body, headers={"Idempotency-Key": key})
        assert answer.get_json()["follow_up_id"] == "key-1"
    assert requestor_client.get(f"{BASE}/tracking/A1").get_json()["notes_count"] == 1


def test_a_follow_up_id_goes_before_the_idempotency_key(requestor_client: FlaskClient) -> None:
    initiate(requestor_client)
    answer = requestor_client.post(f"{BASE}/followup", json=NOTE, headers={"Idempotency-Key": "key-1"})
    assert answer.get_json()["follow_up_id"] == "n1"


def test_an_idempotency_key_outside_the_pattern_is_refused(requestor_client: FlaskClient) -> None:
    initiate(requestor_client)
    body = {name: value for name, value in NOTE.items() if name != "follow_up_id"}
    headers = {"Idempotency-Key": f"{CANARY} / "}
    problem = assert_problem(requestor_client.post(f"{BASE}/followup", json=body, headers=headers), 422)
    assert [fault["pointer"] for fault in problem["errors"]] == ["/Idempotency-Key"]


def test_a_follow_up_without_any_id_gets_one(requestor_client: FlaskClient) -> None:
    initiate(requestor_client)
    body = {name: value for name, value in NOTE.items() if name != "follow_up_id"}
    ids = {requestor_client.post(f"{BASE}/followup", json=body).get_json()["follow_up_id"] for _ in range(2)}
    assert len(ids) == 2


@pytest.mark.parametrize(("action", "other"), [("complete", "cancel"), ("cancel", "complete")])
def test_a_close_is_kept_until_the_processor_has_it(requestor_client: FlaskClient, action: str, other: str) -> None:
    initiate(requestor_client)
    for _ in range(2):
        answer = requestor_client.post(f"{BASE}/A1/{action}", json={"reason": "enough"})
        assert answer.status_code == 200
        assert answer.get_json()["state"] == "closing"
    problem = assert_problem(requestor_client.post(f"{BASE}/A1/{other}"), 409)
    assert (problem["allowed_actions"], problem["state"]) == ([], "closing")
    problem = assert_problem(requestor_client.post(f"{BASE}/followup", json=NOTE), 409)
    assert problem["allowed_actions"] == []
    assert requestor_client.get(f"{BASE}/A1").get_json()["allowed_actions"] == []


def test_a_close_needs_no_body(requestor_client: FlaskClient) -> None:
    initiate(requestor_client)
    assert requestor_client.post(f"{BASE}/A1/cancel").status_code == 200


def test_the_timeline_is_read_in_parts(requestor_client: FlaskClient) -> None:
    initiate(requestor_client)
    for number in range(4):
        requestor_client.post(f"{BASE}/followup", json={**NOTE, "follow_up_id": f"n{number}"})
    seen: list[int] = []
    after = 0
    while True:
        part = requestor_client.get(f"{BASE}/A1/events?after={after}&limit=2").get_json()
        if not part["events"]:
            assert part["last_seq"] == after
            break
        seen += [event["seq"] for event in part["events"]]
        assert part["last_seq"] == seen[-1]
        after = part["last_seq"]
    assert seen == [1, 2, 3, 4, 5]
    first = requestor_client.get(f"{BASE}/A1/events").get_json()["events"][0]
    assert (first["kind"], first["origin"], first["processor_seq"]) == ("initiated", "requestor", None)


@pytest.mark.parametrize("path", ["", "/tracking/status"])
def test_pages_hold_every_order_once_newest_first(requestor_client: FlaskClient, path: str) -> None:
    expected = [f"A{number}" for number in range(7)]
    for key in expected:
        initiate(requestor_client, key)
    seen: list[str] = []
    cursor = ""
    while True:
        page = requestor_client.get(f"{BASE}{path}?limit=3{cursor}").get_json()
        found = page["tracked_order_ids"] if path else [order["order_req_id"] for order in page["orders"]]
        assert len(found) <= 3
        seen += found
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"
    assert seen == expected[::-1]


def test_orders_are_filtered_by_state_and_session(requestor_client: FlaskClient) -> None:
    initiate(requestor_client, "A1")
    initiate(requestor_client, "B2", session_id="s2")
    requestor_client.post(f"{BASE}/B2/cancel")

    def found(query: str) -> list[str]:
        return [order["order_req_id"] for order in requestor_client.get(f"{BASE}?{query}").get_json()["orders"]]

    assert found("state=live") == ["A1"]
    assert found("state=closing") == ["B2"]
    assert found("session_id=s2&state=closing") == ["B2"]
    assert found("session_id=s2&state=live") == []


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        (f"cursor={CANARY}", "/cursor"),
        ("cursor=", "/cursor"),
        ("cursor=" + "A" * 1025, "/cursor"),
        ("limit=0", "/limit"),
        ("limit=1001", "/limit"),
        (f"limit={CANARY}", "/limit"),
        ("limit=1&limit=2", "/limit"),
        (f"state={CANARY}", "/state"),
        (f"session_id=%20{CANARY}", "/session_id"),
        ("unknown=1", "/unknown"),
    ],
)
def test_a_bad_query_is_refused_with_the_place(requestor_client: FlaskClient, query: str, pointer: str) -> None:
    problem = assert_problem(requestor_client.get(f"{BASE}?{query}"), 422)
    assert [fault["pointer"] for fault in problem["errors"]] == [pointer]


@pytest.mark.parametrize(
    "query", ["after=-1", f"after={CANARY}", "after=99999999999999999999", "limit=0", "limit=1001"]
)
def test_a_bad_query_of_a_timeline_is_refused(requestor_client: FlaskClient, query: str) -> None:
    initiate(requestor_client)
    problem = assert_problem(requestor_client.get(f"{BASE}/A1/events?{query}"), 422)
    assert [fault["pointer"] for fault in problem["errors"]] == ["/" + query.split("=", maxsplit=1)[0]]


# ---- bad bodies

UNREADABLE: dict[str, tuple[int, bytes, str]] = {
    "empty": (400, b"", "application/json"),
    "no JSON": (400, f"{{{CANARY}".encode(), "application/json"),
    "cut off": (400, json.dumps(ORDER).encode()[:-3], "application/json"),
    "no object": (400, f'["{CANARY}"]'.encode(), "application/json"),
    "a text": (400, f'"{CANARY}"'.encode(), "application/json"),
    "not UTF-8": (400, b'{"order_req_id": "\xff\xfe"}', "application/json"),
    "a member twice": (
        400,
        json.dumps(ORDER).replace("{", f'{{"order_req_id": "{CANARY}", ', 1).encode(),
        "application/json",
    ),
    "a member twice deep inside": (
        400,
        json.dumps(ORDER).replace('"red"', f'"red", "colour": "{CANARY}"').encode(),
        "application/json",
    ),
    "NaN": (400, json.dumps(ORDER).replace('"red"', "NaN").encode(), "application/json"),
    "Infinity": (400, json.dumps(ORDER).replace('"red"', "-Infinity").encode(), "application/json"),
    "a huge number": (400, json.dumps(ORDER).replace('"red"', "9" * 5000).encode(), "application/json"),
    "half a character": (400, json.dumps(ORDER).replace("red", "\\ud800").encode(), "application/json"),
    "too deep": (400, json.dumps(ORDER).replace('"red"', "[" * 40 + "]" * 40).encode(), "application/json"),
    "far too deep": (400, b"[" * 30_000 + b"]" * 30_000, "application/json"),
    "a form": (415, f"order_req_id={CANARY}".encode(), "application/x-www-form-urlencoded"),
    "plain text": (415, json.dumps(ORDER).encode(), "text/plain"),
    "no type": (415, json.dumps(ORDER).encode(), ""),
    "another charset": (415, json.dumps(ORDER).encode("utf-16"), "application/json; charset=utf-16"),
    "too large": (413, json.dumps({**ORDER, "details": {"a": CANARY * 7_000}}).encode(), "application/json"),
}


@pytest.mark.parametrize("path", ["/initiate", "/followup"])
@pytest.mark.parametrize("case", UNREADABLE)
def test_an_unreadable_body_is_refused_and_nothing_is_tracked(
    requestor_client: FlaskClient, requestor: Requestor, path: str, case: str
) -> None:
    status, body, content_type = UNREADABLE[case]
    assert_problem(requestor_client.post(f"{BASE}{path}", data=body, content_type=content_type or None), status)
    assert total(requestor_client) == 0
    assert len(requestor.tracking) == 0


BAD_ORDERS: list[tuple[dict[str, Any], list[str]]] = [
    ({"unknown": CANARY}, ["/unknown"]),
    ({"a/b~c": CANARY}, ["/a~1b~0c"]),
    ({"order_req_id": None}, ["/order_req_id"]),
    ({"order_req_id": ...}, ["/order_req_id"]),
    ({"order_req_id": ..., "session_id": ..., "notification_type": ...},
     ["/order_req_id", "/session_id", "/notification_type"]),
    ({"order_req_id": 5}, ["/order_req_id"]),
    ({"order_req_id": [CANARY]}, ["/order_req_id"]),
    ({"order_req_id": ""}, ["/order_req_id"]),
    ({"order_req_id": f"{CANARY} x"}, ["/order_req_id"]),
    ({"order_req_id": f"{CANARY}\n"}, ["/order_req_id"]),
    ({"order_req_id": f"{CANARY}/x"}, ["/order_req_id"]),
    ({"order_req_id": f"{CANARY}ü"}, ["/order_req_id"]),
    ({"order_req_id": "a" * 129}, ["/order_req_id"]),
    ({"session_id": f"<{CANARY}>"}, ["/session_id"]),
    ({"notification_type": CANARY}, ["/notification_type"]),
    ({"notification_type": {"a": CANARY}}, ["/notification_type"]),
    ({"audience": CANARY}, ["/audience"]),
    ({"audience": {"a": CANARY}}, ["/audience"]),
    ({"audience": ["ok", f"{CANARY} x", 5]}, ["/audience/1", "/audience/2"]),
    ({"audience": [CANARY, CANARY]}, ["/audience"]),
    ({"audience": [f"s{number}" for number in range(101)]}, ["/audience"]),
    ({"details": CANARY}, ["/details"]),
    ({"details": [CANARY]}, ["/details"]),
    ({"details": {"a": CANARY * 3_000}}, ["/details"]),
]  # fmt: skip


def changed(document: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**document, **other}.items() if value is not ...}


@pytest.mark.parametrize(("other", "pointers"), BAD_ORDERS, ids=lambda value: str(value)[:60])
def test_a_bad_order_is_refused_with_the_places_and_nothing_is_tracked(
    requestor_client: FlaskClient, requestor: Requestor, other: dict[str, Any], pointers: list[str]
) -> None:
    answer = requestor_client.post(f"{BASE}/initiate", json=changed(ORDER, other))
    problem = assert_problem(answer, 422)
    assert sorted(fault["pointer"] for fault in problem["errors"]) == sorted(pointers)
    assert total(requestor_client) == 0
    assert len(requestor.tracking) == 0


BAD_NOTES: list[tuple[dict[str, Any], list[str]]] = [
    ({"unknown": CANARY}, ["/unknown"]),
    ({"order_req_id": ...}, ["/order_req_id"]),
    ({"order_req_id": f"{CANARY} x"}, ["/order_req_id"]),
    ({"follow_up_id": f"{CANARY} x"}, ["/follow_up_id"]),
    ({"follow_up_id": ""}, ["/follow_up_id"]),
    ({"follow_up_id": 5}, ["/follow_up_id"]),
    ({"audience": ...}, ["/audience"]),
    ({"audience": []}, ["/audience"]),
    ({"audience": [""]}, ["/audience/0"]),
    ({"audience": ["a", "a"]}, ["/audience"]),
    ({"message": ...}, ["/message"]),
    ({"message": CANARY}, ["/message"]),
    ({"message": {}}, ["/message/message"]),
    ({"message": {"message": "  "}}, ["/message/message"]),
    ({"message": {"message": CANARY, "extra": CANARY}}, ["/message/extra"]),
    ({"message": {"message": "a" * 10_001}}, ["/message/message"]),
    ({"message": {"message": f"{CANARY}\u0000"}}, ["/message/message"]),
    ({"message": {"message": f"{CANARY}\u001b[2J"}}, ["/message/message"]),
    ({"message": {"message": 5}}, ["/message/message"]),
    ({"message": {"message": CANARY, "message_type": f"{CANARY}!"}}, ["/message/message_type"]),
    ({"message": {"urls": CANARY}}, ["/message/urls"]),
    ({"message": {"urls": [f"ftp://{CANARY}.example/"]}}, ["/message/urls/0"]),
    ({"message": {"urls": [f"javascript:alert('{CANARY}')"]}}, ["/message/urls/0"]),
    ({"message": {"urls": ["https://a.example/", f"//{CANARY}.example"]}}, ["/message/urls/1"]),
    ({"message": {"urls": [f"https://{CANARY}:pw@a.example/"]}}, ["/message/urls/0"]),
    ({"message": {"urls": ["https:///x"]}}, ["/message/urls/0"]),
    ({"message": {"urls": [f"https://a.example/{CANARY} x"]}}, ["/message/urls/0"]),
    ({"message": {"urls": ["https://a.example/" + "a" * 2048]}}, ["/message/urls/0"]),
    ({"message": {"urls": ["https://[::1/"]}}, ["/message/urls/0"]),
    ({"message": {"urls": ["https://a.example/"] * 21}}, ["/message/urls"]),
]


@pytest.mark.parametrize(("other", "pointers"), BAD_NOTES, ids=lambda value: str(value)[:60])
def test_a_bad_follow_up_is_refused_with_the_places_and_nothing_is_kept(
    requestor_client: FlaskClient, other: dict[str, Any], pointers: list[str]
) -> None:
    answer = requestor_client.post(f"{BASE}/followup", json=changed(NOTE, other))
    problem = assert_problem(answer, 422)
    assert sorted(fault["pointer"] for fault in problem["errors"]) == sorted(pointers)
    assert total(requestor_client) == 0


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"reason": CANARY * 60}, "/reason"),
        ({"reason": 5}, "/reason"),
        ({"reason": None}, "/reason"),
        ({"unknown": CANARY}, "/unknown"),
    ],
    ids=lambda value: str(value)[:40],
)
@pytest.mark.parametrize("action", ["complete", "cancel"])
def test_a_bad_close_is_refused_and_the_order_stays_live(
    requestor_client: FlaskClient, action: str, body: dict[str, Any], pointer: str
) -> None:
    initiate(requestor_client)
    problem = assert_problem(requestor_client.post(f"{BASE}/A1/{action}", json=body), 422)
    assert [fault["pointer"] for fault in problem["errors"]] == [pointer]
    assert requestor_client.get(f"{BASE}/A1").get_json()["state"] == "live"


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", f"/{CANARY}"),
        ("GET", f"/{CANARY}%00"),
        ("GET", f"/{CANARY}%ff"),
        ("GET", f"/{CANARY}/events"),
        ("GET", f"/tracking/{CANARY}"),
        ("POST", f"/{CANARY}/complete"),
        ("POST", f"/{CANARY}/cancel"),
        ("GET", f"/{CANARY}/nothing"),
        ("GET", f"/{'a' * 5000}"),
    ],
    ids=lambda value: value[:40],
)
def test_what_is_unknown_is_not_found(requestor_client: FlaskClient, method: str, path: str) -> None:
    assert_problem(requestor_client.open(f"{BASE}{path}", method=method), 404)
    assert total(requestor_client) == 0


def test_a_follow_up_to_an_unknown_order_is_not_found(requestor_client: FlaskClient) -> None:
    problem = assert_problem(requestor_client.post(f"{BASE}/followup", json={**NOTE, "order_req_id": CANARY}), 404)
    assert problem["type"].endswith(":order_not_found")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", ""),
        ("DELETE", "/A1"),
        ("PUT", "/initiate"),
        ("DELETE", "/followup"),
        ("GET", "/A1/complete"),
        ("GET", "/A1/cancel"),
        ("POST", "/A1/events"),
        ("POST", "/tracking/status"),
        ("PATCH", "/tracking/A1"),
        ("TRACE", "/initiate"),
    ],
)
def test_a_wrong_method_is_refused_with_the_right_ones(requestor_client: FlaskClient, method: str, path: str) -> None:
    answer = requestor_client.open(f"{BASE}{path}", method=method)
    assert_problem(answer, 405)
    assert answer.headers["Allow"]


def test_a_stopped_store_is_answered_as_unavailable_and_nothing_is_tracked(
    requestor_client: FlaskClient, requestor: Requestor
) -> None:
    requestor.store.stop()
    answer = initiate(requestor_client)
    assert_problem(answer, 503)
    assert int(answer.headers["Retry-After"]) > 0
    assert len(requestor.tracking) == 0


# ---- common resources


def test_health_answers_as_the_checklist_says(requestor_client: FlaskClient) -> None:
    assert requestor_client.get("/api/v1/health").get_json() == {"status": "healthy"}
    assert requestor_client.get("/livez").status_code == 200


def test_a_requestor_whose_parts_are_not_started_is_not_ready(requestor_client: FlaskClient) -> None:
    answer = requestor_client.get("/readyz")
    assert answer.status_code == 503
    assert answer.get_json()["checks"]["store"]["ok"] is True
    assert answer.get_json()["checks"]["supervisor"]["ok"] is False


def test_metrics_count_what_the_answers_say(requestor_client: FlaskClient) -> None:
    for _ in range(3):
        initiate(requestor_client)
    lines = requestor_client.get("/metrics").text.splitlines()
    assert 'requestor_orders{state="live"} 1.0' in lines
    assert 'requestor_streams{state="connecting"} 1.0' in lines
    assert "requestor_duplicates_refused_total 2.0" in lines
    assert "requestor_cleanup_removed_total 0.0" in lines


def test_every_route_is_documented(requestor_client: FlaskClient) -> None:
    assert undocumented_routes(requestor_client.application) == []


def test_the_openapi_document_is_json_and_names_the_routes(requestor_client: FlaskClient) -> None:
    answer = requestor_client.get("/openapi.json")
    assert answer.content_type == "application/json"
    document = json.loads(answer.text)
    assert document["openapi"] == "3.1.0"
    assert {f"{BASE}/initiate", f"{BASE}/followup", f"{BASE}/{{order_req_id}}/events"} <= set(document["paths"])
