from __future__ import annotations

from typing import Any

import pytest
from flask import Flask, Response, request
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from service_kit.web.console import polls
from service_kit.web.console.polls import FRESH_S, SAME_VERSION_S, PollAnswers


class Desk:
    """An app with one polled resource, and a clock that stands."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.built = 0
        self.state: Any = 1
        self.version: Any = None
        self.log: list[str] = []
        self.answers = PollAnswers(lambda: self.now_s)
        app = Flask(__name__)
        app.add_url_rule("/poll", view_func=self._view)
        self.client: FlaskClient = app.test_client()

    def _view(self) -> Response:
        after = int(request.args.get("after", 0))
        return self.answers.answer(self._make, beside=lambda: {"log": self.log[after:]}, version=self.version)

    def _make(self) -> dict[str, Any]:
        self.built += 1
        return {"state": self.state}

    def ask(self, etag: str | None = None, query: str = "") -> TestResponse:
        return self.client.get(f"/poll{query}", headers={"If-None-Match": etag} if etag else {})


@pytest.fixture
def desk() -> Desk:
    return Desk()


def test_an_unchanged_answer_is_not_sent_again(desk: Desk) -> None:
    first = desk.ask()
    assert first.get_json() == {"state": 1, "log": []}
    desk.now_s += 60
    again = desk.ask(first.headers["ETag"])
    assert (again.status_code, again.data) == (304, b"")
    assert again.headers["ETag"] == first.headers["ETag"]


def test_a_changed_answer_is_sent_with_another_etag(desk: Desk) -> None:
    first = desk.ask()
    desk.state = 2
    desk.now_s += FRESH_S
    second = desk.ask(first.headers["ETag"])
    assert (second.status_code, second.get_json()) == (200, {"state": 2, "log": []})
    assert second.headers["ETag"] != first.headers["ETag"]


def test_an_etag_that_a_proxy_has_weakened_counts(desk: Desk) -> None:
    etag = desk.ask().headers["ETag"]
    assert desk.ask(f"W/{etag}").status_code == 304


def test_who_asks_within_a_moment_shares_one_answer(desk: Desk) -> None:
    for _ in range(50):
        desk.ask()
    assert desk.built == 1
    desk.now_s += FRESH_S
    desk.ask()
    assert desk.built == 2


def test_other_queries_have_other_answers(desk: Desk) -> None:
    desk.ask(query="?a=1")
    desk.ask(query="?a=2")
    assert desk.built == 2


def test_an_answer_of_the_same_version_is_kept_for_longer(desk: Desk) -> None:
    desk.version = (1, "open")
    desk.ask()
    desk.now_s += FRESH_S * 2
    desk.ask()
    assert desk.built == 1
    desk.version = (2, "open")
    desk.ask()
    assert desk.built == 2
    desk.now_s += SAME_VERSION_S
    desk.ask()
    assert desk.built == 3


def test_after_something_was_done_every_answer_is_new(desk: Desk) -> None:
    desk.ask()
    desk.state = 2
    desk.answers.forget()
    assert desk.ask().get_json() == {"state": 2, "log": []}


def test_what_was_read_before_something_was_done_is_not_kept(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    make = desk._make

    def make_while_something_is_done() -> dict[str, Any]:
        answer = make()
        desk.answers.forget()
        return answer

    monkeypatch.setattr(desk, "_make", make_while_something_is_done)
    desk.ask()
    desk.ask()
    assert desk.built == 2


def test_kept_answers_have_a_bound(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(polls, "MAX_KEPT_BYTES", 3 * len('{"state":1}'))
    for number in range(10):
        desk.ask(query=f"?a={number}")
    assert len(desk.answers._kept) == 3
    for number in (7, 8, 9):
        desk.ask(query=f"?a={number}")
    assert desk.built == 10
    desk.now_s += FRESH_S
    for number in (7, 8, 9):
        desk.ask(query=f"?a={number}")
    assert len(desk.answers._kept) == 3


def test_an_answer_that_is_too_large_to_be_kept_is_sent_all_the_same(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polls, "MAX_KEPT_BYTES", 100)
    desk.ask()
    desk.state = "x" * 200
    assert desk.ask(query="?a=1").get_json()["state"] == desk.state
    assert len(desk.answers._kept) == 0
    assert desk.answers._kept_bytes == 0


def test_what_grows_is_sent_from_the_place_that_is_known(desk: Desk) -> None:
    desk.log, desk.state = ["a", "b"], 2
    first = desk.ask(query="?after=0")
    assert first.get_json() == {"state": 2, "log": ["a", "b"]}
    assert desk.ask(first.headers["ETag"], "?after=2").status_code == 304
    desk.log, desk.state = ["a", "b", "c"], 3
    desk.answers.forget()
    assert desk.ask(first.headers["ETag"], "?after=2").get_json() == {"state": 3, "log": ["c"]}


def test_who_knows_more_and_who_knows_less_share_one_state(desk: Desk) -> None:
    for after in range(20):
        desk.ask(query=f"?after={after}")
    assert desk.built == 1
