"""Rates over HTTP, and one budget for two instances over a real Redis."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests

from requestor_app.bootstrap import Requestor, build_requestor
from requestor_app.settings import RequestorSettings
from service_kit.access.keys import make_key
from service_kit.access.model import Scope
from service_kit.rates import BURST_S, RateLimit
from service_kit.storage.opening import budget_of, open_store
from tests.redis_servers import RedisServer

Start = Callable[..., Requestor]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    made: list[Requestor] = []

    def build(**settings: object) -> Requestor:
        settings.setdefault("store", f"sqlite:///{tmp_path / 'requestor.db'}")
        parts = build_requestor(RequestorSettings(port=0, processors=("127.0.0.1:1",), **settings))  # type: ignore[arg-type]
        parts.lifecycle.start()
        made.append(parts)
        return parts

    yield build
    for parts in made:
        parts.lifecycle.stop()


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "redis", "--appendonly", "yes")
    server.start()
    yield server
    server.kill()


def statuses(parts: Requestor, path: str, tries: int, **headers: str) -> list[requests.Response]:
    with requests.Session() as http:
        http.trust_env = False
        url = f"http://127.0.0.1:{parts.web.port}{path}"
        return [http.get(url, headers=headers, timeout=10) for _ in range(tries)]


def test_an_address_that_asks_too_often_is_told_when_to_come_back(start: Start) -> None:
    parts = start(address_rate=5)
    answers = statuses(parts, "/api/v1/health", 14)
    assert [answer.status_code for answer in answers[:10]] == [200] * 10
    refused = [answer for answer in answers if answer.status_code == 429]
    assert len(refused) >= 2
    for answer in refused:
        assert answer.json()["type"].endswith(":rate_exceeded")
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert int(answer.headers["Retry-After"]) >= 1
        assert answer.json()["request_id"] == answer.headers["X-Request-ID"]
    assert statuses(parts, "/livez", 1)[0].status_code == 200
    time.sleep(1.1)
    answers = statuses(parts, "/metrics", 1)
    assert 'requestor_requests_limited_total{by="address"}' in answers[0].text


def test_keys_have_rates_of_their_own_and_bad_keys_are_dear(start: Start) -> None:
    parts = start(require_keys=True, key_rate=5, address_rate=100)
    store = parts.app.extensions["access_store"]
    tokens = []
    for name in ("one", "two"):
        made = make_key([Scope.ORDERS_READ], tenant="acme", name=name)
        store.add(made.key)
        tokens.append(f"Bearer {made.token}")
    time.sleep(1.2)
    path = "/api/v1/orders/tracking/status"
    counts = [
        [answer.status_code for answer in statuses(parts, path, 12, Authorization=token)].count(200) for token in tokens
    ]
    assert all(10 <= count <= 11 for count in counts), counts
    begun_s = time.monotonic()
    bad = [answer.status_code for answer in statuses(parts, path, 14, Authorization="Bearer oc_no_key")]
    # 200 at once for the address, of which 24 are spent, and each of these costs 21.
    assert 7 <= bad.count(401) <= 12 + (time.monotonic() - begun_s) * 100 / 21
    assert set(bad) == {401, 429}


def test_two_instances_admit_together_what_one_may(redis_server: RedisServer) -> None:
    stores = [open_store(redis_server.url, base_folder=Path(), prefix="rates") for _ in range(2)]
    try:
        for store in stores:
            store.start()
        per_s, seconds = 200, 2.0
        limits = [RateLimit("key", per_s, shared=budget_of(store)) for store in stores]
        admitted, lock = [0], threading.Lock()
        begun_s = time.monotonic()

        def spend(limit: RateLimit) -> None:
            count = 0
            while time.monotonic() < begun_s + seconds:
                count += not limit.spend("k1")
                time.sleep(0.0005)
            with lock:
                admitted[0] += count

        threads = [threading.Thread(target=spend, args=(limit,)) for limit in limits for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        took_s = time.monotonic() - begun_s
        assert 0.5 * per_s * (seconds + BURST_S) <= admitted[0] <= per_s * (took_s + BURST_S) + 1
    finally:
        for store in stores:
            store.stop()
