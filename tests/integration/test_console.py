"""The operator page as a browser's script sees it: pages, polls and actions, and what protects them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from processor_app.bootstrap import Processor
from processor_app.domain import FollowUp, OpenStream
from requestor_app.bootstrap import Requestor
from service_kit.change import Ref
from service_kit.web.console.blueprint import CONTENT_SECURITY_POLICY
from service_kit.web.openapi import build_openapi

ROOT = Path(__file__).resolve().parents[2]
CANARY = "CANARY-7f3a"
HOSTILE = "<img src=x onerror=alert(1)>\"'</script>&amp;"
HERE = {"Sec-Fetch-Site": "same-origin"}
REQUESTOR_PAGES = ("/", "/console/order?id=A1")
PROCESSOR_PAGES = ("/", "/console/order?id=A1", "/console/deliveries", "/console/sellers")
REQUESTOR_POLLS = ("/console/data/orders", "/console/data/order?id=A1")
PROCESSOR_POLLS = (*REQUESTOR_POLLS, "/console/data/deliveries", "/console/data/sellers")


def initiate(client: FlaskClient, key: str = "A1", session_id: str = "s1", **other: Any) -> None:
    order = {"order_req_id": key, "session_id": session_id, "notification_type": "email", "audience": ["seller1"]}
    assert client.post("/api/v1/orders/initiate", json=order | other).status_code == 200


def note(**other: Any) -> dict[str, Any]:
    return {
        "order_req_id": "A1",
        "follow_up_id": "n1",
        "audience": ["seller1"],
        "message": {"message": "hello", "urls": []},
        **other,
    }


def act(client: FlaskClient, action: str, body: dict[str, Any], **headers: str) -> TestResponse:
    return client.post(f"/console/do/{action}", json=body, headers={**HERE, **headers})


def open_order(processor: Processor, key: str = "A1", audience: tuple[str, ...] = ("seller1",)) -> None:
    """An order at the processor, as a requestor's trunk brings it, and a note to it."""
    order = OpenStream(Ref("default", key), "s1", "email", audience, {"text": HOSTILE}, 1, "stream1", 0, 1)
    processor.orders.take([order])
    text = FollowUp(Ref("default", key), "n1", 1, audience, "text", HOSTILE, (), 1_800_000_000_000)
    processor.orders.take([text])


def kill_deliveries(processor: Processor) -> None:
    """What becomes of deliveries to sellers who never answer."""
    processor.store._writing().call(  # type: ignore[attr-defined]
        lambda connection: connection.execute("UPDATE outbox SET state = 'dead', last_error = 'gone'")
    )


# ---- what protects the pages


@pytest.mark.parametrize("path", [*REQUESTOR_PAGES, *REQUESTOR_POLLS, "/console/static/console.js"])
def test_the_requestors_answers_let_a_browser_load_nothing_else(requestor_client: FlaskClient, path: str) -> None:
    initiate(requestor_client)
    assert_protected(fetch(requestor_client, path))


@pytest.mark.parametrize("path", [*PROCESSOR_PAGES, *PROCESSOR_POLLS, "/console/static/console.css"])
def test_the_processors_answers_let_a_browser_load_nothing_else(
    processor_client: FlaskClient, processor: Processor, path: str
) -> None:
    open_order(processor)
    assert_protected(fetch(processor_client, path))


def fetch(client: FlaskClient, path: str, **headers: str) -> TestResponse:
    """What a path answers, read to its end: a file is closed then."""
    answer = client.get(path, headers=headers)
    answer.get_data()
    answer.close()
    return answer


def assert_protected(answer: TestResponse) -> None:
    assert answer.status_code == 200
    policy = answer.headers["Content-Security-Policy"]
    assert policy == CONTENT_SECURITY_POLICY
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_pages_have_neither_scripts_nor_styles_of_their_own_nor_anything_from_elsewhere(
    requestor_client: FlaskClient, processor_client: FlaskClient
) -> None:
    for client, paths in ((requestor_client, REQUESTOR_PAGES), (processor_client, PROCESSOR_PAGES)):
        for path in paths:
            page = client.get(path).text
            assert re.findall(r"<script(?![^>]*\ssrc=)|<style|\sstyle=|\son[a-z]+=|https?:", page) == [], path


def test_scripts_put_texts_in_as_texts() -> None:
    for file in (ROOT / "service_kit/web/console/static").glob("*.js"):
        script = file.read_text(encoding="utf-8")
        assert not re.findall(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\b|Function\(", script
        )


@pytest.mark.parametrize(
    ("name", "content_type"),
    [("console.js", "text/javascript"), ("console.css", "text/css"), ("icon.svg", "image/svg+xml")],
)
def test_files_have_the_types_that_browsers_ask_for(
    requestor_client: FlaskClient, name: str, content_type: str
) -> None:
    answer = fetch(requestor_client, f"/console/static/{name}")
    assert answer.content_type.partition(";")[0] == content_type
    again = fetch(requestor_client, f"/console/static/{name}", **{"If-None-Match": answer.headers["ETag"]})
    assert again.status_code == 304


@pytest.mark.parametrize("name", ["..%2f__init__.py", "../blueprint.py", "nothing.js", "%2fetc%2fpasswd"])
def test_no_other_files_are_given_out(requestor_client: FlaskClient, name: str) -> None:
    assert requestor_client.get(f"/console/static/{name}").status_code == 404


@pytest.mark.parametrize("key", ["%3Cb%3E", "a%20b", "", "a" * 129, "a%00", "%ff"])
def test_a_page_of_what_cannot_be_an_id_is_refused_and_not_repeated(
    requestor_client: FlaskClient, processor_client: FlaskClient, key: str
) -> None:
    for client in (requestor_client, processor_client):
        for path in ("/console/order", "/console/data/order"):
            answer = client.get(f"{path}?id={key}")
            assert answer.status_code == 422
            assert "<b>" not in answer.text


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 200),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "none"}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"}, 403),
        ({"Origin": "http://localhost"}, 200),
        ({"Origin": "https://localhost"}, 200),  # a proxy in front ends TLS
        ({"Origin": "http://localhost:81"}, 403),
        ({"Origin": "http://localhost.evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://["}, 403),
        ({"Origin": "localhost"}, 403),
        ({}, 403),
    ],
    ids=str,
)
def test_an_action_is_taken_from_the_page_alone(
    requestor_client: FlaskClient, headers: dict[str, str], status: int
) -> None:
    initiate(requestor_client)
    answer = requestor_client.post("/console/do/cancel", json={"order_req_id": "A1"}, headers=headers)
    assert answer.status_code == status
    assert requestor_client.get("/api/v1/orders/A1").get_json()["state"] == ("closing" if status == 200 else "live")


def test_an_action_is_sent_as_json(requestor_client: FlaskClient) -> None:
    initiate(requestor_client)
    answer = requestor_client.post("/console/do/cancel", data='{"order_req_id": "A1"}', headers=HERE)
    assert answer.status_code == 415


def test_the_pages_are_no_part_of_the_public_interface(requestor: Requestor, processor: Processor) -> None:
    for parts in (requestor, processor):
        paths = build_openapi(parts.app, "title", "1")["paths"]
        assert [path for path in paths if path == "/" or path.startswith("/console")] == []


# ---- polls


@pytest.mark.parametrize("path", REQUESTOR_POLLS)
def test_an_unchanged_requestor_answers_polls_with_304(requestor_client: FlaskClient, path: str) -> None:
    initiate(requestor_client)
    assert_304(requestor_client, path)


@pytest.mark.parametrize("path", PROCESSOR_POLLS)
def test_an_unchanged_processor_answers_polls_with_304(
    processor_client: FlaskClient, processor: Processor, path: str
) -> None:
    open_order(processor)
    assert_304(processor_client, path)


def assert_304(client: FlaskClient, path: str) -> None:
    client.application.extensions["polls"].forget()
    etag = client.get(path).headers["ETag"]
    client.application.extensions["polls"].forget()
    again = client.get(path, headers={"If-None-Match": etag})
    assert (again.status_code, again.data) == (304, b"")
    assert again.headers["Content-Security-Policy"] == CONTENT_SECURITY_POLICY


def test_a_poll_sees_what_was_done_in_the_page_at_once(requestor_client: FlaskClient) -> None:
    initiate(requestor_client)
    before = [requestor_client.get(path).headers["ETag"] for path in REQUESTOR_POLLS]
    assert act(requestor_client, "followup", note()).status_code == 200
    after = [requestor_client.get(path).headers["ETag"] for path in REQUESTOR_POLLS]
    assert all(one != other for one, other in zip(before, after, strict=True))


def test_the_overview_counts_what_there_is(requestor_client: FlaskClient, requestor: Requestor) -> None:
    for key in ("A1", "A2", "A2"):
        initiate(requestor_client, key)
    act(requestor_client, "followup", note())
    act(requestor_client, "cancel", {"order_req_id": "A2"})
    now = requestor_client.get("/console/data/orders").get_json()["now"]
    assert now["orders"] == {"live": 1, "closing": 1, "completed": 0, "cancelled": 0}
    assert now["streams"] == {"open": 0, "connecting": 2, "refused": 0}
    assert now["duplicates_refused"] == 1
    assert (now["notes"]["pending"], now["notes"]["set_aside"]) == (2, 0)
    assert now["notes"]["oldest_at"] is not None
    assert now["link"] == {"is_up": False, "error": "no processor has answered yet"}
    (instance,) = now["instances"]
    assert (instance["is_this"], instance["is_gone"]) == (True, False)


def test_an_instance_whose_lease_has_ended_is_shown_as_gone(
    requestor_client: FlaskClient, requestor: Requestor
) -> None:
    requestor.store.renew_lease("requestor-old", -1)
    instances = requestor_client.get("/console/data/orders").get_json()["now"]["instances"]
    assert {each["name"] == "requestor-old": each["is_gone"] for each in instances} == {True: True, False: False}


def test_samples_are_answered_from_the_last_one_known(requestor_client: FlaskClient, requestor: Requestor) -> None:
    sampler = requestor.app.extensions["samples"]
    for _ in range(3):
        sampler.take()
    samples = requestor_client.get("/console/data/orders").get_json()["samples"]
    assert len(samples["at_ms"]) == 3
    assert samples["series"]["notes.pending"] == [0, 0, 0]
    rest = requestor_client.get(f"/console/data/orders?after={samples['at_ms'][1]}").get_json()["samples"]
    assert rest["at_ms"] == samples["at_ms"][2:]


def test_the_processors_overview_counts_what_there_is(processor_client: FlaskClient, processor: Processor) -> None:
    processor_client.put("/api/v1/sellers/seller9", json={"email": "nine@example.com"})
    open_order(processor, audience=("seller1", "seller9"))
    now = processor_client.get("/console/data/orders").get_json()["now"]
    assert now["orders"] == {"live": 1, "completed": 0, "cancelled": 0, "pruned": 0}
    assert now["sellers"] == 1
    assert {state: n for state, n in now["deliveries"].items() if n} == {
        "waiting": 2,
        "pending": 2,
        "oldest_at": now["deliveries"]["oldest_at"],
    }
    assert now["deliveries"]["oldest_at"] is not None
    assert now["link"] == {"is_up": False, "error": "no requestor is connected"}


# ---- tables


@pytest.fixture
def many(requestor_client: FlaskClient) -> FlaskClient:
    """120 orders in two sessions, of which ORD-7 and those from ORD-70 to ORD-79 are closing."""
    for n in range(120):
        initiate(requestor_client, f"ORD-{n}", f"s{n % 2}")
        if str(n).startswith("7"):
            act(requestor_client, "cancel", {"order_req_id": f"ORD-{n}"})
    return requestor_client


def rows(client: FlaskClient, query: str = "") -> tuple[list[str], str | None]:
    answer = client.get(f"/console/data/orders?{query}").get_json()
    return [order["order_req_id"] for order in answer["orders"]], answer["next_cursor"]


def test_the_table_of_orders_has_pages(many: FlaskClient) -> None:
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        shown, cursor = rows(many, f"cursor={cursor}" if cursor else "")
        assert len(shown) <= 50
        seen += shown
    assert seen == [f"ORD-{n}" for n in range(119, -1, -1)]


def test_the_table_of_orders_is_searched_and_filtered(many: FlaskClient) -> None:
    sevens = [f"ORD-{n}" for n in range(79, 69, -1)]
    assert rows(many, "prefix=ORD-7") == (["ORD-7", *sevens], None)
    assert rows(many, "state=closing") == ([*sevens, "ORD-7"], None)
    assert rows(many, "prefix=ORD-7&session_id=s1&state=closing") == (
        ["ORD-7", *(key for key in sevens if int(key[-1]) % 2)],
        None,
    )
    assert rows(many, "prefix=ORD-7&state=live") == ([], None)
    assert rows(many, "session_id=s0&limit=2")[0] == ["ORD-118", "ORD-116"]


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        (f"prefix=%3Cb%3E{CANARY}", "/prefix"),
        (f"session_id={CANARY}%20x", "/session_id"),
        (f"state={CANARY}", "/state"),
        (f"cursor={CANARY}", "/cursor"),
        (f"prefix=a&cursor={CANARY}", "/cursor"),
        ("limit=201", "/limit"),
        ("limit=0", "/limit"),
        (f"more={CANARY}", "/more"),
    ],
)
def test_a_bad_query_of_a_table_is_refused(requestor_client: FlaskClient, query: str, pointer: str) -> None:
    answer = requestor_client.get(f"/console/data/orders?{query}")
    assert answer.status_code == 422
    assert [fault["pointer"] for fault in answer.get_json()["errors"]] == [pointer]
    assert CANARY not in answer.text


def test_the_directory_is_listed_and_searched_without_secrets(processor_client: FlaskClient) -> None:
    for name in ("lamps", "lamp-shop", "sofas"):
        url = f"https://{name}.example/hook"
        processor_client.put(f"/api/v1/sellers/{name}", json={"name": HOSTILE, "webhook_url": url})
    processor_client.delete("/api/v1/sellers/lamps")
    answer = processor_client.get("/console/data/sellers?prefix=lamp")
    assert [seller["seller_id"] for seller in answer.get_json()["sellers"]] == ["lamp-shop"]
    assert answer.get_json()["sellers"][0]["name"] == HOSTILE
    assert "whsec_" not in answer.text


# ---- one order


def test_an_order_is_answered_with_its_timeline_from_the_last_number_known(requestor_client: FlaskClient) -> None:
    initiate(requestor_client, details={"text": HOSTILE})
    act(requestor_client, "followup", note(message={"message": HOSTILE, "urls": ["https://a.example/x"]}))
    answer = requestor_client.get("/console/data/order?id=A1").get_json()
    assert answer["order"]["details"] == {"text": HOSTILE}
    assert [each["message"] for each in answer["order"]["notes"]] == [HOSTILE]
    assert [event["kind"] for event in answer["timeline"]["events"]] == ["initiated", "note_added"]
    assert answer["head"] == 2
    rest = requestor_client.get("/console/data/order?id=A1&after=1").get_json()
    assert [event["seq"] for event in rest["timeline"]["events"]] == [2]


def test_an_order_of_the_processor_shows_what_can_be_sent_again(
    processor_client: FlaskClient, processor: Processor
) -> None:
    open_order(processor)
    kill_deliveries(processor)
    answer = processor_client.get("/console/data/order?id=A1").get_json()
    states = [(each["state"], each["is_retryable"], each["last_error"]) for each in answer["order"]["deliveries"]]
    assert states == [("dead", True, "gone")] * 2
    assert [event["kind"] for event in answer["timeline"]["events"]] == ["accepted", "follow_up_accepted"]


@pytest.mark.parametrize("path", ["/console/data/order?id=A1", "/console/data/order?id=.."])
def test_an_unknown_order_is_not_found(requestor_client: FlaskClient, processor_client: FlaskClient, path: str) -> None:
    assert requestor_client.get(path).status_code == 404
    assert processor_client.get(path).status_code == 404


# ---- actions


def test_a_follow_up_that_is_sent_twice_is_kept_once(requestor_client: FlaskClient) -> None:
    initiate(requestor_client)
    for _ in range(2):
        answer = act(requestor_client, "followup", note())
        assert (answer.status_code, "n1" in answer.get_json()["message"]) == (200, True)
    assert requestor_client.get("/api/v1/orders/A1").get_json()["notes_count"] == 1


def test_actions_that_the_orders_state_does_not_allow_are_refused_as_rest_does(requestor_client: FlaskClient) -> None:
    initiate(requestor_client)
    assert act(requestor_client, "complete", {"order_req_id": "A1", "reason": "done"}).status_code == 200
    answer = act(requestor_client, "followup", note())
    assert (answer.status_code, answer.get_json()["allowed_actions"]) == (409, [])
    assert act(requestor_client, "cancel", {"order_req_id": "A1"}).status_code == 409
    assert act(requestor_client, "cancel", {"order_req_id": "nobody"}).status_code == 404
    assert act(requestor_client, "cancel", {"order_req_id": "A1", "reason": "x" * 501}).status_code == 422


def test_a_dead_delivery_is_sent_again_and_all_of_a_seller(processor_client: FlaskClient, processor: Processor) -> None:
    open_order(processor, audience=("seller1", "seller2"))
    kill_deliveries(processor)
    dead = processor_client.get("/console/data/deliveries?seller_id=seller1&state=dead").get_json()["deliveries"]
    assert len(dead) == 2
    answer = act(processor_client, "retry", {"delivery_id": dead[0]["delivery_id"]})
    assert (answer.status_code, "seller1" in answer.get_json()["message"]) == (200, True)
    answer = act(processor_client, "retry", {"delivery_id": dead[0]["delivery_id"]})
    assert answer.status_code == 409
    answer = act(processor_client, "retry-seller", {"seller_id": "seller1"})
    assert answer.get_json()["message"] == "Dead deliveries to seller1 that are sent again: 1."
    states = processor_client.get("/console/data/deliveries").get_json()["deliveries"]
    assert sorted((each["seller_id"], each["state"]) for each in states) == [
        ("seller1", "pending"),
        ("seller1", "pending"),
        ("seller2", "dead"),
        ("seller2", "dead"),
    ]
    assert act(processor_client, "retry", {"delivery_id": CANARY}).status_code == 404


def test_an_order_is_completed_from_the_seller_side(processor_client: FlaskClient, processor: Processor) -> None:
    open_order(processor)
    answer = act(processor_client, "complete", {"order_req_id": "A1", "reason": "sent"})
    assert answer.get_json() == {"message": "The order is completed."}
    events = processor_client.get("/api/v1/orders/A1/events").get_json()["events"]
    assert events[-1]["data"] == {"run": 1, "by": "seller", "reason": "sent"}
