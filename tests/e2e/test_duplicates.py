"""Many callers initiate one order at one moment: one of them gets a stream."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
import requests

from tests.e2e.conftest import Service, eventually, order_body

pytestmark = pytest.mark.e2e

CALLERS = 200


def initiate_at_once(requestor: Service, sessions: Sequence[str]) -> Counter[str]:
    """Initiate the order A1 from one thread for each session at one moment; counts the answers."""
    barrier = threading.Barrier(len(sessions))

    def call(session_id: str) -> str:
        with requests.Session() as client:
            client.get(f"{requestor.url}/livez", timeout=30)  # has the connection ready
            barrier.wait(30)
            answer = client.post(
                f"{requestor.url}/api/v1/orders/initiate", json=order_body("A1", session_id), timeout=30
            )
        return str(answer.json()["message"]) if answer.status_code == 200 else str(answer.status_code)

    with ThreadPoolExecutor(len(sessions)) as pool:
        return Counter(pool.map(call, sessions))


def assert_one_stream(requestor: Service, processor: Service) -> None:
    eventually(lambda: processor.get("/orders")["open_streams"] == 1, what="the stream")
    # One more order through the same trunk: what was sent before it has been handled.
    requestor.post("/orders/initiate", order_body("A2"))
    eventually(lambda: processor.get("/orders")["open_streams"] == 2, what="the other order's stream")
    opened = [line for line in processor.log.splitlines() if "Request type:" in line and "order_req_id=A1" in line]
    assert len(opened) == 1


def test_one_of_many_callers_opens_the_stream(requestor: Service, processor: Service) -> None:
    answers = initiate_at_once(requestor, ["s1"] * CALLERS)
    assert answers == {"Order initiated successfully": 1, "Order already being processed": CALLERS - 1}
    assert_one_stream(requestor, processor)
    status = requestor.get("/orders/tracking/status")
    assert status["duplicates_refused"] == CALLERS - 1
    assert status["total_orders"] == 2


def test_callers_of_another_session_are_refused(requestor: Service, processor: Service) -> None:
    answers = initiate_at_once(requestor, ["s1", "s2"] * (CALLERS // 2))
    assert answers == {
        "Order initiated successfully": 1,
        "Order already being processed": CALLERS // 2 - 1,
        "409": CALLERS // 2,
    }
    assert_one_stream(requestor, processor)
