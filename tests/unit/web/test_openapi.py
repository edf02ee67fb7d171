from __future__ import annotations

import json
from typing import Any

import pytest
from flask import Blueprint, Flask
from marshmallow import fields
from openapi_spec_validator import OpenAPIV31SpecValidator

from service_kit.errors import NotFound, StoreFull, StoreUnavailable
from service_kit.health import Health
from service_kit.web.app import create_base_app
from service_kit.web.openapi import build_openapi, operation, undocumented_routes
from service_kit.web.schemas import IdField, ListQuerySchema, StrictSchema, load_body


class NoteSchema(StrictSchema):
    note_id = IdField(required=True, metadata={"examples": ["n1"]})


class NotesSchema(StrictSchema):
    notes = fields.List(fields.Nested(NoteSchema))


class NoteNotFound(NotFound):
    """No such note."""

    code = "note_not_found"
    title = "There is no such note"


NOTE = NoteSchema()


@pytest.fixture
def app() -> Flask:
    app = create_base_app(__name__, health=Health(), title="Notes", version="7")
    notes = Blueprint("notes", __name__, url_prefix="/notes")

    @notes.get("")
    @operation(summary="List notes", query=ListQuerySchema, answer=NotesSchema, tags=["notes"])
    def list_notes() -> dict[str, Any]:
        return {}

    @notes.route("/<note_id>/<int:seq>", methods=["PUT", "DELETE"])
    @operation(
        summary="Change a note",
        body=NoteSchema,
        answer=NoteSchema,
        errors=(NoteNotFound, StoreUnavailable, StoreFull),
    )
    def change_note(note_id: str, seq: int) -> dict[str, Any]:
        return load_body(NOTE)

    @notes.get("/page")
    @operation(summary="Show a page", answer_type="text/html")
    def page() -> str:
        return ""

    app.register_blueprint(notes)
    return app


@pytest.fixture
def document(app) -> dict[str, Any]:
    return app.test_client().get("/openapi.json").get_json()


def test_the_document_is_openapi_3_1_with_title_and_version(document):
    assert document["openapi"].startswith("3.1")
    assert (document["info"]["title"], document["info"]["version"]) == ("Notes", "7")
    OpenAPIV31SpecValidator(document).validate()


def test_it_has_every_route_with_its_path_parameters(document):
    assert set(document["paths"]) == {
        "/livez",
        "/readyz",
        "/api/v1/health",
        "/openapi.json",
        "/docs",
        "/notes",
        "/notes/{note_id}/{seq}",
        "/notes/page",
    }
    change = document["paths"]["/notes/{note_id}/{seq}"]["put"]
    parameters = {parameter["name"]: parameter for parameter in change["parameters"]}
    assert parameters["note_id"]["schema"] == {"type": "string"}
    assert parameters["seq"]["schema"]["type"] == "integer"
    assert all(parameter["in"] == "path" and parameter["required"] for parameter in parameters.values())


def test_query_body_and_answer_come_from_the_schemas(document):
    listing = document["paths"]["/notes"]["get"]
    limit = next(parameter for parameter in listing["parameters"] if parameter["name"] == "limit")
    assert (limit["in"], limit["schema"]["minimum"], limit["schema"]["maximum"]) == ("query", 1, 1000)
    assert limit["schema"]["default"] == 100
    change = document["paths"]["/notes/{note_id}/{seq}"]["put"]
    reference = {"$ref": "#/components/schemas/Note"}
    body = {"schema": reference, "example": {"note_id": "n1"}}
    assert change["requestBody"] == {"required": True, "content": {"application/json": body}}
    assert change["responses"]["200"]["content"]["application/json"]["schema"] == reference
    note_id = document["components"]["schemas"]["Note"]["properties"]["note_id"]
    assert note_id == {"type": "string", "pattern": "^[A-Za-z0-9._:-]{1,128}$", "examples": ["n1"]}
    assert list(document["paths"]["/notes/page"]["get"]["responses"]["200"]["content"]) == ["text/html"]


def test_problems_are_listed_by_status(document):
    answers = document["paths"]["/notes/{note_id}/{seq}"]["put"]["responses"]
    assert set(answers) == {"200", "400", "404", "413", "415", "422", "429", "431", "500", "503", "507"}
    assert answers["404"]["description"] == "There is no such note"
    problem = answers["404"]["content"]["application/problem+json"]
    assert problem["schema"] == {"$ref": "#/components/schemas/Problem"}
    assert problem["examples"]["note_not_found"]["value"]["type"] == "urn:problem:order-communicator:note_not_found"
    assert "Retry-After" in answers["503"]["headers"]
    assert "Retry-After" not in answers["404"]["headers"]
    assert set(document["paths"]["/notes"]["get"]["responses"]) == {"200", "400", "422", "429", "431", "500", "503"}
    assert set(document["paths"]["/livez"]["get"]["responses"]) == {"200", "400", "429", "431", "500", "503"}


def test_operation_ids_are_unique(document):
    ids = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(ids) == len(set(ids))
    assert {"notes_list_notes", "notes_change_note_put", "notes_change_note_delete"} <= set(ids)


def test_two_routes_with_one_operation_id_are_a_mistake(app):
    app.add_url_rule("/again", endpoint="notes.list_notes", view_func=app.view_functions["notes.list_notes"])
    with pytest.raises(ValueError, match="notes_list_notes"):
        build_openapi(app, "Notes", "7")


def test_every_reference_has_its_component(document):
    text = json.dumps(document)
    names = {part.split('"')[0] for part in text.split("#/components/schemas/")[1:]}
    assert names <= set(document["components"]["schemas"])


def test_a_route_without_an_operation_is_found(app):
    assert undocumented_routes(app) == []
    app.add_url_rule("/hidden", view_func=lambda: "")
    assert undocumented_routes(app) == ["/hidden"]


def test_the_decorator_leaves_the_view_as_it_is():
    def view() -> str:
        return ""

    assert operation(summary="A view")(view) is view


def test_the_document_is_built_once(app):
    client = app.test_client()
    first = client.get("/openapi.json").data
    assert client.get("/openapi.json").data == first


def test_a_body_that_is_strict_refuses_other_members_and_an_answer_takes_them(document):
    schemas = document["components"]["schemas"]
    assert schemas["Note"]["additionalProperties"] is False
    assert schemas["Status"].get("additionalProperties") is not False


def test_what_a_view_says_of_itself_is_its_description_and_its_blueprint_its_tag(app):
    @app.post("/told")
    @operation(summary="Tell", headers={"X-Tone": "How."}, answers={202: "Later"}, form=NoteSchema)
    def tell() -> str:
        """Say it once."""
        return ""

    document = build_openapi(app, "Notes", "7")
    told = document["paths"]["/told"]["post"]
    assert (told["description"], told["tags"]) == ("Say it once.", ["service"])
    assert told["parameters"][0]["name"] == "X-Tone"
    assert list(told["responses"]) == ["200", "202", "400", "429", "431", "500", "503"]
    assert "application/x-www-form-urlencoded" in told["requestBody"]["content"]
    assert document["paths"]["/notes/page"]["get"]["tags"] == ["notes"]
