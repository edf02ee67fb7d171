from __future__ import annotations

import json

import pytest
from flask import Flask, request

from service_kit.errors import MalformedInput
from service_kit.health import Health
from service_kit.web.app import create_base_app
from service_kit.web.json_body import MAX_BODY_BYTES, MAX_DEPTH, parse_json_object, read_json_object


@pytest.fixture
def app() -> Flask:
    app = create_base_app(__name__, health=Health())
    app.add_url_rule("/echo", view_func=lambda: {"read": read_json_object(request)}, methods=["POST"])
    return app


def nested(levels: int) -> bytes:
    return b'{"a":' * (levels - 1) + b"{}" + b"}" * (levels - 1)


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/json; charset=utf-8",
        "Application/JSON;charset=UTF-8",
        'application/json; charset="utf-8"',
    ],
)
def test_a_json_object_is_read(app, content_type):
    body = {"text": "Zürich 東京 😀", "n": -(2**63), "list": [1.5, True, None], "empty": {}}
    raw = json.dumps(body)
    answer = app.test_client().post("/echo", data=raw, content_type=content_type)
    assert answer.json == {"read": body}


@pytest.mark.parametrize(
    "content_type",
    [
        None,
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=latin-1",
        "application/jsonp",
    ],
)
def test_another_content_type_is_415(app, content_type):
    answer = app.test_client().post("/echo", data=b"{}", content_type=content_type)
    assert answer.status_code == 415
    assert answer.json["type"].endswith(":unsupported_media_type")


def test_a_body_at_the_limit_is_read_and_one_byte_more_is_413(app):
    client = app.test_client()
    fits = b'{"a":"' + b"x" * (MAX_BODY_BYTES - 8) + b'"}'
    assert len(fits) == MAX_BODY_BYTES
    assert client.post("/echo", data=fits, content_type="application/json").status_code == 200
    answer = client.post("/echo", data=fits + b" ", content_type="application/json")
    assert answer.status_code == 413
    assert answer.json["type"].endswith(":too_large")


@pytest.mark.parametrize(
    ("raw", "detail"),
    [
        (b"", "empty"),
        (b"{", "not valid JSON (line 1, column 2)"),
        (b"{} {}", "not valid JSON"),
        (b"{'a': 1}", "not valid JSON"),
        (b"\xef\xbb\xbf{}", "not valid JSON"),
        (b'{"a": "\t"}', "not valid JSON"),
        (b'{"a": "\xff"}', "not valid UTF-8"),
        (b'{"a": "\xed\xa0\x80"}', "not valid UTF-8"),
        ('{"a": 1}'.encode("utf-16"), "not valid"),
        (b"[]", "must be a JSON object"),
        (b"null", "must be a JSON object"),
        (b'"text"', "must be a JSON object"),
        (b'{"a": 1, "a": 1}', "same member twice"),
        (b'{"a": {"b": 1, "\\u0062": 2}}', "same member twice"),
        (b'{"a": NaN}', "NaN or Infinity"),
        (b'{"a": [-Infinity]}', "NaN or Infinity"),
        (b'{"a": 1e999}', "too large"),
        (b'{"a": 9223372036854775808}', "64 bits"),
        (b'{"a": -9223372036854775809}', "64 bits"),
        (b'{"a": ' + b"9" * 60_000 + b"}", "64 bits"),
        (b'{"a": "\\ud800"}', "no character"),
        (b'{"\\uDC00": 1}', "no character"),
        (nested(MAX_DEPTH + 1), "nested deeper"),
        (b'{"a":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}", "nested deeper"),
        (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, "nested deeper"),
        (b"[" * 60_000, "nested deeper"),
    ],
)
def test_what_could_be_misread_is_refused(raw, detail):
    with pytest.raises(MalformedInput, match=detail.replace("(", r"\(").replace(")", r"\)")):
        parse_json_object(raw)


@pytest.mark.parametrize(
    "raw",
    [
        nested(MAX_DEPTH),
        b'{"a": "' + b"[{" * 100 + b'"}',
        b'{"a": [' + b"{}," * 100 + b"{}]}",
        b'{"a": "\\ud83d\\ude00"}',
        b'{"a": "\\\\ud800"}',
        b' \r\n\t{"a": 9223372036854775807}\n',
    ],
)
def test_what_only_looks_dangerous_is_read(raw):
    assert parse_json_object(raw) == json.loads(raw)


def test_no_answer_repeats_what_was_sent(app):
    for raw in (b'{"hunter2": }', b'{"hunter2": 1, "hunter2": 2}', b'{"a": hunter2}', b'"hunter2"'):
        answer = app.test_client().post("/echo", data=raw, content_type="application/json")
        assert answer.status_code == 400
        assert b"hunter2" not in answer.data
