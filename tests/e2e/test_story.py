"""One id, searched in the logs of both services, tells the whole story of an order."""

from __future__ import annotations

import email
import email.policy
import json
import re
from collections.abc import Iterator, Mapping
from email.message import EmailMessage
from typing import Any

import pytest
import requests

from tests.e2e.conftest import Service, Services, eventually, note_body, order_body
from tests.sinks.webhook import WebhookSink

pytestmark = pytest.mark.e2e

ORDER = "STORY-7"
ORDER_TRACE, NOTE_TRACE, END_TRACE = ("a" * 31 + "1", "b" * 31 + "2", "c" * 31 + "3")
CALLERS_SPAN = "00f067aa0ba902b7"


@pytest.fixture
def sink() -> Iterator[WebhookSink]:
    made = WebhookSink()
    made.start()
    yield made
    made.stop()


@pytest.fixture
def processor(services: Services) -> Service:
    """A processor that logs JSON and may reach the sink; not started."""
    return services.processor(PROCESSOR_LOG_FORMAT="json", PROCESSOR_WEBHOOK_ALLOW_NETWORKS="127.0.0.0/8")


@pytest.fixture
def requestor(services: Services) -> Service:
    """A requestor that logs JSON; not started."""
    return services.requestor(REQUESTOR_LOG_FORMAT="json")


def register(processor: Service, sink: WebhookSink) -> None:
    """A seller who wants mail and webhooks."""
    entry = {"email": "one@example.com", "webhook_url": sink.url(), "channels": ["webhook", "email"]}
    answer = requests.put(f"{processor.url}/api/v1/sellers/seller1", json=entry, timeout=10)
    assert answer.status_code == 200, answer.text


def call(requestor: Service, path: str, body: Mapping[str, Any], trace: str, request_id: str) -> None:
    """A call of a buyer's system that has a trace of its own."""
    headers = {"traceparent": f"00-{trace}-{CALLERS_SPAN}-01", "X-Request-ID": request_id}
    answer = requests.post(f"{requestor.url}/api/v1/orders{path}", json=body, headers=headers, timeout=10)
    assert answer.status_code == 200, answer.text
    assert answer.headers["X-Request-ID"] == request_id


def grep(word: str, *logs: Service) -> list[dict[str, Any]]:
    """The log lines of all these services that hold the word, as a person would look for them."""
    lines = [json.loads(line) for service in logs for line in service.log.splitlines() if word in line]
    return sorted(lines, key=lambda line: line["ts"])


def actions(lines: list[dict[str, Any]]) -> list[str]:
    return [f"{line['service']} {line['action']}" for line in lines]


def order_for_seller() -> dict[str, Any]:
    return order_body(ORDER) | {"audience": ["seller1"]}


def mails(processor: Service) -> list[EmailMessage]:
    folder = processor.store.parent / "outbox"
    files = sorted(folder.glob("*.eml")) if folder.exists() else []
    return [email.message_from_bytes(file.read_bytes(), policy=email.policy.default) for file in files]


def delivered(processor: Service, count: int) -> bool:
    return actions(grep("delivery.delivered", processor)).count("processor delivery.delivered") == count


def test_an_order_s_id_finds_every_step_and_each_step_names_its_request_and_trace(
    requestor: Service, processor: Service, sink: WebhookSink
) -> None:
    processor.start()
    requestor.start()
    register(processor, sink)
    call(requestor, "/initiate", order_for_seller(), ORDER_TRACE, "call-order")
    eventually(lambda: delivered(processor, 2), what="the order at the seller")
    call(requestor, "/followup", note_body(ORDER, "note-1"), NOTE_TRACE, "call-note")
    eventually(lambda: delivered(processor, 4), what="the note at the seller")
    call(requestor, f"/{ORDER}/complete", {}, END_TRACE, "call-end")
    eventually(lambda: "stream.ended" in requestor.log, what="the order's end")

    story = grep(ORDER, requestor, processor)
    assert {line["order_req_id"] for line in story} == {ORDER}
    requests_of = {ORDER_TRACE: "call-order", NOTE_TRACE: "call-note", END_TRACE: "call-end"}
    assert {line["trace_id"]: line["request_id"] for line in story} == requests_of
    assert all(requests_of[line["trace_id"]] == line["request_id"] for line in story)

    for service in (requestor, processor):
        order = service.get(f"/orders/{ORDER}")
        assert (order["request_id"], order["trace_id"]) == ("call-order", ORDER_TRACE)

    by_trace = {trace: actions(grep(trace, requestor, processor)) for trace in requests_of}
    told = ["processor delivery.delivered"] * 2
    assert by_trace[ORDER_TRACE][:2] == ["requestor order.tracked", "requestor stream.launched"]
    # The order has ended in the trace of the request that began it.
    assert sorted(by_trace[ORDER_TRACE][2:]) == [*told, "processor stream.opened", "requestor stream.ended"]
    assert sorted(by_trace[NOTE_TRACE]) == [*told, "processor order.note_taken", "requestor order.note_added"]
    assert by_trace[END_TRACE] == ["requestor order.close_requested", "processor order.closed"]


def test_what_sellers_get_goes_on_in_the_trace_of_the_buyer_s_request(
    requestor: Service, processor: Service, sink: WebhookSink
) -> None:
    processor.start()
    requestor.start()
    register(processor, sink)
    call(requestor, "/initiate", order_for_seller(), ORDER_TRACE, "call-order")
    call(requestor, "/followup", note_body(ORDER, "note-1"), NOTE_TRACE, "call-note")
    eventually(lambda: delivered(processor, 4), what="both at the seller")

    hooks = {effect["event"]["type"]: effect["headers"] for effect in sink.recorder.taken}
    expected = {"order.created": (ORDER_TRACE, "call-order"), "follow_up.created": (NOTE_TRACE, "call-note")}
    spans = set()
    for kind, (trace, request_id) in expected.items():
        match = re.fullmatch(r"00-([0-9a-f]{32})-([0-9a-f]{16})-01", hooks[kind]["traceparent"])
        assert match is not None
        assert match[1] == trace
        assert hooks[kind]["X-Request-ID"] == request_id
        spans.add(match[2])
    assert len(spans | {CALLERS_SPAN}) == 3, "each attempt is a span of its own"

    letters = {(mail["X-Trace-ID"], mail["X-Request-ID"]) for mail in mails(processor)}
    assert letters == set(expected.values())


def test_a_trace_outlives_the_processes_that_carry_it(
    requestor: Service, processor: Service, sink: WebhookSink
) -> None:
    requestor.start()
    call(requestor, "/initiate", order_for_seller(), ORDER_TRACE, "call-order")
    call(requestor, "/followup", note_body(ORDER, "note-1"), NOTE_TRACE, "call-note")
    requestor.kill()
    processor.start()
    requestor.start()
    eventually(lambda: actions(grep(ORDER, processor)).count("processor delivery.waiting") == 2, what="the notes")
    processor.kill()
    processor.start()
    register(processor, sink)
    eventually(lambda: delivered(processor, 2), what="both at the seller")
    assert {(line["trace_id"], line["request_id"]) for line in grep("delivery.", processor) if ORDER in str(line)} == {
        (ORDER_TRACE, "call-order"),
        (NOTE_TRACE, "call-note"),
    }


def test_a_call_without_a_trace_begins_one(requestor: Service, processor: Service, sink: WebhookSink) -> None:
    processor.start()
    requestor.start()
    register(processor, sink)
    requestor.post("/orders/initiate", order_for_seller())
    eventually(lambda: delivered(processor, 2), what="the order at the seller")
    (trace_id,) = {line["trace_id"] for line in grep(ORDER, requestor, processor)}
    assert re.fullmatch("[0-9a-f]{32}", trace_id)
    (hook,) = sink.recorder.taken
    assert trace_id in hook["headers"]["traceparent"]
