"""What the driver was told: every order, note, reply and end that was acknowledged, and what was only tried."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class OrderFacts:
    """One order, as its client knows it. Only one thread uses it."""

    order_id: str
    session_id: str
    notification_type: str = "none"
    #: Answers "Order initiated successfully", and calls that may have begun a run.
    runs_acked: int = 0
    runs_tried: int = 0
    #: Acknowledged notes, in the order of their acknowledgement.
    notes: list[str] = field(default_factory=list)
    replies: list[str] = field(default_factory=list)
    is_live: bool = False
    #: An end was asked for, so an order that is "already being processed" may be one that ends.
    was_ended: bool = False


@dataclass
class Ledger:
    """All orders of all clients."""

    orders: dict[str, OrderFacts] = field(default_factory=dict)
    refused: list[str] = field(default_factory=list)
    retries: int = 0
    abandoned: int = 0

    @property
    def notes_acked(self) -> int:
        """How many notes were acknowledged."""
        return sum(len(facts.notes) for facts in self.orders.values())

    @property
    def replies_acked(self) -> int:
        """How many sellers' replies were acknowledged."""
        return sum(len(facts.replies) for facts in self.orders.values())

    @property
    def runs_acked(self) -> int:
        """How many initiates were acknowledged as new."""
        return sum(facts.runs_acked for facts in self.orders.values())

    def add(self, other: Ledger) -> None:
        """Take over what another client was told."""
        self.orders |= other.orders
        self.refused += other.refused
        self.retries += other.retries
        self.abandoned += other.abandoned
