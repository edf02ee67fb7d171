"""The limit of live orders, as a buyer hears of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from requestor_app.bootstrap import Requestor, build_requestor
from requestor_app.settings import RequestorSettings
from service_kit.change import DEFAULT_TENANT, Ref
from tests.described import DescribedClient

BASE = "/api/v1/orders"


@pytest.fixture(params=[{"max_live_orders": 3}, {"max_live_orders": 0, "max_live_orders_per_tenant": 3}], ids=str)
def requestor(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Requestor]:
    settings = RequestorSettings(
        store=f"sqlite:///{tmp_path / 'requestor.db'}", port=0, processors=("127.0.0.1:1",), **request.param
    )
    parts = build_requestor(settings)
    parts.app.test_client_class = DescribedClient
    parts.lifecycle.start()
    yield parts
    parts.lifecycle.stop()


def initiate(client: FlaskClient, key: str) -> tuple[int, str, str]:
    body = {"order_req_id": key, "session_id": "s1", "notification_type": "none", "audience": []}
    answer = client.post(f"{BASE}/initiate", json=body)
    document = answer.get_json()
    said = document.get("message") or document["type"].rpartition(":")[2]
    return answer.status_code, said, answer.headers.get("Retry-After", "")


def test_above_the_limit_a_new_order_is_refused_and_a_live_one_is_not(requestor: Requestor) -> None:
    client = requestor.app.test_client()
    for key in ("A1", "A2", "A3"):
        assert initiate(client, key)[:2] == (200, "Order initiated successfully")
    assert initiate(client, "A4") == (503, "too_many_live_orders", "5")
    assert initiate(client, "A1")[:2] == (200, "Order already being processed")
    requestor.tracking.stop(Ref(DEFAULT_TENANT, "A1"), 1)  # as if another instance held it
    assert initiate(client, "A1")[:2] == (200, "Order already being processed")
    assert client.get(f"{BASE}/A4").status_code == 404
    assert client.get(f"{BASE}/tracking/status").get_json()["total_orders"] == 3
    assert len(requestor.tracking) <= 3
