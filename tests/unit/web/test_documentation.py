"""/docs: a page from the OpenAPI document, without a script and without anything from outside."""

from __future__ import annotations

import base64
import hashlib
import re
import shlex

import pytest
from flask import Flask
from flask.testing import FlaskClient

from processor_app.bootstrap import create_app as create_processor_app
from requestor_app.bootstrap import create_app as create_requestor_app
from service_kit.web.documented_calls import curl_line, groups_of, powershell_line
from service_kit.web.openapi import undocumented_routes


@pytest.fixture(params=[create_requestor_app, create_processor_app], ids=["requestor", "processor"])
def app(request: pytest.FixtureRequest) -> Flask:
    app: Flask = request.param()
    return app


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


def test_every_route_is_described(app: Flask) -> None:
    assert undocumented_routes(app) == []


def test_the_page_shows_every_call_with_a_line_to_try(client: FlaskClient) -> None:
    document = client.get("/openapi.json").get_json()
    page = client.get("/docs").text
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert f'<article id="{operation["operationId"]}"' in page
            assert f"{method.upper()}</b> <code>{path}</code>" in page
    assert page.count('aria-label="The call with curl"') == sum(len(path) for path in document["paths"].values())


def test_every_member_and_parameter_says_what_it_means(client: FlaskClient) -> None:
    document = client.get("/openapi.json").get_json()
    members = [
        (f"{name}.{member}", described)
        for name, schema in document["components"]["schemas"].items()
        for member, described in schema.get("properties", {}).items()
    ]
    members += [
        (f"{path}?{parameter['name']}", {**parameter["schema"], **parameter})
        for path, operations in document["paths"].items()
        for operation in operations.values()
        for parameter in operation.get("parameters", ())
    ]
    assert [name for name, described in members if not described.get("description")] == []


def test_what_the_service_is_for_comes_first(client: FlaskClient) -> None:
    document = client.get("/openapi.json").get_json()
    names = [group.name for group in groups_of(document, "http://h")]
    assert names[0] == "orders"
    assert set(names[-2:]) == {"health", "documentation"}


def test_the_page_loads_nothing_and_runs_nothing(client: FlaskClient) -> None:
    answer = client.get("/docs")
    assert "<script" not in answer.text
    assert not re.search(r'(src|href)="(?!#|openapi\.json)', answer.text)
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    (style,) = re.findall(r"<style>(.*?)</style>", answer.text, flags=re.DOTALL)
    assert base64.b64encode(hashlib.sha256(style.encode()).digest()).decode() in policy
    assert "unsafe" not in policy


def test_the_lines_name_the_host_that_was_asked(client: FlaskClient) -> None:
    assert "curl http://orders.example:8004/livez" in client.get("/docs", base_url="http://orders.example:8004").text
    hostile = client.get("/docs", headers={"Host": 'x"><b>:1'})
    assert "<b>:1" not in hostile.text


def test_fields_of_fields_are_shown_with_their_rules(client: FlaskClient) -> None:
    document = create_requestor_app().test_client().get("/openapi.json").get_json()
    calls = {call.anchor: call for group in groups_of(document, "http://h") for call in group.calls}
    body = {field.name: field for field in calls["orders_follow_up"].body}
    assert body["order_req_id"].is_required
    assert not body["message.urls"].is_required
    assert body["message.urls"].type == "array of string"
    assert "at most 20 items" in body["message.urls"].rules
    answer = next(answer for answer in calls["orders_show_order"].answers if answer.status == "200")
    assert {"stream.last_error", "notes[].relay_state", "deliveries[].state"} <= {field.name for field in answer.fields}
    conflict = next(answer for answer in calls["orders_follow_up"].answers if answer.status == "409")
    assert conflict.codes == ("action_refused", "follow_up_conflict")


def test_a_line_is_whole_in_either_shell() -> None:
    body = {"message": 'It\'s "here"'}
    words = shlex.split(curl_line("POST", "http://h/a?b=1&c=2", body))
    assert words[:4] == ["curl", "-X", "POST", "http://h/a?b=1&c=2"]
    assert words[-1] == '{"message": "It\'s \\"here\\""}'
    assert '-Body \'{"message": "It\'\'s \\"here\\""}\'' in powershell_line("POST", "http://h/a", body)
