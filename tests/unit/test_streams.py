from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from processor_app.delivery.backlog import Backlog
from processor_app.delivery.directory import SellerDirectory
from processor_app.delivery.retries import RetrySchedule
from processor_app.delivery.routes import RouteFinder
from processor_app.domain import Answer, Close, OpenStream, OrderState, Reply
from processor_app.measures import InputMeasures
from processor_app.orders import Orders
from processor_app.streams import MAX_CONTROLS, GoingAway, Opened, Outlet, StreamHub, Superseded
from service_kit.change import Ref
from service_kit.errors import Fenced
from service_kit.storage.sqlite import SqliteStore

REF = Ref("default", "A1")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    engine = SqliteStore(tmp_path / "processor.db")
    engine.start()
    yield engine
    engine.stop()


@pytest.fixture
def hub(store: SqliteStore) -> StreamHub:
    return StreamHub(store)


@pytest.fixture
def orders(store: SqliteStore, hub: StreamHub) -> Orders:
    backlog = Backlog(RetrySchedule((1.0,)), places=1)
    return Orders(
        store, hub, RouteFinder(SellerDirectory(store, announce=backlog.seller_changed), {}), backlog, InputMeasures()
    )


class Call:
    """A call that carries streams, of which only the cancelling is there."""

    def __init__(self) -> None:
        self.cancelled = 0

    def cancel(self) -> None:
        self.cancelled += 1


def outlet(hub: StreamHub, *, window: int = 8_192, call: Call | None = None) -> Outlet:
    made = Outlet("peer", (call or Call()).cancel, window=window)
    hub.register(made)
    return made


def opened(token: int = 1, stream_id: str = "st1", *, ref: Ref = REF, head_seq: int = 0, after: int = 0) -> Opened:
    return Opened(ref, stream_id, token, head_seq, after)


def open_order(orders: Orders, target: Outlet, key: str = "A1", token: int = 1, stream_id: str = "st1") -> None:
    wish = OpenStream(Ref("default", key), "s1", "none", (), None, token, stream_id, 0, 1)
    assert orders.attach([(wish, orders.take_one(wish))], target) == [None]


def reply(orders: Orders, number: int, key: str = "A1") -> None:
    orders.reply(Reply(Ref("default", key), f"r{number}", "seller1", Answer.MESSAGE, str(number)))


def sent_numbers(hub: StreamHub, source: Outlet) -> list[int]:
    batch = hub.next_batch(source, 0)
    assert batch is not None
    return [entry.seq for _, entry in batch.events]


def test_an_opened_stream_says_so_and_sends_its_events(hub: StreamHub, orders: Orders) -> None:
    trunk = outlet(hub)
    open_order(orders, trunk)
    batch = hub.next_batch(trunk, 0)
    assert batch is not None
    assert batch.controls == [opened(head_seq=1)]
    assert [(stream.ref, entry.kind) for stream, entry in batch.events] == [(REF, "accepted")]
    reply(orders, 1)
    assert sent_numbers(hub, trunk) == [2]
    assert sent_numbers(hub, trunk) == []


def test_an_order_has_one_stream_and_the_superseded_one_is_told(hub: StreamHub) -> None:
    first, second = outlet(hub), outlet(hub)
    hub.attach(opened(stream_id="st1"), first)
    hub.attach(opened(stream_id="st2"), second)
    assert hub.stream_count == 1
    stream = hub.stream_of(REF)
    assert stream is not None
    assert (stream.outlet, stream.stream_id) == (second, "st2")
    told = hub.next_batch(first, 0)
    assert told is not None
    assert told.controls == [opened(stream_id="st1"), Superseded(REF, "st1")]


def test_a_new_opening_on_the_same_trunk_supersedes_the_old_one(hub: StreamHub) -> None:
    trunk = outlet(hub)
    hub.attach(opened(stream_id="st1"), trunk)
    hub.attach(opened(stream_id="st2"), trunk)
    batch = hub.next_batch(trunk, 0)
    assert batch is not None
    assert batch.controls == [opened(stream_id="st1"), Superseded(REF, "st1"), opened(stream_id="st2")]
    assert hub.stream_count == 1


def test_the_same_opening_again_supersedes_nothing(hub: StreamHub) -> None:
    trunk = outlet(hub)
    hub.attach(opened(), trunk)
    hub.attach(opened(), trunk)
    batch = hub.next_batch(trunk, 0)
    assert batch is not None
    assert batch.controls == [opened(), opened()]


def test_a_lower_token_does_not_take_the_stream(hub: StreamHub) -> None:
    first, second = outlet(hub), outlet(hub)
    hub.attach(opened(5), first)
    with pytest.raises(Fenced) as caught:
        hub.attach(opened(4, "st2"), second)
    assert caught.value.extra["highest_token"] == 5
    stream = hub.stream_of(REF)
    assert stream is not None
    assert stream.outlet is first
    assert second.queue_depth == 0


def test_an_event_between_the_opening_and_its_stream_is_sent(hub: StreamHub, orders: Orders) -> None:
    first, second = outlet(hub), outlet(hub)
    open_order(orders, first)
    wish = OpenStream(REF, "s1", "none", (), None, 2, "st2", 1, 1)
    change = orders.take_one(wish)
    reply(orders, 1)
    assert orders.attach([(wish, change)], second) == [None]
    assert sent_numbers(hub, second) == [2]


def test_a_superseded_stream_sends_nothing_more(hub: StreamHub, orders: Orders) -> None:
    first, second = outlet(hub), outlet(hub)
    open_order(orders, first)
    open_order(orders, second, stream_id="st2")
    reply(orders, 1)
    assert sent_numbers(hub, first) == []
    assert sent_numbers(hub, second) == [1, 2]


def test_a_stream_cannot_be_attached_to_a_call_that_is_over(hub: StreamHub) -> None:
    alive, over = outlet(hub), outlet(hub)
    hub.attach(opened(), alive)
    over.end()
    hub.attach(opened(stream_id="st2"), over)
    stream = hub.stream_of(REF)
    assert stream is not None
    assert stream.outlet is alive


def test_a_finished_stream_is_over_when_its_last_event_is_acknowledged(hub: StreamHub, orders: Orders) -> None:
    trunk = outlet(hub)
    open_order(orders, trunk)
    orders.complete(Close(REF, OrderState.COMPLETED, "seller"))
    assert sent_numbers(hub, trunk) == [1, 2]
    hub.acknowledge(trunk, [(REF, 1)])
    assert hub.stream_count == 1
    hub.acknowledge(trunk, [(REF, 2)])
    assert hub.stream_count == 0


def test_an_acknowledgement_by_another_call_does_not_count(hub: StreamHub, orders: Orders) -> None:
    trunk, stranger = outlet(hub), outlet(hub)
    open_order(orders, trunk)
    orders.complete(Close(REF, OrderState.COMPLETED, "seller"))
    assert sent_numbers(hub, trunk) == [1, 2]
    hub.acknowledge(stranger, [(REF, 2), (Ref("default", "unknown"), 9)])
    assert hub.stream_count == 1


def test_an_acknowledgement_of_what_was_not_sent_ends_nothing(hub: StreamHub, orders: Orders) -> None:
    trunk = outlet(hub)
    open_order(orders, trunk)
    orders.complete(Close(REF, OrderState.COMPLETED, "seller"))
    hub.acknowledge(trunk, [(REF, 99)])
    assert hub.stream_count == 1
    assert sent_numbers(hub, trunk) == [1, 2]


def test_a_full_window_holds_events_back_until_they_are_acknowledged(hub: StreamHub, orders: Orders) -> None:
    trunk = outlet(hub, window=1)
    open_order(orders, trunk)
    assert sent_numbers(hub, trunk) == [1]
    reply(orders, 1)
    assert sent_numbers(hub, trunk) == []
    hub.acknowledge(trunk, [(REF, 1)])
    assert sent_numbers(hub, trunk) == [2]


def test_a_full_window_does_not_hold_answers_back(hub: StreamHub, orders: Orders) -> None:
    trunk = outlet(hub, window=1)
    open_order(orders, trunk)
    assert sent_numbers(hub, trunk) == [1]
    reply(orders, 1)
    trunk.push(GoingAway("test"))
    batch = hub.next_batch(trunk, 0)
    assert batch is not None
    assert (batch.controls, list(batch.events)) == ([GoingAway("test")], [])


def test_a_superseded_stream_gives_its_part_of_the_window_back(hub: StreamHub, orders: Orders) -> None:
    first, second = outlet(hub, window=1), outlet(hub)
    open_order(orders, first)
    assert sent_numbers(hub, first) == [1]
    open_order(orders, second, stream_id="st2")
    open_order(orders, first, key="B2")
    assert sent_numbers(hub, first) == [1]


@pytest.fixture
def eager_switches() -> Iterator[None]:
    """Threads take turns as often as they can, so that a gap between two steps shows."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("eager_switches")
def test_streams_that_move_while_they_send_leave_nothing_in_the_window(hub: StreamHub, orders: Orders) -> None:
    first = outlet(hub)
    open_order(orders, first)
    for number in range(20):
        reply(orders, number)
    trunks = [first, outlet(hub), outlet(hub)]

    def send(trunk: Outlet) -> None:
        while hub.next_batch(trunk, 0.01) is not None:
            pass

    senders = [threading.Thread(target=send, args=(trunk,)) for trunk in trunks[:2]]
    for sender in senders:
        sender.start()
    for token in range(2, 1_500):
        hub.attach(opened(token, f"st{token}"), trunks[token % 2])
    hub.attach(opened(1_500), trunks[2])
    for trunk in trunks[:2]:
        trunk.end()
    for sender in senders:
        sender.join(10)
    assert [trunk.unacknowledged for trunk in trunks] == [0, 0, 0]


def test_an_unregistered_call_takes_its_streams_with_it(hub: StreamHub) -> None:
    first, second = outlet(hub), outlet(hub)
    hub.attach(opened(), first)
    other = Ref("default", "B2")
    hub.attach(opened(ref=other), second)
    hub.unregister(first)
    hub.unregister(first)
    assert hub.stream_of(REF) is None
    assert hub.stream_of(other) is not None
    assert hub.outlets() == [second]
    assert hub.next_batch(first, 0) is None


def test_a_closed_call_sends_what_waits_and_ends(hub: StreamHub) -> None:
    trunk = outlet(hub)
    trunk.push(GoingAway("test"))
    trunk.close()
    batch = hub.next_batch(trunk, 5)
    assert batch is not None
    assert batch.controls == [GoingAway("test")]
    assert hub.next_batch(trunk, 5) is None
    assert trunk.has_ended


def test_an_ended_call_sends_nothing(hub: StreamHub) -> None:
    trunk = outlet(hub)
    trunk.push(GoingAway("test"))
    trunk.end()
    assert hub.next_batch(trunk, 5) is None


def test_a_cut_call_is_cancelled(hub: StreamHub) -> None:
    call = Call()
    trunk = outlet(hub, call=call)
    trunk.cut()
    assert (call.cancelled, trunk.has_ended) == (1, True)


def test_a_peer_that_lets_answers_pile_up_is_cut(hub: StreamHub) -> None:
    trunk = outlet(hub)
    trunk.push(*[GoingAway("test")] * MAX_CONTROLS)
    assert not trunk.has_ended
    trunk.push(GoingAway("one more"))
    assert trunk.has_ended


def test_a_silent_peer_is_stalled(hub: StreamHub) -> None:
    trunk = outlet(hub)
    now = time.monotonic()
    assert not trunk.is_stalled(now, 10)
    assert trunk.is_stalled(now + 11, 10)
    trunk.last_heard = now + 5
    assert not trunk.is_stalled(now + 11, 10)


def test_a_peer_that_does_not_read_is_stalled_although_it_speaks(hub: StreamHub) -> None:
    trunk = outlet(hub)
    now = time.monotonic()
    trunk.last_heard = now + 11
    assert not trunk.is_stalled(now + 11, 10)
    trunk.push(GoingAway("test"))
    assert trunk.is_stalled(now + 11, 10)
    hub.next_batch(trunk, 0)
    assert not trunk.is_stalled(now + 11, 10)


def test_more_events_than_a_message_holds_come_with_the_next_ones(hub: StreamHub, orders: Orders) -> None:
    trunk = outlet(hub)
    open_order(orders, trunk)
    replies = [Reply(REF, f"r{number}", "seller1", Answer.MESSAGE) for number in range(1_500)]
    store_replies(orders, replies)
    numbers: list[int] = []
    while batch := sent_numbers(hub, trunk):
        numbers += batch
    assert numbers == list(range(1, 1_502))


def store_replies(orders: Orders, replies: list[Reply]) -> None:
    for item in replies:
        orders.reply(item)
