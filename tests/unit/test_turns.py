"""Nothing overtakes an input of the same order that must come again."""

from __future__ import annotations

import pytest

from processor_app.domain import Close, FollowUp, OpenStream, OrderFinished, OrderState
from processor_app.rpc.turns import Turns
from service_kit.change import Ref
from service_kit.errors import StoreUnavailable

A1, B2 = Ref("default", "A1"), Ref("default", "B2")


def note(name: str, ref: Ref = A1) -> FollowUp:
    return FollowUp(ref, name, 1, ("seller1",), "text", "hello", (), 0)


def close(run: int, ref: Ref = A1) -> Close:
    return Close(ref, OrderState.COMPLETED, by="buyer", token=1, run=run)


def opening(ref: Ref = A1) -> OpenStream:
    return OpenStream(ref, "s1", "none", (), None, token=1, stream_id="st1", resume_after=0, run=1)


@pytest.fixture
def turns() -> Turns:
    """After a commit that failed with two notes of one order in it."""
    made = Turns()
    failed = [note("n1"), note("n2")]
    assert all(made.is_due(item) for item in failed)
    for item in failed:
        made.note(item, StoreUnavailable())
    return made


def test_what_was_sent_behind_a_note_waits_until_that_note_comes_again(turns: Turns) -> None:
    assert [turns.is_due(item) for item in (note("n3"), close(1))] == [False, False]
    assert [turns.is_due(note(name)) for name in ("n1", "n2", "n3")] == [True, True, True]
    assert turns.is_due(close(1))


def test_a_note_that_fails_once_more_is_waited_for_once_more(turns: Turns) -> None:
    assert turns.is_due(note("n1"))
    turns.note(note("n1"), StoreUnavailable())
    assert not turns.is_due(note("n2"))


def test_other_orders_and_openings_do_not_wait(turns: Turns) -> None:
    assert turns.is_due(note("n1", B2))
    assert turns.is_due(opening())
    assert not turns.is_due(note("n2"))


def test_an_opening_that_fails_makes_nobody_wait(turns: Turns) -> None:
    turns.note(opening(B2), StoreUnavailable())
    assert turns.is_due(note("n9", B2))


def test_a_note_that_is_never_taken_holds_up_nothing() -> None:
    turns = Turns()
    turns.note(note("n1"), OrderFinished())
    assert turns.is_due(note("n2"))


def test_a_close_is_waited_for_by_its_run() -> None:
    turns = Turns()
    turns.note(close(1), StoreUnavailable())
    assert not turns.is_due(close(3))
    assert turns.is_due(close(1))
    assert turns.is_due(close(3))
