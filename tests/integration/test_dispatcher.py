"""Deliveries from the accepted note to the seller, with the real store; the channels are recorders of the outside."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from processor_app import bootstrap, steps
from processor_app.bootstrap import Processor, build_processor
from processor_app.delivery import courier, lifecycle
from processor_app.delivery.channel import AttemptResult, Parcel, Seller, Verdict
from processor_app.delivery.delivery import DeliveryState
from processor_app.delivery.sellers import SellerWish
from processor_app.domain import Close, FollowUp, OpenStream, OrderState
from processor_app.settings import ProcessorSettings
from service_kit.change import Ref, Step
from service_kit.errors import StoreUnavailable
from service_kit.failpoints import FailpointError
from service_kit.storage.contract import MessageFilter
from tests.e2e.conftest import eventually

TAKEN = AttemptResult(Verdict.DELIVERED)
BUSY = AttemptResult(Verdict.RETRY, "Busy.")


class Recorder:
    """A channel whose receivers do what a test says, and that remembers what they got."""

    def __init__(self, name: str = "email") -> None:
        self.name = name
        self.answer: Callable[[Parcel], AttemptResult] = lambda parcel: TAKEN
        self.parcels: list[Parcel] = []
        self.times: list[float] = []
        self.running = 0
        self.most_running: dict[str, int] = {}
        self._running: dict[str, int] = {}
        self._lock = threading.Lock()

    def has_address(self, seller: Seller) -> bool:
        if self.name == "webhook":
            return bool(seller.webhook_url) and not seller.webhook_disabled
        return bool(seller.email)

    def send(self, parcel: Parcel) -> AttemptResult:
        name = parcel.seller.seller_id
        with self._lock:
            self.parcels.append(parcel)
            self.times.append(time.monotonic())
            self._running[name] = self._running.get(name, 0) + 1
            self.most_running[name] = max(self.most_running.get(name, 0), self._running[name])
        try:
            return self.answer(parcel)
        finally:
            with self._lock:
                self._running[name] -= 1

    def got(self, seller_id: str, order: str = "A1") -> list[str]:
        with self._lock:
            found = [p for p in self.parcels if (p.seller.seller_id, p.order_req_id) == (seller_id, order)]
        return [parcel.follow_up_id or parcel.kind for parcel in found]


class World:
    """A processor over one store file, started and stopped as often as a test likes."""

    def __init__(self, folder: Path) -> None:
        self.settings = {"retry_schedule_s": (0.05, 0.05, 0.05), "delivery_threads": 4}
        self.mail, self.hook = Recorder(), Recorder("webhook")
        self._folder = folder
        self.parts: Processor
        self.start()

    def start(self) -> None:
        values: dict[str, Any] = {**self.settings, "link_secret": "x" * 32}
        settings = ProcessorSettings(store=f"sqlite:///{self._folder / 'p.db'}", port=0, grpc_port=0, **values)
        self.parts = build_processor(settings, [self.mail, self.hook])
        self.parts.store.start()
        self.parts.dispatcher.start()
        eventually(lambda: self.parts.dispatcher.check() is None, what="the dispatcher")

    def stop(self) -> None:
        self.parts.dispatcher.stop(5)
        self.parts.store.stop()

    def restart(self, **settings: Any) -> None:
        self.stop()
        self.settings.update(settings)
        self.start()

    def register(self, seller_id: str = "s1", **entry: Any) -> str | None:
        values = {"name": "", "email": f"{seller_id}@example.com", "webhook_url": "", "channels": (), "language": "en"}
        _, secret = self.parts.sellers.put("default", seller_id, SellerWish(**{**values, **entry}))
        return secret

    def order(self, key: str = "A1", audience: tuple[str, ...] = (), kind: str = "email", run: int = 1) -> Ref:
        ref = Ref("default", key)
        self.parts.orders.take_one(OpenStream(ref, "s", kind, audience, {"colour": "red"}, run, f"st-{key}", 0, run))
        return ref

    def note(self, note_id: str, *audience: str, key: str = "A1") -> None:
        ref = Ref("default", key)
        self.parts.orders.take_one(FollowUp(ref, note_id, 1, audience or ("s1",), "text", f"text {note_id}", (), 5))

    def counts(self) -> dict[str, int]:
        return self.parts.deliveries.counts()

    def wait_for(self, **counts: int) -> None:
        eventually(lambda: self.counts() == counts, what=f"{counts}")

    def deliveries(self, *states: DeliveryState) -> list[Any]:
        page = self.parts.deliveries.page(MessageFilter("default", states), cursor=None, limit=1000)
        return [delivery for _, delivery in page.deliveries]

    def events(self, key: str = "A1") -> list[tuple[str, str]]:
        entries = self.parts.orders.events(Ref("default", key), after=0, limit=1000)
        return [(entry.kind, entry.body.get("state", "")) for entry in entries]


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.stop()


def failing(times: int, result: AttemptResult = BUSY) -> Callable[[Parcel], AttemptResult]:
    """Fail each parcel so often, then take it."""
    return lambda parcel: result if parcel.attempt <= times else TAKEN


# ---- from the order to the seller


def test_a_new_order_and_its_notes_reach_their_sellers_in_order(world: World) -> None:
    world.register("s1")
    world.register("s2")
    world.order(audience=("s1",))
    for number in range(5):
        world.note(f"n{number}", "s1", "s2")
    world.wait_for(delivered=11)
    assert world.mail.got("s1") == ["order", "n0", "n1", "n2", "n3", "n4"]
    assert world.mail.got("s2") == ["n0", "n1", "n2", "n3", "n4"]


def test_a_parcel_carries_what_the_buyer_wrote_and_where_to_answer(world: World) -> None:
    world.register("s1", name="One", language="de")
    world.order(audience=("s1",))
    world.note("n1")
    world.wait_for(delivered=2)
    order, note = world.mail.parcels
    assert (order.kind, order.details, order.session_id, order.seller.name) == ("order", {"colour": "red"}, "s", "One")
    assert (note.kind, note.follow_up_id, note.message, note.attempt) == ("follow_up", "n1", "text n1", 1)
    assert order.reply_url.startswith("http://127.0.0.1:8005/reply/")
    assert order.reply_url != note.reply_url


def test_every_attempt_carries_the_same_parcel(world: World) -> None:
    world.register()
    world.mail.answer = failing(2)
    world.order(audience=("s1",))
    world.wait_for(delivered=1)
    parcels = world.mail.parcels
    assert [parcel.attempt for parcel in parcels] == [1, 2, 3]
    assert len({(p.delivery_id, p.reply_url, p.created_ms) for p in parcels}) == 1


def test_the_stream_tells_each_change_that_matters_and_not_the_attempts(world: World) -> None:
    world.register()
    world.mail.answer = failing(2)
    world.order(audience=("s1",))
    world.wait_for(delivered=1)
    assert world.events() == [
        ("accepted", ""),
        ("delivery_changed", "retrying"),
        ("delivery_changed", "retrying"),
        ("delivery_changed", "delivered"),
    ]


def test_an_order_without_a_channel_sends_nothing(world: World) -> None:
    world.register()
    world.order(audience=("s1",), kind="none")
    world.note("n1")
    assert world.counts() == {}
    assert world.mail.parcels == []


def test_a_seller_who_wants_both_channels_gets_both(world: World) -> None:
    world.register(webhook_url="https://one.example/", channels=("webhook",))
    world.order(audience=("s1",))
    world.wait_for(delivered=2)
    assert (world.mail.got("s1"), world.hook.got("s1")) == (["order"], ["order"])


def test_one_hundred_sellers_are_one_change(world: World) -> None:
    sellers = tuple(f"s{number}" for number in range(100))
    for seller in sellers:
        world.register(seller)
    before = world.parts.store.get(world.order())
    world.note("n1", *sellers)
    after = world.parts.store.get(Ref("default", "A1"))
    assert before is not None
    assert after is not None
    world.wait_for(delivered=100)
    assert [kind for kind, _ in world.events()][:2] == ["accepted", "follow_up_accepted"]


# ---- sellers who are not there yet


def test_what_waits_for_a_seller_goes_when_it_is_registered_in_order(world: World) -> None:
    world.order(audience=("s1",))
    for number in range(3):
        world.note(f"n{number}", "s1", "s2")
    assert world.counts() == {"waiting": 7}
    world.register("s1", email="", webhook_url="https://one.example/")
    world.register("s1")
    world.wait_for(delivered=4, waiting=3)
    assert world.mail.got("s1") == ["order", "n0", "n1", "n2"]
    assert world.hook.parcels == []
    assert ("delivery_changed", "pending") in world.events()


def test_a_seller_who_is_registered_while_a_note_is_taken_is_not_forgotten(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.order()
    find = world.parts.orders._routes.find

    def find_and_register(tenant: str, seller_ids: Any) -> Any:
        routes = find(tenant, seller_ids)
        world.register()  # and its search for what waits is over before the note is on disk
        eventually(lambda: world.parts.sellers.find("default", ["s1"]))
        time.sleep(0.2)
        return routes

    monkeypatch.setattr(world.parts.orders._routes, "find", find_and_register)
    world.note("n1")
    world.wait_for(delivered=1)


def test_what_waits_is_found_by_a_processor_that_starts(world: World) -> None:
    world.order(audience=("s1",))
    world.parts.dispatcher.stop(5)
    world.register()
    assert world.counts() == {"waiting": 1}
    world.restart()
    world.wait_for(delivered=1)


def test_a_seller_who_is_removed_is_waited_for_from_the_next_attempt_on(world: World) -> None:
    world.register()
    world.mail.answer = lambda parcel: BUSY
    world.restart(retry_schedule_s=(0.3, 0.3, 0.3))
    world.order(audience=("s1",))
    eventually(lambda: world.deliveries(DeliveryState.RETRYING))
    world.parts.sellers.remove("default", "s1")
    world.wait_for(waiting=1)
    world.mail.answer = lambda parcel: TAKEN
    world.register()
    world.wait_for(delivered=1)


# ---- failures


def test_a_delivery_that_never_works_is_dead_with_the_last_reason(world: World) -> None:
    world.register()
    world.mail.answer = lambda parcel: AttemptResult(Verdict.RETRY, f"No {parcel.attempt}.")
    world.order(audience=("s1",))
    world.wait_for(dead=1)
    (delivery,) = world.deliveries()
    assert (delivery.attempts, delivery.last_error) == (4, "No 4.")
    assert world.events()[-1] == ("delivery_changed", "dead")


def test_a_final_refusal_is_not_repeated(world: World) -> None:
    world.register()
    world.mail.answer = lambda parcel: AttemptResult(Verdict.FAILED, "Unknown user.")
    world.order(audience=("s1",))
    world.wait_for(dead=1)
    assert len(world.mail.parcels) == 1


def test_a_receivers_wish_to_wait_is_kept(world: World) -> None:
    world.register()
    world.mail.answer = failing(1, AttemptResult(Verdict.RETRY, "Slowly.", retry_after_s=0.5))
    world.order(audience=("s1",))
    world.wait_for(delivered=1)
    first, second = world.mail.times
    assert second - first >= 0.5


def test_an_uncertain_outcome_is_counted_and_tried_again(world: World) -> None:
    world.register()
    world.mail.answer = failing(2, AttemptResult(Verdict.UNCERTAIN, "The answer was lost."))
    world.order(audience=("s1",))
    world.wait_for(delivered=1)
    (delivery,) = world.deliveries()
    assert (delivery.uncertain, delivery.attempts) == (2, 3)


def test_a_webhook_that_is_gone_is_disabled_and_works_again_when_its_url_is_put(world: World) -> None:
    world.register(webhook_url="https://one.example/")
    world.hook.answer = lambda parcel: AttemptResult(Verdict.GONE, "The receiver wants nothing more.")
    world.order("A1", ("s1",), kind="webhook")
    world.wait_for(dead=1)
    assert world.parts.sellers.get("default", "s1").seller.webhook_disabled == "The receiver wants nothing more."
    world.order("A2", ("s1",), kind="webhook")
    assert world.counts() == {"dead": 1, "waiting": 1}
    assert len(world.hook.parcels) == 1
    world.hook.answer = lambda parcel: TAKEN
    world.register(webhook_url="https://one.example/")
    world.wait_for(dead=1, delivered=1)


def test_a_channel_that_breaks_its_promise_stops_no_worker(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "LEASE_MARGIN_S", 0.1)
    world.restart(webhook_timeout_s=0.1)
    world.register()
    broken = iter([True] * 9)

    def answer(parcel: Parcel) -> AttemptResult:
        if parcel.attempt == 1 and next(broken):
            raise RuntimeError("a bug")
        return TAKEN

    world.mail.answer = answer
    for number in range(9):
        world.order(f"A{number}", ("s1",))
    world.wait_for(delivered=9)
    assert all((d.attempts, d.uncertain) == (2, 1) for d in world.deliveries())


def test_a_seller_that_fails_is_left_alone_and_all_is_delivered_in_order_afterwards(world: World) -> None:
    """An outage with a short schedule: no attempt is wasted on a seller who is known not to answer."""
    world.restart(retry_schedule_s=(0.2,) * 30)
    world.register("down")
    world.register("up")
    is_down = True
    world.mail.answer = lambda parcel: BUSY if is_down and parcel.seller.seller_id == "down" else TAKEN
    for number in range(20):
        world.order(f"A{number}", ("up", "down"))
    for note in range(3):
        for number in range(20):
            world.note(f"n{note}", "up", "down", key=f"A{number}")
    eventually(lambda: world.counts().get("delivered") == 80, what="the deliveries to the one that answers")
    time.sleep(1.0)
    attempts = len([p for p in world.mail.parcels if p.seller.seller_id == "down"])
    assert attempts < 20, "each of 20 lanes would have been tried several times"
    assert world.parts.dispatcher.facts()["open_breakers"] == 1
    is_down = False
    world.wait_for(delivered=160)
    for number in range(20):
        assert list(dict.fromkeys(world.mail.got("down", f"A{number}"))) == ["order", "n0", "n1", "n2"]


def test_sellers_who_hang_delay_nobody_else(world: World) -> None:
    released = threading.Event()
    hanging = [f"h{number}" for number in range(6)]
    for seller in (*hanging, "s1"):
        world.register(seller)

    def answer(parcel: Parcel) -> AttemptResult:
        if parcel.seller.seller_id in hanging:
            released.wait(30)
        return TAKEN

    world.mail.answer = answer
    try:
        for number in range(4):
            world.order(f"H{number}", tuple(hanging))
        time.sleep(0.2)
        began = time.monotonic()
        for number in range(50):
            world.order(f"A{number}", ("s1",))
        eventually(lambda: world.counts().get("delivered") == 50, what="the quick seller's deliveries")
        # Four hanging sellers may have every place, until their attempts count as slow.
        assert time.monotonic() - began < 5.0
        assert max(world.mail.most_running[seller] for seller in world.mail.most_running) <= 2
    finally:
        released.set()
    world.wait_for(delivered=74)


# ---- the end of an order


def test_deliveries_of_a_finished_order_go_on_without_events(world: World) -> None:
    world.restart(retry_schedule_s=(0.3, 0.3, 0.3))
    world.register()
    world.mail.answer = failing(1)
    ref = world.order(audience=("s1",))
    eventually(lambda: world.deliveries(DeliveryState.RETRYING))
    world.parts.orders.complete(Close(ref, OrderState.COMPLETED, "seller"))
    seen = world.events()
    assert seen[-1] == ("completed", "")
    world.wait_for(delivered=1)
    assert world.events() == seen


def test_a_pruned_order_takes_its_settled_deliveries_along_and_one_that_goes_on_keeps_it(world: World) -> None:
    world.restart(retry_schedule_s=(600.0,))
    world.register()
    world.mail.answer = lambda parcel: BUSY if parcel.order_req_id == "A2" else TAKEN
    refs = [world.order("A1", ("s1",)), world.order("A2", ("s1",)), world.order("A3", ("absent",))]
    eventually(lambda: world.counts() == {"delivered": 1, "retrying": 1, "waiting": 1})
    for ref in refs:
        world.parts.orders.complete(Close(ref, OrderState.COMPLETED, "seller"))
    time.sleep(0.01)
    assert world.parts.orders.prune(0.0, 100) == 2
    assert world.counts() == {"retrying": 1}
    assert [world.parts.orders.get(ref).state for ref in refs] == ["pruned", "completed", "pruned"]


def test_what_is_no_longer_kept_is_dead_and_says_so(world: World) -> None:
    """The cleanup may take an order's log at the moment when a person sends a dead delivery of it again."""
    world.register()
    world.mail.answer = lambda parcel: AttemptResult(Verdict.FAILED, "No.")
    ref = world.order(audience=("s1",))
    world.wait_for(dead=1)
    world.parts.orders.complete(Close(ref, OrderState.COMPLETED, "seller"))
    world.parts.dispatcher.stop(5)
    (delivery,) = world.deliveries()
    world.parts.deliveries.retry("default", delivery.delivery_id)
    world.parts.store.update(Step(ref, partial(steps.prune, before_ms=2**60, now_ms=2**60)))
    world.restart()
    world.wait_for(dead=1)
    assert world.deliveries()[0].last_error == "What was to be sent is no longer kept."
    assert len(world.mail.parcels) == 1


# ---- sending again


def test_a_dead_delivery_that_is_sent_again_arrives(world: World) -> None:
    world.register()
    world.mail.answer = lambda parcel: AttemptResult(Verdict.FAILED, "No.")
    world.order(audience=("s1",))
    world.wait_for(dead=1)
    world.mail.answer = lambda parcel: TAKEN
    (delivery,) = world.deliveries()
    world.parts.deliveries.retry("default", delivery.delivery_id)
    world.wait_for(delivered=1)
    assert world.events()[-2:] == [("delivery_changed", "pending"), ("delivery_changed", "delivered")]


def test_a_retrying_delivery_need_not_wait(world: World) -> None:
    world.restart(retry_schedule_s=(600.0,))
    world.register()
    world.mail.answer = failing(1)
    world.order(audience=("s1",))
    world.wait_for(retrying=1)
    (delivery,) = world.deliveries()
    world.parts.deliveries.retry("default", delivery.delivery_id)
    world.wait_for(delivered=1)


def test_many_dead_deliveries_are_sent_again_in_their_order(world: World) -> None:
    world.register()
    world.mail.answer = lambda parcel: AttemptResult(Verdict.FAILED, "No.")
    world.order()
    for number in range(30):
        world.note(f"n{number:02}")
    # The breaker opens, and the last ones wait for a probe each.
    eventually(lambda: world.counts().get("dead", 0) == 30, timeout_s=30)
    world.mail.answer = lambda parcel: TAKEN
    world.mail.parcels.clear()
    retried = world.parts.deliveries.retry_all(MessageFilter("default", (DeliveryState.DEAD,), address="s1"))
    assert (retried.count, retried.is_complete) == (30, True)
    world.wait_for(delivered=30)
    assert world.mail.got("s1") == [f"n{number:02}" for number in range(30)]


# ---- stops, starts and lost outcomes


def test_what_was_to_be_sent_is_sent_after_a_restart(world: World) -> None:
    world.register()
    world.mail.answer = lambda parcel: BUSY
    world.restart(retry_schedule_s=(0.5, 0.5, 0.5, 0.5))
    world.order(audience=("s1",))
    world.note("n1")
    eventually(lambda: world.counts() == {"retrying": 1, "pending": 1})
    world.stop()
    world.mail.answer = lambda parcel: TAKEN
    world.start()
    world.wait_for(delivered=2)
    assert list(dict.fromkeys(world.mail.got("s1"))) == ["order", "n1"]


def test_a_stop_lets_a_running_attempt_end(world: World) -> None:
    world.register()
    began = threading.Event()

    def answer(parcel: Parcel) -> AttemptResult:
        began.set()
        time.sleep(0.3)
        return TAKEN

    world.mail.answer = answer
    world.order(audience=("s1",))
    assert began.wait(5)
    world.restart()
    assert world.counts() == {"delivered": 1}
    assert len(world.mail.parcels) == 1


def test_an_attempt_that_outlasts_the_stop_is_made_again_when_its_lease_is_over(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "LEASE_MARGIN_S", 0.3)
    world.restart(webhook_timeout_s=0.1)
    world.register()
    began, go_on = threading.Event(), threading.Event()

    def answer(parcel: Parcel) -> AttemptResult:
        if parcel.attempt == 1:
            began.set()
            go_on.wait(20)
        return TAKEN

    world.mail.answer = answer
    world.order(audience=("s1",))
    assert began.wait(5)
    world.parts.dispatcher.stop(0.1)
    world.parts.store.stop()
    world.start()
    world.wait_for(delivered=1)
    (delivery,) = world.deliveries()
    assert (delivery.attempts, delivery.uncertain) == (2, 1)
    assert len({parcel.delivery_id for parcel in world.mail.parcels}) == 1
    go_on.set()  # the first attempt's word comes too late, to a store that is closed


@pytest.mark.parametrize("place", ["_CLAIMED", "_SENT", "_SETTLED"])
def test_an_error_at_any_step_loses_and_doubles_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.setattr(bootstrap, "LEASE_MARGIN_S", 0.2)
    monkeypatch.setattr(courier, "_PAUSE_S", 0.01)
    world.restart(webhook_timeout_s=0.1)
    world.register()
    hits = iter(range(1000))

    def strike() -> None:
        if next(hits) % 3 == 1:
            raise FailpointError("here")

    monkeypatch.setattr(courier, place, strike)
    world.order(audience=("s1",))
    for number in range(4):
        world.note(f"n{number}")
    world.wait_for(delivered=5)
    assert list(dict.fromkeys(world.mail.got("s1"))) == ["order", "n0", "n1", "n2", "n3"]
    repeats = len(world.mail.parcels) - 5
    assert sum(d.uncertain for d in world.deliveries()) >= repeats
    if place == "_SETTLED":  # it is on disk by then
        assert repeats == 0


def test_an_outcome_waits_for_a_store_that_cannot_be_written(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier, "_PAUSE_S", 0.05)
    world.register()
    update, failures = world.parts.store.update, iter(range(5))

    def sometimes(step: Any) -> Any:
        if step.decide.func is lifecycle.settle and next(failures, None) is not None:
            raise StoreUnavailable("The store could not do this.")
        return update(step)

    monkeypatch.setattr(world.parts.store, "update", sometimes)
    world.order(audience=("s1",))
    world.wait_for(delivered=1)
    assert next(failures, None) is None
    assert len(world.mail.parcels) == 1


def test_a_store_that_can_be_read_but_not_written_is_not_stormed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.register()
    steps = 0

    def refuse(step: Any) -> Any:
        nonlocal steps
        steps += 1
        raise StoreUnavailable("The store has no room left.")

    with monkeypatch.context() as patch:
        patch.setattr(world.parts.store, "update", refuse)
        world.order(audience=("s1",))
        time.sleep(1.5)
        assert 0 < steps <= 3
    world.wait_for(delivered=1)


def test_an_outage_with_lost_outcomes_ends_with_every_delivery_delivered_or_dead(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap, "LEASE_MARGIN_S", 0.1)
    monkeypatch.setattr(courier, "_PAUSE_S", 0.01)
    world.restart(retry_schedule_s=(0.05, 0.1), webhook_timeout_s=0.1)
    chance = random.Random(1)

    def strike() -> None:
        if chance.random() < 0.1:
            raise FailpointError("here")

    monkeypatch.setattr(courier, "_CLAIMED", strike)
    world.register()
    world.mail.answer = lambda parcel: BUSY
    for number in range(10):
        world.order(f"A{number}", ("s1",))
        for note in range(5):
            world.note(f"n{note}", key=f"A{number}")
    world.wait_for(dead=60)
    assert world.parts.dispatcher.facts()["due"] == 0


def test_a_stopped_dispatcher_can_be_stopped_again_and_says_so(world: World) -> None:
    for _ in range(2):
        world.parts.dispatcher.stop(5)
    assert world.parts.dispatcher.check() == "deliveries are not sent"


def test_the_facts_say_what_there_is_to_do(world: World) -> None:
    world.restart(retry_schedule_s=(600.0,))
    world.register()
    world.mail.answer = lambda parcel: BUSY
    world.order(audience=("s1", "absent"))
    world.wait_for(retrying=1, waiting=1)
    eventually(lambda: world.parts.dispatcher.facts()["waiting"] == 1)
    facts = world.parts.dispatcher.facts()
    assert (facts["due"], facts["running"], facts["dead"]) == (1, 0, 0)


def test_a_delivery_of_another_processor_over_the_same_store_is_taken_in(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.register()
    world.restart(retry_schedule_s=(600.0,))
    world.mail.answer = lambda parcel: BUSY
    world.order(audience=("s1",))
    world.wait_for(retrying=1)
    (delivery,) = world.deliveries()
    backlog, clerk = world.parts.orders._backlog, world.parts.dispatcher._clerk
    (message,) = world.parts.store.messages(Ref("default", "A1"))
    backlog.apply(Ref("default", "A1"), [replace(message, state="dead")])  # as if this one had never heard of it
    assert backlog.facts().queued == 0
    clerk.compare()
    assert backlog.facts().queued == 0, "what is missing once may be on its way"
    clerk.compare()
    assert backlog.facts().queued == 1
    world.parts.deliveries.retry("default", delivery.delivery_id)
    eventually(lambda: len(world.mail.parcels) == 2)
