from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from processor_app import domain
from processor_app.domain import (
    Answer,
    Close,
    FollowUp,
    IdTaken,
    OpenStream,
    Order,
    OrderFinished,
    OrderNotFound,
    OrderState,
    Reply,
    RunEnded,
    order_of,
)
from service_kit.change import Change, Ref, Snapshot
from service_kit.errors import Diverged, Fenced, ServiceError

REF = Ref("default", "A1")
WISH = OpenStream(REF, "s1", "email", ("seller1",), None, token=5, stream_id="st1", resume_after=0, run=5)
NOTE = FollowUp(REF, "n1", 5, ("seller1",), "text", "hello", (), 900)
REPLY = Reply(REF, "r1", "seller1", Answer.ACCEPTED, "fine")
EMPTY = Snapshot(None)


def after(snapshot: Snapshot, change: Change | None) -> Snapshot:
    """What a store holds once the change is applied; it checks what a store checks."""
    assert change is not None
    before = snapshot.record
    assert change.expect == (None if before is None else before.version)
    assert change.record.version == (0 if before is None else before.version) + 1
    assert not set(snapshot.entries) & {entry.entry_id for entry in change.entries}
    return Snapshot(change.record, {**snapshot.entries, **{entry.entry_id: entry for entry in change.entries}})


def the_order(snapshot: Snapshot) -> Order:
    assert snapshot.record is not None
    return order_of(snapshot.record)


def opened(snapshot: Snapshot = EMPTY, **other: Any) -> Snapshot:
    return after(snapshot, domain.open_stream(snapshot, replace(WISH, **other), now_ms=1000))


def noted(snapshot: Snapshot) -> Snapshot:
    return after(snapshot, domain.accept_follow_up(snapshot, NOTE, now_ms=1100))


def replied(snapshot: Snapshot) -> Snapshot:
    return after(snapshot, domain.accept_reply(snapshot, REPLY, now_ms=1200))


def ended(snapshot: Snapshot, end: OrderState = OrderState.COMPLETED) -> Snapshot:
    return after(snapshot, domain.close(snapshot, Close(REF, end, "seller", "done"), now_ms=1300))


# ---- open


def test_the_first_opening_creates_the_order_with_an_accepted_event() -> None:
    snapshot = opened()
    order = the_order(snapshot)
    assert (order.state, order.token, order.run, order.run_start, order.head_seq) == (OrderState.LIVE, 5, 5, 0, 1)
    (entry,) = snapshot.entries.values()
    assert (entry.seq, entry.kind) == (1, "accepted")
    assert entry.body == {"run": 5, "notification_type": "email", "audience": ["seller1"]}


def test_an_opening_with_an_equal_token_changes_nothing() -> None:
    assert domain.open_stream(opened(), replace(WISH, stream_id="st2"), now_ms=1) is None


@pytest.mark.parametrize("other", [{"token": 4, "run": 4}, {"token": 4}, {"token": 6, "run": 4}], ids=str)
def test_an_opening_with_a_lower_token_or_run_is_fenced(other: dict[str, Any]) -> None:
    with pytest.raises(Fenced) as caught:
        domain.open_stream(opened(), replace(WISH, **other), now_ms=1)
    assert caught.value.extra["highest_token"] == 5


def test_an_opening_with_a_higher_token_takes_over_without_an_event() -> None:
    snapshot = noted(opened())
    taken = opened(snapshot, token=6, resume_after=2)
    assert (the_order(taken).token, the_order(taken).run, the_order(taken).head_seq) == (6, 5, 2)
    assert taken.entries == snapshot.entries


@pytest.mark.parametrize("is_finished", [False, True])
def test_an_opening_with_a_higher_run_begins_the_order_anew(is_finished: bool) -> None:
    snapshot = ended(noted(opened())) if is_finished else noted(opened())
    head_seq = the_order(snapshot).head_seq
    order = the_order(opened(snapshot, token=7, run=7, session_id="s2"))
    assert (order.state, order.run, order.run_start, order.head_seq) == (OrderState.LIVE, 7, head_seq, head_seq + 1)
    assert (order.session_id, order.notes_count, order.created_ms) == ("s2", 1, 1000)


def test_a_finished_order_may_be_opened_again_in_the_same_run() -> None:
    assert domain.open_stream(ended(opened()), replace(WISH, resume_after=1), now_ms=1) is None


def test_a_requestor_that_knows_more_events_has_diverged() -> None:
    with pytest.raises(Diverged):
        domain.open_stream(opened(), replace(WISH, resume_after=2), now_ms=1)
    with pytest.raises(Diverged):
        domain.open_stream(EMPTY, replace(WISH, resume_after=1), now_ms=1)
    with pytest.raises(Diverged):
        domain.open_stream(opened(), replace(WISH, token=7, run=7, resume_after=1), now_ms=1)


# ---- follow-ups


def test_a_follow_up_becomes_the_next_event() -> None:
    snapshot = noted(opened())
    assert (the_order(snapshot).head_seq, the_order(snapshot).notes_count) == (2, 1)
    assert snapshot.entries["note:n1"].kind == "follow_up_accepted"
    assert snapshot.entries["note:n1"].body["run"] == 5


def test_the_same_follow_up_again_changes_nothing_even_after_the_end() -> None:
    assert domain.accept_follow_up(noted(opened()), NOTE, now_ms=1) is None
    assert domain.accept_follow_up(ended(noted(opened())), NOTE, now_ms=1) is None


def test_the_same_follow_up_in_a_later_run_changes_nothing() -> None:
    snapshot = opened(ended(noted(opened())), token=7, run=7)
    assert domain.accept_follow_up(snapshot, replace(NOTE, token=7), now_ms=1) is None


def test_a_follow_up_id_with_other_content_is_taken() -> None:
    with pytest.raises(IdTaken):
        domain.accept_follow_up(noted(opened()), replace(NOTE, message="bye"), now_ms=1)


def test_a_follow_up_under_a_lower_token_is_fenced_even_when_it_is_known() -> None:
    for snapshot in (opened(), noted(opened())):
        with pytest.raises(Fenced):
            domain.accept_follow_up(snapshot, replace(NOTE, token=4), now_ms=1)


@pytest.mark.parametrize("end", [OrderState.COMPLETED, OrderState.CANCELLED])
def test_a_finished_order_takes_nothing_more(end: OrderState) -> None:
    snapshot = ended(opened(), end)
    with pytest.raises(OrderFinished) as caught:
        domain.accept_follow_up(snapshot, NOTE, now_ms=1)
    assert caught.value.extra == {"allowed_actions": [], "state": str(end)}
    with pytest.raises(OrderFinished):
        domain.accept_reply(snapshot, REPLY, now_ms=1)


def test_an_unknown_order_takes_nothing() -> None:
    with pytest.raises(OrderNotFound):
        domain.accept_follow_up(EMPTY, NOTE, now_ms=1)
    with pytest.raises(OrderNotFound):
        domain.accept_reply(EMPTY, REPLY, now_ms=1)
    with pytest.raises(OrderNotFound):
        domain.close(EMPTY, Close(REF, OrderState.COMPLETED, "seller"), now_ms=1)


# ---- replies


def test_a_reply_becomes_the_next_event() -> None:
    snapshot = replied(opened())
    assert snapshot.entries["reply:r1"].seq == 2
    assert snapshot.entries["reply:r1"].body["answer"] == "accepted"


def test_the_same_reply_again_changes_nothing_even_after_the_end() -> None:
    assert domain.accept_reply(replied(opened()), REPLY, now_ms=1) is None
    assert domain.accept_reply(ended(replied(opened())), REPLY, now_ms=1) is None


@pytest.mark.parametrize("other", [{"answer": Answer.DECLINED}, {"message": ""}, {"follow_up_id": "n1"}], ids=str)
def test_a_reply_id_with_other_content_is_taken(other: dict[str, Any]) -> None:
    with pytest.raises(IdTaken):
        domain.accept_reply(replied(opened()), replace(REPLY, **other), now_ms=1)


# ---- close


@pytest.mark.parametrize("end", [OrderState.COMPLETED, OrderState.CANCELLED])
def test_a_close_is_the_last_event_of_the_run(end: OrderState) -> None:
    snapshot = ended(opened(), end)
    assert the_order(snapshot).state is end
    assert (snapshot.entries["end:5"].kind, snapshot.entries["end:5"].seq) == (str(end), 2)
    assert snapshot.entries["end:5"].body == {"run": 5, "by": "seller", "reason": "done"}


def test_a_close_again_changes_nothing() -> None:
    assert domain.close(ended(opened()), Close(REF, OrderState.COMPLETED, "buyer", token=5), now_ms=1) is None


def test_a_close_the_other_way_is_refused() -> None:
    with pytest.raises(OrderFinished):
        domain.close(ended(opened()), Close(REF, OrderState.CANCELLED, "buyer", token=5), now_ms=1)


def test_a_close_under_a_lower_token_is_fenced_and_the_seller_side_needs_none() -> None:
    with pytest.raises(Fenced):
        domain.close(opened(), Close(REF, OrderState.CANCELLED, "buyer", token=4), now_ms=1)
    assert domain.close(opened(), Close(REF, OrderState.COMPLETED, "seller"), now_ms=1) is not None


def test_a_close_ends_its_own_run_and_no_later_one() -> None:
    second = opened(ended(opened()), token=6, run=6)
    for run in (4, 7):
        with pytest.raises(RunEnded):
            domain.close(second, Close(REF, OrderState.COMPLETED, "buyer", token=6, run=run), now_ms=1)
    for run in (0, 6):
        assert domain.close(second, Close(REF, OrderState.COMPLETED, "buyer", token=6, run=run), now_ms=1) is not None


def test_a_close_of_an_earlier_run_changes_nothing_if_that_run_ended_so() -> None:
    second = opened(ended(opened()), token=6, run=6)
    assert domain.close(second, Close(REF, OrderState.COMPLETED, "buyer", token=6, run=5), now_ms=1) is None
    with pytest.raises(RunEnded):
        domain.close(second, Close(REF, OrderState.CANCELLED, "buyer", token=6, run=5), now_ms=1)


class ProcessorLife(RuleBasedStateMachine):
    """Anything that may come, in any order and again; refusals change nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.snapshot = EMPTY
        self.highest_token = 0

    def step(self, decide: Any, item: Any) -> None:
        try:
            change = decide(self.snapshot, item, now_ms=1)
        except ServiceError:
            return
        if change is not None:
            self.snapshot = after(self.snapshot, change)

    @rule(token=st.integers(1, 6), run=st.integers(1, 6), resume_after=st.integers(0, 4))
    def open(self, token: int, run: int, resume_after: int) -> None:
        wish = replace(WISH, token=token, run=min(run, token), resume_after=resume_after)
        self.step(domain.open_stream, wish)

    @rule(number=st.integers(1, 4), token=st.integers(1, 6), message=st.sampled_from(["a", "b"]))
    def follow_up(self, number: int, token: int, message: str) -> None:
        note = replace(NOTE, follow_up_id=f"n{number}", token=token, message=message)
        self.step(domain.accept_follow_up, note)

    @rule(number=st.integers(1, 4))
    def reply(self, number: int) -> None:
        self.step(domain.accept_reply, replace(REPLY, reply_id=f"r{number}"))

    @rule(end=st.sampled_from([OrderState.COMPLETED, OrderState.CANCELLED]), token=st.none() | st.integers(1, 6))
    def close(self, end: OrderState, token: int | None) -> None:
        self.step(domain.close, Close(REF, end, "seller", token=token))

    @invariant()
    def the_log_has_no_gap(self) -> None:
        numbers = sorted(entry.seq for entry in self.snapshot.entries.values())
        assert numbers == list(range(1, len(numbers) + 1))

    @precondition(lambda self: self.snapshot.record is not None)
    @invariant()
    def the_record_agrees_with_the_log(self) -> None:
        order = the_order(self.snapshot)
        entries = sorted(self.snapshot.entries.values(), key=lambda entry: entry.seq)
        assert order.head_seq == len(entries)
        assert order.is_finished == (entries[-1].kind in domain.FINISHED)
        assert order.notes_count == sum(entry.kind == "follow_up_accepted" for entry in entries)
        assert [entry.body["run"] for entry in entries] == sorted(entry.body["run"] for entry in entries)
        assert order.token >= self.highest_token
        self.highest_token = order.token


ProcessorLife.TestCase.settings = settings(deadline=None, max_examples=100, stateful_step_count=30)
test_whatever_comes_the_events_have_no_gap = ProcessorLife.TestCase
