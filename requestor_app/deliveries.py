"""What the processor's events say of the deliveries to sellers.

A delivery comes into being with the event that accepts an order or a follow-up; each later change is an event of its
own. After the end of an order nothing more is told: what is shown then is how the delivery stood at that moment.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from service_kit.change import Body, Entry

#: Kinds of entries that tell of deliveries.
KINDS = ("accepted", "follow_up_accepted", "delivery_changed")


@dataclass(frozen=True, slots=True)
class Delivery:
    """How a delivery stood at its last event. ``follow_up_id`` is empty when it carries the order itself."""

    delivery_id: str
    follow_up_id: str
    seller_id: str
    channel: str
    state: str
    created_ms: int
    changed_ms: int
    attempts: int = 0
    uncertain: int = 0
    last_error: str = ""
    next_attempt_ms: int = 0


def deliveries_of(entries: Iterable[Entry]) -> list[Delivery]:
    """The deliveries that the entries tell of, in the order in which they came into being."""
    found: dict[str, Delivery] = {}
    for entry in entries:
        at_ms = entry.body["processor_at_ms"]
        if entry.kind == "delivery_changed":
            delivery_id = entry.body["delivery_id"]
            before = found.get(delivery_id) or _planned(entry.body, entry.body["follow_up_id"], at_ms)
            found[delivery_id] = _changed(before, entry.body, at_ms)
        else:
            for body in entry.body.get("deliveries", ()):
                found[body["delivery_id"]] = _planned(body, entry.body.get("follow_up_id", ""), at_ms)
    return list(found.values())


def _planned(body: Body, follow_up_id: str, at_ms: int) -> Delivery:
    return Delivery(
        delivery_id=body["delivery_id"],
        follow_up_id=follow_up_id,
        seller_id=body["seller_id"],
        channel=body["channel"],
        state=body["state"],
        created_ms=at_ms,
        changed_ms=at_ms,
    )


def _changed(before: Delivery, body: Body, at_ms: int) -> Delivery:
    return replace(
        before,
        state=body["state"],
        changed_ms=at_ms,
        attempts=body["attempts"],
        uncertain=body.get("uncertain", 0),
        last_error=body["last_error"],
        next_attempt_ms=body.get("next_attempt_ms", 0),
    )
