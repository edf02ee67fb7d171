"""The steps of a delivery's life, as pure functions ``(snapshot, input) -> Change``.

Each changes the delivery and, while the order is live, adds an event to its stream. An order that has ended has no
stream any more: its deliveries go on, and what becomes of them is to be seen at the processor alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from processor_app.delivery.channel import AttemptResult, Verdict
from processor_app.delivery.delivery import (
    RETRYABLE,
    Delivery,
    DeliveryState,
    changed_body,
    delivery_of,
    message_of,
)
from processor_app.delivery.plan import Routes
from processor_app.delivery.retries import RetrySchedule
from processor_app.domain import change_of, event_of, existing
from service_kit.change import ACTIVE_STATES, Change, Snapshot
from service_kit.errors import Conflict, NotFound

#: What is said of a delivery whose attempts ended with the process, again and again.
OUTCOME_LOST = "The processor stopped during the attempt, so nobody knows its outcome."


class DeliveryNotFound(NotFound):
    """No delivery has this id."""

    code = "delivery_not_found"
    title = "Unknown delivery"


class DeliveryNotRetryable(Conflict):
    """The delivery's state does not allow to send it again; ``allowed_states`` names those that do."""

    code = "delivery_not_retryable"
    title = "The delivery cannot be sent again now"


def claim(
    snapshot: Snapshot, delivery_id: str, *, is_reachable: bool, schedule: RetrySchedule, lease_ms: int, now_ms: int
) -> Change | None:
    """Begin an attempt: nobody else begins one until the lease is over. None when there is nothing to begin.

    Without an address the delivery waits instead. One whose attempts were all lost with the process is dead.
    """
    delivery = _due(snapshot, delivery_id, now_ms)
    if delivery is None:
        return None
    if delivery.tries > len(schedule.pauses_s):
        return _changed(snapshot, [replace(delivery, state=DeliveryState.DEAD)], now_ms)
    if not is_reachable:
        return _changed(snapshot, [replace(delivery, state=DeliveryState.WAITING)], now_ms)
    begun = replace(delivery, state=DeliveryState.SENDING, attempts=delivery.attempts + 1, due_ms=now_ms + lease_ms)
    return _changed(snapshot, [begun], now_ms, is_told=False)


def settle(
    snapshot: Snapshot,
    delivery_id: str,
    result: AttemptResult,
    *,
    attempt: int,
    schedule: RetrySchedule,
    jitter: float,
    now_ms: int,
) -> Change | None:
    """Keep what became of an attempt; None when another attempt has begun since, whose word counts."""
    delivery = _find(snapshot, delivery_id)
    if delivery is None or delivery.state is not DeliveryState.SENDING or delivery.attempts != attempt:
        return None
    if result.verdict is Verdict.DELIVERED:
        return _changed(snapshot, [replace(delivery, state=DeliveryState.DELIVERED, last_error="")], now_ms)
    delivery = replace(delivery, last_error=result.detail or "The attempt failed.")
    if result.verdict is Verdict.UNCERTAIN:
        delivery = replace(delivery, uncertain=delivery.uncertain + 1)
    pause_ms = None
    if result.verdict in (Verdict.RETRY, Verdict.UNCERTAIN):
        pause_ms = schedule.pause_ms(delivery.tries, jitter=jitter, retry_after_s=result.retry_after_s)
    if pause_ms is None:
        return _changed(snapshot, [replace(delivery, state=DeliveryState.DEAD)], now_ms)
    again = replace(delivery, state=DeliveryState.RETRYING, due_ms=now_ms + pause_ms)
    return _changed(snapshot, [again], now_ms)


def give_up(snapshot: Snapshot, delivery_id: str, reason: str, *, now_ms: int) -> Change | None:
    """End a delivery without another attempt; None when none is due."""
    delivery = _due(snapshot, delivery_id, now_ms)
    if delivery is None:
        return None
    return _changed(snapshot, [replace(delivery, state=DeliveryState.DEAD, last_error=reason)], now_ms)


def release(snapshot: Snapshot, routes: Routes, *, now_ms: int) -> Change | None:
    """Let those of the snapshot's deliveries go that wait and whose seller can be reached now; None when none can."""
    freed = []
    for message in snapshot.messages.values():
        delivery = delivery_of(message)
        route = routes.get(delivery.seller_id)
        if delivery.state is DeliveryState.WAITING and route is not None and delivery.channel in route.reachable:
            freed.append(_anew(delivery, now_ms))
    return _changed(snapshot, sorted(freed, key=lambda d: d.seq), now_ms) if freed else None


def retry(snapshot: Snapshot, delivery_id: str, *, now_ms: int) -> Change:
    """Send a delivery again, now and with a whole schedule before it. Raises `DeliveryNotRetryable`."""
    delivery = _find(snapshot, delivery_id)
    if delivery is None:
        raise DeliveryNotFound("No delivery has this id.")
    if delivery.state not in RETRYABLE:
        raise DeliveryNotRetryable(
            f"The delivery is {delivery.state}.",
            state=str(delivery.state),
            allowed_states=[str(state) for state in RETRYABLE],
        )
    return _changed(snapshot, [_anew(delivery, now_ms)], now_ms)


def _anew(delivery: Delivery, now_ms: int) -> Delivery:
    """The delivery at the beginning of a round of attempts. What went wrong before stays to be seen until the next."""
    return replace(delivery, state=DeliveryState.PENDING, due_ms=now_ms, round_ms=now_ms, retried_at=delivery.attempts)


def _find(snapshot: Snapshot, delivery_id: str) -> Delivery | None:
    message = snapshot.messages.get(delivery_id)
    return None if message is None else delivery_of(message)


def _due(snapshot: Snapshot, delivery_id: str, now_ms: int) -> Delivery | None:
    """The delivery if an attempt is due. One whose last attempt never ended has an uncertain one more."""
    delivery = _find(snapshot, delivery_id)
    if delivery is None or delivery.state not in ACTIVE_STATES or delivery.due_ms > now_ms:
        return None
    if delivery.state is DeliveryState.SENDING:
        return replace(delivery, uncertain=delivery.uncertain + 1, last_error=OUTCOME_LOST)
    return delivery


def _changed(snapshot: Snapshot, deliveries: Sequence[Delivery], now_ms: int, *, is_told: bool = True) -> Change:
    """The Change to these deliveries, with an event for each that is told while the order's stream lasts."""
    before, order = existing(snapshot)
    deliveries = [replace(delivery, updated_ms=now_ms) for delivery in deliveries]
    puts = [message_of(delivery) for delivery in deliveries]
    if order.is_finished:
        # The time of its last change stays that of its end, from which its retention counts.
        return change_of(before, order, order.updated_ms, puts=puts)
    entries = []
    for delivery in deliveries if is_told else ():
        entry_id = f"delivery:{order.head_seq + 1}"
        entries.append(event_of(order, entry_id, "delivery_changed", now_ms, changed_body(delivery)))
        order = replace(order, head_seq=order.head_seq + 1)
    return change_of(before, order, now_ms, entries, puts=puts)
