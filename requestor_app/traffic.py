"""What travels on the trunk, as plain values; the gRPC edge turns them into messages and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field
from enum import StrEnum
from typing import Protocol

from requestor_app.domain import Acknowledgement, CloseKind, Event, FollowUp, Order, OrderState
from service_kit.change import Ref
from service_kit.origin import UNKNOWN, Origin
from service_kit.values import value


class Refusal(StrEnum):
    """Why the processor does not open a stream."""

    FENCED = "fenced"
    INVALID = "invalid"
    DIVERGED = "diverged"
    PRUNED = "pruned"
    UNAVAILABLE = "unavailable"


@value
class Opening:
    """A stream to open."""

    order: Order
    stream_id: str


@value
class Relay:
    """A follow-up to hand over, under the claim's token. ``sending`` grows when the order's messages begin again."""

    note: FollowUp
    token: int
    added_ms: int
    sending: int
    origin: Origin = UNKNOWN


@value
class Closing:
    """A close to hand over, under the claim's token."""

    ref: Ref
    run: int
    kind: CloseKind
    reason: str
    token: int
    sending: int
    origin: Origin = UNKNOWN


@value
class Outgoing:
    """Everything that has queued up for the processor; empty: a sign of life."""

    openings: Sequence[Opening] = ()
    relays: Sequence[Relay] = ()
    closings: Sequence[Closing] = ()
    acks: Mapping[Ref, int] = field(default_factory=dict)
    queue_depth: int = 0

    @property
    def items(self) -> int:
        """How many there are; with none there is nothing but a sign of life to send."""
        return len(self.openings) + len(self.relays) + len(self.closings) + len(self.acks)


@value
class Opened:
    """The processor opened a stream."""

    ref: Ref
    stream_id: str
    head_seq: int


@value
class Snapshot:
    """Where an order stands at a processor that no longer keeps its events: how its run ended, with which event."""

    end: OrderState
    run: int
    head_seq: int


@value
class Refused:
    """The processor did not open a stream."""

    ref: Ref
    stream_id: str
    refusal: Refusal
    detail: str
    #: Where the order stands, with `Refusal.PRUNED`.
    snapshot: Snapshot | None = None
    #: The highest token that the processor has seen, with `Refusal.FENCED`; 0 when it does not say.
    highest_token: int = 0


@value
class Closed:
    """The processor ended a stream before its order."""

    ref: Ref
    stream_id: str


@value
class Incoming:
    """One message of the processor."""

    opened: Sequence[Opened] = ()
    refused: Sequence[Refused] = ()
    closed: Sequence[Closed] = ()
    events: Sequence[Event] = ()
    answers: Sequence[Acknowledgement] = ()


class TrunkUser(Protocol):
    """Whoever uses a trunk. The calls come from the trunk's own threads."""

    def objection(self) -> str | None:
        """Why there may be no trunk just now; None when there may."""

    def connected(self) -> None:
        """The processor has answered; streams can be opened."""

    def take(self, timeout_s: float) -> Outgoing:
        """Wait for what is to be sent next; empty after the time-out."""

    def give_back(self, outgoing: Outgoing) -> None:
        """Take back what a trunk took that ended before it could send; another one may be there already."""

    def received(self, incoming: Incoming) -> None:
        """Apply one message. An error cuts the trunk, and what was not applied comes again."""

    def lost(self, reason: str) -> None:
        """The trunk is gone; it is being built anew."""
