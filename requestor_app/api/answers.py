"""Answers of the requestor's REST interface, made from the service's values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from requestor_app.deliveries import Delivery
from requestor_app.domain import Order
from requestor_app.orders import OrderDetails, OrderPage, Orders, TrackingStatus
from requestor_app.tracking import StreamState, StreamView
from service_kit.change import Entry, Message
from service_kit.times import rfc3339

_SHOWN_STATE = {StreamState.OPEN: "open", StreamState.ENDING: "open", StreamState.DRAINING: "closed"}


def stream_state(order: Order, view: StreamView | None) -> str:
    """``connecting``, ``open`` or ``closed``."""
    if not order.is_unfinished:
        return "closed"
    return "connecting" if view is None else _SHOWN_STATE.get(view.state, "connecting")


def stream(order: Order, view: StreamView | None) -> dict[str, Any]:
    """How the order's stream stands, since when, and why it is not open."""
    if not order.is_unfinished:
        return {"state": "closed", "since": rfc3339(order.updated_ms), "last_error": None}
    return {
        "state": stream_state(order, view),
        "since": None if view is None else rfc3339(view.since_ms),
        "last_error": None if view is None else view.error or None,
    }


def tracking_status(status: TrackingStatus, duplicates_refused: int) -> dict[str, Any]:
    """The counts over all orders."""
    return {
        "total_orders": status.total_orders,
        "active_streams": status.active_streams,
        "tracked_order_ids": list(status.order_ids),
        "open_streams": status.open_streams,
        "duplicates_refused": duplicates_refused,
        "states": status.states,
        "next_cursor": status.next_cursor,
    }


def _tracked_note(note: Entry) -> dict[str, Any]:
    return {
        "follow_up_id": note.body["follow_up_id"],
        "audience": note.body["audience"],
        "message_type": note.body["message_type"],
        "added_time": rfc3339(note.at_ms),
    }


def tracked_order(order: Order, view: StreamView | None, notes: Sequence[Entry]) -> dict[str, Any]:
    """The tracking of one order."""
    return {
        "order_req_id": order.ref.key,
        "session": order.session_id,
        "notes_count": order.notes_count,
        "is_stream_active": order.is_unfinished,
        "notes": [_tracked_note(note) for note in notes],
        "state": str(order.state),
        "stream_state": stream_state(order, view),
    }


def order_list(page: OrderPage, orders: Orders) -> dict[str, Any]:
    """One page of orders."""
    return {
        "orders": [
            {
                "order_req_id": order.ref.key,
                "session_id": order.session_id,
                "notification_type": order.notification_type,
                "state": str(order.state),
                "notes_count": order.notes_count,
                "stream_state": stream_state(order, orders.stream_view(order)),
                "created_at": rfc3339(order.created_ms),
                "updated_at": rfc3339(order.updated_ms),
            }
            for order in page.orders
        ],
        "next_cursor": page.next_cursor,
    }


def order(details: OrderDetails) -> dict[str, Any]:
    """Everything about one order."""
    order = details.order
    outbox = {message.message_id: message for message in details.outbox}
    return {
        "order_req_id": order.ref.key,
        "session_id": order.session_id,
        "notification_type": order.notification_type,
        "audience": list(order.audience),
        "details": order.details,
        "state": str(order.state),
        "allowed_actions": list(order.allowed_actions),
        "stream": stream(order, details.stream),
        "owner": order.owner or None,
        "token": order.token,
        "run": order.run,
        "applied_seq": order.applied_seq,
        "notes_count": order.notes_count,
        "unsent_count": order.unsent,
        "notes": [_note(note, outbox.get(note.entry_id)) for note in details.notes],
        "deliveries": [_delivery(delivery) for delivery in details.deliveries],
        "request_id": order.origin.request_id or None,
        "trace_id": order.origin.trace_id or None,
        "created_at": rfc3339(order.created_ms),
        "updated_at": rfc3339(order.updated_ms),
    }


def _note(note: Entry, message: Message | None) -> dict[str, Any]:
    return {
        **_tracked_note(note),
        "message": note.body["message"],
        "urls": note.body["urls"],
        "relay_state": "relayed" if message is None else message.state,
        "last_error": None if message is None else message.last_error or None,
    }


def _delivery(delivery: Delivery) -> dict[str, Any]:
    return {
        "delivery_id": delivery.delivery_id,
        "follow_up_id": delivery.follow_up_id,
        "seller_id": delivery.seller_id,
        "channel": delivery.channel,
        "state": delivery.state,
        "attempts": delivery.attempts,
        "uncertain": delivery.uncertain,
        "last_error": delivery.last_error,
        "created_at": rfc3339(delivery.created_ms),
        "changed_at": rfc3339(delivery.changed_ms),
        "next_attempt_at": rfc3339(delivery.next_attempt_ms) if delivery.next_attempt_ms else None,
    }


def events(order_req_id: str, entries: Sequence[Entry], after: int) -> dict[str, Any]:
    """A part of the order's timeline."""
    return {
        "order_req_id": order_req_id,
        "events": [_event(entry) for entry in entries],
        "last_seq": entries[-1].seq if entries else after,
    }


def _event(entry: Entry) -> dict[str, Any]:
    data = {key: value for key, value in entry.body.items() if not key.startswith("processor_")}
    processor_seq = entry.body.get("processor_seq")
    return {
        "seq": entry.seq,
        "kind": entry.kind,
        "at": rfc3339(entry.body.get("processor_at_ms", entry.at_ms)),
        "origin": "requestor" if processor_seq is None else "processor",
        "processor_seq": processor_seq,
        "data": data,
    }
