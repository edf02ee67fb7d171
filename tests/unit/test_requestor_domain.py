from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from requestor_app import domain
from requestor_app.domain import (
    MAX_UNSENT_PER_ORDER,
    Acknowledgement,
    ActionRefused,
    CloseKind,
    Event,
    FollowUp,
    FollowUpConflict,
    Order,
    OrderHeld,
    OrderNotFound,
    OrderRequest,
    OrderState,
    Outcome,
    TooManyUnsent,
    order_of,
)
from service_kit.change import Change, Ref, Snapshot
from service_kit.errors import Fenced

REF = Ref("default", "A1")
REQUEST = OrderRequest(REF, "s1", "email", ("seller1",), {"colour": "red"})
NOTE = FollowUp(REF, "n1", ("seller1",), "text", "hello", ("https://a.example/x",))
EMPTY = Snapshot(None)


def after(snapshot: Snapshot, change: Change | None) -> Snapshot:
    """What a store holds once the change is applied; it checks what a store checks."""
    assert change is not None
    before = snapshot.record
    assert change.expect == (None if before is None else before.version)
    assert change.record.version == (0 if before is None else before.version) + 1
    assert not set(snapshot.entries) & {entry.entry_id for entry in change.entries}
    messages = {**snapshot.messages, **{message.message_id: message for message in change.puts}}
    for message_id in change.settles:
        del messages[message_id]
    return Snapshot(change.record, {**snapshot.entries, **{e.entry_id: e for e in change.entries}}, messages)


def the_order(snapshot: Snapshot) -> Order:
    assert snapshot.record is not None
    return order_of(snapshot.record)


def initiated(snapshot: Snapshot = EMPTY, *, token_floor: int = 0) -> Snapshot:
    snapshot = replace(snapshot, token_floor=token_floor)
    return after(snapshot, domain.initiate(snapshot, REQUEST, owner="me", now_ms=1000))


def noted(snapshot: Snapshot, note: FollowUp = NOTE) -> Snapshot:
    return after(snapshot, domain.add_follow_up(snapshot, note, now_ms=1100))


def closing(snapshot: Snapshot, kind: CloseKind = CloseKind.COMPLETE) -> Snapshot:
    return after(snapshot, domain.request_close(snapshot, kind, "done", now_ms=1200))


def event(seq: int, kind: str = "seller_replied", *, run: int = 1, **body: Any) -> Event:
    return Event(REF, seq, run, kind, 1300 + seq, body)


def received(snapshot: Snapshot, *events: Event, answers: tuple[Acknowledgement, ...] = (), token: int = 1) -> Snapshot:
    return after(snapshot, domain.receive(snapshot, events, answers, token=token, now_ms=1400))


def finished(snapshot: Snapshot | None = None, kind: str = "completed") -> Snapshot:
    return received(snapshot or initiated(), event(1, "accepted"), event(2, kind))


def applied_numbers(snapshot: Snapshot) -> list[int]:
    entries = sorted(snapshot.entries.values(), key=lambda entry: entry.seq)
    return [entry.body["processor_seq"] for entry in entries if "processor_seq" in entry.body]


# ---- initiate


def test_a_new_order_is_claimed_with_a_log_entry() -> None:
    snapshot = initiated()
    order = the_order(snapshot)
    assert (order.state, order.owner, order.token, order.run, order.head) == (OrderState.LIVE, "me", 1, 1, 1)
    assert (order.session_id, order.audience, order.details) == ("s1", ("seller1",), {"colour": "red"})
    assert [entry.kind for entry in snapshot.entries.values()] == ["initiated"]


def test_a_new_order_begins_above_the_token_floor() -> None:
    assert the_order(initiated(token_floor=41)).token == 42


@pytest.mark.parametrize("state", ["live", "closing"])
def test_the_same_order_again_changes_nothing_while_it_is_unfinished(state: str) -> None:
    snapshot = initiated() if state == "live" else closing(initiated())
    assert domain.initiate(snapshot, REQUEST, owner="other", now_ms=2000) is None


@pytest.mark.parametrize(
    "other",
    [
        {"session_id": "s2"},
        {"notification_type": "none"},
        {"audience": ()},
        {"audience": ("seller2",)},
        {"details": None},
        {"details": {"colour": "blue"}},
    ],
    ids=str,
)
@pytest.mark.parametrize("state", ["live", "closing"])
def test_an_unfinished_order_with_other_content_is_held(other: dict[str, Any], state: str) -> None:
    snapshot = initiated() if state == "live" else closing(initiated())
    with pytest.raises(OrderHeld) as caught:
        domain.initiate(snapshot, replace(REQUEST, **other), owner="me", now_ms=2000)
    assert "s1" not in caught.value.detail


@pytest.mark.parametrize("end", ["completed", "cancelled"])
def test_a_finished_order_begins_a_new_run_with_a_higher_token(end: str) -> None:
    before = finished(noted(initiated()), end)
    request = replace(REQUEST, session_id="s2", details=None)
    snapshot = after(before, domain.initiate(before, request, owner="me", now_ms=5000))
    order = the_order(snapshot)
    assert (order.state, order.token, order.run, order.applied_seq) == (OrderState.LIVE, 2, 2, 0)
    assert (order.session_id, order.details, order.created_ms, order.notes_count) == ("s2", None, 1000, 1)
    assert order.head == the_order(before).head + 1


def test_a_new_run_is_above_the_token_floor_too() -> None:
    assert the_order(initiated(finished(), token_floor=70)).token == 71
    assert the_order(initiated(finished(initiated()), token_floor=0)).token == 2


# ---- take over


def test_a_takeover_raises_the_token_and_keeps_the_run() -> None:
    snapshot = received(initiated(), event(1, "accepted"))
    order = the_order(after(snapshot, domain.take_over(snapshot, owner="heir", now_ms=2000)))
    assert (order.owner, order.token, order.run, order.applied_seq) == ("heir", 2, 1, 1)


def test_there_is_nothing_to_take_over_of_an_absent_an_own_or_a_finished_order() -> None:
    assert domain.take_over(EMPTY, owner="heir", now_ms=2000) is None
    assert domain.take_over(initiated(), owner="me", now_ms=2000) is None
    assert domain.take_over(finished(), owner="heir", now_ms=2000) is None


def test_an_order_is_taken_only_from_the_instance_that_was_found_dead() -> None:
    assert domain.take_over(initiated(), of="another", owner="heir", now_ms=2000) is None
    assert domain.take_over(initiated(), of="me", owner="heir", now_ms=2000) is not None


def test_an_own_order_is_claimed_anew_above_a_token_that_the_store_has_forgotten() -> None:
    snapshot = received(initiated(), event(1, "accepted"))
    order = the_order(after(snapshot, domain.reclaim(snapshot, owner="me", above=4, now_ms=2000)))
    assert (order.owner, order.token, order.run, order.applied_seq) == ("me", 5, 1, 1)


def test_nothing_is_claimed_anew_that_is_not_ones_own_or_has_a_higher_token() -> None:
    for snapshot in (EMPTY, finished()):
        assert domain.reclaim(snapshot, owner="me", above=4, now_ms=2000) is None
    assert domain.reclaim(initiated(), owner="heir", above=4, now_ms=2000) is None
    assert domain.reclaim(initiated(), owner="me", above=0, now_ms=2000) is None


def test_a_closing_order_is_taken_over() -> None:
    assert domain.take_over(closing(initiated()), owner="heir", now_ms=2000) is not None


# ---- follow-ups


def test_a_follow_up_is_a_log_entry_and_a_message() -> None:
    snapshot = noted(initiated())
    order = the_order(snapshot)
    assert (order.notes_count, order.unsent, order.head) == (1, 1, 2)
    assert snapshot.entries["note:n1"].body["message"] == "hello"
    assert (snapshot.messages["note:n1"].state, snapshot.messages["note:n1"].position) == ("pending", 2)


@pytest.mark.parametrize("state", ["live", "closing", "finished"])
def test_the_same_follow_up_again_changes_nothing_in_any_state(state: str) -> None:
    snapshot = noted(initiated())
    snapshot = {"live": snapshot, "closing": closing(snapshot), "finished": finished(snapshot)}[state]
    assert domain.add_follow_up(snapshot, NOTE, now_ms=9000) is None


@pytest.mark.parametrize(
    "other",
    [{"audience": ("seller2",)}, {"message_type": "voice"}, {"message": "bye"}, {"urls": ()}],
    ids=str,
)
def test_a_follow_up_id_with_other_content_is_a_conflict(other: dict[str, Any]) -> None:
    with pytest.raises(FollowUpConflict):
        domain.add_follow_up(noted(initiated()), replace(NOTE, **other), now_ms=9000)


def test_an_order_that_is_not_live_takes_no_follow_up() -> None:
    for snapshot, allowed in ((closing(initiated()), []), (finished(), ["initiate"])):
        with pytest.raises(ActionRefused) as caught:
            domain.add_follow_up(snapshot, NOTE, now_ms=9000)
        assert caught.value.extra["allowed_actions"] == allowed
        assert caught.value.extra["state"] == the_order(snapshot).state


def test_an_order_takes_so_many_unsent_follow_ups_and_no_more() -> None:
    snapshot = initiated()
    for number in range(MAX_UNSENT_PER_ORDER):
        change = domain.add_follow_up(snapshot, replace(NOTE, follow_up_id=f"f{number}"), now_ms=1)
        assert change is not None
        snapshot = Snapshot(change.record)
    with pytest.raises(TooManyUnsent) as caught:
        domain.add_follow_up(snapshot, NOTE, now_ms=1)
    assert caught.value.retry_after_s == 5


def test_an_unknown_order_takes_nothing() -> None:
    with pytest.raises(OrderNotFound):
        domain.add_follow_up(EMPTY, NOTE, now_ms=1)
    with pytest.raises(OrderNotFound):
        domain.request_close(EMPTY, CloseKind.CANCEL, "", now_ms=1)
    with pytest.raises(OrderNotFound):
        domain.receive(EMPTY, [event(1)], [], token=1, now_ms=1)


# ---- close


@pytest.mark.parametrize("kind", list(CloseKind))
def test_a_close_is_asked_for_behind_the_notes_taken_before(kind: CloseKind) -> None:
    snapshot = closing(noted(initiated()), kind)
    assert the_order(snapshot).state is OrderState.CLOSING
    assert the_order(snapshot).unsent == 2
    assert snapshot.messages["close:1"].position > snapshot.messages["note:n1"].position
    assert snapshot.messages["close:1"].body == {"run": 1, "kind": str(kind), "reason": "done", "origin": ""}


def test_a_close_asked_for_again_changes_nothing() -> None:
    snapshot = closing(initiated(), CloseKind.CANCEL)
    assert domain.request_close(snapshot, CloseKind.CANCEL, "other words", now_ms=1) is None


@pytest.mark.parametrize(("kind", "end"), [(CloseKind.COMPLETE, "completed"), (CloseKind.CANCEL, "cancelled")])
def test_a_close_of_an_order_that_ended_that_way_changes_nothing(kind: CloseKind, end: str) -> None:
    assert domain.request_close(finished(kind=end), kind, "", now_ms=1) is None


@pytest.mark.parametrize(("kind", "end"), [(CloseKind.CANCEL, "completed"), (CloseKind.COMPLETE, "cancelled")])
def test_a_close_of_an_order_that_ended_the_other_way_is_refused_with_the_allowed_actions(
    kind: CloseKind, end: str
) -> None:
    with pytest.raises(ActionRefused) as caught:
        domain.request_close(finished(kind=end), kind, "", now_ms=1)
    assert caught.value.extra == {"allowed_actions": ["initiate"], "state": end}


def test_the_other_close_of_a_closing_order_is_refused() -> None:
    with pytest.raises(ActionRefused) as caught:
        domain.request_close(closing(initiated(), CloseKind.CANCEL), CloseKind.COMPLETE, "", now_ms=1)
    assert caught.value.extra["allowed_actions"] == []


# ---- receive


def test_events_are_applied_in_their_order_with_the_processors_number_and_time() -> None:
    snapshot = received(initiated(), event(1, "accepted"), event(2, seller_id="seller1"))
    assert the_order(snapshot).applied_seq == 2
    assert snapshot.entries["event:1:2"].body == {
        "processor_seq": 2,
        "processor_at_ms": 1302,
        "seller_id": "seller1",
    }


def test_a_repeated_event_is_dropped() -> None:
    snapshot = received(initiated(), event(1, "accepted"), event(2))
    assert domain.receive(snapshot, [event(1, "accepted"), event(2)], [], token=1, now_ms=1) is None
    again = received(snapshot, event(2), event(3), event(3))
    assert applied_numbers(again) == [1, 2, 3]


def test_a_gap_stops_the_application_before_it() -> None:
    snapshot = received(initiated(), event(1, "accepted"), event(2), event(4), event(5))
    assert the_order(snapshot).applied_seq == 2
    assert domain.receive(snapshot, [event(4)], [], token=1, now_ms=1) is None


def test_the_first_event_of_a_run_may_continue_older_numbers() -> None:
    assert applied_numbers(received(initiated(), event(8, "accepted"), event(9))) == [8, 9]


def test_a_first_event_that_is_no_beginning_must_not_jump() -> None:
    assert domain.receive(initiated(), [event(8)], [], token=1, now_ms=1) is None


def test_an_accepted_event_in_the_middle_of_a_run_must_not_jump() -> None:
    snapshot = received(initiated(), event(1, "accepted"))
    assert domain.receive(snapshot, [event(3, "accepted")], [], token=1, now_ms=1) is None


def test_an_event_of_another_run_is_ignored() -> None:
    assert domain.receive(initiated(), [event(1, "accepted", run=2)], [], token=1, now_ms=1) is None
    second = initiated(finished())
    assert domain.receive(second, [event(3, "completed", run=1)], [], token=2, now_ms=1) is None


@pytest.mark.parametrize("end", ["completed", "cancelled"])
@pytest.mark.parametrize("state", ["live", "closing"])
def test_a_terminal_event_finishes_the_order_and_frees_its_claim(end: str, state: str) -> None:
    order = the_order(finished(initiated() if state == "live" else closing(initiated()), end))
    assert (order.state, order.owner, order.is_unfinished) == (OrderState(end), "", False)


def test_nothing_follows_the_end_of_a_run() -> None:
    snapshot = received(initiated(), event(1, "accepted"), event(2, "completed"), event(3, "seller_replied"))
    assert (applied_numbers(snapshot), the_order(snapshot).applied_seq) == ([1, 2], 2)


def test_the_close_of_an_earlier_run_is_settled_by_its_own_name() -> None:
    second = initiated(received(closing(initiated()), event(1, "accepted"), event(2, "cancelled")))
    assert the_order(second).unsent == 1
    answer = Acknowledgement(REF, "close:1", Outcome.REFUSED, "The run to be ended is not the present one.")
    snapshot = received(second, answers=(answer,), token=2)
    assert (the_order(snapshot).state, the_order(snapshot).unsent) == (OrderState.LIVE, 0)
    assert snapshot.messages["close:1"].state == "set_aside"


def test_an_accepted_message_is_settled() -> None:
    snapshot = received(noted(initiated()), answers=(Acknowledgement(REF, "note:n1", Outcome.ACCEPTED),))
    assert not snapshot.messages
    assert the_order(snapshot).unsent == 0


def test_a_refused_message_is_set_aside_with_its_reason() -> None:
    answer = Acknowledgement(REF, "note:n1", Outcome.REFUSED, "The order is completed.")
    snapshot = received(noted(initiated()), answers=(answer,))
    message = snapshot.messages["note:n1"]
    assert (message.state, message.attempts, message.last_error) == ("set_aside", 1, "The order is completed.")
    assert the_order(snapshot).unsent == 0


@pytest.mark.parametrize("outcome", [Outcome.FENCED, Outcome.TRY_AGAIN])
def test_an_answer_that_decides_nothing_leaves_the_message_pending(outcome: Outcome) -> None:
    answers = [Acknowledgement(REF, "note:n1", outcome)]
    assert domain.receive(noted(initiated()), [], answers, token=1, now_ms=1) is None


def test_an_answer_counts_once() -> None:
    refused = Acknowledgement(REF, "note:n1", Outcome.REFUSED, "no")
    snapshot = received(noted(initiated()), answers=(refused,))
    assert domain.receive(snapshot, [], [refused], token=1, now_ms=1) is None
    assert domain.receive(initiated(), [], [refused], token=1, now_ms=1) is None


@pytest.mark.parametrize("second", [Outcome.ACCEPTED, Outcome.REFUSED, Outcome.TRY_AGAIN])
def test_two_answers_at_once_to_a_message_that_was_sent_twice_count_once(second: Outcome) -> None:
    answers = [Acknowledgement(REF, "note:n1", outcome) for outcome in (Outcome.ACCEPTED, second)]
    snapshot = received(noted(noted(initiated()), replace(NOTE, follow_up_id="n2")), answers=tuple(answers))
    assert list(snapshot.messages) == ["note:n2"]
    assert the_order(snapshot).unsent == 1


def test_an_answer_that_comes_with_the_end_of_the_order_counts() -> None:
    answer = Acknowledgement(REF, "note:n1", Outcome.REFUSED, "The order is completed.")
    snapshot = received(noted(initiated()), event(1, "accepted"), event(2, "completed"), answers=(answer,))
    assert (the_order(snapshot).state, the_order(snapshot).unsent) == (OrderState.COMPLETED, 0)


@pytest.mark.parametrize("token", [0, 2])
def test_what_comes_under_another_token_is_fenced(token: int) -> None:
    with pytest.raises(Fenced):
        domain.receive(initiated(), [event(1, "accepted")], [], token=token, now_ms=1)


@settings(deadline=None)
@given(
    first=st.integers(1, 6),
    length=st.integers(1, 10),
    batches=st.lists(st.lists(st.integers(0, 11), max_size=6), max_size=25),
    end=st.sampled_from(["completed", "cancelled"]),
)
def test_whatever_repeats_or_is_missing_the_applied_events_have_no_gap(
    first: int, length: int, batches: list[list[int]], end: str
) -> None:
    sent = [event(first, "accepted"), *(event(first + n) for n in range(1, length)), event(first + length, end)]
    snapshot = initiated()
    # At last everything comes once more, as a stream that is opened again sends it.
    for batch in [*batches, range(len(sent))]:
        events = [sent[index] for index in batch if index < len(sent)]
        change = domain.receive(snapshot, events, [], token=1, now_ms=1)
        if change is not None:
            snapshot = after(snapshot, change)
        numbers = applied_numbers(snapshot)
        assert numbers == list(range(first, first + len(numbers)))
        assert the_order(snapshot).applied_seq == (numbers[-1] if numbers else 0)
        assert the_order(snapshot).is_unfinished == (len(numbers) < len(sent))
    assert applied_numbers(snapshot) == [item.seq for item in sent]
    assert sorted(entry.seq for entry in snapshot.entries.values()) == list(range(1, len(snapshot.entries) + 1))
