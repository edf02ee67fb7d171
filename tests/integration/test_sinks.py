"""The sinks of the fault tests do what their flags say, and say what they did."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from processor_app.delivery.channel import Channel, Parcel, Seller, Verdict
from processor_app.delivery.email_channel import EmailChannel
from processor_app.delivery.mail_message import Mailbox, MailWriter
from processor_app.delivery.smtp import SmtpCarrier
from processor_app.delivery.smtp_url import Security, SmtpServer
from processor_app.delivery.webhook import WebhookChannel
from processor_app.delivery.webhook_signing import new_secret
from tests.e2e.conftest import ROOT, eventually, free_port
from tests.sinks.behaviour import Action, Behaviour, Shares

StartSink: TypeAlias = Callable[..., "Sink"]


class Sink:
    """A sink in a process of its own."""

    def __init__(self, kind: str, out: Path, *flags: str) -> None:
        self.port = free_port()
        self.out = out
        command = [sys.executable, "-m", f"tests.sinks.{kind}", "--port", str(self.port), "--out", str(out), *flags]
        self.process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, encoding="utf-8")
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == f"listening on {self.port}\n"

    @property
    def records(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.read_text(encoding="utf-8").splitlines()]

    def channel(self, kind: str) -> Channel:
        if kind == "webhook":
            return WebhookChannel([ip_network("127.0.0.0/8")], timeout_s=1)
        server = SmtpServer("127.0.0.1", self.port, Security.OFF, timeout_s=1)
        return EmailChannel(MailWriter(Mailbox("orders@market.example")), SmtpCarrier(server, "market.example"))

    def parcel(self, number: int) -> Parcel:
        url = f"http://127.0.0.1:{self.port}/seller1"
        seller = Seller("seller1", email="seller1@x.example", webhook_url=url, webhook_secrets=(new_secret(),))
        return Parcel(f"d-{number}", "follow_up", "A1", "s1", seller, 0, 1, "", "n1", message="hi")

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(10)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return status


@pytest.fixture
def start_sink(tmp_path: Path) -> Iterator[StartSink]:
    made: list[Sink] = []

    def start(kind: str, *flags: str) -> Sink:
        made.append(Sink(kind, tmp_path / f"{kind}-{len(made)}.jsonl", *flags))
        return made[-1]

    yield start
    for sink in made:
        if sink.process.poll() is None:
            sink.stop()


@pytest.mark.parametrize("kind", ["webhook", "smtp"])
def test_a_sink_in_a_process_does_what_its_seed_says(start_sink: StartSink, kind: str) -> None:
    shares = {"refuse": 0.3, "error": 0.2, "hang": 0.1, "drop": 0.1}
    flags = [word for name, share in shares.items() for word in (f"--{name}", str(share))]
    sink = start_sink(kind, *flags, "--seed", "3", "--hang-s", "1.2")
    channel = sink.channel(kind)
    results = [channel.send(sink.parcel(number)) for number in range(30)]

    receiver = "seller1" if kind == "webhook" else "seller1@x.example"
    planned = Behaviour(Shares(**shares), seed=3)
    actions = [planned.next_action(receiver) for _ in range(30)]
    assert [record["action"] for record in sink.records] == actions
    assert set(actions) == set(Action)
    delivered = [action is Action.TAKE for action in actions]
    assert [result.verdict is Verdict.DELIVERED for result in results] == delivered
    assert [record["taken"] for record in sink.records] == [a in (Action.TAKE, Action.DROP) for a in actions]
    assert len({record["id"] for record in sink.records}) == 30


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ends a process without asking it")
@pytest.mark.parametrize("kind", ["webhook", "smtp"])
def test_a_sink_ends_at_once_even_while_it_hangs(start_sink: StartSink, kind: str) -> None:
    sink = start_sink(kind, "--hang", "1")
    assert sink.channel(kind).send(sink.parcel(1)).verdict is not Verdict.DELIVERED
    eventually(lambda: [record["action"] for record in sink.records] == ["hang"], what="the record")
    begun = time.monotonic()
    assert sink.stop() == 0
    assert time.monotonic() - begun < 5


def test_only_chosen_receivers_meet_a_bad_end() -> None:
    behaviour = Behaviour(Shares(error=1.0), only_for="bad")
    actions = Counter(behaviour.next_action(receiver) for receiver in ("bad1", "good1", "bad2", "good2"))
    assert actions == {Action.ERROR: 2, Action.TAKE: 2}


def test_shares_are_met_about() -> None:
    behaviour = Behaviour(Shares(refuse=0.3, error=0.2, hang=0.1, drop=0.05), seed=1)
    counts = Counter(behaviour.next_action(f"seller{number % 50}") for number in range(5000))
    shares = {action: count / 5000 for action, count in counts.items()}
    expected = {Action.REFUSE: 0.3, Action.ERROR: 0.2, Action.HANG: 0.1, Action.DROP: 0.05, Action.TAKE: 0.35}
    assert shares == pytest.approx(expected, abs=0.03)


def test_the_same_seed_gives_each_receiver_the_same_ends() -> None:
    shares = Shares(refuse=0.5)

    def ends(seed: int, order: list[str]) -> dict[str, list[Action]]:
        behaviour = Behaviour(shares, seed=seed)
        found: dict[str, list[Action]] = {name: [] for name in ("a", "b")}
        for name in order:
            found[name].append(behaviour.next_action(name))
        return found

    assert ends(1, ["a", "b"] * 50) == ends(1, ["a"] * 50 + ["b"] * 50)
    assert ends(1, ["a"] * 50) != ends(2, ["a"] * 50)
