from __future__ import annotations

import io
import threading

import pytest
from flask import Blueprint, Flask

from service_kit.health import Health
from service_kit.logs import configure_logs, get_logger
from service_kit.web.app import create_base_app


@pytest.fixture
def health() -> Health:
    return Health()


@pytest.fixture
def app(health) -> Flask:
    app = create_base_app(__name__, health=health)
    app.add_url_rule("/kept", view_func=lambda: ({"b": 1, "a": 2}, {"cache-control": "max-age=60"}))
    return app


def test_it_is_alive_and_healthy(app):
    client = app.test_client()
    assert client.get("/livez").json == {"status": "alive"}
    assert client.get("/api/v1/health").json == {"status": "healthy"}


def test_it_is_ready_while_its_checks_are_fine(app, health):
    client = app.test_client()
    assert client.get("/readyz").json == {"status": "ready", "checks": {}, "facts": {}}
    health.add("store", lambda: "the store does not answer")
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json == {
        "status": "not ready",
        "checks": {"store": {"ok": False, "detail": "the store does not answer"}},
        "facts": {},
    }
    assert client.get("/livez").status_code == 200


def test_a_sane_request_id_is_taken_over(app):
    answer = app.test_client().get("/livez", headers={"X-Request-ID": "order-7_a.b"})
    assert answer.headers.getlist("X-Request-ID") == ["order-7_a.b"]


@pytest.mark.parametrize("sent", ["", "a b", "x" * 65, "a;b", "é", "a\t"])
def test_any_other_request_id_is_replaced(app, sent):
    client = app.test_client()
    first = client.get("/livez", headers={"X-Request-ID": sent}).headers["X-Request-ID"]
    second = client.get("/livez").headers["X-Request-ID"]
    assert len(first) == len(second) == 32
    assert first != second


@pytest.mark.parametrize("path", ["/livez", "/unknown", "/readyz", "/openapi.json"])
def test_every_answer_has_the_security_headers(app, path):
    headers = app.test_client().get(path).headers
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"


def test_a_view_that_says_how_long_its_answer_holds_is_believed(app):
    answer = app.test_client().get("/kept")
    assert answer.headers.getlist("Cache-Control") == ["max-age=60"]


def test_a_path_is_found_again_as_it_was_the_first_time(app):
    @app.get("/orders/<name>")
    def order(name: str) -> dict[str, str]:
        return {"name": name}

    client = app.test_client()
    for _ in range(3):
        assert client.get("/kept").json == {"a": 2, "b": 1}
        assert client.head("/kept").data == b""
        refused = client.delete("/kept")
        assert (refused.status_code, sorted(refused.headers["Allow"].split(", "))) == (405, ["GET", "HEAD", "OPTIONS"])
        assert client.get("/missing").status_code == 404
        assert [client.get(f"/kept{end}").status_code for end in ("/", "//")] == [200, 404]
        assert [client.get(f"/orders/{name}").json for name in "ab"] == [{"name": "a"}, {"name": "b"}]


def test_json_is_compact_and_in_the_order_of_the_view(app):
    assert app.test_client().get("/kept").data == b'{"b":1,"a":2}\n'


def test_the_request_id_is_on_the_log_lines_of_its_request_only():
    stream = io.StringIO()
    configure_logs(stream=stream)
    app = create_base_app(__name__, health=Health())
    log = get_logger("test")

    def view() -> dict[str, str]:
        log.info("inside")
        return {}

    app.add_url_rule("/log", view_func=view)
    app.test_client().get("/log", headers={"X-Request-ID": "req-1"})
    log.info("outside")
    inside, outside = stream.getvalue().splitlines()
    assert "inside  request_id=req-1 trace_id=" in inside
    assert outside.endswith("outside")


def test_creating_an_app_starts_no_thread(app):
    before = threading.active_count()
    create_base_app(__name__, health=Health())
    assert threading.active_count() == before


def test_hooks_run_although_views_without_them_go_a_shorter_way(app):
    seen: list[str] = []
    hooked = Blueprint("hooked", __name__)

    @hooked.before_request
    def before() -> None:
        seen.append("before")

    @hooked.after_request
    def after(response):
        seen.append("after")
        return response

    @hooked.teardown_request
    def teardown(_error) -> None:
        seen.append("teardown")

    hooked.get("/hooked")(lambda: {"a": 1})
    app.register_blueprint(hooked)
    client = app.test_client()
    assert client.get("/livez").status_code == 200
    assert seen == []
    assert client.get("/hooked").get_json() == {"a": 1}
    assert seen == ["before", "after", "teardown"]
