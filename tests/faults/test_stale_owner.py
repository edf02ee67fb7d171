"""A stale owner still has its trunk and the old token, but its orders were taken over: nothing that it does counts."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import grpc
import pytest
import requests

from proto import order_service_pb2 as wire
from requestor_app.bootstrap import Requestor, build_requestor
from requestor_app.domain import FollowUp, OrderRequest, take_over
from requestor_app.settings import RequestorSettings
from requestor_app.tracking import StreamState
from service_kit.change import Change, Ref, Step
from service_kit.times import now_ms
from tests.e2e.conftest import Service, eventually, note_body, order_body
from tests.faults.arena import Arena, pending_in
from tests.faults.audit import Kept, read_store
from tests.faults.by_hand import claim, trunk_to
from tests.integration.test_grpc import close_request, follow_up

ORDERS = [f"o-{number}" for number in range(25)]
TIMEOUT_S = 10


@pytest.fixture
def arena(arena: Arena) -> Arena:
    """Both services, not started, nobody starts them again, and the processor bears a trunk that is silent for 10 s."""
    del arena.processor.settings["PROCESSOR_KEEPALIVE_MS"]
    return arena


def logs_at(processor: Service, orders: Iterable[str] = ORDERS) -> dict[str, Kept]:
    """The orders as the processor's store has them."""
    kept = read_store(processor.store)
    return {order_id: kept[order_id] for order_id in orders}


def initiate_all(requestor: Service) -> None:
    for order_id in ORDERS:
        requestor.post("/orders/initiate", order_body(order_id, notification_type="none"))
    eventually(lambda: open_streams(requestor) == len(ORDERS), what="all streams")


def open_streams(requestor: Service) -> int:
    count: int = requestor.get("/orders/tracking/status?limit=1")["open_streams"]
    return count


def status_of(call: Callable[..., object], request: object) -> grpc.StatusCode:
    """The status with which a call is answered."""
    try:
        call(request, timeout=TIMEOUT_S)
    except grpc.RpcError as error:
        status: grpc.StatusCode = error.code()
        return status
    return grpc.StatusCode.OK


# ---- the old self, after the restarted self has taken its orders over


def test_nothing_that_a_stale_owner_does_is_accepted(arena: Arena) -> None:
    processor, requestor = arena.processor, arena.requestor
    processor.start()
    requestor.start()
    initiate_all(requestor)
    requestor.kill()
    with trunk_to(processor, "the old self") as (old, stub):
        old.send(
            opens=[claim(order_id, 1) for order_id in ORDERS],
            follow_ups=[follow_up(order_id, follow_up_id="before") for order_id in ORDERS],
        )
        assert {ack.outcome for ack in old.wait_for(len(ORDERS), "follow_up_acks")} == {wire.ACCEPTED}
        assert len(old.wait_for(len(ORDERS), "streams", step="opened")) == len(ORDERS)

        requestor.start()  # takes every order over with the next token
        closed = old.wait_for(len(ORDERS), "streams", step="closed")
        assert {response.closed.reason for response in closed} == {wire.StreamClosed.SUPERSEDED}
        eventually(lambda: open_streams(requestor) == len(ORDERS), what="all streams at the restarted self")
        before = logs_at(processor)
        assert {kept.token for kept in before.values()} == {2}

        # Over the trunk: what it did before the takeover, and what is new.
        for order_id in ORDERS:
            old.send(
                opens=[claim(order_id, 1)],
                follow_ups=[follow_up(order_id, follow_up_id=name) for name in ("before", "after")],
                closes=[close_request(order_id, run=1), close_request(order_id, run=0)],
                acks=[wire.EventAck(order_req_id=order_id, seq=99)],
            )
        refused = old.wait_for(len(ORDERS), "streams", step="refused")
        notes = old.wait_for(3 * len(ORDERS), "follow_up_acks")[len(ORDERS) :]
        closes = old.wait_for(2 * len(ORDERS), "close_acks")
        assert {(r.refused.reason, r.refused.highest_token) for r in refused} == {(wire.StreamRefused.FENCED, 2)}
        assert {ack.outcome for ack in (*notes, *closes)} == {wire.OUTCOME_FENCED}

        # In calls of their own. That makes 225 acts, and 25 acknowledgements.
        for order_id in ORDERS:
            statuses = [
                status_of(stub.SubmitFollowUp, follow_up(order_id, follow_up_id="before")),
                status_of(stub.SubmitFollowUp, follow_up(order_id, follow_up_id="after")),
                status_of(stub.CloseOrder, close_request(order_id)),
                status_of(lambda *a, **o: next(stub.StreamOrder(*a, **o)), claim(order_id, 1)),
            ]
            assert statuses == [grpc.StatusCode.FAILED_PRECONDITION] * 4

        assert logs_at(processor) == before
        assert len(old.steps("opened")) == len(ORDERS)
        assert not old.call.done()

    # The restarted self has felt nothing of it.
    assert open_streams(requestor) == len(ORDERS)
    assert requestor.log.count("Lost the processor") == 0
    requestor.post("/orders/followup", note_body(ORDERS[0], "from-the-new-self"))
    eventually(lambda: pending_in(requestor.store) == 0, what="the relay")
    assert logs_at(processor)[ORDERS[0]].entries[-1][1] == "note:from-the-new-self"


def test_an_acknowledgement_of_a_stale_owner_ends_no_stream(arena: Arena) -> None:
    processor = arena.processor
    processor.start()

    def is_open() -> bool:
        return bool(processor.get(f"/orders/{ORDERS[0]}")["is_stream_open"])

    with trunk_to(processor, "old") as (old, _), trunk_to(processor, "new") as (new, _):
        old.send(opens=[claim(ORDERS[0], 1)])
        old.events(1)
        new.send(opens=[claim(ORDERS[0], 2, run=1, resume_after=1)])
        old.wait_for(1, "streams", step="closed")
        processor.post(f"/orders/{ORDERS[0]}/complete")
        assert new.events(1) == [(ORDERS[0], 2, "completed")]

        old.send(acks=[wire.EventAck(order_req_id=ORDERS[0], seq=2)], follow_ups=[follow_up(ORDERS[0])])
        (ack,) = old.wait_for(1, "follow_up_acks")
        assert ack.outcome == wire.OUTCOME_FENCED
        old.send(follow_ups=[follow_up(ORDERS[0])])  # when it is answered, the acknowledgement has been read
        old.wait_for(2, "follow_up_acks")
        assert is_open()

        new.send(acks=[wire.EventAck(order_req_id=ORDERS[0], seq=2)])
        eventually(lambda: not is_open(), what="the stream's end")


# ---- a requestor that lost its orders without being told


@pytest.fixture
def parts(arena: Arena, tmp_path: Path) -> Iterator[Requestor]:
    """A running requestor in this process, and its processor as a process."""
    arena.processor.start()
    address = f"127.0.0.1:{arena.processor.settings['PROCESSOR_GRPC_PORT']}"
    made = build_requestor(
        RequestorSettings(store=f"sqlite:///{tmp_path / 'parts.db'}", port=0, processors=(address,), lease_s=3)
    )
    made.lifecycle.start()
    yield made
    made.lifecycle.stop()


def test_orders_that_another_instance_took_over_in_the_store_are_dropped(arena: Arena, parts: Requestor) -> None:
    refs = [Ref("default", order_id) for order_id in ORDERS]
    for ref in refs:
        parts.orders.initiate(OrderRequest(ref, "s1", "email"))
    eventually(lambda: parts.tracking.count(StreamState.OPEN) == len(ORDERS), what="all streams")

    by_another = partial(take_over, owner="another", now_ms=now_ms())
    assert all(isinstance(result, Change) for result in parts.store.update_all([Step(ref, by_another) for ref in refs]))
    with trunk_to(arena.processor, "another") as (other, _):
        other.send(opens=[claim(order_id, 2, run=1, resume_after=1) for order_id in ORDERS])
        other.wait_for(len(ORDERS), "streams", step="opened")
        eventually(lambda: not any(map(parts.tracking.view, refs)), what="the drops")
        for ref in refs:  # kept, and the other's to relay
            assert parts.orders.follow_up(FollowUp(ref, "n1", ("seller1",), "text", "hello"))
        time.sleep(1.5)  # the supervisor looks at what is left once a second
        assert {len(kept.entries) for kept in logs_at(arena.processor).values()} == {1}
        assert parts.store.outbox_counts() == {"pending": len(ORDERS)}
        assert other.steps("closed") == []


@pytest.fixture
def chatter() -> Iterator[Callable[[Service], None]]:
    """Starts to send notes to all orders without a pause, so that a freeze comes in the middle of the work."""
    is_over = threading.Event()
    threads: list[threading.Thread] = []

    def send(requestor: Service) -> None:
        with requests.Session() as session:
            for number in range(10**6):
                if is_over.is_set():
                    return
                body = note_body(ORDERS[number % len(ORDERS)], f"chatter-{number}")
                session.post(f"{requestor.url}/api/v1/orders/followup", json=body, timeout=20)

    def start(requestor: Service) -> None:
        threads.append(threading.Thread(target=send, args=(requestor,), name="chatter", daemon=True))
        threads[-1].start()

    yield start
    is_over.set()
    for thread in threads:
        thread.join(20)


# As when the requestor's store is an old copy: its orders stay, for a person to look at.
@pytest.mark.parametrize("frozen_s", [0.2, 2.5], ids=["within-its-lease", "beyond-its-lease"])
def test_a_requestor_that_thaws_after_its_orders_were_taken_over_never_acts_for_them(
    arena: Arena, chatter: Callable[[Service], None], frozen_s: float
) -> None:
    processor, requestor = arena.processor, arena.requestor
    processor.start()
    requestor.start()
    initiate_all(requestor)
    chatter(requestor)
    eventually(lambda: logs_at(processor)[ORDERS[-1]].entries[-1][2] == "follow_up_accepted", what="the chatter")

    with trunk_to(processor, "the new owner") as (new, _):
        with arena.frozen(requestor):
            heads = {order_id: len(kept.entries) for order_id, kept in logs_at(processor).items()}
            new.send(opens=[claim(key, 2, run=1, resume_after=head) for key, head in heads.items()])
            opened = new.wait_for(len(ORDERS), "streams", step="opened")
            heads = {response.order_req_id: response.opened.head_seq for response in opened}
            time.sleep(frozen_s)

        if frozen_s > 2:
            eventually(lambda: '"lease.regained"' in requestor.log, what="the lease")
        eventually(lambda: requestor.log.count('"stream.refused"') >= len(ORDERS), what="the refusals")
        assert open_streams(requestor) == 0
        time.sleep(1.5)  # its supervisor looks at what is left once a second
        assert {order_id: len(kept.entries) for order_id, kept in logs_at(processor).items()} == heads
        assert new.steps("closed") == []
        assert pending_in(requestor.store) > 0

        # The one that may act does.
        new.send(follow_ups=[follow_up(ORDERS[0], token=2, follow_up_id="new")])
        assert new.wait_for(1, "follow_up_acks")[0].outcome == wire.ACCEPTED
        entries = logs_at(processor)[ORDERS[0]].entries
        assert (len(entries), entries[-1][1]) == (heads[ORDERS[0]] + 1, "note:new")
