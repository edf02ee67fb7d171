from __future__ import annotations

import json

import pytest
from flask import Flask, request

from service_kit.health import Health
from service_kit.web.app import create_base_app
from service_kit.web.json_body import MAX_BODY_BYTES, read_json_object


@pytest.fixture
def app() -> Flask:
    app = create_base_app(__name__, health=Health())
    app.add_url_rule("/echo", view_func=lambda: {"read": read_json_object(request)}, methods=["POST"])
    return app


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


def test_an_empty_body_is_400(app):
    answer = app.test_client().post("/echo", data=b"", content_type="application/json")
    assert (answer.status_code, answer.json["detail"]) == (400, "The body is empty; a JSON object is expected.")


def test_no_answer_repeats_what_was_sent(app):
    for raw in (b'{"hunter2": }', b'{"hunter2": 1, "hunter2": 2}', b'{"a": hunter2}', b'"hunter2"'):
        answer = app.test_client().post("/echo", data=raw, content_type="application/json")
        assert answer.status_code == 400
        assert b"hunter2" not in answer.data
