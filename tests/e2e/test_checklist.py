"""The checklist for a deployment: its eight tests with their bodies, answers and log lines, and what follows them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pytest
import requests

from tests.e2e.conftest import Service, eventually

pytestmark = pytest.mark.e2e

INITIATE: dict[str, Any] = {
    "order_req_id": "TEST001",
    "session_id": "sess_test_001",
    "notification_type": "email",
}
FOLLOW_UP: dict[str, Any] = {
    "order_req_id": "TEST001",
    "audience": ["seller1", "seller2"],
    "message": {"urls": [], "message_type": "text", "message": "Please expedite this order"},
}
REQUEST_TYPE = re.compile(r"Request type: <class '(?:\w+\.)?order_service_pb2\.OrderStreamRequest'>")


def assert_shows(answer: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Every expected key stands there with its value; more keys may stand beside them."""
    assert {key: answer.get(key) for key in expected} == expected


def opened_streams(processor: Service) -> int:
    return len(REQUEST_TYPE.findall(processor.log))


def test_the_checklist_passes_from_its_first_test_to_its_last(requestor: Service, processor: Service) -> None:
    # Test 1: health check
    for service in (requestor, processor):
        answer = requests.get(f"{service.url}/api/v1/health", timeout=10)
        assert answer.status_code == 200
        assert answer.json() == {"status": "healthy"}

    # Test 2: tracking status (initial)
    status = requestor.get("/orders/tracking/status")
    assert_shows(status, {"total_orders": 0, "active_streams": 0, "tracked_order_ids": []})

    # Test 3: initiate order
    initiated = {"success": True, "order_req_id": "TEST001", "session_id": "sess_test_001"}
    answer = requestor.post("/orders/initiate", INITIATE)
    assert_shows(answer, {**initiated, "message": "Order initiated successfully"})
    assert "Added order TEST001 to tracking list" in requestor.log
    assert "Marked gRPC stream as active for order TEST001" in requestor.log
    eventually(lambda: opened_streams(processor) == 1, what="the stream at the processor")

    # Test 4: verify tracking updated
    status = requestor.get("/orders/tracking/status")
    assert_shows(status, {"total_orders": 1, "active_streams": 1, "tracked_order_ids": ["TEST001"]})

    # Test 5: get order details
    tracked = {"order_req_id": "TEST001", "session": "sess_test_001", "is_stream_active": True}
    assert_shows(requestor.get("/orders/tracking/TEST001"), {**tracked, "notes_count": 0, "notes": []})

    # Test 6: duplicate prevention
    answer = requestor.post("/orders/initiate", INITIATE)
    assert_shows(answer, {**initiated, "message": "Order already being processed"})
    assert "Order TEST001 already has active gRPC stream. Preventing duplicate stream." in requestor.log

    # Test 7: add follow-up
    answer = requestor.post("/orders/followup", FOLLOW_UP)
    expected = {"success": True, "message": "Follow-up processed successfully", "order_req_id": "TEST001"}
    assert_shows(answer, expected)
    assert "Added follow-up note to order tracking for TEST001" in requestor.log

    # Test 8: verify notes added
    order = requestor.get("/orders/tracking/TEST001")
    assert_shows(order, {**tracked, "notes_count": 1})
    (note,) = order["notes"]
    assert_shows(note, {"audience": ["seller1", "seller2"], "message_type": "text"})
    assert note["follow_up_id"] == answer["follow_up_id"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", note["added_time"])

    # Verification criteria 6 and 7: the right type of request, once for the one stream
    eventually(lambda: processor.get("/orders/TEST001")["notes_count"] == 1, what="the note at the processor")
    assert opened_streams(processor) == 1
    assert processor.log.count("Request type:") == 1
    for wrong in ("bytes", "_MessageReceiver"):
        assert wrong not in processor.log
    for service in (requestor, processor):
        assert service.complaints == []
        assert " ERROR " not in service.log


def test_the_processor_says_where_it_listens(processor: Service) -> None:
    assert f"gRPC Server started on port {processor.settings['PROCESSOR_GRPC_PORT']}" in processor.log
    assert f"Listening on {processor.url}" in processor.log


def test_a_completed_order_ends_its_stream_and_may_be_initiated_again(requestor: Service, processor: Service) -> None:
    requestor.post("/orders/initiate", INITIATE)
    eventually(lambda: processor.get("/orders")["open_streams"] == 1, what="the stream")

    requestor.post("/orders/TEST001/complete")
    eventually(lambda: not requestor.get("/orders/tracking/TEST001")["is_stream_active"], what="the stream's end")
    assert "Marked gRPC stream as inactive for order TEST001" in requestor.log
    assert_shows(requestor.get("/orders/tracking/status"), {"total_orders": 1, "active_streams": 0, "open_streams": 0})
    eventually(lambda: processor.get("/orders")["open_streams"] == 0, what="the stream's end at the processor")
    assert processor.get("/orders/TEST001")["state"] == "completed"

    answer = requestor.post("/orders/initiate", INITIATE)
    assert answer["message"] == "Order initiated successfully"
    eventually(lambda: opened_streams(processor) == 2, what="the second stream")
    assert_shows(requestor.get("/orders/tracking/status"), {"total_orders": 1, "active_streams": 1})
    eventually(lambda: processor.get("/orders/TEST001")["is_stream_open"], what="the stream of the second run")
