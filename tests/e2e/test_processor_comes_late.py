"""Orders outlive what happens to the processes: they wait for a processor, and their streams open by themselves."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.e2e.conftest import (
    Service,
    Services,
    eventually,
    kinds_at,
    note_body,
    order_body,
    stream_state,
    wait_for_stream,
    wait_until_relayed,
)

pytestmark = pytest.mark.e2e


def end_in_order(service: Service) -> None:
    assert service.stop() == 0


def kill(service: Service) -> None:
    service.kill()


BOTH_ENDS = pytest.mark.parametrize("end", [end_in_order, kill])


def wait_for_an_error(requestor: Service, order_req_id: str) -> str:
    """Wait until the order is connecting and says why; answers the reason."""
    stream = eventually(
        lambda: (
            (found := requestor.get(f"/orders/{order_req_id}")["stream"])["state"] == "connecting"
            and found["last_error"]
            and found
        ),
        what="the reason for connecting",
    )
    return str(stream["last_error"])


def test_an_order_waits_for_its_processor_and_says_why(services: Services) -> None:
    requestor, processor = services.requestor(), services.processor()
    requestor.start()
    answer = requestor.post("/orders/initiate", order_body("A1"))
    assert answer["message"] == "Order initiated successfully"
    assert f"127.0.0.1:{services.grpc_port}" in wait_for_an_error(requestor, "A1")
    assert requestor.get("/orders/tracking/A1")["is_stream_active"]

    processor.start()
    wait_for_stream(requestor, "A1")
    assert requestor.get("/orders/A1")["stream"]["last_error"] is None
    assert processor.get("/orders/A1")["is_stream_open"]


def test_what_was_accepted_without_a_processor_arrives(services: Services) -> None:
    requestor, processor = services.requestor(), services.processor()
    requestor.start()
    requestor.post("/orders/initiate", order_body("A1"))
    for number in range(3):
        requestor.post("/orders/followup", note_body("A1", f"n{number}"))
    assert requestor.post("/orders/A1/complete")["state"] == "closing"
    assert requestor.get("/orders/A1")["unsent_count"] == 4

    processor.start()
    eventually(lambda: requestor.get("/orders/A1")["state"] == "completed", what="the completion")
    # Each in its turn, the completion behind the notes that were taken before it.
    assert kinds_at(processor, "A1") == ["accepted", *["follow_up_accepted"] * 3, "completed"]
    order = requestor.get("/orders/A1")
    assert order["unsent_count"] == 0
    assert order["stream"]["state"] == "closed"
    assert {note["relay_state"] for note in order["notes"]} == {"relayed"}


@BOTH_ENDS
def test_streams_open_again_when_the_processor_is_back(
    requestor: Service, processor: Service, end: Callable[[Service], None]
) -> None:
    for number in range(20):
        requestor.post("/orders/initiate", order_body(f"A{number}"))
    wait_for_stream(requestor, "A19")
    end(processor)
    assert wait_for_an_error(requestor, "A0")
    for number in range(20):
        requestor.post("/orders/followup", note_body(f"A{number}", "n1"))
    requestor.post("/orders/A19/complete")

    processor.start()
    eventually(lambda: processor.get("/orders")["open_streams"] == 19, what="the streams")
    eventually(lambda: requestor.get("/orders/A19")["state"] == "completed", what="the completion")
    for number in range(19):
        wait_for_stream(requestor, f"A{number}")
        wait_until_relayed(requestor, f"A{number}")
        assert kinds_at(processor, f"A{number}") == ["accepted", "follow_up_accepted"]


@BOTH_ENDS
def test_a_requestor_that_is_back_opens_its_orders_and_has_lost_nothing(
    requestor: Service, processor: Service, end: Callable[[Service], None]
) -> None:
    for number in range(20):
        requestor.post("/orders/initiate", order_body(f"A{number}"))
        requestor.post("/orders/followup", note_body(f"A{number}", "n1"))
    before = requestor.get("/orders/A0")
    end(requestor)
    eventually(lambda: processor.get("/orders")["open_streams"] == 0, what="the streams' end")

    requestor.start()
    eventually(lambda: processor.get("/orders")["open_streams"] == 20, what="the streams")
    assert requestor.get("/orders/tracking/status")["total_orders"] == 20
    for number in range(20):
        key = f"A{number}"
        wait_for_stream(requestor, key)
        wait_until_relayed(requestor, key)
        assert [note["follow_up_id"] for note in requestor.get(f"/orders/{key}")["notes"]] == ["n1"]
        assert kinds_at(processor, key) == ["accepted", "follow_up_accepted"]
    after = requestor.get("/orders/A0")
    assert after["token"] > before["token"]
    assert after["run"] == before["run"]
    assert requestor.post("/orders/initiate", order_body("A0"))["message"] == "Order already being processed"


def test_both_may_be_killed_at_once(requestor: Service, processor: Service) -> None:
    for number in range(5):
        requestor.post("/orders/initiate", order_body(f"A{number}"))
        requestor.post("/orders/followup", note_body(f"A{number}", "n1"))
    requestor.kill()
    processor.kill()
    requestor.start()
    assert stream_state(requestor, "A0") == "connecting"
    processor.start()
    for number in range(5):
        wait_for_stream(requestor, f"A{number}")
        wait_until_relayed(requestor, f"A{number}")
        assert kinds_at(processor, f"A{number}") == ["accepted", "follow_up_accepted"]
