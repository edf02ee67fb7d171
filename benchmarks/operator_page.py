"""``python -m benchmarks.operator_page``: what the operator page costs with many orders.

Both services run as shipped, on loopback, with that many live orders, each of which has a delivery. Measured are the
first view of a page, with all that it loads; each poll, when its answer is built anew and when nothing has changed; and
the CPU time that many open pages cost, as a share of one core, with a store at rest and with one that keeps changing.
With ``--browser`` the first view is also taken in the system's Chromium, which needs Playwright.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from benchmarks.calls import Address, Call, Client, wait_until
from benchmarks.contender import SESSION
from benchmarks.faults import BenchFault
from benchmarks.ours import Ours
from benchmarks.paths import DATA
from benchmarks.processes import Process
from benchmarks.summary import percentile

FILES = [
    "console.css",
    *(f"{name}.js" for name in ("console", "dom", "polls", "charts", "tables", "timeline", "forms")),
]
ORDERS = "/console/data/orders?"
#: What a page shows first, beside the page itself.
FIRST = (*(f"/console/static/{name}" for name in (*FILES, "icon.svg")), ORDERS)
POLLS = {
    "requestor": (ORDERS, f"{ORDERS}state=live", f"{ORDERS}prefix=order-77", "/console/data/order?id=order-77"),
    "processor": (
        ORDERS,
        f"{ORDERS}prefix=order-77",
        "/console/data/order?id=order-77",
        "/console/data/deliveries",
    ),
}
#: How often an open page polls.
POLL_S = 2.0
#: Longer than an answer is taken for the present state.
STALE_S = 1.1
ROUNDS = 15
#: Goals: the first view, a poll, and all open pages together as a share of a core.
FIRST_VIEW_MS, POLL_MS, PAGES_SHARE = 1000.0, 50.0, 0.05


class Answer(NamedTuple):
    """What one GET was answered, and how long that took."""

    status: int
    etag: str
    body: bytes
    took_ms: float


class Browser:
    """One kept connection, with ETags."""

    def __init__(self, address: Address) -> None:
        self._connection = http.client.HTTPConnection(*address, timeout=30)

    def get(self, path: str, etag: str = "") -> Answer:
        """GET a path; what was answered before is named by its ETag."""
        began_s = time.perf_counter()
        self._connection.request("GET", path, headers={"If-None-Match": etag} if etag else {})
        answer = self._connection.getresponse()
        body = answer.read()
        took_ms = (time.perf_counter() - began_s) * 1000
        if answer.status not in (200, 304):
            raise BenchFault(f"{path} answered {answer.status}: {body[:200]!r}")
        return Answer(answer.status, answer.headers.get("ETag", ""), body, took_ms)

    def close(self) -> None:
        """Give the connection back."""
        self._connection.close()


def make_orders(ours: Ours, count: int) -> None:
    """Live orders, each with a delivery that waits for its seller to be registered."""
    local = threading.local()

    def initiate(number: int) -> None:
        if not hasattr(local, "client"):
            local.client = Client(ours.front)
        body = {"order_req_id": f"order-{number}", "session_id": f"{SESSION}-{number % 97}"}
        local.client.json(
            Call("/api/v1/orders/initiate", {**body, "notification_type": "email", "audience": ["seller1"]})
        )

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(initiate, range(count)))
    wait_until(lambda: ours.streams_open() == count, "the streams", timeout_s=120, every_s=0.1)


def first_view_ms(address: Address) -> float:
    """The page and all that it loads, one after the other."""
    browser = Browser(address)
    took_ms = sum(browser.get(path).took_ms for path in ("/", *FIRST))
    browser.close()
    return took_ms


def first_view_in_chromium_ms(address: Address) -> float:
    """From the call of the page until its first row is there."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - only this needs it

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        page = browser.new_page()
        page.goto(f"http://{address}/")  # the browser itself is warm then
        began_s = time.perf_counter()
        page.goto(f"http://{address}/?state=live")
        page.wait_for_selector("tbody tr")
        took_ms = (time.perf_counter() - began_s) * 1000
        browser.close()
    return took_ms


def poll_times(address: Address, paths: Sequence[str]) -> Iterator[tuple[str, list[Answer], list[Answer]]]:
    """For each poll its answers when they are built anew, and when the page has them already."""
    browser = Browser(address)
    anew: dict[str, list[Answer]] = {path: [] for path in paths}
    same: dict[str, list[Answer]] = {path: [] for path in paths}
    for _ in range(ROUNDS):
        time.sleep(STALE_S)
        for path in paths:
            anew[path].append(browser.get(path))
            for _ in range(10):
                same[path].append(browser.get(path, anew[path][-1].etag))
    browser.close()
    for path in paths:
        yield path, anew[path], same[path]


def share_of_pages(address: Address, process: Process, pages: int, seconds: float) -> tuple[float, float]:
    """The share of a core that the process takes for that many open pages, and the share of polls answered with 304."""
    browsers = [Browser(address) for _ in range(pages)]
    etags, after_ms = [""] * pages, [0] * pages
    statuses: list[int] = []
    used_s, began_s = 0.0, 0.0
    for turn in range(-pages, int(seconds * pages / POLL_S)):
        if turn == 0:  # every page has been opened
            used_s, began_s = process.cpu_s(), time.perf_counter()
        if turn >= 0:
            time.sleep(max(0.0, began_s + turn * POLL_S / pages - time.perf_counter()))
        page = turn % pages
        answer = browsers[page].get(f"{ORDERS}&after={after_ms[page]}", etags[page])
        statuses.append(answer.status)
        etags[page] = answer.etag
        if answer.status == HTTPStatus.OK:
            after_ms[page] = json.loads(answer.body)["sampled_at_ms"]
    del statuses[:pages]
    share = (process.cpu_s() - used_s) / (time.perf_counter() - began_s)
    for browser in browsers:
        browser.close()
    return share, statuses.count(304) / len(statuses)


def idle_share(process: Process, seconds: float) -> float:
    """The share of a core that the process takes by itself."""
    used_s = process.cpu_s()
    time.sleep(seconds)
    return (process.cpu_s() - used_s) / seconds


@contextmanager
def changing(ours: Ours, per_s: float) -> Iterator[None]:
    """Begin orders at an even pace meanwhile."""
    ending = threading.Event()

    def initiate() -> None:
        client = Client(ours.front)
        for number in itertools.count():
            if ending.wait(1 / per_s):
                client.close()
                return
            body = {"order_req_id": f"late-{number}", "session_id": SESSION, "notification_type": "none"}
            client.json(Call("/api/v1/orders/initiate", body))

    thread = threading.Thread(target=initiate)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join()


class Report:
    """Prints what was measured, and remembers whether every goal was reached."""

    def __init__(self, console: Console) -> None:
        self.is_good = True
        self._table = Table("measured", "value", "goal")
        self._console = console

    def add(self, what: str, value: float, text: str, *, below: float | None = None, goal: str = "") -> None:
        """One line; with a goal that the value must be below."""
        self._table.add_row(what, text, goal)
        self.is_good = self.is_good and (below is None or value < below)

    def show(self) -> None:
        """Print it all."""
        self._console.print(self._table)


def measure(ours: Ours, options: argparse.Namespace, report: Report) -> None:
    """Everything, at both services."""
    for name, address in (("requestor", ours.front), ("processor", ours.back)):
        first_ms = first_view_ms(address)
        report.add(f"{name}: first view", first_ms, f"{first_ms:.0f} ms", below=FIRST_VIEW_MS, goal="< 1000 ms")
        if options.browser:
            first_ms = first_view_in_chromium_ms(address)
            report.add(
                f"{name}: first view in Chromium", first_ms, f"{first_ms:.0f} ms", below=FIRST_VIEW_MS, goal="< 1000 ms"
            )
        for path, anew, same in poll_times(address, POLLS[name]):
            for kind, answers in (("anew", anew), ("unchanged", same)):
                p95_ms = percentile([answer.took_ms for answer in answers], 95)
                middle_ms = percentile([answer.took_ms for answer in answers], 50)
                sent = {200: 0, 304: 0}
                for answer in answers:
                    sent[answer.status] += 1
                text = f"p50 {middle_ms:.2f} ms, p95 {p95_ms:.2f} ms; {sent[304]} of {len(answers)} were 304"
                report.add(f"{name}: {path} {kind}", p95_ms, text, below=POLL_MS, goal="p95 < 50 ms")
        process = ours.processes[name]
        idle = idle_share(process, options.seconds)
        open_share, unchanged = share_of_pages(address, process, options.pages, options.seconds)
        _add_share(report, f"{name}: {options.pages} open pages", open_share, idle, unchanged)
    process = ours.processes["requestor"]
    with changing(ours, options.per_s):
        busy = idle_share(process, options.seconds)
        open_share, unchanged = share_of_pages(ours.front, process, options.pages, options.seconds)
    _add_share(
        report, f"requestor: {options.pages} open pages, {options.per_s:g} orders a second", open_share, busy, unchanged
    )


def _add_share(report: Report, what: str, share: float, without: float, unchanged: float) -> None:
    more = share - without
    text = f"{more:.1%} of a core ({share:.1%}, without pages {without:.1%}); {unchanged:.0%} were 304"
    report.add(what, more, text, below=PAGES_SHARE, goal="< 5 %")


def run(options: argparse.Namespace, folder: Path, say: Callable[[str], None]) -> Report:
    """Start the services, make the orders, measure, stop."""
    report = Report(Console(width=150))
    ours = Ours()
    try:
        ours.start(folder)
        say(f"making {options.orders} orders")
        make_orders(ours, options.orders)
        say("measuring")
        measure(ours, options, report)
    finally:
        ours.stop()
    return report


def main() -> int:
    """Measure and print; the exit status says whether every goal is reached."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.operator_page", description=__doc__)
    parser.add_argument("--orders", type=int, default=10_000)
    parser.add_argument("--pages", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--per-s", type=float, default=5.0, help="orders in a second while the store changes")
    parser.add_argument("--browser", action="store_true", help="take the first view in Chromium, too")
    options = parser.parse_args()
    folder = DATA / f"operator-page-{time.time_ns():x}"
    folder.mkdir(parents=True)
    try:
        report = run(options, folder, lambda text: print(text, flush=True))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    report.show()
    return 0 if report.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
