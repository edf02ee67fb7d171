from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from marshmallow import ValidationError, fields, validate, validates_schema

from service_kit.errors import InvalidInput
from service_kit.health import Health
from service_kit.web.app import create_base_app
from service_kit.web.problems import invalid_input
from service_kit.web.schemas import (
    BooleanField,
    EmptyQuerySchema,
    EventsQuerySchema,
    HttpUrlField,
    IdField,
    IntegerField,
    ListQuerySchema,
    StrictSchema,
    TextField,
    load_body,
    load_query,
)


class MessageSchema(StrictSchema):
    text = TextField(20, min_length=1)
    urls = fields.List(HttpUrlField(), validate=validate.Length(max=3))


class ThingSchema(StrictSchema):
    id = IdField(required=True)
    count = IntegerField(1, 10)
    urgent = BooleanField()
    message = fields.Nested(MessageSchema)
    messages = fields.List(fields.Nested(MessageSchema))

    @validates_schema
    def check_whole(self, data: dict[str, Any], **_: Any) -> None:
        if data.get("count") == 7:
            raise ValidationError("seven is never right")


THING = ThingSchema()


@pytest.fixture
def app() -> Flask:
    app = create_base_app(__name__, health=Health())
    app.add_url_rule("/things", "make", lambda: load_body(THING), methods=["POST"])
    app.add_url_rule("/things", "list", lambda: load_query(ListQuerySchema()))
    app.add_url_rule("/events", "events", lambda: load_query(EventsQuerySchema()))
    app.add_url_rule("/nothing", "nothing", lambda: load_query(EmptyQuerySchema()))
    return app


def faults_of(document: dict[str, Any]) -> dict[str, list[str]]:
    """The messages that loading gives, by pointer."""
    faults: dict[str, list[str]] = {}
    with pytest.raises(ValidationError) as caught:
        THING.load(document)
    for pointer, message in invalid_input(caught.value).errors:
        faults.setdefault(pointer, []).append(message)
    return faults


def test_what_fits_is_loaded_as_it_is(app):
    document = {
        "id": "a:B_9.-",
        "count": 10,
        "urgent": False,
        "message": {"text": "Zürich\n\t😀", "urls": ["https://example.com/a?b=c#d", "http://[::1]:80/"]},
        "messages": [{"text": "x"}],
    }
    answer = app.test_client().post("/things", json=document)
    assert answer.json == document


@pytest.mark.parametrize("value", [5, True, None, ["a"], {"a": 1}, "", "a b", "a\n", "é", "a/b", "x" * 129])
def test_an_id_is_a_short_text_of_few_characters(value):
    assert list(faults_of({"id": value})) == ["/id"]


@pytest.mark.parametrize("value", ["5", 5.0, 5.5, True, 0, 11, [5]])
def test_a_whole_number_is_a_number_within_bounds(value):
    assert list(faults_of({"id": "a", "count": value})) == ["/count"]


@pytest.mark.parametrize("value", [0, 1, "true", "yes", "on", []])
def test_a_boolean_is_true_or_false_only(value):
    assert list(faults_of({"id": "a", "urgent": value})) == ["/urgent"]


@pytest.mark.parametrize("value", [1, "", "x" * 21, "a\x00", "a\x1b[2J", "a\x7f", "a\x85", "a\ud800"])
def test_a_text_has_bounds_and_no_control_characters(value):
    assert list(faults_of({"id": "a", "message": {"text": value}})) == ["/message/text"]


@pytest.mark.parametrize(
    "value",
    [
        1,
        "",
        "example.com",
        "//example.com",
        "ftp://example.com",
        "javascript:alert(1)",
        "http://",
        "http:///path",
        "https://user@example.com",
        "https://user:pw@example.com",
        "https://exa mple.com",
        "https://example.com/\n",
        " https://example.com",
        "https://example.com\\@evil",
        "https://example.com:99999",
        "https://[::1",
        "https://example.com/" + "x" * 2048,
    ],
)
def test_a_url_is_http_with_a_host_and_nothing_to_hide(value):
    assert list(faults_of({"id": "a", "message": {"urls": ["http://ok", value]}})) == ["/message/urls/1"]


def test_every_fault_has_its_place():
    document = {"count": 0, "message": {"text": "", "other": 1}, "messages": [{}, {"text": 1}], "extra": 1}
    assert set(faults_of(document)) == {
        "/id",
        "/count",
        "/message/text",
        "/message/other",
        "/messages/1/text",
        "/extra",
    }


def test_a_fault_of_the_whole_stands_at_the_root():
    assert faults_of({"id": "a", "count": 7}) == {"": ["seven is never right"]}


def test_the_name_of_an_unknown_field_is_escaped_and_repeated_only_when_it_is_sane():
    assert faults_of({"id": "a", "a/b~c": 1}) == {"/a~1b~0c": ["Unknown field."]}
    for name in ("x" * 65, "a\nb", "é", ""):
        assert faults_of({"id": "a", name: 1}) == {"": ["Unknown field."]}
    assert faults_of({"id": "a", "message": {"x" * 65: 1}}) == {"/message": ["Unknown field."]}


def test_no_message_repeats_what_was_sent(app):
    document = {"id": "hunter2 ", "count": "hunter2", "urgent": "hunter2", "message": {"urls": ["hunter2"]}}
    answer = app.test_client().post("/things", json=document)
    assert answer.status_code == 422
    assert {error["pointer"] for error in answer.get_json(force=True)["errors"]} == {
        "/id",
        "/count",
        "/urgent",
        "/message/urls/0",
    }
    assert b"hunter2" not in answer.data


def test_a_list_query_has_defaults_and_bounds(app):
    client = app.test_client()
    assert client.get("/things").json == {"limit": 100, "cursor": None}
    assert client.get("/things?limit=1000&cursor=abc").json == {"limit": 1000, "cursor": "abc"}
    for query in (
        "limit=0",
        "limit=1001",
        "limit=",
        "limit=+5",
        "limit=%205",
        "limit=5_0",
        "limit=%D9%A3",
        "limit=1.0",
    ):
        answer = client.get(f"/things?{query}")
        assert answer.status_code == 422, query
        assert answer.get_json(force=True)["errors"][0]["pointer"] == "/limit"
    assert client.get("/things?cursor=").status_code == 422
    assert client.get("/things?cursor=%00").status_code == 422


def test_an_events_query_counts_from_zero(app):
    client = app.test_client()
    assert client.get("/events").json == {"after": 0, "limit": 100}
    assert client.get("/events?after=9223372036854775807").json["after"] == 2**63 - 1
    assert client.get("/events?after=-1").status_code == 422
    assert client.get("/events?after=9223372036854775808").status_code == 422


def test_unknown_and_repeated_parameters_are_refused(app):
    client = app.test_client()
    for path, pointer in (
        ("/things?limits=5", "/limits"),
        ("/things?limit=5&limit=5", "/limit"),
        ("/nothing?a=1&a=2", "/a"),
        (f"/nothing?{'x' * 65}=1", ""),
    ):
        answer = client.get(path)
        assert answer.status_code == 422
        assert [error["pointer"] for error in answer.get_json(force=True)["errors"]] == [pointer]


def test_loading_raises_our_own_error(app):
    with app.test_request_context("/things?limit=x"), pytest.raises(InvalidInput):
        load_query(ListQuerySchema())
