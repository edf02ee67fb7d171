"""A client of Flask's tests that takes no answer which the OpenAPI document does not describe."""

from __future__ import annotations

from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from werkzeug.exceptions import HTTPException
from werkzeug.test import TestResponse

from service_kit.web.console.blueprint import NAME as CONSOLE

PROBLEM = "application/problem+json"


class DescribedClient(FlaskClient):
    """Checks status, media type, problem code and members of every answer of a route."""

    def open(self, *args: Any, **kwargs: Any) -> TestResponse:
        """Make a call, and look the answer up in the document."""
        response = super().open(*args, **kwargs)
        check_described(self.application, response)
        return response


#: By service: the apps of a service differ in their settings, which have no place in a document.
_documents: dict[str, dict[str, Any]] = {}


def _document(app: Flask) -> dict[str, Any]:
    if app.import_name not in _documents:
        _documents[app.import_name] = FlaskClient(app, app.response_class).get("/openapi.json").get_json()
    return _documents[app.import_name]


def check_described(app: Flask, response: TestResponse) -> None:
    """Fail when a route has answered what its description does not hold."""
    method, path = response.request.method, response.request.path
    try:
        rule, _ = app.url_map.bind("").match(path, "GET" if method == "HEAD" else method, return_rule=True)
    except HTTPException:  # no route: nothing is described
        assert response.mimetype == PROBLEM
        return
    if method == "OPTIONS":
        return
    if rule.endpoint.startswith(f"{CONSOLE}."):  # the operator's page is no part of the interface
        return
    document = _document(app)
    template = "".join(text if is_text else f"{{{text}}}" for is_text, text in _parts(rule.rule))
    operation = document["paths"][template]["get" if method == "HEAD" else method.lower()]
    where = f"{method} {template} has answered {response.status_code}"
    assert str(response.status_code) in operation["responses"], f"{where}, which is not described"
    content = operation["responses"][str(response.status_code)]["content"]
    assert response.mimetype in content, f"{where} as {response.mimetype}, which is not described"
    if method == "HEAD" or not response.is_json:
        return
    from openapi_schema_validator import OAS31Validator  # noqa: PLC0415 - its import may take seconds

    described, body = content[response.mimetype], response.get_json()
    OAS31Validator({**described["schema"], "components": document["components"]}).validate(body)
    if response.mimetype == PROBLEM:
        code = body["type"].rpartition(":")[2]
        assert code in described["examples"], f"{where} {code}, which is not described"


def _parts(rule: str) -> list[tuple[bool, str]]:
    """The text of a rule and the names of its parameters, in turn."""
    parts = []
    for number, piece in enumerate(rule.replace(">", "<").split("<")):
        is_text = number % 2 == 0
        parts.append((is_text, piece if is_text else piece.rpartition(":")[2]))
    return parts
