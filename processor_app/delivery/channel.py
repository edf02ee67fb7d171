"""What a channel is: it tries to bring one parcel to one seller and says what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol

from service_kit.origin import UNKNOWN, Origin


class Verdict(StrEnum):
    """What became of one attempt."""

    #: The receiver has taken it.
    DELIVERED = "delivered"
    #: Not this time; a later attempt may work.
    RETRY = "retry"
    #: The receiver may have taken it, and nobody can tell (RFC 1047); the repetition carries the same id.
    UNCERTAIN = "uncertain"
    #: No later attempt will work.
    FAILED = "failed"
    #: The receiver wants nothing more at this address, ever.
    GONE = "gone"


@dataclass(frozen=True, slots=True)
class AttemptResult:
    """A verdict and a sentence for people, which names no secret; ``retry_after_s`` is the receiver's wish."""

    verdict: Verdict
    detail: str = ""
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Seller:
    """An entry of the seller directory. ``webhook_secrets`` stand newest first; two live while one is rotated."""

    seller_id: str
    name: str = ""
    email: str = ""
    webhook_url: str = ""
    #: Channels the seller wants beside the one that an order names.
    channels: tuple[str, ...] = ()
    language: str = "en"
    webhook_secrets: tuple[str, ...] = ()
    #: Why nothing is sent to the webhook any more; "" while it is fine.
    webhook_disabled: str = ""


@dataclass(frozen=True, slots=True)
class Parcel:
    """One message for one seller. ``delivery_id`` is the same at every attempt; so are all ids made from it.

    ``kind`` is ``order`` or ``follow_up``; ``reply_url`` is the signed link under which the seller answers. ``origin``
    is the buyer's request, in a span of this attempt.
    """

    delivery_id: str
    kind: str
    order_req_id: str
    session_id: str
    seller: Seller
    created_ms: int
    attempt: int
    reply_url: str
    follow_up_id: str = ""
    message_type: str = "text"
    message: str = ""
    urls: tuple[str, ...] = ()
    details: Mapping[str, Any] | None = None
    origin: Origin = UNKNOWN
    #: The span of the buyer's request.
    parent_span_id: str = ""


class Channel(Protocol):
    """Brings parcels to sellers in one way. ``send`` may be called from many threads at once."""

    @property
    def name(self) -> str:
        """The channel's name in deliveries: ``email`` or ``webhook``."""

    def has_address(self, seller: Seller) -> bool:
        """Whether the seller can be reached this way now."""

    def send(self, parcel: Parcel) -> AttemptResult:
        """Try once and say what became of it, within the channel's deadline; raises nothing."""
