from __future__ import annotations

import io
from collections.abc import Iterator
from typing import NoReturn

import pytest
from flask import Flask, abort

from service_kit.errors import (
    Conflict,
    Diverged,
    Fenced,
    FieldError,
    InvalidInput,
    MalformedInput,
    NotFound,
    ServiceError,
    StoreFull,
    StoreUnavailable,
    TooMany,
    Unavailable,
)
from service_kit.health import Health
from service_kit.logs import configure_logs
from service_kit.web.app import create_base_app
from service_kit.web.problems import MAX_ERRORS, TooLarge, UnsupportedMediaType, json_pointer, status_of


def all_subclasses(cls: type[ServiceError]) -> Iterator[type[ServiceError]]:
    for subclass in cls.__subclasses__():
        yield subclass
        yield from all_subclasses(subclass)


def answer_to(error: Exception):
    app = create_base_app(__name__, health=Health())

    def fail() -> NoReturn:
        raise error

    app.add_url_rule("/fail", view_func=fail)
    return app.test_client().get("/fail", headers={"X-Request-ID": "req-1"})


@pytest.mark.parametrize(
    ("error_class", "status"),
    [
        (MalformedInput, 400),
        (NotFound, 404),
        (Conflict, 409),
        (Fenced, 409),
        (Diverged, 409),
        (TooLarge, 413),
        (UnsupportedMediaType, 415),
        (InvalidInput, 422),
        (TooMany, 429),
        (Unavailable, 503),
        (StoreUnavailable, 503),
        (StoreFull, 507),
    ],
)
def test_each_meaning_has_its_status(error_class, status):
    assert status_of(error_class) == status


def test_no_error_class_falls_through_to_500():
    for error_class in all_subclasses(ServiceError):
        assert status_of(error_class) != 500, error_class


def test_a_subclass_takes_over_its_parent_s_status():
    class OrderUnknown(NotFound):
        """No such order."""

    assert status_of(OrderUnknown) == 404


def test_codes_are_unique():
    kit_classes = [cls for cls in all_subclasses(ServiceError) if cls.__module__.startswith("service_kit")]
    codes = [cls.code for cls in kit_classes]
    assert len(codes) == len(set(codes))


def test_a_service_error_is_a_problem_document_with_its_extra_members():
    answer = answer_to(Conflict("The order is finished.", allowed_actions=["initiate"], status=200))
    assert answer.status_code == 409
    assert answer.content_type == "application/problem+json"
    assert answer.get_json(force=True) == {
        "type": "urn:problem:order-communicator:conflict",
        "title": "Conflict with the current state",
        "status": 409,
        "detail": "The order is finished.",
        "request_id": "req-1",
        "allowed_actions": ["initiate"],
    }


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (Unavailable(), "1"),
        (StoreUnavailable(), "1"),
        (StoreFull(), "30"),
        (TooMany(), "1"),
        (Unavailable(retry_after_s=7), "7"),
        (Conflict(retry_after_s=2), "2"),
        (Conflict(), None),
    ],
)
def test_errors_that_pass_say_when_to_come_back(error, seconds):
    assert answer_to(error).headers.get("Retry-After") == seconds


def test_faults_of_fields_are_listed_up_to_a_bound():
    answer = answer_to(InvalidInput([FieldError(f"/f{n}", "wrong") for n in range(500)]))
    assert answer.status_code == 422
    errors = answer.get_json(force=True)["errors"]
    assert errors[0] == {"pointer": "/f0", "message": "wrong"}
    assert len(errors) == MAX_ERRORS


def test_an_unexpected_error_is_logged_with_its_traceback_and_answered_with_the_request_id_only():
    stream = io.StringIO()
    configure_logs(stream=stream)
    answer = answer_to(KeyError("hunter2"))
    assert answer.status_code == 500
    assert answer.get_json(force=True)["request_id"] == "req-1"
    assert b"hunter2" not in answer.data
    assert b"KeyError" not in answer.data
    log = stream.getvalue()
    assert "KeyError: 'hunter2'" in log
    assert "request_id=req-1" in log


def test_a_service_error_without_a_meaning_is_logged_as_well():
    stream = io.StringIO()
    configure_logs(stream=stream)
    assert answer_to(ServiceError("odd")).status_code == 500
    assert "ServiceError: odd" in stream.getvalue()


@pytest.fixture
def app() -> Flask:
    app = create_base_app(__name__, health=Health())
    app.add_url_rule("/things/<name>", "things", lambda name: {"name": name}, methods=["PUT", "DELETE"])
    app.add_url_rule("/abort/<int:status>", "abort", lambda status: abort(status, "hunter2 was sent"))
    return app


def test_an_unknown_path_is_a_404_problem_that_does_not_repeat_it(app):
    for path in ("/hunter2", "//hunter2", "/livez/hunter2", "/hunter2/../x"):
        answer = app.test_client().get(path)
        assert answer.status_code == 404
        assert answer.content_type == "application/problem+json"
        assert b"hunter2" not in answer.data
        assert answer.get_json(force=True)["type"].endswith(":not_found")


def test_a_wrong_method_is_a_405_problem_with_its_allow_header(app):
    answer = app.test_client().post("/things/hunter2")
    assert answer.status_code == 405
    assert set(answer.headers["Allow"].split(", ")) == {"DELETE", "OPTIONS", "PUT"}
    assert answer.get_json(force=True)["type"].endswith(":method_not_allowed")
    assert answer.content_type == "application/problem+json"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 406, 413, 415, 418, 429, 500, 503])
def test_every_http_exception_is_a_problem_without_its_own_words(app, status):
    answer = app.test_client().get(f"/abort/{status}")
    document = answer.get_json(force=True)
    assert answer.status_code == document["status"] == status
    assert answer.content_type == "application/problem+json"
    assert document["request_id"] == answer.headers["X-Request-ID"]
    assert b"hunter2" not in answer.data


def test_a_pointer_is_escaped():
    assert json_pointer(["message", "urls", 0]) == "/message/urls/0"
    assert json_pointer(["a/b", "c~d"]) == "/a~1b/c~0d"
    assert json_pointer([]) == ""
