"""Answers of the processor's REST interface, made from the services' values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from processor_app.delivery.delivery import Delivery
from processor_app.delivery.sellers import SellerEntry
from processor_app.domain import Order
from service_kit.change import Entry, Ref
from service_kit.times import rfc3339


def order(order: Order, *, is_stream_open: bool) -> dict[str, Any]:
    """One order as the seller side knows it."""
    return {
        "order_req_id": order.ref.key,
        "session_id": order.session_id,
        "notification_type": order.notification_type,
        "audience": list(order.audience),
        "details": order.details,
        "state": str(order.state),
        "allowed_actions": list(order.allowed_actions),
        "is_stream_open": is_stream_open,
        "token": order.token,
        "run": order.run,
        "head_seq": order.head_seq,
        "notes_count": order.notes_count,
        "request_id": order.origin.request_id or None,
        "trace_id": order.origin.trace_id or None,
        "created_at": rfc3339(order.created_ms),
        "updated_at": rfc3339(order.updated_ms),
    }


def events(entries: Sequence[Entry], after: int) -> dict[str, Any]:
    """A part of a log."""
    return {
        "events": [
            {"seq": entry.seq, "kind": entry.kind, "at": rfc3339(entry.at_ms), "data": entry.body} for entry in entries
        ],
        "last_seq": entries[-1].seq if entries else after,
    }


def delivery(ref: Ref, delivery: Delivery) -> dict[str, Any]:
    """One message for one seller over one channel."""
    next_ms = delivery.next_attempt_ms
    return {
        "delivery_id": delivery.delivery_id,
        "order_req_id": ref.key,
        "follow_up_id": delivery.follow_up_id,
        "seller_id": delivery.seller_id,
        "channel": delivery.channel,
        "state": str(delivery.state),
        "attempts": delivery.attempts,
        "uncertain": delivery.uncertain,
        "last_error": delivery.last_error,
        "created_at": rfc3339(delivery.created_ms),
        "updated_at": rfc3339(delivery.updated_ms),
        "next_attempt_at": None if next_ms is None else rfc3339(next_ms),
    }


def seller(entry: SellerEntry) -> dict[str, Any]:
    """A seller's entry without its secrets."""
    seller = entry.seller
    return {
        "seller_id": seller.seller_id,
        "name": seller.name,
        "email": seller.email,
        "webhook_url": seller.webhook_url,
        "webhook_disabled": seller.webhook_disabled or None,
        "live_secrets": len(seller.webhook_secrets),
        "channels": list(seller.channels),
        "language": seller.language,
        "created_at": rfc3339(entry.created_ms),
        "updated_at": rfc3339(entry.updated_ms),
    }
