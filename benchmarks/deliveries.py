"""``python -m benchmarks.deliveries``: whether bad sellers delay the good ones.

Every note goes to two good sellers and to one more. In every other run that one refuses, fails, hangs and hangs up; in
the runs between it is as good as the others. Webhooks on loopback. Measured is the time from the moment when the buyer
is told that a note is accepted until it arrives at a good seller.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import shutil
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.calls import Address, Call, Client, wait_until
from benchmarks.contender import SESSION, python
from benchmarks.faults import BenchFault
from benchmarks.ours import Ours
from benchmarks.paths import DATA
from benchmarks.processes import Process, free_port
from benchmarks.summary import percentile, ratio

GOOD = [f"good-{number}" for number in range(6)]
#: Sellers who are bad in every other run.
CHANGING = [f"changing-{number}" for number in range(3)]
ORDERS = [f"order-{number}" for number in range(20)]
BAD = ("--refuse", "0.3", "--error", "0.2", "--hang", "0.3", "--drop", "0.1", "--hang-s", "60")
SETTINGS = {
    "PROCESSOR_WEBHOOK_ALLOW_NETWORKS": "127.0.0.0/8",
    "PROCESSOR_WEBHOOK_TIMEOUT_S": "5",
    "PROCESSOR_RETRY_SCHEDULE_S": "1,5,10,30,60",
}
#: The good ones' p99 beside bad ones, as a factor.
GOAL = 1.1
PERCENTS = (50, 99)


class Sink:
    """Sellers' webhooks in a process of their own, and what arrived there."""

    def __init__(self, role: str, folder: Path, *flags: str) -> None:
        self.port = free_port()
        self._out = folder / f"{role}.jsonl"
        words = ("-m", "tests.sinks.webhook", "--port", str(self.port), "--out", str(self._out), *flags)
        self.process = Process(role, python(*words), folder)

    def start(self) -> None:
        """Start it and wait until it listens."""
        self.process.launch()
        wait_until(self._listens, f"the {self.process.role}", timeout_s=30)

    def _listens(self) -> bool:
        self.process.check()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.connect()
        except OSError:
            return False
        finally:
            connection.close()
        return True

    def records(self) -> list[dict[str, Any]]:
        """What it did with everything that came."""
        return [json.loads(line) for line in self._out.read_text(encoding="utf-8").splitlines()]

    def arrivals(self) -> Iterator[tuple[str, float]]:
        """The note and the time, by `time.time`, of everything that came."""
        for record in self.records():
            yield record["event"]["data"]["follow_up_id"], record["at_ms"] / 1000


class Run:
    """One run: both services and both sinks, new."""

    def __init__(self, folder: Path, *, has_bad: bool) -> None:
        self._ours = Ours(processor_settings=SETTINGS)
        self._good = Sink("good-sellers", folder)
        self._changing = Sink("changing-sellers", folder, *(BAD if has_bad else ()))
        self._folder = folder

    def start(self) -> None:
        """Start everything, register the sellers and begin the orders."""
        for sink in (self._good, self._changing):
            sink.start()
        self._ours.start(self._folder)
        for sink, sellers in ((self._good, GOOD), (self._changing, CHANGING)):
            for seller in sellers:
                put(
                    self._ours.back,
                    f"/api/v1/sellers/{seller}",
                    {"webhook_url": f"http://127.0.0.1:{sink.port}/{seller}"},
                )
        client = Client(self._ours.front)
        for order in ORDERS:
            body = {"order_req_id": order, "session_id": SESSION, "notification_type": "webhook"}
            client.json(Call("/api/v1/orders/initiate", body))
        client.close()
        wait_until(lambda: self._ours.streams_open() == len(ORDERS), "the streams", timeout_s=30)

    def stop(self) -> None:
        """End everything."""
        self._ours.stop()
        for sink in (self._good, self._changing):
            sink.process.kill()

    def bad_ends(self) -> int:
        """How many attempts at the changing sellers met a bad end."""
        return sum(record["action"] != "take" for record in self._changing.records())

    def measure(self, *, per_s: float, seconds: float) -> list[float]:
        """Send notes at an even pace; answers how long each took to each good seller, in milliseconds."""
        accepted: dict[str, float] = {}
        client = Client(self._ours.front)
        began_s = time.monotonic()
        for number in range(int(per_s * seconds)):
            time.sleep(max(0.0, began_s + number / per_s - time.monotonic()))
            note = f"note-{number}"
            client.json(Call("/api/v1/orders/followup", note_body(number, note)))
            accepted[note] = time.time()
        client.close()
        wait_until(
            lambda: sum(1 for _ in self._good.arrivals()) >= 2 * len(accepted),
            "the last arrivals at good sellers",
            timeout_s=60,
            every_s=0.2,
        )
        # The first half-second warms everything up.
        late = {note for note in accepted if accepted[note] >= min(accepted.values()) + 0.5}
        return [(at_s - accepted[note]) * 1000 for note, at_s in self._good.arrivals() if note in late]


def note_body(number: int, note: str) -> dict[str, Any]:
    """A note to two good sellers and one of the others."""
    places = (2 * number % len(GOOD), (2 * number + 1) % len(GOOD))
    return {
        "order_req_id": ORDERS[number % len(ORDERS)],
        "follow_up_id": note,
        "audience": [CHANGING[number % len(CHANGING)], *(GOOD[place] for place in places)],
        "message": {"urls": [], "message_type": "text", "message": "Please expedite this order"},
    }


def put(address: Address, path: str, body: Mapping[str, Any]) -> None:
    """A PUT, which must succeed."""
    connection = http.client.HTTPConnection(*address, timeout=30)
    try:
        connection.request("PUT", path, json.dumps(body), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
    finally:
        connection.close()
    if answer.status != 200:
        raise BenchFault(f"{path} answered {answer.status}: {text[:200]!r}")


@contextmanager
def new_run(*, has_bad: bool) -> Iterator[Run]:
    """A run that has begun, in a folder that goes with it."""
    folder = DATA / f"deliveries-{time.time_ns():x}"
    folder.mkdir(parents=True)
    run = Run(folder, has_bad=has_bad)
    try:
        run.start()
        yield run
    finally:
        run.stop()
        shutil.rmtree(folder, ignore_errors=True)


def main() -> int:
    """Run with and without bad sellers in turn; the exit status says whether the goal is reached."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.deliveries", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--per-s", type=float, default=20.0, help="notes in a second")
    options = parser.parse_args()
    console = Console()
    found: dict[tuple[bool, int], list[float]] = {key: [] for key in itertools.product((False, True), PERCENTS)}
    for number in range(options.rounds):
        # Whoever comes second finds a warmer machine, so they take turns at that.
        for has_bad in (False, True) if number % 2 == 0 else (True, False):
            with new_run(has_bad=has_bad) as run:
                took_ms = run.measure(per_s=options.per_s, seconds=options.seconds)
                bad_ends = run.bad_ends()
            if has_bad != bool(bad_ends):
                raise BenchFault(f"{bad_ends} attempts met a bad end, which makes the run void")
            shown = []
            for percent in PERCENTS:
                found[has_bad, percent].append(percentile(took_ms, percent))
                shown.append(f"p{percent} {found[has_bad, percent][-1]:.1f} ms")
            console.print(
                f"{number + 1} {'with' if has_bad else 'without'} bad sellers: {', '.join(shown)}; {bad_ends} bad ends"
            )
    ratios = {percent: ratio(found[True, percent], found[False, percent]) for percent in PERCENTS}
    for percent, spread in ratios.items():
        if spread is not None:
            console.print(f"p{percent} with / without: {spread.median:.2f} ({spread.least:.2f} to {spread.most:.2f})")
    return 0 if (worst := ratios[99]) is not None and worst.median <= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
