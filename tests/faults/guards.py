"""Runs a service with one of its guards switched off: ``python -m tests.faults.guards processor dedupe``.

Each function takes one guard away as a careless edit would. A fault test that still passes then guards nothing.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import import_module
from typing import Any

from processor_app import domain, steps
from processor_app.delivery import lifecycle, webhook
from processor_app.delivery.channel import Parcel
from processor_app.delivery.delivery import DeliveryState
from processor_app.delivery.plan import Routes
from processor_app.delivery.webhook_url import WebhookUrl
from processor_app.domain import OpenStream
from processor_app.rpc.messages import follow_up_of
from processor_app.rpc.servicer import OrderServicer
from processor_app.rpc.turns import Turns
from processor_app.streams import FollowUpAnswer, Outlet
from proto import order_service_pb2 as wire
from requestor_app.domain import Acknowledgement, Outcome, note_entry_id
from requestor_app.link import Link
from requestor_app.traffic import Incoming, Outgoing
from service_kit.change import Change, Snapshot
from service_kit.storage import sqlite
from service_kit.storage.sqlite_batch import Batch
from service_kit.storage.sqlite_writer import _COMMITTING, Writer, _decided

#: Time for an answer that is given too early to arrive.
_EARLY_S = 0.3


def _put(owner: object, name: str, new: object) -> None:
    assert hasattr(owner, name), f"there is no {name} any more"
    setattr(owner, name, new)


def no_dedupe() -> None:
    """The processor never knows a note again: each coming is a new entry of the log."""
    numbers = itertools.count()
    for module in (domain, steps):
        _put(module, "note_entry_id", lambda follow_up_id: f"note:{follow_up_id}:{next(numbers)}")


def no_look_at_what_is_kept() -> None:
    """The processor keeps a note under its name, but does not look whether it is there."""
    _put(steps, "_is_repeated", lambda snapshot, entry_id, body: False)


def no_token_check() -> None:
    """The processor takes notes and closes under any token."""
    _put(steps, "_check_token", lambda order, token: None)


def no_token_compare() -> None:
    """The processor lets an opening under a lower token in, as if the higher one had never been seen."""
    real = steps.open_stream

    def open_stream(
        snapshot: Snapshot, wish: OpenStream, *, routes: Routes, now_ms: int, holder: str = ""
    ) -> Change | None:
        record = snapshot.record
        if record is not None and wish.token < record.token:
            snapshot = replace(snapshot, record=replace(record, token=wish.token - 1))
        return real(snapshot, wish, routes=routes, now_ms=now_ms, holder=holder)

    _put(steps, "open_stream", open_stream)


def no_wait_for_the_answer() -> None:
    """The requestor settles a note when it sends it."""
    real = Link.take

    def take(link: Link, timeout_s: float) -> Outgoing:
        outgoing = real(link, timeout_s)
        notes = [relay.note for relay in outgoing.relays]
        answers = [Acknowledgement(note.ref, note_entry_id(note.follow_up_id), Outcome.ACCEPTED) for note in notes]
        link.received(Incoming(answers=answers))
        return outgoing

    _put(Link, "take", take)


def no_wait_for_the_commit() -> None:
    """The processor answers a note before it has committed it."""
    real = OrderServicer._take

    def take(serves: OrderServicer, message: wire.TrunkUp, outlet: Outlet, turns: Turns) -> None:
        notes = [follow_up_of(request) for request in message.follow_ups]
        if notes:
            outlet.push(*(FollowUpAnswer(note.ref, note.follow_up_id, None) for note in notes))
            time.sleep(_EARLY_S)
        real(serves, message, outlet, turns)

    _put(OrderServicer, "_take", take)


def no_turns() -> None:
    """The processor lets what was sent later overtake what must come again."""
    _put(Turns, "is_due", lambda turns, request: True)


class _HastyWriter(Writer):
    """Answers before the commit is durable."""

    def _commit_steps(self, jobs: Sequence[Any]) -> None:
        if not jobs:
            return
        steps = [step for job in jobs for step in job.steps]
        batch = Batch(self._connection, self._recent)
        with self._committing(len(steps)):
            batch.load(steps)
            for job in jobs:
                job.finish([_decided(batch, step) for step in job.steps])
            time.sleep(_EARLY_S)
            _COMMITTING()
            batch.write()
        batch.committed()


def no_wait_for_the_disk() -> None:
    """The requestor's store answers before the commit."""
    _put(sqlite, "Writer", _HastyWriter)


def no_lasting_webhook_id() -> None:
    """The processor gives each attempt of a webhook an id of its own."""
    real = webhook._request

    def request(parcel: Parcel, url: WebhookUrl) -> bytes:
        return real(replace(parcel, delivery_id=f"{parcel.delivery_id}-{parcel.attempt}"), url)

    _put(webhook, "_request", request)


def no_memory_of_an_attempt() -> None:
    """The processor takes a delivery whose attempt ended with its last life for one that was never tried."""
    real = lifecycle.claim

    def claim(snapshot: Snapshot, delivery_id: str, **how: Any) -> Change | None:
        message = snapshot.messages[delivery_id]
        if message.state == DeliveryState.SENDING:
            message = replace(message, state=str(DeliveryState.PENDING))
        return real(replace(snapshot, messages={**snapshot.messages, delivery_id: message}), delivery_id, **how)

    _put(lifecycle, "claim", claim)


#: The guards by name.
OFF: dict[str, Callable[[], None]] = {
    "dedupe": no_dedupe,
    "look-at-what-is-kept": no_look_at_what_is_kept,
    "token-check": no_token_check,
    "token-compare": no_token_compare,
    "ack-awaited": no_wait_for_the_answer,
    "ack-after-commit": no_wait_for_the_commit,
    "turns": no_turns,
    "fsync-order": no_wait_for_the_disk,
    "webhook-id": no_lasting_webhook_id,
    "attempt-remembered": no_memory_of_an_attempt,
}


def command(service_name: str, guard: str) -> list[str]:
    """What runs the service without the guard."""
    assert guard in OFF
    return [sys.executable, "-m", __name__, service_name, guard]


def main() -> int:
    """Switch the guard off and run the service."""
    service_name, guard = sys.argv[1:]
    OFF[guard]()
    exit_code: int = import_module(f"wsgi_{service_name}").main()
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
