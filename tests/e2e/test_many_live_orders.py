"""Thousands of live orders cost neither threads nor much memory, and leave nothing behind when they end."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import requests

from tests.e2e.conftest import Service, eventually, order_body

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.timeout(300),
    pytest.mark.skipif(sys.platform != "linux", reason="counts threads and memory by /proc, which only Linux has"),
]

WARM_UP = 500
ORDERS = 5_000
CLIENTS = 8
MOST_THREADS = 40
MOST_BYTES_PER_ORDER = 8 * 1024


def threads_of(service: Service) -> int:
    return len(list(Path(f"/proc/{service.process.pid}/task").iterdir()))


def memory_of(*services: Service) -> int:
    """The bytes that the processes have in memory."""
    pages = sum(int(Path(f"/proc/{s.process.pid}/statm").read_text(encoding="ascii").split()[1]) for s in services)
    return pages * os.sysconf("SC_PAGE_SIZE")


def for_each(keys: list[str], call: Callable[[requests.Session, str], requests.Response]) -> None:
    """Call for every key from a few clients at once; every answer must be 200."""

    def run(own: list[str]) -> None:
        with requests.Session() as client:
            for key in own:
                answer = call(client, key)
                assert answer.status_code == 200, answer.text

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(run, [keys[start::CLIENTS] for start in range(CLIENTS)]))


def test_five_thousand_live_orders(requestor: Service, processor: Service) -> None:
    orders_url = f"{requestor.url}/api/v1/orders"

    def initiate(keys: list[str]) -> None:
        for_each(keys, lambda client, key: client.post(f"{orders_url}/initiate", json=order_body(key), timeout=30))

    def complete(keys: list[str]) -> None:
        for_each(keys, lambda client, key: client.post(f"{orders_url}/{key}/complete", timeout=30))

    def wait_for_streams(count: int) -> None:
        eventually(lambda: processor.get("/orders?limit=1")["open_streams"] == count, timeout_s=60, what="the streams")
        eventually(
            lambda: requestor.get("/orders/tracking/status?limit=1")["open_streams"] == count,
            timeout_s=60,
            what="the streams at the requestor",
        )

    first, keys = [f"W{number}" for number in range(WARM_UP)], [f"A{number}" for number in range(ORDERS)]
    initiate(first)
    wait_for_streams(WARM_UP)
    threads = {service.name: threads_of(service) for service in (requestor, processor)}
    memory = memory_of(requestor, processor)

    initiate(keys)
    wait_for_streams(WARM_UP + ORDERS)
    for service in (requestor, processor):
        assert threads_of(service) <= MOST_THREADS
    bytes_per_order = (memory_of(requestor, processor) - memory) / ORDERS
    print(
        f"threads: {threads_of(requestor)} requestor, {threads_of(processor)} processor; "
        f"{bytes_per_order / 1024:.1f} KB per order"
    )
    assert bytes_per_order <= MOST_BYTES_PER_ORDER

    complete(first + keys)
    wait_for_streams(0)
    status = requestor.get("/orders/tracking/status?limit=1")
    assert status["active_streams"] == 0
    assert status["states"] == {"completed": WARM_UP + ORDERS}
    for service in (requestor, processor):
        # The pool of the gRPC server makes one thread more when the probe calls while a trunk is up.
        assert threads_of(service) <= threads[service.name] + 1
        assert " ERROR " not in service.log
