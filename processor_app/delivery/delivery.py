"""A delivery: one message for one seller over one channel, and how it stands in its order's outbox.

    waiting ──the seller can be reached──▶ pending ──▶ sending ──▶ delivered
                                              ▲          │  ▲
                                              │          ▼  │        dead ──retry by hand──▶ pending
                                              │       retrying ──schedule used up──▶ dead

A delivery stays in the outbox after it is delivered or dead, until its order is pruned. Deliveries of one order to one
seller over one channel form a *lane*: each waits until those before it are delivered or dead.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from service_kit.change import Message, Ref
from service_kit.origin import Origin, origin_of
from service_kit.rules import NOTIFICATION_TYPES

#: The notification type of orders about which no seller is told.
NO_CHANNEL = "none"
_ID = re.compile(r"d([0-9a-f]{1,15})-[0-9a-f]{20}")
#: How much of a failure's reason is kept.
MAX_ERROR = 500


class DeliveryState(StrEnum):
    """Where a delivery stands."""

    #: The seller is unknown, or has no address for the channel.
    WAITING = "waiting"
    PENDING = "pending"
    #: An attempt runs, or its outcome was lost; it is looked at again when the lease of the attempt is over.
    SENDING = "sending"
    RETRYING = "retrying"
    DELIVERED = "delivered"
    DEAD = "dead"


#: The ways to a seller.
CHANNELS = tuple(kind for kind in NOTIFICATION_TYPES if kind != NO_CHANNEL)
#: States that a person may send anew from.
RETRYABLE = (DeliveryState.DEAD, DeliveryState.RETRYING)


@dataclass(frozen=True, slots=True)
class Delivery:
    """A delivery as its message says it.

    ``seq`` is the number of the event that it carries; ``run`` is the order's run in which it was made. ``uncertain``
    counts the attempts of which nobody knows whether the seller got them. ``retried_at`` is the number of attempts
    before the present round of them, and ``round_ms`` the time when that round began. ``kept_origin`` is the request of
    the buyer that it tells of.
    """

    delivery_id: str
    seq: int
    channel: str
    seller_id: str
    state: DeliveryState
    run: int
    created_ms: int
    updated_ms: int
    due_ms: int
    round_ms: int
    follow_up_id: str = ""
    attempts: int = 0
    retried_at: int = 0
    uncertain: int = 0
    last_error: str = ""
    kept_origin: str = ""

    @property
    def origin(self) -> Origin:
        """The request of the buyer that it tells of."""
        return origin_of(self.kept_origin)

    @property
    def tries(self) -> int:
        """The attempts of the present round."""
        return self.attempts - self.retried_at

    @property
    def next_attempt_ms(self) -> int | None:
        """When the next attempt is due; None when none is."""
        return self.due_ms if self.state in (DeliveryState.PENDING, DeliveryState.RETRYING) else None


def delivery_id_of(ref: Ref, seq: int, channel: str, seller_id: str, now_ms: int) -> str:
    """A name for a new delivery that no other has. It begins with the time, by which the delivery is found."""
    parts = (*ref, str(seq), channel, seller_id)
    return f"d{now_ms:x}-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:20]}"


def created_ms_of(delivery_id: str) -> int | None:
    """When a delivery of this name was made; None when there can be none."""
    match = _ID.fullmatch(delivery_id)
    return None if match is None else int(match[1], 16)


def delivery_of(message: Message) -> Delivery:
    """Read a delivery from its message."""
    body = message.body
    return Delivery(
        delivery_id=message.message_id,
        seq=message.position,
        channel=message.kind,
        seller_id=message.address,
        state=DeliveryState(message.state),
        created_ms=message.created_ms,
        due_ms=message.due_ms,
        attempts=message.attempts,
        last_error=message.last_error,
        run=body["run"],
        follow_up_id=body["follow_up_id"],
        updated_ms=body["updated_ms"],
        round_ms=body["round_ms"],
        retried_at=body["retried_at"],
        uncertain=body["uncertain"],
        kept_origin=body.get("origin", ""),
    )


def message_of(delivery: Delivery) -> Message:
    """The message that holds a delivery."""
    return Message(
        message_id=delivery.delivery_id,
        position=delivery.seq,
        kind=delivery.channel,
        body={
            "run": delivery.run,
            "follow_up_id": delivery.follow_up_id,
            "updated_ms": delivery.updated_ms,
            "round_ms": delivery.round_ms,
            "retried_at": delivery.retried_at,
            "uncertain": delivery.uncertain,
            "origin": delivery.kept_origin,
        },
        state=str(delivery.state),
        address=delivery.seller_id,
        due_ms=delivery.due_ms,
        attempts=delivery.attempts,
        last_error=delivery.last_error[:MAX_ERROR],
        created_ms=delivery.created_ms,
    )


def planned_body(delivery: Delivery) -> dict[str, Any]:
    """What the event that is carried says of a delivery."""
    return {
        "delivery_id": delivery.delivery_id,
        "seller_id": delivery.seller_id,
        "channel": delivery.channel,
        "state": str(delivery.state),
    }


def changed_body(delivery: Delivery) -> dict[str, Any]:
    """What the event of a delivery's change says."""
    return {
        **planned_body(delivery),
        "follow_up_id": delivery.follow_up_id,
        "attempts": delivery.attempts,
        "last_error": delivery.last_error[:MAX_ERROR],
        "uncertain": delivery.uncertain,
        "next_attempt_ms": delivery.next_attempt_ms or 0,
    }
