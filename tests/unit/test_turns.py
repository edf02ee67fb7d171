"""Nothing overtakes an input of the same order that must come again."""

from __future__ import annotations

import pytest

from processor_app.domain import OrderFinished
from processor_app.rpc.turns import Turns
from proto import order_service_pb2 as wire
from service_kit.errors import StoreUnavailable


def note(name: str, *, sending: int, order: str = "A1") -> wire.FollowUpRequest:
    return wire.FollowUpRequest(order_req_id=order, follow_up_id=name, sending=sending)


def close(*, sending: int, order: str = "A1") -> wire.CloseOrderRequest:
    return wire.CloseOrderRequest(order_req_id=order, sending=sending)


def opening(order: str = "A1") -> wire.OrderStreamRequest:
    return wire.OrderStreamRequest(order_req_id=order)


@pytest.fixture
def turns() -> Turns:
    """After a commit that failed with two notes of one order in it."""
    made = Turns()
    failed = [note("n1", sending=3), note("n2", sending=3)]
    assert all(made.is_due(request) for request in failed)
    for request in failed:
        made.note(request, StoreUnavailable())
    return made


def test_what_was_sent_behind_a_failure_waits_for_the_next_sending(turns: Turns) -> None:
    assert not turns.is_due(note("n3", sending=3))
    assert not turns.is_due(close(sending=3))
    assert turns.is_due(note("n1", sending=4))
    assert turns.is_due(close(sending=4))


def test_the_next_sending_may_begin_behind_a_note_that_was_answered_meanwhile(turns: Turns) -> None:
    assert turns.is_due(note("n2", sending=4))


def test_a_sending_that_fails_again_waits_for_one_more(turns: Turns) -> None:
    assert turns.is_due(note("n1", sending=4))
    turns.note(note("n1", sending=4), StoreUnavailable())
    assert not turns.is_due(note("n2", sending=4))
    assert turns.is_due(note("n1", sending=5))


def test_other_orders_and_openings_do_not_wait(turns: Turns) -> None:
    assert turns.is_due(note("n1", sending=1, order="B2"))
    assert turns.is_due(opening())
    assert not turns.is_due(note("n3", sending=3))


def test_an_opening_that_fails_makes_nobody_wait(turns: Turns) -> None:
    turns.note(opening("B2"), StoreUnavailable())
    assert turns.is_due(note("n1", sending=1, order="B2"))


def test_a_note_that_is_never_taken_makes_nobody_wait() -> None:
    turns = Turns()
    turns.note(note("n1", sending=1), OrderFinished())
    assert turns.is_due(note("n2", sending=1))


def test_who_does_not_count_the_sendings_is_never_held_up(turns: Turns) -> None:
    assert turns.is_due(note("n3", sending=0))
    turns.note(note("n1", sending=0, order="B2"), StoreUnavailable())
    assert turns.is_due(note("n2", sending=0, order="B2"))
