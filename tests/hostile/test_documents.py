"""Documents, headers, queries and paths that no honest client sends: each is refused, and nothing of it is repeated."""

from __future__ import annotations

import gzip
import io
import json
from typing import Any
from urllib.parse import urlsplit

import pytest
from flask.testing import FlaskClient

from processor_app.bootstrap import Processor
from processor_app.domain import OpenStream
from processor_app.replies.links import ReplyLink
from service_kit.change import Ref
from service_kit.times import now_ms

ORDER = {"order_req_id": "A1", "session_id": "s1", "notification_type": "none", "audience": ["seller1"]}
NOTE = {"order_req_id": "A1", "audience": ["seller1"], "message": {"message": "hello"}}
INITIATE, FOLLOW_UP = "/api/v1/orders/initiate", "/api/v1/orders/followup"
JSON, FORM = "application/json", "application/x-www-form-urlencoded"
PARTS = "multipart/form-data; boundary=x"
#: What would show in an answer that repeats its request.
MARK = "zebra"


def good(**other: Any) -> bytes:
    return json.dumps({**ORDER, **other}).encode()


def refused(answer: Any, *statuses: int) -> None:
    assert answer.status_code in statuses, answer.text
    assert answer.mimetype == "application/problem+json"
    assert MARK not in answer.text


# ---- the bytes of a body, and what is said of them

BODIES: dict[str, tuple[bytes, dict[str, str], int]] = {
    "gzip, said to be": (gzip.compress(good()), {"Content-Encoding": "gzip"}, 415),
    "gzip, not said to be": (gzip.compress(good()), {}, 400),
    "plain, said to be gzip": (good(), {"Content-Encoding": "gzip"}, 415),
    "plain, said to be twice something": (good(), {"Content-Encoding": "identity, br"}, 415),
    "with a mark of its byte order": (b"\xef\xbb\xbf" + good(), {}, 400),
    "UTF-16": (good().decode().encode("utf-16"), {}, 400),
    "UTF-16 without a mark": (good().decode().encode("utf-16-le"), {}, 400),
    "UTF-32": (good().decode().encode("utf-32"), {}, 400),
    "UTF-7": (b"+AHsAIgBh-", {}, 400),
    "Latin-1": (good().replace(b"s1", b"s\xe4"), {}, 400),
    "overlong UTF-8": (good().replace(b"s1", b"s\xc0\xaf"), {}, 400),
    "a surrogate in UTF-8": (good().replace(b"s1", b"s\xed\xa0\x80"), {}, 400),
    "a nought": (good().replace(b"s1", b"s\x00"), {}, 400),
    "a nought, escaped": (good().replace(b"s1", b"s\\u0000"), {}, 422),
    "half a pair, escaped": (good().replace(b"s1", b"s\\ud83d"), {}, 400),
    "half a pair in a name": (good().replace(b'"session_id"', b'"\\udc00"'), {}, 400),
    "a member twice": (good()[:-1] + b', "session_id": "zebra"}', {}, 400),
    "a member twice, once escaped": (good()[:-1] + b', "session\\u005fid": "zebra"}', {}, 400),
    "NaN": (good()[:-1] + b', "details": {"a": NaN}}', {}, 400),
    "Infinity": (good()[:-1] + b', "details": {"a": -Infinity}}', {}, 400),
    "a number of 5,000 digits": (good()[:-1] + b', "details": {"a": ' + b"9" * 5_000 + b"}}", {}, 400),
    "a number beyond 64 bits": (good()[:-1] + b', "details": {"a": 9223372036854775808}}', {}, 400),
    "a float beyond all": (good()[:-1] + b', "details": {"a": 1e999}}', {}, 400),
    "17 levels": (good()[:-1] + b', "details": ' + b'{"a":' * 16 + b"1" + b"}" * 17, {}, 400),
    "20,000 levels": (b'{"a":' * 10_000, {}, 400),
    "a comment": (good()[:-1] + b"/* zebra */}", {}, 400),
    "a comma at the end": (good()[:-1] + b",}", {}, 400),
    "single quotes": (b"{'order_req_id': 'zebra'}", {}, 400),
    "two documents": (good() + good(), {}, 400),
    "bytes behind it": (good() + b"\x00", {}, 400),
    "a line end in a text": (good().replace(b"s1", b"s\n1"), {}, 400),
    "an array": (b"[" + good() + b"]", {}, 400),
    "a text": (b'"zebra"', {}, 400),
    "nothing": (b"", {}, 400),
    "white space": (b" \r\n\t", {}, 400),
    "a white space that JSON has not": (b"\xc2\xa0" + good(), {}, 400),
    "as a form": (good(), {"Content-Type": "application/x-www-form-urlencoded"}, 415),
    "as text": (good(), {"Content-Type": "text/plain"}, 415),
    "as two types": (good(), {"Content-Type": "application/json, text/plain"}, 415),
    "as JSON of some kind": (good(), {"Content-Type": "application/vnd.zebra+json"}, 415),
    "as something with JSON behind": (good(), {"Content-Type": "text/plain; application/json"}, 415),
    "in another charset": (good(), {"Content-Type": "application/json; charset=utf-16"}, 415),
    "in two charsets": (good(), {"Content-Type": "application/json; charset=utf-16; charset=utf-8"}, 415),
    "in a charset of UTF-7": (good(), {"Content-Type": "application/json; charset=utf-7"}, 415),
    "of no type": (good(), {"Content-Type": ""}, 415),
    "65,537 bytes": (good() + b" " * (65_537 - len(good())), {}, 413),
}


@pytest.mark.parametrize("name", BODIES)
def test_a_body_that_could_be_read_in_two_ways_is_refused(requestor_client: FlaskClient, name: str) -> None:
    body, headers, status = BODIES[name]
    refused(requestor_client.post(INITIATE, data=body, headers={"Content-Type": JSON, **headers}), status)
    assert requestor_client.get("/api/v1/orders").get_json()["orders"] == []


@pytest.mark.parametrize("headers", [{}, {"Content-Encoding": "identity"}, {"Content-Type": "Application/JSON"}])
def test_to_compare_a_good_body_is_taken(requestor_client: FlaskClient, headers: dict[str, str]) -> None:
    answer = requestor_client.post(INITIATE, data=good(), headers={"Content-Type": JSON, **headers})
    assert answer.status_code == 200


# ---- fields

TOO_LONG = "z" * 129
BAD_IDS: tuple[Any, ...] = (
    *("", " A1", "A1 ", "A 1", "A\x00", "A\t", "A\n", "A/1", "../A", "A%31", "A\u202e1", "\u2066A", "A\u200b"),
    *("\ufeffA", "Ａ１", "А1", "é", "A\u0301", "A\u2028", "A\x7f", "A\x85", "A'", 'A"', "<A>", "A;", TOO_LONG, 1),
    *(None, True, [], {}),
)
FIELDS: dict[str, dict[str, Any]] = {
    **{f"order_req_id {bad!a}"[:60]: {"order_req_id": bad} for bad in BAD_IDS},
    "another session's form": {"session_id": ["s1"]},
    "an unknown channel": {"notification_type": "sms"},
    "a channel in capitals": {"notification_type": "EMAIL"},
    "101 sellers": {"audience": [f"s{number}" for number in range(101)]},
    "a seller twice": {"audience": ["a", "a"]},
    "sellers as a text": {"audience": "seller1"},
    "sellers as an object": {"audience": {"0": "seller1"}},
    "a seller with a direction mark": {"audience": ["a\u200f"]},
    "details as a list": {"details": [1]},
    "details that are too large": {"details": {"a": "z" * 33_000}},
    "details with a nought": {"details": {"a": "z\x00"}},
    "details with an escape": {"details": {"a": ["\x1b[2J"]}},
    "details with a control character in a name": {"details": {"b": {"z\x07": 1}}},
    "details with a C1 control": {"details": {"a": "\x9b2J"}},
    "an unknown field": {MARK: 1},
    "a tenant of one's own": {"tenant": MARK},
    "a field of the record": {"token": 9},
    "__proto__": {"__proto__": {"a": 1}},
    "a name that is no name": {"\u202e" + MARK: 1},
}


@pytest.mark.parametrize("name", FIELDS)
def test_a_field_that_breaks_a_rule_is_refused(requestor_client: FlaskClient, name: str) -> None:
    answer = requestor_client.post(INITIATE, json={**ORDER, **FIELDS[name]})
    assert answer.status_code == 422, answer.text
    assert all(error["pointer"] and error["message"] for error in answer.get_json()["errors"]) or "no name" in name
    assert "\u202e" not in answer.get_data(as_text=True)
    assert requestor_client.get("/api/v1/orders").get_json()["orders"] == []


MESSAGES = {
    "a nought": {"message": "a\x00"},
    "an escape": {"message": "\x1b]0;zebra\x07"},
    "too long": {"message": "z" * 10_001},
    "nothing to say": {"message": " \n\u2003"},
    "a kind with a direction mark": {"message": "a", "message_type": "te\u202ext"},
    "a kind in capitals": {"message": "a", "message_type": "TEXT"},
    "21 links": {"message": "a", "urls": ["https://a.example/"] * 21},
    "a link of 2,049 characters": {"urls": ["https://a.example/" + "z" * 2_031]},
    "a script": {"urls": ["javascript:alert(1)"]},
    "data": {"urls": ["data:text/html,zebra"]},
    "a file": {"urls": ["file:///etc/passwd"]},
    "a link without a host": {"urls": ["https:///zebra"]},
    "a link with a password": {"urls": ["https://a:zebra@b.example/"]},
    "a link with a line end": {"urls": ["https://a.example/\r\nX: zebra"]},
    "a link with a backslash": {"urls": ["https://a.example\\@zebra.example/"]},
    "a link that turns round": {"urls": ["https://a.example/\u202egnp.exe"]},
    "a link with a hidden character": {"urls": ["https://a.ex\u200bample/"]},
    "half an address": {"urls": ["https://[::1/"]},
}


@pytest.mark.parametrize("name", MESSAGES)
def test_a_message_that_breaks_a_rule_is_refused(requestor_client: FlaskClient, name: str) -> None:
    assert requestor_client.post(INITIATE, json=ORDER).status_code == 200
    answer = requestor_client.post(FOLLOW_UP, json={**NOTE, "message": MESSAGES[name]})
    refused(answer, 422)
    assert requestor_client.get("/api/v1/orders/A1").get_json()["notes_count"] == 0


def test_a_text_may_be_in_any_script_and_direction(requestor_client: FlaskClient) -> None:
    # Marks of direction belong to such texts; pages and mails keep them from what stands beside.
    text = "שלום \u200f(א)\u200e, مرحبا \u2067x\u2069 \u202aphone\u202c नमस्ते क्\u200dष 👩\u200d👧"
    requestor_client.post(INITIATE, json=ORDER)
    assert requestor_client.post(FOLLOW_UP, json={**NOTE, "message": {"message": text}}).status_code == 200
    assert requestor_client.get("/api/v1/orders/A1").get_json()["notes"][0]["message"] == text


NAMES = ["a\r\nBcc: x", "a\x00", "\u202egro.knab", "a\u2066", "a\u200b", "\ufeffa", "a\u2028b", "a\u061cb", "z" * 201]


@pytest.mark.parametrize("name", NAMES)
def test_a_sellers_name_has_nothing_that_is_not_seen(processor_client: FlaskClient, name: str) -> None:
    refused(processor_client.put("/api/v1/sellers/a", json={"name": name, "email": "a@example.com"}), 422)
    assert processor_client.get("/api/v1/sellers/a").status_code == 404


def test_a_sellers_name_may_be_in_any_script(processor_client: FlaskClient) -> None:
    for name in ("یک\u200cنام", "שם", "क्\u200dष", "名前", "Zoë"):
        assert processor_client.put("/api/v1/sellers/a", json={"name": name}).status_code == 200


# ---- queries, paths and headers


@pytest.mark.parametrize(
    "query",
    [
        *("limit=1&limit=2", "limit=1&LIMIT=2&zebra=1", "zebra=1", "limit=", "limit=0", "limit=1001", "limit=-1"),
        *("limit=1e2", "limit=0x10", "limit=1_0", "limit=%201", "limit=%D9%A1", "limit=9" + "9" * 30, "limit[]=1"),
        *("limit=1%00", "cursor=", "cursor=zebra", "cursor=" + "z" * 1_025, "cursor=%00", "cursor=%FF", "state=zebra"),
        *(
            "state=live&state=live",
            "session_id=%E2%80%AE",
            "session_id=a%00",
            "session_id=" + "z" * 129,
            "limit=1;zebra=2",
        ),
        "&".join(f"zebra{number}=1" for number in range(1_000)),
    ],
    ids=lambda query: query[:40],
)
def test_a_query_that_breaks_a_rule_is_refused(requestor_client: FlaskClient, query: str) -> None:
    answer = requestor_client.get(f"/api/v1/orders?{query}")
    assert answer.status_code == 422, answer.text
    assert len(answer.data) < 20_000


@pytest.mark.parametrize(
    "part",
    [
        *("zebra", "..", "%2e%2e", "a%2Fb", "a%00", "%E2%80%AE", "%FF", "a%0d%0aX:%20zebra", "z" * 10_000, "a b"),
        *("a;b", "A1%20", "%41%31%00", "a%5Cb", "{A1}", "*", "A1%3Ftoken=9"),
    ],
)  # fmt: skip
def test_a_path_names_an_order_or_nothing(requestor_client: FlaskClient, part: str) -> None:
    requestor_client.post(INITIATE, json=ORDER)
    for tail in ("", "/events"):
        refused(requestor_client.get(f"/api/v1/orders/{part}{tail}"), 404)
    refused(requestor_client.post(f"/api/v1/orders/{part}/cancel", json={}), 404, 405)
    assert requestor_client.get("/api/v1/orders/A1").get_json()["state"] == "live"


@pytest.mark.parametrize("key", ["", "a b", "a,b", "z" * 129, "a\u00e9", '"', '"a', "a\tb", "<zebra>"])
def test_a_key_of_a_repeated_call_keeps_the_rule_of_ids(requestor_client: FlaskClient, key: str) -> None:
    requestor_client.post(INITIATE, json=ORDER)
    answer = requestor_client.post(FOLLOW_UP, json=NOTE, headers={"Idempotency-Key": key})
    if key == '"a':  # quotes are taken off, however many there are
        assert answer.get_json()["follow_up_id"] == "a"
        return
    refused(answer, 422)
    assert requestor_client.get("/api/v1/orders/A1").get_json()["notes_count"] == 0


@pytest.mark.parametrize(
    "name", ["X-Request-ID", "traceparent", "tracestate", "X-Forwarded-For", "Accept", "Accept-Language"]
)
@pytest.mark.parametrize("value", ["zebra<b>", "z" * 5_000, "\u00e9zebra", "00 zebra-1-1", "a\tb zebra", "%00%0d%0a"])
def test_other_headers_are_passed_over(requestor_client: FlaskClient, name: str, value: str) -> None:
    answer = requestor_client.get("/livez", headers={name: value})
    assert answer.status_code == 200
    assert value not in str(answer.headers)


# ---- the form of the reply page


@pytest.fixture
def reply_path(processor: Processor) -> str:
    """Where a seller answers an order, which has a note of its buyer's."""
    ref = Ref("default", "A1")
    details = {"item\u202e": "chair\u202e\u2066 gnp.exe\nAnswer here: https://zebra.example", "\nA\n": 1}
    wish = OpenStream(ref, "s1", "none", ("seller1",), details, token=1, stream_id="s", resume_after=0, run=1)
    processor.orders.take_one(wish)
    url = processor.app.extensions["reply_desk"]._links.url_of(ReplyLink(ref, 1, "seller1"), now_ms())
    return str(urlsplit(url).path)


FORMS: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "no answer": ({"data": {"message": "zebra"}}, (422,)),
    "another answer": ({"data": {"answer": "zebra"}}, (422,)),
    "JSON": ({"json": {"answer": "accepted"}}, (422,)),
    "text": ({"data": b"answer=accepted", "content_type": "text/plain"}, (422,)),
    "a nought": ({"data": {"answer": "accepted", "message": "a\x00"}}, (422,)),
    "an escape": ({"data": {"answer": "declined", "message": "\x1b[2J"}}, (422,)),
    "too long": ({"data": {"answer": "accepted", "message": "z" * 4_001}}, (422,)),
    "half a pair": ({"data": b"answer=accepted&message=%ED%A0%80", "content_type": FORM}, (303,)),
    "a number of one's own": ({"data": {"answer": "message", "message": "a", "number": "6"}}, (422,)),
    "a number in another script": ({"data": {"answer": "message", "message": "a", "number": "١"}}, (422,)),
    "2,000 fields": ({"data": "&".join(f"f{number}=1" for number in range(2_000)), "content_type": FORM}, (413, 422)),
    "70,000 bytes": ({"data": b"answer=accepted&message=" + b"z" * 70_000, "content_type": FORM}, (413,)),
    "parts that never end": ({"data": b"--x\r\nContent-Disposition: form-data", "content_type": PARTS}, (422,)),
    "parts without a border": ({"data": b"zebra", "content_type": "multipart/form-data"}, (400, 422)),
    "a file": ({"data": {"answer": (io.BytesIO(b"accepted"), "zebra.txt")}}, (422,)),
    "gzip": (
        {"data": gzip.compress(b"answer=accepted"), "content_type": FORM, "headers": {"Content-Encoding": "gzip"}},
        (400,),
    ),
    "gzip, not true": (
        {"data": b"answer=accepted", "content_type": FORM, "headers": {"Content-Encoding": "gzip"}},
        (400,),
    ),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_form_that_is_none_answers_nothing(
    processor: Processor, processor_client: FlaskClient, reply_path: str, name: str
) -> None:
    sent, statuses = FORMS[name]
    answer = processor_client.post(reply_path, **sent)
    assert answer.status_code in statuses
    kinds = [entry.kind for entry in processor.orders.events(Ref("default", "A1"), after=0, limit=10)]
    assert ("seller_replied" in kinds) is (answer.status_code == 303)


def test_details_are_shown_on_one_line_each_and_in_one_direction(
    processor_client: FlaskClient, reply_path: str
) -> None:
    page = processor_client.get(reply_path).text
    assert "chair gnp.exe Answer here: https://zebra.example" in page
    assert not set("\u202e\u2066") & set(page)
