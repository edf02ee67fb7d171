"""How long reads of the tracking take while thousands of orders are live."""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import requests

from tests.e2e.conftest import Service, Services, eventually, order_body

HELP = "latency of tracking/{id} and tracking/status with many live orders"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the benchmark's options."""
    parser.add_argument("--orders", type=_positive, default=5_000, help="how many orders are live (default: 5000)")
    parser.add_argument("--clients", type=_positive, default=8, help="how many clients read at once (default: 8)")
    parser.add_argument("--reads", type=_positive, default=8_000, help="how many reads of each kind (default: 8000)")


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def run(options: argparse.Namespace) -> int:
    """Start both services, make the orders, read, and print a table."""
    with tempfile.TemporaryDirectory(prefix="live-reads-") as folder:
        services = Services(Path(folder))
        try:
            _measure(services, options.orders, options.clients, options.reads)
        finally:
            services.kill_all()
    return 0


def _measure(services: Services, orders: int, clients: int, reads: int) -> None:
    processor, requestor = services.processor(), services.requestor()
    processor.start()
    requestor.start()
    base = f"{requestor.url}/api/v1/orders"
    keys = [f"A{number}" for number in range(orders)]

    began = time.perf_counter()
    initiated = _timed(
        clients, keys, lambda client, key: client.post(f"{base}/initiate", json=order_body(key), timeout=30)
    )
    took_s = time.perf_counter() - began
    eventually(lambda: _open_streams(processor) == orders, timeout_s=120, what="the streams")
    print(f"{orders} live orders, {clients} clients; {orders / took_s:,.0f} initiates/s\n")

    wanted = random.choices(keys, k=reads)
    rows = {
        "POST initiate": initiated,
        "GET tracking/{id}": _timed(
            clients, wanted, lambda client, key: client.get(f"{base}/tracking/{key}", timeout=30)
        ),
        "GET tracking/status": _timed(
            clients, wanted, lambda client, _: client.get(f"{base}/tracking/status", timeout=30)
        ),
        "GET tracking/status?limit=1": _timed(
            clients, wanted, lambda client, _: client.get(f"{base}/tracking/status?limit=1", timeout=30)
        ),
    }
    print(f"{'':28} {'requests':>9} {'p50 ms':>9} {'p99 ms':>9} {'max ms':>9}")
    for name, times in rows.items():
        print(f"{name:28} {len(times):9} {_percentile(times, 50):9.2f} {_percentile(times, 99):9.2f} {max(times):9.2f}")
    for service in (requestor, processor):
        with suppress(Exception):
            service.stop()


def _open_streams(processor: Service) -> int:
    count: int = processor.get("/orders?limit=1")["open_streams"]
    return count


def _timed(
    clients: int, keys: Sequence[str], call: Callable[[requests.Session, str], requests.Response]
) -> list[float]:
    """Call for every key from the clients at once; the time of each call in ms."""

    def work(own: Sequence[str]) -> list[float]:
        times = []
        with requests.Session() as client:
            for key in own:
                began = time.perf_counter()
                answer = call(client, key)
                times.append((time.perf_counter() - began) * 1000)
                answer.raise_for_status()
        return times

    with ThreadPoolExecutor(clients) as pool:
        parts = pool.map(work, [keys[start::clients] for start in range(clients)])
    return [ms for part in parts for ms in part]


def _percentile(times: Sequence[float], percent: int) -> float:
    if len(times) < 2:
        return times[0]
    return statistics.quantiles(times, n=100, method="inclusive")[percent - 1]
