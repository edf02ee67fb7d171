from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from processor_app import steps
from processor_app.delivery import lifecycle
from processor_app.delivery.channel import AttemptResult, Verdict
from processor_app.delivery.delivery import MAX_ERROR, Delivery, DeliveryState, delivery_of, message_of
from processor_app.delivery.lifecycle import DeliveryNotFound, DeliveryNotRetryable
from processor_app.delivery.plan import Route
from processor_app.delivery.retries import RetrySchedule
from processor_app.domain import Close, FollowUp, OpenStream, OrderState, order_of
from service_kit.change import Change, Entry, Ref, Snapshot

REF = Ref("default", "A1")
WISH = OpenStream(REF, "s1", "email", (), None, token=5, stream_id="st1", resume_after=0, run=5)
NOTE = FollowUp(REF, "n1", 5, ("seller1",), "text", "hello", (), 900)
ROUTES = {"seller1": Route(frozenset(["email"]), ())}
SCHEDULE = RetrySchedule((5.0, 300.0))


def after(snapshot: Snapshot, change: Change | None) -> Snapshot:
    assert change is not None
    before = snapshot.record
    assert change.expect == (None if before is None else before.version)
    entries = {**snapshot.entries, **{entry.entry_id: entry for entry in change.entries}}
    assert len(entries) == len(snapshot.entries) + len(change.entries)
    return Snapshot(change.record, entries, {**snapshot.messages, **{m.message_id: m for m in change.puts}})


def noted(**routes: Route) -> Snapshot:
    """An order with one note for one seller."""
    opened = after(Snapshot(None), steps.open_stream(Snapshot(None), WISH, routes={}, now_ms=1000))
    return after(opened, steps.accept_follow_up(opened, NOTE, routes=routes or ROUTES, now_ms=1000))


def the_delivery(snapshot: Snapshot) -> Delivery:
    (message,) = snapshot.messages.values()
    return delivery_of(message)


def name_of(snapshot: Snapshot) -> str:
    return the_delivery(snapshot).delivery_id


def with_delivery(snapshot: Snapshot, **changes: Any) -> Snapshot:
    delivery = replace(the_delivery(snapshot), **changes)
    return replace(snapshot, messages={delivery.delivery_id: message_of(delivery)})


def claimed(snapshot: Snapshot, now_ms: int = 2000, *, is_reachable: bool = True) -> Change | None:
    return lifecycle.claim(
        snapshot, name_of(snapshot), is_reachable=is_reachable, schedule=SCHEDULE, lease_ms=20_000, now_ms=now_ms
    )


def settled(snapshot: Snapshot, result: AttemptResult, *, attempt: int | None = None, now_ms: int = 3000) -> Change:
    change = lifecycle.settle(
        snapshot,
        name_of(snapshot),
        result,
        attempt=the_delivery(snapshot).attempts if attempt is None else attempt,
        schedule=SCHEDULE,
        jitter=1.0,
        now_ms=now_ms,
    )
    assert change is not None
    return change


def sending(snapshot: Snapshot | None = None, now_ms: int = 2000) -> Snapshot:
    snapshot = snapshot or noted()
    return after(snapshot, claimed(snapshot, now_ms))


def ended(snapshot: Snapshot) -> Snapshot:
    return after(snapshot, steps.close(snapshot, Close(REF, OrderState.COMPLETED, "buyer"), now_ms=2500))


def told(change: Change) -> list[tuple[str, int, str]]:
    return [(entry.body["state"], entry.body["attempts"], entry.body["last_error"]) for entry in change.entries]


# ---- claim


def test_a_claim_is_leased_counted_and_not_told() -> None:
    change = claimed(noted())
    assert change is not None
    delivery = delivery_of(change.puts[0])
    assert (delivery.state, delivery.attempts, delivery.due_ms) == (DeliveryState.SENDING, 1, 22_000)
    assert change.entries == ()


def test_what_is_not_due_is_not_claimed() -> None:
    assert claimed(noted(), 999) is None
    assert claimed(noted(), 1000) is not None
    assert claimed(sending(), 21_999) is None


@pytest.mark.parametrize("state", [DeliveryState.WAITING, DeliveryState.DELIVERED, DeliveryState.DEAD])
def test_what_is_not_to_be_sent_is_not_claimed(state: DeliveryState) -> None:
    assert claimed(with_delivery(noted(), state=state)) is None


def test_an_attempt_whose_outcome_was_lost_is_uncertain_and_made_again() -> None:
    again = claimed(sending(), 22_000)
    assert again is not None
    delivery = delivery_of(again.puts[0])
    assert (delivery.state, delivery.attempts, delivery.uncertain) == (DeliveryState.SENDING, 2, 1)
    assert delivery.last_error == lifecycle.OUTCOME_LOST


def test_a_delivery_that_ends_the_process_every_time_is_given_up() -> None:
    snapshot = noted()
    now_ms = 2000
    for _ in range(3):  # as often as the schedule allows
        snapshot = sending(snapshot, now_ms)
        now_ms += 20_000
    change = claimed(snapshot, now_ms)
    assert change is not None
    assert told(change) == [("dead", 3, lifecycle.OUTCOME_LOST)]
    assert delivery_of(change.puts[0]).uncertain == 3


def test_a_seller_whose_address_is_gone_is_waited_for() -> None:
    change = claimed(noted(), is_reachable=False)
    assert change is not None
    assert told(change) == [("waiting", 0, "")]


# ---- settle


def test_a_delivered_one_is_told_and_its_earlier_errors_are_forgotten() -> None:
    change = settled(with_delivery(sending(), last_error="no"), AttemptResult(Verdict.DELIVERED, "taken"))
    assert told(change) == [("delivered", 1, "")]


@pytest.mark.parametrize(("verdict", "uncertain"), [(Verdict.RETRY, 0), (Verdict.UNCERTAIN, 1)])
def test_a_failed_one_is_tried_again_by_the_schedule(verdict: Verdict, uncertain: int) -> None:
    change = settled(sending(), AttemptResult(verdict, "Busy."))
    delivery = delivery_of(change.puts[0])
    assert (delivery.state, delivery.due_ms, delivery.uncertain) == (DeliveryState.RETRYING, 8000, uncertain)
    (entry,) = change.entries
    assert (entry.kind, entry.body["next_attempt_ms"], entry.body["uncertain"]) == ("delivery_changed", 8000, uncertain)
    assert told(change) == [("retrying", 1, "Busy.")]


def test_a_receivers_wish_is_kept() -> None:
    change = settled(sending(), AttemptResult(Verdict.RETRY, "Busy.", retry_after_s=60.0))
    assert delivery_of(change.puts[0]).due_ms == 63_000


@pytest.mark.parametrize("verdict", [Verdict.RETRY, Verdict.UNCERTAIN])
def test_the_schedule_ends_with_the_last_reason(verdict: Verdict) -> None:
    snapshot = noted()
    states = []
    now_ms = 2000
    for number in range(3):
        snapshot = sending(snapshot, now_ms)
        change = settled(snapshot, AttemptResult(verdict, f"No {number}."), now_ms=now_ms)
        snapshot = after(snapshot, change)
        states += told(change)
        now_ms = the_delivery(snapshot).due_ms
    assert states == [("retrying", 1, "No 0."), ("retrying", 2, "No 1."), ("dead", 3, "No 2.")]


@pytest.mark.parametrize("verdict", [Verdict.FAILED, Verdict.GONE])
def test_a_final_refusal_is_the_end(verdict: Verdict) -> None:
    assert told(settled(sending(), AttemptResult(verdict, "Never."))) == [("dead", 1, "Never.")]


def test_a_failure_without_a_word_has_a_reason_all_the_same() -> None:
    assert delivery_of(settled(sending(), AttemptResult(Verdict.FAILED)).puts[0]).last_error


def test_a_long_reason_is_cut() -> None:
    change = settled(sending(), AttemptResult(Verdict.FAILED, "x" * 9_000))
    assert len(change.puts[0].last_error) == len(change.entries[0].body["last_error"]) == MAX_ERROR


@pytest.mark.parametrize(
    "snapshot", [sending(sending(), 22_000), with_delivery(sending(), state=DeliveryState.DELIVERED), Snapshot(None)]
)
def test_the_word_of_an_attempt_that_was_overtaken_does_not_count(snapshot: Snapshot) -> None:
    assert (
        lifecycle.settle(
            snapshot,
            name_of(noted()),
            AttemptResult(Verdict.FAILED),
            attempt=1,
            schedule=SCHEDULE,
            jitter=1.0,
            now_ms=30_000,
        )
        is None
    )


# ---- give up, release, retry


def test_what_is_given_up_is_dead_with_the_reason() -> None:
    snapshot = noted()
    change = lifecycle.give_up(snapshot, name_of(snapshot), "Too late.", now_ms=9000)
    assert change is not None
    assert told(change) == [("dead", 0, "Too late.")]


def test_what_is_given_up_after_an_attempt_that_never_ended_is_uncertain() -> None:
    change = lifecycle.give_up(sending(), name_of(sending()), "Too late.", now_ms=22_000)
    assert change is not None
    assert told(change) == [("dead", 1, "Too late.")]
    assert delivery_of(change.puts[0]).uncertain == 1


@pytest.mark.parametrize(
    "snapshot", [sending(), with_delivery(noted(), state=DeliveryState.DELIVERED), with_delivery(noted(), due_ms=10**9)]
)
def test_what_is_under_way_or_over_or_not_due_is_not_given_up(snapshot: Snapshot) -> None:
    assert lifecycle.give_up(snapshot, name_of(snapshot), "Too late.", now_ms=9000) is None


def test_what_waits_is_released_in_the_order_of_its_events_when_its_seller_can_be_reached() -> None:
    snapshot = noted(nobody=Route(frozenset(), ()))
    for number in (2, 3):
        note = replace(NOTE, follow_up_id=f"n{number}")
        snapshot = after(snapshot, steps.accept_follow_up(snapshot, note, routes={}, now_ms=1000))
    shuffled = replace(snapshot, messages=dict(sorted(snapshot.messages.items(), reverse=True)))
    assert lifecycle.release(shuffled, {}, now_ms=50_000) is None
    assert lifecycle.release(shuffled, {"seller1": Route(frozenset(["webhook"]), ())}, now_ms=50_000) is None
    change = lifecycle.release(shuffled, ROUTES, now_ms=50_000)
    assert change is not None
    freed = [delivery_of(message) for message in change.puts]
    assert [(d.seq, d.state, d.due_ms, d.round_ms) for d in freed] == [
        (seq, DeliveryState.PENDING, 50_000, 50_000) for seq in (2, 3, 4)
    ]
    assert [entry.seq for entry in change.entries] == [5, 6, 7]
    assert lifecycle.release(after(snapshot, change), ROUTES, now_ms=60_000) is None


@pytest.mark.parametrize("state", [DeliveryState.DEAD, DeliveryState.RETRYING])
def test_a_delivery_that_is_sent_again_has_a_whole_schedule_before_it(state: DeliveryState) -> None:
    snapshot = with_delivery(noted(), state=state, attempts=3, due_ms=10**9, last_error="No.")
    snapshot = after(snapshot, lifecycle.retry(snapshot, name_of(snapshot), now_ms=5000))
    delivery = the_delivery(snapshot)
    assert (delivery.state, delivery.due_ms, delivery.attempts, delivery.tries) == (DeliveryState.PENDING, 5000, 3, 0)
    assert delivery.last_error == "No."
    snapshot = sending(snapshot, 5000)
    assert told(settled(snapshot, AttemptResult(Verdict.RETRY, "Busy."))) == [("retrying", 4, "Busy.")]


@pytest.mark.parametrize(
    "state", [DeliveryState.WAITING, DeliveryState.PENDING, DeliveryState.SENDING, DeliveryState.DELIVERED]
)
def test_nothing_else_can_be_sent_again(state: DeliveryState) -> None:
    snapshot = with_delivery(noted(), state=state)
    with pytest.raises(DeliveryNotRetryable) as caught:
        lifecycle.retry(snapshot, name_of(snapshot), now_ms=1)
    assert caught.value.extra == {"state": str(state), "allowed_states": ["dead", "retrying"]}
    with pytest.raises(DeliveryNotFound):
        lifecycle.retry(snapshot, "absent", now_ms=1)


# ---- events


def test_an_event_says_which_delivery_it_is_about_and_continues_the_numbers() -> None:
    change = settled(sending(), AttemptResult(Verdict.DELIVERED))
    (entry,) = change.entries
    assert (entry.seq, order_of(change.record).head_seq) == (3, 3)
    assert entry.body["run"] == 5
    names = ("follow_up_id", "seller_id", "channel", "next_attempt_ms")
    assert [entry.body[name] for name in names] == ["n1", "seller1", "email", 0]


def test_deliveries_of_an_order_that_has_ended_go_on_without_events() -> None:
    snapshot = ended(noted())
    assert snapshot.record is not None
    entries: list[Entry] = list(snapshot.entries.values())
    snapshot = sending(snapshot)
    snapshot = after(snapshot, settled(snapshot, AttemptResult(Verdict.DELIVERED)))
    assert the_delivery(snapshot).state is DeliveryState.DELIVERED
    assert list(snapshot.entries.values()) == entries
    assert snapshot.record is not None
    assert (order_of(snapshot.record).head_seq, snapshot.record.updated_ms) == (3, 2500)


def test_deliveries_of_an_earlier_run_are_told_in_the_present_one() -> None:
    snapshot = ended(sending())
    wish = replace(WISH, token=6, run=6)
    snapshot = after(snapshot, steps.open_stream(snapshot, wish, routes={}, now_ms=2600))
    (entry,) = settled(snapshot, AttemptResult(Verdict.DELIVERED)).entries
    assert (entry.body["run"], entry.seq) == (6, 5)


def test_the_cleanup_takes_settled_deliveries_with_the_log() -> None:
    snapshot = ended(noted())
    change = steps.prune(snapshot, before_ms=3000, now_ms=10_000)
    assert change is not None
    assert change.forget_through >= the_delivery(snapshot).seq
