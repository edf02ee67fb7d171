from __future__ import annotations

from typing import Any

from requestor_app.deliveries import deliveries_of
from service_kit.change import Entry


def entry(number: int, kind: str, **body: Any) -> Entry:
    return Entry(number, f"e{number}", kind, 1, {"processor_seq": number, "processor_at_ms": 1000 + number, **body})


def planned(delivery_id: str, seller_id: str = "s1", state: str = "pending") -> dict[str, str]:
    return {"delivery_id": delivery_id, "seller_id": seller_id, "channel": "email", "state": state}


def changed(number: int, delivery_id: str, state: str, **body: Any) -> Entry:
    values = {**planned(delivery_id, state=state), "follow_up_id": "n1", "attempts": 1, "last_error": "", **body}
    return entry(number, "delivery_changed", **values)


def test_a_delivery_is_pending_from_the_event_that_accepts_its_note() -> None:
    (delivery,) = deliveries_of([entry(1, "follow_up_accepted", follow_up_id="n1", deliveries=[planned("d1")])])
    assert (delivery.state, delivery.follow_up_id, delivery.seller_id) == ("pending", "n1", "s1")
    assert (delivery.attempts, delivery.created_ms, delivery.changed_ms) == (0, 1001, 1001)


def test_the_order_itself_is_a_delivery_without_a_follow_up() -> None:
    (delivery,) = deliveries_of([entry(1, "accepted", deliveries=[planned("d1", state="waiting")])])
    assert (delivery.state, delivery.follow_up_id) == ("waiting", "")


def test_the_last_event_says_how_each_stands_in_the_order_of_their_beginnings() -> None:
    entries = [
        entry(1, "follow_up_accepted", follow_up_id="n1", deliveries=[planned("d1"), planned("d2", "s2")]),
        changed(2, "d2", "retrying", last_error="Busy.", next_attempt_ms=5000, uncertain=1),
        changed(3, "d1", "retrying", last_error="Busy."),
        changed(4, "d1", "delivered", attempts=2),
    ]
    first, second = deliveries_of(entries)
    assert (first.delivery_id, first.state, first.attempts, first.last_error) == ("d1", "delivered", 2, "")
    assert (first.created_ms, first.changed_ms) == (1001, 1004)
    assert (second.state, second.last_error, second.next_attempt_ms, second.uncertain) == ("retrying", "Busy.", 5000, 1)


def test_a_change_of_a_delivery_whose_beginning_is_not_kept_is_shown() -> None:
    (delivery,) = deliveries_of([changed(7, "d1", "dead", last_error="No.")])
    assert (delivery.state, delivery.follow_up_id, delivery.created_ms) == ("dead", "n1", 1007)


def test_events_of_a_processor_that_told_less_are_read() -> None:
    old = {"delivery_id": "d1", "follow_up_id": "", "seller_id": "s1", "channel": "email", "state": "delivered"}
    entries = [entry(1, "accepted"), entry(2, "delivery_changed", **old, attempts=1, last_error="")]
    (delivery,) = deliveries_of(entries)
    assert (delivery.state, delivery.uncertain, delivery.next_attempt_ms) == ("delivered", 0, 0)
