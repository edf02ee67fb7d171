"""Every field of every gRPC message keeps the rules that REST input keeps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from processor_app.rpc import messages
from proto import order_service_pb2 as wire
from service_kit.errors import InvalidInput, MalformedInput

OPEN: dict[str, Any] = {
    "order_req_id": "A1",
    "session_id": "s1",
    "notification_type": "email",
    "audience": ["seller1"],
    "details": '{"item": "table"}',
    "token": 5,
    "stream_id": "st1",
    "resume_after": 0,
    "run": 1,
    "tenant": "t1",
}
NOTE: dict[str, Any] = {
    "order_req_id": "A1",
    "follow_up_id": "n1",
    "token": 5,
    "audience": ["seller1"],
    "message_type": "text",
    "message": "hello",
    "urls": ["https://a.example/"],
    "added_ms": 1,
    "tenant": "t1",
    "sending": 1,
}
CLOSE: dict[str, Any] = {
    "order_req_id": "A1",
    "token": 5,
    "kind": 1,
    "reason": "",
    "tenant": "t1",
    "run": 1,
    "sending": 1,
}

BAD_IDS = ["", " A", "A\x00", "A/1", "a" * 129, "A\u202e1", "A\u200b", "é", "А1", "A\n", "😀" * 5_000]
BAD_TENANTS = [text for text in BAD_IDS if text]  # none means the default one
BAD_TOKENS = [0, -1, -(2**63)]
NEGATIVE = [-1, -(2**63)]
BAD_AUDIENCES = [["a", "a"], [f"s{number}" for number in range(101)], ["a b"], [""], ["a"] * 20_000]
BAD_TEXTS = ["a\x00", "\x1b[2J", "\x85"]

#: For each message what it holds, how it is read, and what no field may be.
RULES: dict[str, tuple[type[Any], dict[str, Any], Callable[[Any], Any], dict[str, list[Any]]]] = {
    "open": (
        wire.OrderStreamRequest,
        OPEN,
        messages.open_stream_of,
        {
            "order_req_id": BAD_IDS,
            "session_id": BAD_IDS,
            "notification_type": ["", "sms", "EMAIL", "email\x00", "e" * 10_000],
            "audience": BAD_AUDIENCES,
            "details": [
                *(
                    "[1]",
                    "{",
                    "null",
                    '"a"',
                    "{}{}",
                    "\ufeff{}",
                    '{"a":1,"a":2}',
                    '{"a":NaN}',
                    '{"a":1e999}',
                    "[" * 20_000,
                ),
                *(
                    '{"a":' * 17 + "1" + "}" * 17,
                    '{"a":9223372036854775808}',
                    '{"a":"\\ud800"}',
                    '{"a":"\\u0000"}',
                    "{" * 70_000,
                ),
                *(
                    '{"a":["\\u001b"]}',
                    '{"\\u0007":1}',
                    '{"a":"\x9b"}',
                    '{"a":"' + "x" * 33_000 + '"}',
                    '{"a":{"\\u0000":1}}',
                ),
            ],
            "token": BAD_TOKENS,
            "stream_id": BAD_IDS,
            "resume_after": NEGATIVE,
            "run": [0, 6, *NEGATIVE],
            "tenant": BAD_TENANTS,
        },
    ),
    "note": (
        wire.FollowUpRequest,
        NOTE,
        messages.follow_up_of,
        {
            "order_req_id": BAD_IDS,
            "follow_up_id": BAD_IDS,
            "token": BAD_TOKENS,
            "audience": [[], *BAD_AUDIENCES],
            "message_type": ["", "TEXT", "1a", "te xt", "t\u202ext", "a" * 33],
            "message": [*BAD_TEXTS, "a" * 10_001],
            "urls": [
                ["https://a.example/"] * 21,
                ["ftp://a/"],
                ["https://a:b@c/"],
                ["https://a/\u202e"],
                [""],
                ["x"] * 20_000,
            ],
            "added_ms": [*NEGATIVE, 253_402_300_800_000, 2**63 - 1],
            "tenant": BAD_TENANTS,
            "sending": NEGATIVE,
        },
    ),
    "close": (
        wire.CloseOrderRequest,
        CLOSE,
        messages.close_of,
        {
            "order_req_id": BAD_IDS,
            "token": BAD_TOKENS,
            "kind": [0, 3, 99, -1],
            "reason": [*BAD_TEXTS, "a" * 501],
            "tenant": BAD_TENANTS,
            "run": [6, *NEGATIVE],
            "sending": NEGATIVE,
        },
    ),
}
CASES = [(name, field, value) for name, rule in RULES.items() for field, values in rule[3].items() for value in values]
#: What is not valid in these is passed over: they only help to find a call in the logs.
LENIENT = {"traceparent", "request_id"}


@pytest.mark.parametrize(("name", "field", "value"), CASES, ids=lambda value: repr(value)[:30])
def test_a_field_that_breaks_a_rule_is_named(name: str, field: str, value: Any) -> None:
    kind, good, read, _ = RULES[name]
    with pytest.raises(InvalidInput) as refusal:
        read(kind(**{**good, field: value}))
    assert {fault.pointer.split("/")[1] for fault in refusal.value.errors} == {field}
    assert len(refusal.value.errors) <= 101
    told = messages.detail_of(refusal.value)
    assert len(told) < 10_000
    if isinstance(value, str) and len(value) > 5:
        assert value not in told


@pytest.mark.parametrize("name", RULES)
def test_every_field_has_a_rule_and_a_good_message_is_taken(name: str) -> None:
    kind, good, read, bad = RULES[name]
    assert set(kind.DESCRIPTOR.fields_by_name) == set(bad) | LENIENT
    assert read(kind(**good)).ref.tenant == "t1"
    assert read(kind(**{**good, "tenant": ""})).ref.tenant == "default"


@pytest.mark.parametrize("text", ["x", "00-" + "z" * 5_000, "\x00", "\u202e", "a" * 100_000])
def test_a_trace_that_is_none_is_passed_over(text: str) -> None:
    wish = messages.open_stream_of(wire.OrderStreamRequest(**OPEN, traceparent=text, request_id=text))
    assert (wish.origin.traceparent, wish.origin.request_id) == ("", "")


def test_fields_that_nobody_knows_are_passed_over() -> None:
    content = wire.CloseOrderRequest(**CLOSE).SerializeToString() + b"\xfa\x7f\x05zebra"
    assert messages.close_of(wire.CloseOrderRequest.FromString(content)).ref.key == "A1"


@pytest.mark.parametrize("part", ["opens", "follow_ups", "closes", "acks"])
def test_a_message_with_too_many_parts_is_not_read(part: str) -> None:
    message = wire.TrunkUp()
    for _ in range(messages.MAX_PARTS):
        getattr(message, part).add()
    messages.check_parts(message)
    message.acks.add()
    with pytest.raises(InvalidInput):
        messages.check_parts(message)


def test_a_refusal_repeats_no_id_that_breaks_the_rule() -> None:
    request = wire.OrderStreamRequest(order_req_id="z" * 5_000, tenant="t\u202e", stream_id="st1")
    refusal: Any = messages.refused_open(request, MalformedInput())
    assert (refusal.ref.tenant, refusal.ref.key, refusal.stream_id) == ("", "", "st1")


def test_what_a_peer_calls_itself_is_an_id_in_the_log() -> None:
    assert messages.name_of(wire.Hello(instance_id="requestor-1")) == "requestor-1"
    assert messages.name_of(wire.Hello(instance_id="\x1b[2J" * 1_000)) == "unknown"
