"""What the requestor answers, as frozen dataclasses. The names are those of its OpenAPI document."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Initiated:
    """The answer to an order."""

    message: str
    order_req_id: str
    session_id: str

    @property
    def is_new(self) -> bool:
        """Whether this call has begun it, rather than found it live."""
        return self.message != "Order already being processed"


@dataclass(frozen=True, slots=True)
class FollowedUp:
    """The answer to a follow-up."""

    message: str
    order_req_id: str
    follow_up_id: str


@dataclass(frozen=True, slots=True)
class Closed:
    """The answer to a complete or a cancel: ``closing`` until the processor has it, then the final state."""

    message: str
    order_req_id: str
    state: str


@dataclass(frozen=True, slots=True)
class Stream:
    """How an order's stream stands: ``connecting``, ``open`` or ``closed``, since when, and why it is not open."""

    state: str
    since: datetime | None
    last_error: str | None


@dataclass(frozen=True, slots=True)
class Note:
    """One follow-up, and what became of it on the way to the processor: ``pending``, ``relayed`` or ``set_aside``."""

    follow_up_id: str
    audience: tuple[str, ...]
    message_type: str
    message: str
    urls: tuple[str, ...]
    added_time: datetime
    relay_state: str
    last_error: str | None


@dataclass(frozen=True, slots=True)
class Delivery:
    """How one message for one seller over one channel stands, as far as the processor has told."""

    delivery_id: str
    follow_up_id: str
    seller_id: str
    channel: str
    state: str
    attempts: int
    #: Attempts of which nobody knows whether the seller got them.
    uncertain: int
    last_error: str
    created_at: datetime
    changed_at: datetime
    next_attempt_at: datetime | None


@dataclass(frozen=True, slots=True)
class OrderSummary:
    """One order in a list."""

    order_req_id: str
    session_id: str
    notification_type: str
    state: str
    notes_count: int
    stream_state: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class OrderPage:
    """One page of orders, newest first; ``next_cursor`` is None on the last one."""

    orders: tuple[OrderSummary, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Order:
    """Everything about one order."""

    order_req_id: str
    session_id: str
    notification_type: str
    audience: tuple[str, ...]
    details: dict[str, Any] | None
    state: str
    allowed_actions: tuple[str, ...]
    stream: Stream
    owner: str | None
    token: int
    run: int
    applied_seq: int
    notes_count: int
    unsent_count: int
    notes: tuple[Note, ...]
    deliveries: tuple[Delivery, ...]
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Event:
    """One fact of an order's timeline; ``processor_seq`` numbers those that came from the processor."""

    seq: int
    kind: str
    at: datetime
    origin: str
    processor_seq: int | None
    data: dict[str, Any]


@dataclass(frozen=True, slots=True)
class EventPage:
    """Events behind a number, oldest first; ``last_seq`` is the number to ask on with."""

    events: tuple[Event, ...]
    last_seq: int


@dataclass(frozen=True, slots=True)
class TrackingStatus:
    """Counts over all orders, and one page of their ids."""

    total_orders: int
    active_streams: int
    open_streams: int
    duplicates_refused: int
    states: dict[str, int]
    tracked_order_ids: tuple[str, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class TrackedNote:
    """One follow-up in the tracking of an order."""

    follow_up_id: str
    audience: tuple[str, ...]
    message_type: str
    added_time: datetime


@dataclass(frozen=True, slots=True)
class TrackedOrder:
    """The tracking of one order. Its stream is active from the claim to the end of the order."""

    order_req_id: str
    session: str
    notes_count: int
    is_stream_active: bool
    stream_state: str
    state: str
    notes: tuple[TrackedNote, ...]


@dataclass(frozen=True, slots=True)
class Check:
    """What one part of the requestor says of itself."""

    ok: bool
    detail: str | None


@dataclass(frozen=True, slots=True)
class Readiness:
    """What all parts say; the status is ``ready`` only when each is fine."""

    status: str
    #: None where the requestor needs keys, and was shown none that may see them.
    checks: dict[str, Check] | None

    @property
    def is_ready(self) -> bool:
        """Whether every part works."""
        return self.status == "ready"
