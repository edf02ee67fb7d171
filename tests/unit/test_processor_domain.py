from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from processor_app import domain, steps
from processor_app.delivery.delivery import DeliveryState, delivery_of
from processor_app.delivery.plan import Route
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
ROUTES = {"seller1": Route(frozenset(["email"]), ())}
REPLY = Reply(REF, "r1", "seller1", Answer.ACCEPTED, "fine")
EMPTY = Snapshot(None)


def after(snapshot: Snapshot, change: Change | None) -> Snapshot:
    """What a store holds once the change is applied; it checks what a store checks."""
    assert change is not None
    before = snapshot.record
    assert change.expect == (None if before is None else before.version)
    assert change.record.version == (0 if before is None else before.version) + 1
    assert not set(snapshot.entries) & {entry.entry_id for entry in change.entries}
    entries = {**snapshot.entries, **{entry.entry_id: entry for entry in change.entries}}
    return Snapshot(change.record, entries, {**snapshot.messages, **{m.message_id: m for m in change.puts}})


def the_order(snapshot: Snapshot) -> Order:
    assert snapshot.record is not None
    return order_of(snapshot.record)


def opened(snapshot: Snapshot = EMPTY, **other: Any) -> Snapshot:
    return after(snapshot, steps.open_stream(snapshot, replace(WISH, **other), routes=ROUTES, now_ms=1000))


def noted(snapshot: Snapshot) -> Snapshot:
    return after(snapshot, steps.accept_follow_up(snapshot, NOTE, routes=ROUTES, now_ms=1100))


def replied(snapshot: Snapshot) -> Snapshot:
    return after(snapshot, steps.accept_reply(snapshot, REPLY, now_ms=1200))


def ended(snapshot: Snapshot, end: OrderState = OrderState.COMPLETED) -> Snapshot:
    return after(snapshot, steps.close(snapshot, Close(REF, end, "seller", "done"), now_ms=1300))


# ---- open


def test_the_first_opening_creates_the_order_with_an_accepted_event() -> None:
    snapshot = opened()
    order = the_order(snapshot)
    assert (order.state, order.token, order.run, order.run_start, order.head_seq) == (OrderState.LIVE, 5, 5, 0, 1)
    (entry,) = snapshot.entries.values()
    assert (entry.seq, entry.kind) == (1, "accepted")
    assert (entry.body["run"], entry.body["notification_type"], entry.body["audience"]) == (5, "email", ["seller1"])


def test_an_opening_with_an_equal_token_changes_nothing() -> None:
    assert steps.open_stream(opened(), replace(WISH, stream_id="st2"), routes=ROUTES, now_ms=1) is None


@pytest.mark.parametrize("other", [{"token": 4, "run": 4}, {"token": 4}, {"token": 6, "run": 4}], ids=str)
def test_an_opening_with_a_lower_token_or_run_is_fenced(other: dict[str, Any]) -> None:
    with pytest.raises(Fenced) as caught:
        steps.open_stream(opened(), replace(WISH, **other), routes=ROUTES, now_ms=1)
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
    assert steps.open_stream(ended(opened()), replace(WISH, resume_after=1), routes=ROUTES, now_ms=1) is None


def test_a_requestor_that_knows_more_events_has_diverged() -> None:
    with pytest.raises(Diverged):
        steps.open_stream(opened(), replace(WISH, resume_after=2), routes=ROUTES, now_ms=1)
    with pytest.raises(Diverged):
        steps.open_stream(EMPTY, replace(WISH, resume_after=1), routes=ROUTES, now_ms=1)
    with pytest.raises(Diverged):
        steps.open_stream(opened(), replace(WISH, token=7, run=7, resume_after=1), routes=ROUTES, now_ms=1)


# ---- what is sent


def test_a_new_order_is_sent_to_its_audience_by_the_change_that_accepts_it() -> None:
    change = steps.open_stream(EMPTY, replace(WISH, details={"colour": "red"}), routes=ROUTES, now_ms=1000)
    assert change is not None
    (message,) = change.puts
    delivery = delivery_of(message)
    assert (delivery.seller_id, delivery.channel, delivery.state, delivery.seq) == ("seller1", "email", "pending", 1)
    (entry,) = change.entries
    assert entry.body["deliveries"] == [
        {"delivery_id": delivery.delivery_id, "seller_id": "seller1", "channel": "email", "state": "pending"}
    ]
    assert entry.body["details"] == {"colour": "red"}


def test_a_follow_up_is_sent_to_its_own_audience() -> None:
    note = replace(NOTE, audience=("seller2", "seller1"))
    change = steps.accept_follow_up(opened(), note, routes=ROUTES, now_ms=1100)
    assert change is not None
    sent = [delivery_of(message) for message in change.puts]
    assert [(d.seller_id, d.state, d.follow_up_id, d.seq, d.run) for d in sent] == [
        ("seller2", DeliveryState.WAITING, "n1", 2, 5),
        ("seller1", DeliveryState.PENDING, "n1", 2, 5),
    ]
    assert [told["delivery_id"] for told in change.entries[0].body["deliveries"]] == [d.delivery_id for d in sent]


def test_an_order_without_a_channel_sends_nothing_and_says_nothing_of_it() -> None:
    snapshot = noted(opened(notification_type="none"))
    assert snapshot.messages == {}
    assert all("deliveries" not in entry.body and "details" not in entry.body for entry in snapshot.entries.values())


def test_what_is_opened_or_noted_again_is_not_sent_again() -> None:
    snapshot = noted(opened())
    taken = opened(snapshot, token=6, resume_after=2)
    assert taken.messages == snapshot.messages
    assert steps.accept_follow_up(taken, replace(NOTE, token=6), routes={}, now_ms=1) is None


def test_a_new_run_is_sent_anew_under_other_names() -> None:
    snapshot = ended(opened())
    again = opened(snapshot, token=7, run=7)
    assert set(snapshot.messages) < set(again.messages)
    assert [delivery_of(message).run for message in again.messages.values()] == [5, 7]


# ---- follow-ups


def test_a_follow_up_becomes_the_next_event() -> None:
    snapshot = noted(opened())
    assert (the_order(snapshot).head_seq, the_order(snapshot).notes_count) == (2, 1)
    assert snapshot.entries["note:n1"].kind == "follow_up_accepted"
    assert snapshot.entries["note:n1"].body["run"] == 5


def test_the_same_follow_up_again_changes_nothing_even_after_the_end() -> None:
    assert steps.accept_follow_up(noted(opened()), NOTE, routes=ROUTES, now_ms=1) is None
    assert steps.accept_follow_up(ended(noted(opened())), NOTE, routes=ROUTES, now_ms=1) is None


def test_the_same_follow_up_in_a_later_run_changes_nothing() -> None:
    snapshot = opened(ended(noted(opened())), token=7, run=7)
    assert steps.accept_follow_up(snapshot, replace(NOTE, token=7), routes=ROUTES, now_ms=1) is None


def test_a_follow_up_id_with_other_content_is_taken() -> None:
    with pytest.raises(IdTaken):
        steps.accept_follow_up(noted(opened()), replace(NOTE, message="bye"), routes=ROUTES, now_ms=1)


def test_a_follow_up_under_a_lower_token_is_fenced_even_when_it_is_known() -> None:
    for snapshot in (opened(), noted(opened())):
        with pytest.raises(Fenced):
            steps.accept_follow_up(snapshot, replace(NOTE, token=4), routes=ROUTES, now_ms=1)


@pytest.mark.parametrize("end", [OrderState.COMPLETED, OrderState.CANCELLED])
def test_a_finished_order_takes_nothing_more(end: OrderState) -> None:
    snapshot = ended(opened(), end)
    with pytest.raises(OrderFinished) as caught:
        steps.accept_follow_up(snapshot, NOTE, routes=ROUTES, now_ms=1)
    assert caught.value.extra == {"allowed_actions": [], "state": str(end)}
    with pytest.raises(OrderFinished):
        steps.accept_reply(snapshot, REPLY, now_ms=1)


def test_an_unknown_order_takes_nothing() -> None:
    with pytest.raises(OrderNotFound):
        steps.accept_follow_up(EMPTY, NOTE, routes=ROUTES, now_ms=1)
    with pytest.raises(OrderNotFound):
        steps.accept_reply(EMPTY, REPLY, now_ms=1)
    with pytest.raises(OrderNotFound):
        steps.close(EMPTY, Close(REF, OrderState.COMPLETED, "seller"), now_ms=1)


# ---- replies


def test_a_reply_becomes_the_next_event() -> None:
    snapshot = replied(opened())
    assert snapshot.entries["reply:r1"].seq == 2
    assert snapshot.entries["reply:r1"].body["answer"] == "accepted"


def test_the_same_reply_again_changes_nothing_even_after_the_end() -> None:
    assert steps.accept_reply(replied(opened()), REPLY, now_ms=1) is None
    assert steps.accept_reply(ended(replied(opened())), REPLY, now_ms=1) is None


@pytest.mark.parametrize("other", [{"answer": Answer.DECLINED}, {"message": ""}, {"follow_up_id": "n1"}], ids=str)
def test_a_reply_id_with_other_content_is_taken(other: dict[str, Any]) -> None:
    with pytest.raises(IdTaken):
        steps.accept_reply(replied(opened()), replace(REPLY, **other), now_ms=1)


# ---- close


@pytest.mark.parametrize("end", [OrderState.COMPLETED, OrderState.CANCELLED])
def test_a_close_is_the_last_event_of_the_run(end: OrderState) -> None:
    snapshot = ended(opened(), end)
    assert the_order(snapshot).state is end
    assert (snapshot.entries["end:5"].kind, snapshot.entries["end:5"].seq) == (str(end), 2)
    assert snapshot.entries["end:5"].body == {"run": 5, "by": "seller", "reason": "done"}


def test_a_close_again_changes_nothing() -> None:
    assert steps.close(ended(opened()), Close(REF, OrderState.COMPLETED, "buyer", token=5), now_ms=1) is None


def test_a_close_the_other_way_is_refused() -> None:
    with pytest.raises(OrderFinished):
        steps.close(ended(opened()), Close(REF, OrderState.CANCELLED, "buyer", token=5), now_ms=1)


def test_a_close_under_a_lower_token_is_fenced_and_the_seller_side_needs_none() -> None:
    with pytest.raises(Fenced):
        steps.close(opened(), Close(REF, OrderState.CANCELLED, "buyer", token=4), now_ms=1)
    assert steps.close(opened(), Close(REF, OrderState.COMPLETED, "seller"), now_ms=1) is not None


def test_a_close_ends_its_own_run_and_no_later_one() -> None:
    second = opened(ended(opened()), token=6, run=6)
    for run in (4, 7):
        with pytest.raises(RunEnded):
            steps.close(second, Close(REF, OrderState.COMPLETED, "buyer", token=6, run=run), now_ms=1)
    for run in (0, 6):
        assert steps.close(second, Close(REF, OrderState.COMPLETED, "buyer", token=6, run=run), now_ms=1) is not None


def test_a_close_of_an_earlier_run_changes_nothing_if_that_run_ended_so() -> None:
    second = opened(ended(opened()), token=6, run=6)
    assert steps.close(second, Close(REF, OrderState.COMPLETED, "buyer", token=6, run=5), now_ms=1) is None
    with pytest.raises(RunEnded):
        steps.close(second, Close(REF, OrderState.CANCELLED, "buyer", token=6, run=5), now_ms=1)


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
        self.step(partial(steps.open_stream, routes=ROUTES), wish)

    @rule(number=st.integers(1, 4), token=st.integers(1, 6), message=st.sampled_from(["a", "b"]))
    def follow_up(self, number: int, token: int, message: str) -> None:
        note = replace(NOTE, follow_up_id=f"n{number}", token=token, message=message)
        self.step(partial(steps.accept_follow_up, routes=ROUTES), note)

    @rule(number=st.integers(1, 4))
    def reply(self, number: int) -> None:
        self.step(steps.accept_reply, replace(REPLY, reply_id=f"r{number}"))

    @rule(end=st.sampled_from([OrderState.COMPLETED, OrderState.CANCELLED]), token=st.none() | st.integers(1, 6))
    def close(self, end: OrderState, token: int | None) -> None:
        self.step(steps.close, Close(REF, end, "seller", token=token))

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
