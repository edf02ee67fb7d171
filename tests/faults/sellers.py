"""Sellers for fault tests: two sinks as processes, and a market of orders whose notes go to them."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import requests

from tests.e2e.conftest import ROOT, STOP_S, Service, eventually, free_port, wait_for_stream
from tests.faults.arena import Arena

EMAIL, WEBHOOK = "email", "webhook"
CHANNELS = (EMAIL, WEBHOOK)
_SINKS = {EMAIL: "smtp", WEBHOOK: "webhook"}


class Sink:
    """A sink in a process of its own. It may be started again: same port, same file."""

    def __init__(self, channel: str, folder: Path, *flags: str) -> None:
        self.channel = channel
        self.port = free_port()
        self._out = folder / f"{channel}.jsonl"
        module = f"tests.sinks.{_SINKS[channel]}"
        self._command = [sys.executable, "-m", module, "--port", str(self.port), "--out", str(self._out), *flags]
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Start it and wait until it listens."""
        self._process = subprocess.Popen(self._command, cwd=ROOT, stdout=subprocess.PIPE, encoding="utf-8")
        assert self._process.stdout is not None
        with self._process.stdout as said:
            assert said.readline() == f"listening on {self.port}\n"

    def stop(self) -> None:
        """End it, if it runs."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(STOP_S)

    @property
    def records(self) -> list[dict[str, Any]]:
        """What it did with each attempt, in the order of their coming."""
        if not self._out.exists():
            return []
        return [json.loads(line) for line in self._out.read_text(encoding="utf-8").splitlines()]

    @property
    def actions(self) -> Counter[str]:
        """How often it did what."""
        return Counter(record["action"] for record in self.records)

    def address_of(self, seller_id: str) -> dict[str, str]:
        """The seller's entry in the directory."""
        if self.channel == EMAIL:
            return {"email": f"{seller_id}@sellers.example"}
        return {"webhook_url": f"http://127.0.0.1:{self.port}/{seller_id}"}


class Wanted(NamedTuple):
    """One note for one seller: there must be exactly one delivery of it."""

    order_id: str
    note_id: str
    seller_id: str
    channel: str


@dataclass(frozen=True)
class Size:
    """How much there is to deliver; the numbers of orders and sellers are those of each channel."""

    orders: int
    sellers: int
    notes_per_order: int

    @property
    def notes(self) -> int:
        """All notes."""
        return len(CHANNELS) * self.orders * self.notes_per_order


class Market:
    """Both sinks beside an arena that is not started yet, and the notes that were accepted for delivery.

    The flags are those of both sinks; ``attempt_s`` is how long one attempt may take.
    """

    def __init__(self, arena: Arena, *flags: str, attempt_s: float = 0.5, **settings: str) -> None:
        self.arena = arena
        self.sinks = {channel: Sink(channel, arena.services.folder, *flags) for channel in CHANNELS}
        arena.processor.settings |= {
            "PROCESSOR_SMTP_URL": f"smtp://127.0.0.1:{self.sinks[EMAIL].port}?starttls=off&timeout_s={attempt_s:g}",
            "PROCESSOR_WEBHOOK_TIMEOUT_S": f"{attempt_s:g}",
            "PROCESSOR_WEBHOOK_ALLOW_NETWORKS": "127.0.0.0/8",
            **settings,
        }
        self.wanted: list[Wanted] = []
        self._audiences: dict[str, tuple[str, list[str]]] = {}
        self._numbers: Counter[str] = Counter()

    def start_sinks(self) -> None:
        """Let both sinks listen."""
        for sink in self.sinks.values():
            sink.start()

    def close(self) -> None:
        """End the sinks."""
        for sink in self.sinks.values():
            sink.stop()

    # ---- what happens in it

    def register(self, seller_id: str, channel: str) -> None:
        """Enter a seller, who is reached by one channel."""
        url = f"{self.arena.processor.url}/api/v1/sellers/{seller_id}"
        answer = requests.put(url, json=self.sinks[channel].address_of(seller_id), timeout=10)
        assert answer.status_code == 200, answer.text

    def begin(self, order_id: str, channel: str, audience: list[str]) -> None:
        """Begin an order whose notes go to these sellers by this channel."""
        body = {"order_req_id": order_id, "session_id": "s1", "notification_type": channel}
        self.arena.requestor.post("/orders/initiate", body)
        self._audiences[order_id] = channel, audience

    def note(self, order_id: str) -> None:
        """Add the next note to an order."""
        channel, audience = self._audiences[order_id]
        self._numbers[order_id] += 1
        note_id = f"{order_id}-note-{self._numbers[order_id]}"
        message = {"urls": [], "message_type": "text", "message": note_id}
        body = {"order_req_id": order_id, "follow_up_id": note_id, "audience": audience, "message": message}
        self.arena.requestor.post("/orders/followup", body)
        self.wanted += [Wanted(order_id, note_id, seller_id, channel) for seller_id in audience]

    def open(self, size: Size) -> None:
        """Register the sellers and begin the orders, each with an audience of three."""
        for channel in CHANNELS:
            sellers = [f"{channel}-seller-{number}" for number in range(size.sellers)]
            for seller_id in sellers:
                self.register(seller_id, channel)
            for number in range(size.orders):
                audience = [sellers[(3 * number + place) % size.sellers] for place in range(3)]
                self.begin(f"{channel}-order-{number}", channel, audience)
        for order_id in self.order_ids:
            wait_for_stream(self.arena.requestor, order_id)

    def notes_for(self, size: Size) -> Iterator[int]:
        """Add the notes, to the orders in turn; yields how many there are so far."""
        for _ in range(size.notes_per_order):
            for order_id in self.order_ids:
                self.note(order_id)
                yield sum(self._numbers.values())

    # ---- what can be seen of it

    @property
    def order_ids(self) -> list[str]:
        """All orders."""
        return list(self._audiences)

    def deliveries(self) -> list[dict[str, Any]]:
        """Every delivery, as the processor lists them page by page."""
        return every_delivery(self.arena.processor)

    def wait_until_ended(self, timeout_s: float) -> None:
        """Wait until every delivery is delivered or dead."""

        def is_over() -> bool:
            time.sleep(0.2)  # each look costs the processor a count
            try:
                states = self.arena.processor.get("/deliveries?limit=1")["states"]
            except requests.RequestException:  # killed just now
                return False
            counts = Counter(states)
            return counts["delivered"] + counts["dead"] == counts.total() == len(self.wanted)

        eventually(is_over, timeout_s=timeout_s, what="the end of the last delivery")


def every_delivery(processor: Service, query: str = "") -> list[dict[str, Any]]:
    """The deliveries that a processor lists, over all pages."""
    found: list[dict[str, Any]] = []
    cursor = ""
    while True:
        page = processor.get(f"/deliveries?limit=500{query}{cursor}")
        found += page["deliveries"]
        if page["next_cursor"] is None:
            return found
        cursor = f"&cursor={page['next_cursor']}"
