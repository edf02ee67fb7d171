"""The client against a running requestor, and against servers that behave badly."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import pytest

import requestor_client
from requestor_client import (
    ActionRefused,
    FollowUpConflict,
    InputRefused,
    NoAnswer,
    NotFound,
    OrderLive,
    Problem,
    RequestorClient,
    StoreFull,
    TooMany,
    Unavailable,
    UnexpectedAnswer,
)
from service_kit.ports import listen_alone
from tests.conftest import Pair


@pytest.fixture
def client(running_pair: Pair) -> Iterator[RequestorClient]:
    with RequestorClient(running_pair.requestor_url.removesuffix("/api/v1"), retries=0) as client:
        yield client


def _wait_until(look: Any) -> None:
    deadline = time.monotonic() + 15
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_an_order_goes_from_its_initiate_to_its_end(client: RequestorClient) -> None:
    details = {"item": "Oak table"}
    assert client.initiate("A1", "s1", "email", audience=["seller1"], details=details).is_new
    assert not client.initiate("A1", "s1", "email", audience=["seller1"], details=details).is_new
    _wait_until(lambda: client.order("A1").stream.state == "open")

    answer = client.follow_up("A1", "Any update?", audience=["seller1"], urls=["https://example.com/a"])
    _wait_until(lambda: client.order("A1").unsent_count == 0)
    order = client.order("A1")
    assert (order.session_id, order.audience, order.details) == ("s1", ("seller1",), details)
    (note,) = order.notes
    assert (note.follow_up_id, note.message, note.relay_state) == (answer.follow_up_id, "Any update?", "relayed")
    assert abs((datetime.now(UTC) - note.added_time).total_seconds()) < 60
    assert {delivery.state for delivery in order.deliveries} == {"waiting"}
    assert client.tracked_order("A1").is_stream_active

    client.complete("A1", "delivered")
    _wait_until(lambda: client.order("A1").state == "completed")
    kinds = [event.kind for event in client.events("A1")]
    assert (kinds[0], kinds[-1]) == ("initiated", "completed")
    with pytest.raises(ActionRefused) as refused:
        client.cancel("A1")
    assert refused.value.allowed_actions == ("initiate",)


def test_orders_come_page_by_page(client: RequestorClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requestor_client.client, "_PAGE", 2)
    for number in range(5):
        client.initiate(f"A{number}", "s1" if number else "s2", "none")
    assert [order.order_req_id for order in client.orders()] == ["A4", "A3", "A2", "A1", "A0"]
    assert [order.order_req_id for order in client.orders(session_id="s2")] == ["A0"]
    _wait_until(lambda: len(list(client.events("A0"))) == 2)
    assert [event.seq for event in client.events("A0", after=1)] == [2]
    status = client.tracking_status(limit=1)
    assert (status.total_orders, status.tracked_order_ids) == (5, ("A4",))
    assert status.next_cursor is not None


def test_refusals_are_exceptions_of_their_kind(client: RequestorClient) -> None:
    client.initiate("A1", "s1", "none")
    with pytest.raises(OrderLive) as live:
        client.initiate("A1", "another", "none")
    assert (live.value.status, live.value.code) == (409, "order_live")
    assert live.value.request_id
    client.follow_up("A1", "one", audience=["seller1"], follow_up_id="n1")
    assert client.follow_up("A1", "one", audience=["seller1"], follow_up_id="n1").follow_up_id == "n1"
    with pytest.raises(FollowUpConflict):
        client.follow_up("A1", "two", audience=["seller1"], follow_up_id="n1")
    with pytest.raises(NotFound):
        client.order("unknown")
    with pytest.raises(InputRefused):
        client.order("unknown/../A1")
    with pytest.raises(InputRefused) as wrong:
        client.initiate("no id", "s1", "pigeon")
    assert {fault.pointer for fault in wrong.value.errors} == {"/order_req_id", "/notification_type"}
    assert "order_req_id: must be 1 to 128 characters" in str(wrong.value)


def test_readiness_is_told_also_when_a_part_does_not_work(client: RequestorClient, running_pair: Pair) -> None:
    assert client.readiness().is_ready
    running_pair.requestor.lease.stop(5)
    readiness = client.readiness()
    assert not readiness.is_ready
    assert readiness.checks is not None
    assert not readiness.checks["lease"].ok


# ---- servers that behave badly


class Call(NamedTuple):
    """What a server was sent."""

    method: str
    path: str
    body: Any


class Answer(NamedTuple):
    """What it answers; None as the status cuts the connection instead."""

    status: int | None
    body: Any = None
    headers: dict[str, str] = {}  # noqa: RUF012 - a default that nobody changes
    media_type: str = "application/json"
    after_s: float = 0.0


class Script:
    """A server that gives the answers of a list, one by one, and the last one for ever."""

    def __init__(self, *answers: Answer) -> None:
        self.calls: list[Call] = []
        self._answers = list(answers)
        script = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                script.calls.append(Call(self.command, self.path, json.loads(body) if body else None))
                answer = script._answers.pop(0) if len(script._answers) > 1 else script._answers[0]
                time.sleep(answer.after_s)
                if answer.status is None:
                    self.connection.close()
                    return
                content = answer.body if isinstance(answer.body, bytes) else json.dumps(answer.body).encode()
                self.send_response(answer.status)
                for name, value in {"Content-Type": answer.media_type, **answer.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_POST = do_GET  # noqa: N815 - the server finds it by this name

            def log_message(self, format: str, *arguments: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign] # a cut connection is the test's own
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def scripts() -> Iterator[Any]:
    made: list[Script] = []

    def make(*answers: Answer) -> Script:
        made.append(Script(*answers))
        return made[-1]

    yield make
    for script in made:
        script.close()


def _problem(status: int, code: str, **headers: str) -> Answer:
    document = {"type": f"urn:problem:order-communicator:{code}", "title": "No", "status": status, "detail": "Not now."}
    return Answer(status, document, headers, "application/problem+json")


FOLLOWED_UP = Answer(200, {"success": True, "message": "Done", "order_req_id": "A1", "follow_up_id": "n1"})
INITIATED = Answer(200, {"message": "Order initiated successfully", "order_req_id": "A1", "session_id": "s1", "new": 1})


def test_a_follow_up_whose_answer_is_lost_is_sent_again_with_the_same_id(scripts: Any) -> None:
    server = scripts(Answer(None), FOLLOWED_UP)
    with RequestorClient(server.url) as client:
        client.follow_up("A1", "Any update?", audience=["seller1"])
    first, second = server.calls
    assert first == second
    assert len(first.body["follow_up_id"]) == 32


def test_an_order_waits_as_long_as_the_requestor_asks_for(scripts: Any) -> None:
    server = scripts(_problem(503, "store_unavailable", **{"Retry-After": "1"}), INITIATED)
    begun = time.monotonic()
    with RequestorClient(server.url) as client:
        assert client.initiate("A1", "s1").is_new
    assert 0.9 < time.monotonic() - begun < 5
    assert len(server.calls) == 2


def test_no_pause_is_longer_than_the_caller_allows(scripts: Any) -> None:
    server = scripts(_problem(507, "store_full", **{"Retry-After": "3000"}), INITIATED)
    begun = time.monotonic()
    with RequestorClient(server.url, longest_pause_s=1) as client:
        client.initiate("A1", "s1")
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize(
    ("status", "code", "error"),
    [(503, "store_unavailable", Unavailable), (507, "store_full", StoreFull), (429, "too_many_unsent", TooMany)],
)
def test_after_the_last_try_the_refusal_is_told(scripts: Any, status: int, code: str, error: type[Problem]) -> None:
    server = scripts(_problem(status, code, **{"Retry-After": "7"}))
    with RequestorClient(server.url, retries=2, longest_pause_s=0) as client, pytest.raises(error) as told:
        client.order("A1")
    assert (told.value.retry_after_s, told.value.code) == (7, code)
    assert len(server.calls) == 3


def test_what_is_refused_for_good_is_not_sent_again(scripts: Any) -> None:
    server = scripts(_problem(500, "internal"))
    with RequestorClient(server.url) as client, pytest.raises(Problem, match=r"Not now\."):
        client.order("A1")
    assert len(server.calls) == 1


def test_a_server_that_is_silent_is_given_up(scripts: Any) -> None:
    server = scripts(Answer(200, {}, after_s=1))
    with RequestorClient(server.url, timeout_s=0.1, retries=1) as client, pytest.raises(NoAnswer):
        client.order("A1")
    assert len(server.calls) == 2


def test_nobody_there_is_told_in_one_line() -> None:
    with listen_alone("127.0.0.1", 0, "PORT") as listener:
        port = listener.getsockname()[1]
    with RequestorClient(f"http://127.0.0.1:{port}", retries=0) as client, pytest.raises(NoAnswer) as told:
        client.order("A1")
    assert str(told.value) == f"No requestor answers at http://127.0.0.1:{port} (ConnectionError)."


@pytest.mark.parametrize(
    "answer",
    [
        Answer(200, b"<html>", media_type="text/html"),
        Answer(200, []),
        Answer(200, {"message": "x", "order_req_id": 1, "session_id": "s1"}),
        Answer(200, {"message": "x"}),
        Answer(302, b"", {"Location": "http://127.0.0.1:1/"}),
        Answer(404, b"not here", media_type="text/plain"),
    ],
    ids=["html", "a list", "a wrong type", "a missing member", "a redirect", "plain text"],
)
def test_what_is_no_requestor_is_told(scripts: Any, answer: Answer) -> None:
    server = scripts(answer)
    with RequestorClient(server.url) as client, pytest.raises(UnexpectedAnswer):
        client.initiate("A1", "s1")
    assert len(server.calls) == 1


@pytest.mark.parametrize("url", ["127.0.0.1:8004", "ftp://127.0.0.1", "http://", ""])
def test_a_url_that_cannot_be_one_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="such as"):
        RequestorClient(url)
