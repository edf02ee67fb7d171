"""Compares what the driver was told with what is in the two stores' files, without any code of the services."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from tests.faults.ledger import Ledger, OrderFacts


@dataclass
class Report:
    """What an audit found; each list is empty when all is well."""

    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    gaps: list[str] = field(default_factory=list)
    disordered: list[str] = field(default_factory=list)
    differing: list[str] = field(default_factory=list)

    @property
    def faults(self) -> list[str]:
        """Everything that is wrong."""
        return [
            f"{kind}: {what}"
            for kind in ("lost", "doubled", "gaps", "disordered", "differing")
            for what in getattr(self, kind)
        ]


@dataclass(frozen=True)
class Kept:
    """One order as a store's file has it."""

    state: str
    token: int
    body: dict[str, Any]
    entries: list[tuple[int, str, str, dict[str, Any]]]  # seq, entry_id, kind, body


class Sent(NamedTuple):
    """One delivery as the processor's store has it."""

    state: str
    channel: str
    attempts: int


def read_store(path: Path, *, logs_of: Iterable[str] | None = None) -> dict[str, Kept]:
    """All orders of a store, from its file; with their logs, or with those of some alone."""
    chosen = None if logs_of is None else json.dumps(list(logs_of))
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=10)) as connection:
        logs: dict[int, list[tuple[int, str, str, dict[str, Any]]]] = {}
        for record, seq, entry_id, kind, body in connection.execute(
            "SELECT record, seq, entry_id, kind, entries.body FROM records JOIN entries ON record = id "
            "WHERE ?1 IS NULL OR key IN (SELECT value FROM json_each(?1)) ORDER BY record, seq",
            (chosen,),
        ):
            logs.setdefault(record, []).append((seq, entry_id, kind, json.loads(body)))
        return {
            key: Kept(state, token, json.loads(body), logs.get(record, []))
            for record, key, state, token, body in connection.execute(
                "SELECT id, key, state, token, body FROM records WHERE tenant = 'default'"
            )
        }


def read_outbox(path: Path) -> dict[str, dict[str, Sent]]:
    """How the deliveries of each order stand in a store, from its file."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=10)) as connection:
        found: dict[str, dict[str, Sent]] = {}
        for key, name, state, channel, attempts in connection.execute(
            "SELECT r.key, o.message_id, o.state, o.kind, o.attempts FROM outbox o JOIN records r ON r.id = o.record"
        ):
            found.setdefault(key, {})[name] = Sent(state, channel, attempts)
        return found


def set_aside_in(path: Path) -> int:
    """How many messages of a store's outbox were set aside."""
    with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=10)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM outbox WHERE state <> 'pending'").fetchone()
        return int(count)


def audit(ledger: Ledger, requestor_store: Path, processor_store: Path, processor_log: str) -> Report:
    """Look for what was acknowledged and is missing, for what is there twice, and for histories that differ."""
    mine, theirs = (read_store(store, logs_of=ledger.orders) for store in (requestor_store, processor_store))
    return audit_kept(ledger, mine, theirs, read_outbox(processor_store), [processor_log])


def audit_kept(
    ledger: Ledger,
    at_requestor: dict[str, Kept],
    at_processor: dict[str, Kept],
    outbox: dict[str, dict[str, Sent]],
    processor_logs: Sequence[str],
) -> Report:
    """The same over what was read already, with the log of each processor."""
    report = Report()
    for facts in ledger.orders.values():
        mine, theirs = at_requestor.get(facts.order_id), at_processor.get(facts.order_id)
        if mine is None or theirs is None:
            if facts.runs_acked:
                side = "requestor" if mine is None else "processor"
                report.lost.append(f"order {facts.order_id} at the {side}")
            continue
        _audit_notes(report, facts, mine, theirs)
        _audit_runs(report, facts, mine, theirs)
        _audit_events(report, facts, mine, theirs)
        _audit_deliveries(report, facts, mine, theirs, outbox.get(facts.order_id, {}))
    for order_id in at_processor.keys() - at_requestor.keys():
        report.differing.append(f"order {order_id} is at the processor alone")
    _audit_streams(report, processor_logs)
    return report


def _audit_notes(report: Report, facts: OrderFacts, mine: Kept, theirs: Kept) -> None:
    kept = {
        "requestor": [body["follow_up_id"] for _, _, kind, body in mine.entries if kind == "note_added"],
        "processor": [body["follow_up_id"] for _, _, kind, body in theirs.entries if kind == "follow_up_accepted"],
    }
    for side, notes in kept.items():
        report.lost += [f"note {note} at the {side}" for note in facts.notes if note not in set(notes)]
        report.doubled += [f"note {note} at the {side}" for note, n in Counter(notes).items() if n > 1]
        told = set(facts.notes)
        if [note for note in notes if note in told] != [note for note in facts.notes if note in set(notes)]:
            report.disordered.append(f"the notes of order {facts.order_id} at the {side}")
    replies = [body["reply_id"] for _, _, kind, body in theirs.entries if kind == "seller_replied"]
    arrived = [body["reply_id"] for _, _, kind, body in mine.entries if kind == "seller_replied"]
    report.lost += [f"reply {reply} at the processor" for reply in facts.replies if reply not in replies]
    report.lost += [f"reply {reply} at the requestor" for reply in replies if reply not in arrived]
    report.doubled += [f"reply {reply}" for reply, n in Counter(arrived).items() if n > 1]


def _audit_runs(report: Report, facts: OrderFacts, mine: Kept, theirs: Kept) -> None:
    began = sum(kind == "initiated" for _, _, kind, _ in mine.entries)
    if began < facts.runs_acked:
        report.lost.append(f"{facts.runs_acked - began} runs of order {facts.order_id}")
    if began > facts.runs_tried:
        report.doubled.append(f"{began} runs of order {facts.order_id} for {facts.runs_tried} calls")
    accepted = [body["run"] for _, _, kind, body in theirs.entries if kind == "accepted"]
    if len(accepted) != began or len(set(accepted)) != began:
        report.differing.append(f"order {facts.order_id} has {began} runs here and {accepted} at the processor")
    live_here, live_there = mine.state in ("live", "closing"), theirs.state == "live"
    if live_here != live_there:
        report.differing.append(f"order {facts.order_id} is {mine.state} here and {theirs.state} at the processor")
    elif live_here and mine.token != theirs.token:
        report.differing.append(f"order {facts.order_id} has token {mine.token} here, {theirs.token} at the processor")


def _audit_events(report: Report, facts: OrderFacts, mine: Kept, theirs: Kept) -> None:
    for side, kept in (("requestor", mine), ("processor", theirs)):
        if [seq for seq, *_ in kept.entries] != list(range(1, len(kept.entries) + 1)):
            report.gaps.append(f"the log of order {facts.order_id} at the {side}")
    sent = [(seq, kind) for seq, _, kind, _ in theirs.entries]
    applied = [(body["processor_seq"], kind) for _, _, kind, body in mine.entries if "processor_seq" in body]
    if len(set(applied)) != len(applied):
        report.doubled.append(f"events of order {facts.order_id}")
    elif applied != sent:
        report.gaps.append(f"the events of order {facts.order_id}: {len(sent)} sent, {len(applied)} applied")


def _audit_deliveries(report: Report, facts: OrderFacts, mine: Kept, theirs: Kept, sent: dict[str, Sent]) -> None:
    """Every note has its deliveries, each has ended, and the buyer was told how, as long as the order lasted."""
    planned: list[str] = []
    last_told: dict[str, str] = {}
    for _, _, kind, body in theirs.entries:
        if kind in ("accepted", "follow_up_accepted"):
            names = [told["delivery_id"] for told in body.get("deliveries", ())]
            if len(names) != (facts.notification_type != "none"):
                report.lost.append(f"a delivery of order {facts.order_id}: {kind} has {len(names)}")
            planned += names
        elif kind == "delivery_changed":
            last_told[body["delivery_id"]] = body["state"]
    report.doubled += [f"delivery {name}" for name, n in Counter(planned).items() if n > 1]
    report.lost += [f"delivery {name}" for name in planned if name not in sent]
    report.differing += [f"delivery {name} was never planned" for name in sent.keys() - set(planned)]
    # Between the end of a run and the next, nothing is told.
    has_one_stream = theirs.state == "live" and sum(kind == "accepted" for _, _, kind, _ in theirs.entries) == 1
    expected = {"email": ("delivered",), "webhook": ("dead",)}
    for name, (state, channel, attempts) in sent.items():
        if state not in expected[channel] or (state == "delivered" and not attempts):
            report.lost.append(f"delivery {name} by {channel} is {state} after {attempts} attempts")
        elif has_one_stream and last_told.get(name) != state:
            report.differing.append(f"delivery {name} is {state}, and the buyer was told {last_told.get(name)}")
    shown = {body["delivery_id"]: body["state"] for _, _, kind, body in mine.entries if kind == "delivery_changed"}
    report.differing += [f"delivery {name} at the requestor" for name in shown if shown[name] != last_told.get(name)]


def _audit_streams(report: Report, processor_logs: Sequence[str]) -> None:
    """No stream is opened twice, and no order's token ever falls at a processor."""
    opened: Counter[str] = Counter()
    for processor_log in processor_logs:
        tokens: dict[str, int] = {}
        for seen in streams_opened(processor_log):
            opened[seen["stream_id"]] += 1
            order_id, token = seen["order_req_id"], seen["token"]
            if token < tokens.get(order_id, 0):
                report.doubled.append(f"order {order_id} was opened under the old token {token}")
            tokens[order_id] = token
    report.doubled += [f"stream {stream}" for stream, n in opened.items() if n > 1]


def streams_opened(processor_log: str) -> Iterator[dict[str, Any]]:
    """What a processor's log says of each stream that it has opened."""
    for line in processor_log.splitlines():
        if '"stream.opened"' in line:
            with suppress(ValueError):  # the line that a kill cut off
                yield json.loads(line)
