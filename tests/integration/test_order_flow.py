from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import takewhile
from pathlib import Path
from typing import Any

import pytest
import requests

from processor_app.bootstrap import Processor, build_processor
from processor_app.domain import Close, OrderState
from processor_app.settings import ProcessorSettings
from requestor_app.bootstrap import Requestor, build_requestor
from requestor_app.domain import Acknowledgement, Event, Outcome
from requestor_app.link import Link
from requestor_app.settings import RequestorSettings
from requestor_app.tracking import StreamState
from requestor_app.traffic import Incoming, Opened, Outgoing
from service_kit.change import Ref
from service_kit.storage.sqlite import SqliteStore
from tests.conftest import Pair

REF = Ref("default", "A1")


@pytest.fixture
def http() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


class Flow:
    """Both sides' REST interfaces, as a buyer and a seller call them."""

    def __init__(self, pair: Pair, http: requests.Session) -> None:
        self._pair = pair
        self._http = http

    def _call(self, method: str, url: str, body: Any, status: int) -> dict[str, Any]:
        answer = self._http.request(method, url, json=body, timeout=20)
        assert answer.status_code == status, answer.text
        return answer.json()

    def buyer(self, method: str, path: str, body: Any = None, *, status: int = 200) -> dict[str, Any]:
        return self._call(method, f"{self._pair.requestor_url}/orders{path}", body, status)

    def seller(self, method: str, path: str, body: Any = None, *, status: int = 200) -> dict[str, Any]:
        return self._call(method, f"{self._pair.processor_url}/orders{path}", body, status)

    def initiate(self, key: str = "A1") -> dict[str, Any]:
        body = {"order_req_id": key, "session_id": "s1", "notification_type": "none", "audience": ["seller1"]}
        return self.buyer("POST", "/initiate", body)

    def opened(self, key: str = "A1") -> None:
        self.initiate(key)
        self.wait(lambda: self.order(key)["stream"]["state"] == "open")

    def follow_up(self, follow_up_id: str = "n1", key: str = "A1", *, status: int = 200) -> dict[str, Any]:
        note = {"message": "hello", "urls": ["https://a.example/x"]}
        body = {"order_req_id": key, "follow_up_id": follow_up_id, "audience": ["seller1"], "message": note}
        return self.buyer("POST", "/followup", body, status=status)

    def order(self, key: str = "A1") -> dict[str, Any]:
        return self.buyer("GET", f"/{key}")

    def kinds(self, key: str = "A1") -> list[str]:
        return [event["kind"] for event in self.buyer("GET", f"/{key}/events?limit=1000")["events"]]

    def wait_for_state(self, state: str, key: str = "A1") -> None:
        self.wait(lambda: self.order(key)["state"] == state)

    @staticmethod
    def wait(holds: Callable[[], bool], timeout_s: float = 15) -> None:
        deadline = time.monotonic() + timeout_s
        while not holds():
            assert time.monotonic() < deadline, "it did not come to hold in time"
            time.sleep(0.02)


@pytest.fixture
def flow(running_pair: Pair, http: requests.Session) -> Flow:
    return Flow(running_pair, http)


def test_an_order_opens_one_stream(flow: Flow, running_pair: Pair) -> None:
    flow.opened()
    assert flow.initiate()["message"] == "Order already being processed"
    status = flow.buyer("GET", "/tracking/status")
    assert (status["total_orders"], status["active_streams"], status["open_streams"]) == (1, 1, 1)
    assert flow.seller("GET", "/A1")["is_stream_open"] is True
    assert running_pair.processor.hub.stream_count == 1
    flow.wait(lambda: flow.kinds() == ["initiated", "accepted"])


def test_a_follow_up_is_relayed_and_shown_on_both_sides(flow: Flow) -> None:
    flow.opened()
    flow.follow_up()
    flow.follow_up()
    flow.wait(lambda: flow.order()["notes"][0]["relay_state"] == "relayed")
    assert flow.order()["unsent_count"] == 0
    events = flow.seller("GET", "/A1/events")["events"]
    assert [event["kind"] for event in events] == ["accepted", "follow_up_accepted"]
    assert events[1]["data"]["message"] == "hello"
    flow.wait(lambda: flow.kinds() == ["initiated", "accepted", "note_added", "follow_up_accepted"])


def test_the_buyer_sees_what_becomes_of_each_note_for_each_seller(flow: Flow, running_pair: Pair) -> None:
    body = {"order_req_id": "A1", "session_id": "s1", "notification_type": "email", "audience": ["seller1"]}
    flow.buyer("POST", "/initiate", body)
    flow.follow_up()
    flow.wait(lambda: len(flow.order()["deliveries"]) == 2)
    of_order, of_note = flow.order()["deliveries"]
    assert (of_order["follow_up_id"], of_note["follow_up_id"]) == ("", "n1")
    assert [(d["seller_id"], d["channel"], d["state"], d["attempts"]) for d in (of_order, of_note)] == [
        ("seller1", "email", "waiting", 0)
    ] * 2

    url = f"{running_pair.processor_url}/sellers/seller1"
    flow._call("PUT", url, {"email": "one@example.com"}, 200)
    flow.wait(lambda: {d["state"] for d in flow.order()["deliveries"]} == {"delivered"})
    after = flow.order()["deliveries"]
    assert [d["delivery_id"] for d in after] == [of_order["delivery_id"], of_note["delivery_id"]]
    assert all(d["attempts"] == 1 and d["changed_at"] > d["created_at"] for d in after)
    at_processor = flow._call("GET", f"{running_pair.processor_url}/deliveries?order_req_id=A1", None, 200)
    assert {d["delivery_id"] for d in at_processor["deliveries"]} == {d["delivery_id"] for d in after}
    # Whatever travels, the buyer's timeline is the processor's log.
    theirs = flow.seller("GET", "/A1/events?limit=1000")["events"]
    ours = [event for event in flow.buyer("GET", "/A1/events?limit=1000")["events"] if event["processor_seq"]]
    assert [event["processor_seq"] for event in ours] == [event["seq"] for event in theirs]


def test_a_sellers_reply_shows_in_the_buyers_timeline(flow: Flow) -> None:
    flow.opened()
    flow.seller("POST", "/A1/replies", {"seller_id": "seller1", "answer": "accepted", "message": "gladly"})
    flow.wait(lambda: "seller_replied" in flow.kinds())
    event = flow.buyer("GET", "/A1/events")["events"][-1]
    assert (event["origin"], event["processor_seq"]) == ("processor", 2)
    assert (event["data"]["seller_id"], event["data"]["answer"], event["data"]["message"]) == (
        "seller1",
        "accepted",
        "gladly",
    )


@pytest.mark.parametrize(
    ("action", "state"), [("complete", "completed"), ("cancel", "cancelled")], ids=["complete", "cancel"]
)
def test_the_buyer_closes_an_order(flow: Flow, running_pair: Pair, action: str, state: str) -> None:
    flow.opened()
    flow.follow_up()
    flow.buyer("POST", f"/A1/{action}", {"reason": "enough"})
    flow.wait_for_state(state)
    order = flow.order()
    assert (order["stream"]["state"], order["allowed_actions"], order["owner"]) == ("closed", ["initiate"], None)
    assert flow.seller("GET", "/A1")["state"] == state
    # The follow-up was taken before the close, so the processor has it.
    assert order["notes"][0]["relay_state"] == "relayed"
    assert flow.buyer("POST", f"/A1/{action}")["state"] == state
    flow.wait(lambda: running_pair.processor.hub.stream_count == 0)
    flow.wait(lambda: len(running_pair.requestor.tracking) == 0)
    assert flow.buyer("GET", "/tracking/status")["active_streams"] == 0


def test_the_seller_completes_an_order(flow: Flow, running_pair: Pair) -> None:
    flow.opened()
    flow.seller("POST", "/A1/complete", {"reason": "sold"})
    flow.wait_for_state("completed")
    event = flow.buyer("GET", "/A1/events")["events"][-1]
    assert (event["kind"], event["data"]) == ("completed", {"by": "seller", "reason": "sold"})
    problem = flow.follow_up(status=409)
    assert problem["allowed_actions"] == ["initiate"]
    assert flow.buyer("GET", "/tracking/A1")["is_stream_active"] is False
    flow.wait(lambda: running_pair.processor.hub.stream_count == 0)


def test_a_completed_order_begins_a_new_run_with_a_higher_token(flow: Flow) -> None:
    flow.opened()
    flow.seller("POST", "/A1/complete")
    flow.wait_for_state("completed")
    first = flow.order()
    assert flow.initiate()["message"] == "Order initiated successfully"
    flow.wait(lambda: flow.order()["stream"]["state"] == "open")
    second = flow.order()
    assert second["token"] > first["token"]
    assert second["run"] == second["token"]
    flow.wait(lambda: flow.kinds() == ["initiated", "accepted", "completed", "initiated", "accepted"])
    assert flow.seller("GET", "/A1")["run"] == second["run"]
    flow.follow_up("n2")
    flow.wait(lambda: flow.order()["unsent_count"] == 0)
    assert flow.seller("GET", "/A1/events")["events"][-1]["data"]["follow_up_id"] == "n2"


def test_every_follow_up_that_meets_a_completion_is_relayed_or_set_aside_with_a_reason(flow: Flow) -> None:
    keys = [f"A{number}" for number in range(10)]
    for key in keys:
        flow.opened(key)
    accepted: list[tuple[str, str]] = []
    barrier = threading.Barrier(2)

    def write(url: str) -> None:
        with requests.Session() as session:
            session.trust_env = False
            for key in keys:
                barrier.wait(20)
                for number in range(5):
                    note = {"order_req_id": key, "follow_up_id": f"n{number}", "audience": ["a"]}
                    body = {**note, "message": {"message": "x"}}
                    answer = session.post(f"{url}/orders/followup", json=body, timeout=20)
                    if answer.status_code == 200:
                        accepted.append((key, f"n{number}"))

    writer = threading.Thread(target=write, args=(flow._pair.requestor_url,), daemon=True)
    writer.start()
    for key in keys:
        barrier.wait(20)
        flow.seller("POST", f"/{key}/complete")
    writer.join(30)
    assert not writer.is_alive()
    for key in keys:
        flow.wait_for_state("completed", key)
        flow.wait(lambda key=key: flow.order(key)["unsent_count"] == 0)  # type: ignore[misc]
        order = flow.order(key)
        theirs = {e["data"].get("follow_up_id") for e in flow.seller("GET", f"/{key}/events")["events"]}
        assert {note["follow_up_id"] for note in order["notes"]} == {n for k, n in accepted if k == key}
        for note in order["notes"]:
            is_there = note["follow_up_id"] in theirs
            assert note["relay_state"] == ("relayed" if is_there else "set_aside")
            assert is_there == (note["last_error"] is None)


def started_requestor(folder: Path, processor: Processor) -> Requestor:
    parts = make_requestor(folder, processor)
    parts.lifecycle.start()
    return parts


def make_requestor(folder: Path, processor: Processor) -> Requestor:
    target = f"127.0.0.1:{processor.grpc_server.port}"
    store = f"sqlite:///{folder / 'requestor.db'}"
    return build_requestor(RequestorSettings(store=store, port=0, processors=(target,)))


def test_a_follow_up_to_an_order_that_the_seller_completed_meanwhile_is_set_aside(
    running_processor: Processor, tmp_path: Path, http: requests.Session
) -> None:
    first = started_requestor(tmp_path, running_processor)
    Flow(Pair(first, running_processor), http).opened()
    first.lifecycle.stop()

    # A requestor without a trunk takes a note, while the seller completes the order.
    cut_off = make_requestor(tmp_path, running_processor)
    cut_off.store.start()
    note = {"order_req_id": "A1", "follow_up_id": "late", "audience": ["seller1"], "message": {"message": "too late"}}
    assert cut_off.app.test_client().post("/api/v1/orders/followup", json=note).status_code == 200
    cut_off.store.stop()
    last = make_requestor(tmp_path, running_processor)
    flow = Flow(Pair(last, running_processor), http)
    flow.seller("POST", "/A1/complete")

    last.lifecycle.start()
    try:
        flow.wait_for_state("completed")
        flow.wait(lambda: flow.order()["notes"][0]["relay_state"] == "set_aside")
        order = flow.order()
        assert (order["notes"][0]["last_error"], order["unsent_count"]) == ("The order is completed.", 0)
        assert order["notes_count"] == 1
    finally:
        last.lifecycle.stop()


def test_a_close_that_waited_does_not_end_the_next_run(
    running_processor: Processor, tmp_path: Path, http: requests.Session
) -> None:
    first = started_requestor(tmp_path, running_processor)
    Flow(Pair(first, running_processor), http).opened()
    first.lifecycle.stop()

    # Without a trunk the buyer's cancel waits. The seller's completion arrives before it, and the buyer begins anew.
    cut_off = make_requestor(tmp_path, running_processor)
    for component in takewhile(lambda each: not each.name.startswith("trunk"), cut_off.lifecycle.components):
        component.start()
    buyer = cut_off.app.test_client()
    assert buyer.post("/api/v1/orders/A1/cancel").get_json()["state"] == "closing"
    running_processor.orders.complete(Close(REF, OrderState.COMPLETED, "seller"))
    end = Event(REF, 2, 1, "completed", 1, {"by": "seller", "reason": ""})
    cut_off.supervisor.links[0].received(Incoming(events=[end]))
    body = {"order_req_id": "A1", "session_id": "s1", "notification_type": "none", "audience": ["seller1"]}
    assert buyer.post("/api/v1/orders/initiate", json=body).get_json()["message"] == "Order initiated successfully"
    cut_off.supervisor.stop(5)
    cut_off.lease.stop(5)
    cut_off.store.stop()

    last = started_requestor(tmp_path, running_processor)
    try:
        flow = Flow(Pair(last, running_processor), http)
        flow.wait(lambda: flow.order()["unsent_count"] == 0)
        order = flow.order()
        assert (order["state"], order["stream"]["state"], order["run"]) == ("live", "open", 3)
        assert [event["kind"] for event in flow.seller("GET", "/A1/events")["events"]] == [
            "accepted",
            "completed",
            "accepted",
        ]
    finally:
        last.lifecycle.stop()


def test_an_unfinished_order_has_its_stream_again_after_a_restart_of_the_requestor(
    running_processor: Processor, tmp_path: Path, http: requests.Session
) -> None:
    first = started_requestor(tmp_path, running_processor)
    Flow(Pair(first, running_processor), http).opened()
    first.lifecycle.stop()
    second = started_requestor(tmp_path, running_processor)
    try:
        flow = Flow(Pair(second, running_processor), http)
        flow.wait(lambda: flow.order()["stream"]["state"] == "open")
        assert flow.order()["token"] == 2
        assert running_processor.hub.stream_count == 1
        flow.follow_up()
        flow.wait(lambda: flow.order()["notes"][0]["relay_state"] == "relayed")
        flow.wait(lambda: flow.kinds() == ["initiated", "accepted", "taken_over", "note_added", "follow_up_accepted"])
    finally:
        second.lifecycle.stop()


def test_orders_taken_while_there_is_no_processor_open_when_it_comes(
    tmp_path: Path, http: requests.Session, requestor: Requestor
) -> None:
    client = requestor.app.test_client()
    body = {"order_req_id": "A1", "session_id": "s1", "notification_type": "none"}
    assert client.post("/api/v1/orders/initiate", json=body).status_code == 200
    requestor.store.stop()
    processor = build_processor(ProcessorSettings(store=f"sqlite:///{tmp_path / 'processor.db'}", port=0, grpc_port=0))
    processor.lifecycle.start()
    try:
        later = started_requestor(tmp_path, processor)
        try:
            flow = Flow(Pair(later, processor), http)
            flow.wait(lambda: flow.order()["stream"]["state"] == "open")
        finally:
            later.lifecycle.stop()
    finally:
        processor.lifecycle.stop()


def test_an_order_that_a_dying_trunk_had_taken_is_opened_by_the_next(
    flow: Flow, running_pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    supervisor, tracking = running_pair.requestor.supervisor, running_pair.requestor.tracking
    lost = threading.Event()

    def lose_the_trunk() -> None:
        """Comes between the moment in which the order is taken and that in which its stream is asked for."""
        if tracking.count(StreamState.CONNECTING) and not lost.is_set():
            for outlet in running_pair.processor.hub.outlets():
                outlet.cut()
            flow.wait(lambda: supervisor.check_processor() is not None)
            lost.set()

    flow.wait(lambda: supervisor.check_processor() is None)
    monkeypatch.setattr("requestor_app.link._TAKEN", lose_the_trunk)
    flow.initiate()
    assert lost.wait(5)
    flow.wait(lambda: flow.order()["stream"]["state"] == "open", timeout_s=5)


def opened_by_hand(requestor: Requestor, *notes: str) -> Link:
    """The link of a requestor whose order A1 is open, by no trunk but the test, and has these notes to relay."""
    link, client = requestor.supervisor.links[0], requestor.app.test_client()
    body = {"order_req_id": "A1", "session_id": "s1", "notification_type": "none", "audience": ["seller1"]}
    link.connected()
    assert client.post("/api/v1/orders/initiate", json=body).status_code == 200
    (opening,) = link.take(0).openings
    accepted = Event(REF, 1, 1, "accepted", 1, {})
    link.received(Incoming(opened=[Opened(REF, opening.stream_id, 1)], events=[accepted]))
    for name in notes:
        note = {"order_req_id": "A1", "follow_up_id": name, "audience": ["seller1"], "message": {"message": "hello"}}
        assert client.post("/api/v1/orders/followup", json=note).status_code == 200
    return link


def names_of(outgoing: Outgoing) -> list[str]:
    return [relay.note.follow_up_id for relay in outgoing.relays]


def test_what_a_trunk_gives_back_is_taken_again(requestor: Requestor) -> None:
    link = opened_by_hand(requestor, "n1")
    taken = link.take(0)
    assert names_of(taken) == ["n1"]
    assert taken.acks == {REF: 1}
    assert not link.take(0).items
    link.give_back(taken)
    again = link.take(0)
    assert (names_of(again), again.acks) == (["n1"], taken.acks)


def test_a_note_that_must_come_again_comes_first_in_a_new_sending(requestor: Requestor) -> None:
    link = opened_by_hand(requestor, "n1", "n2")
    first = link.take(0)
    assert names_of(first) == ["n1", "n2"]
    link.received(Incoming(answers=[Acknowledgement(REF, "note:n1", Outcome.TRY_AGAIN)]))
    requestor.supervisor._look_at_doubtful()
    second = link.take(0)
    assert names_of(second) == ["n1", "n2"]
    assert min(relay.sending for relay in second.relays) > max(relay.sending for relay in first.relays)


def test_a_note_that_cannot_be_read_holds_up_no_other_even_if_it_cannot_be_set_aside_at_once(
    requestor: Requestor, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = opened_by_hand(requestor, "n1", "n2", "n3")
    assert isinstance(requestor.store, SqliteStore)
    with closing(sqlite3.connect(requestor.store.path)) as connection, connection:
        connection.execute("UPDATE outbox SET body = '{}' WHERE message_id = 'note:n2'")
    failures = iter([sqlite3.OperationalError("disk I/O error")])

    def fail_once() -> None:
        for failure in failures:
            raise failure

    monkeypatch.setattr("service_kit.storage.sqlite_writer._BEGINNING", fail_once)
    assert names_of(link.take(0)) == []
    assert names_of(link.take(0)) == ["n1", "n3"]
    assert [message.state for message in requestor.store.messages(REF)] == ["pending", "set_aside", "pending"]


def test_stopping_twice_is_safe_and_the_threads_are_gone(tmp_path: Path, http: requests.Session) -> None:
    before = set(threading.enumerate())
    processor = build_processor(ProcessorSettings(store=f"sqlite:///{tmp_path / 'processor.db'}", port=0, grpc_port=0))
    processor.lifecycle.start()
    requestor = started_requestor(tmp_path, processor)
    Flow(Pair(requestor, processor), http).opened()
    assert len(threading.enumerate()) > len(before)
    for _ in range(2):
        requestor.lifecycle.stop()
        processor.lifecycle.stop()
    assert (requestor.lifecycle.check(), processor.lifecycle.check()) == ("stopped", "stopped")

    def left() -> list[threading.Thread]:
        return [thread for thread in threading.enumerate() if thread not in before]

    deadline = time.monotonic() + 10
    while left() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left() == []
