"""What requestors tell each other of their streams."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from requestor_app.domain import Order, OrderState
from requestor_app.peers import SILENT_S, Peers
from requestor_app.tracking import OrderTracking, StreamState
from service_kit.change import Ref
from service_kit.hints import NoHints

REF = Ref("default", "A1")


class Wire(NoHints):
    """Brings what is said to another instance at once."""

    def __init__(self) -> None:
        self.other: Peers | None = None

    def send(self, topic: str, items: Sequence[Any]) -> None:
        assert topic == "peer"
        if self.other is not None:
            self.other.hear(
                [{**item, "closed": item["closed"] and [list(ref) for ref in item["closed"]]} for item in items]
            )


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def owner() -> OrderTracking:
    tracking = OrderTracking()
    for name in ("A1", "A2"):
        tracking.launch(Ref("default", name), token=1, fingerprint=1, applied_seq=1, now_ms=1)
        tracking.begin_open(Ref("default", name), 1, f"st-{name}", 1)
        tracking.move(Ref("default", name), f"st-{name}", StreamState.OPEN, 1)
    return tracking


def order(name: str = "A1", *, applied_seq: int = 1, owner: str = "owner") -> Order:
    return Order(
        ref=Ref("default", name),
        state=OrderState.LIVE,
        session_id="s1",
        notification_type="none",
        audience=(),
        details=None,
        owner=owner,
        token=1,
        run=1,
        created_ms=1,
        applied_seq=applied_seq,
    )


@pytest.fixture
def pair(owner: OrderTracking, clock: Clock) -> tuple[Peers, Peers]:
    wire = Wire()
    speaker = Peers(owner, wire, instance_id="owner", clock=clock)
    listener = Peers(OrderTracking(), NoHints(), instance_id="listener", clock=clock)
    wire.other = listener
    speaker.tell()
    return speaker, listener


def test_open_streams_are_counted_over_all_instances(pair: tuple[Peers, Peers], clock: Clock) -> None:
    assert [peers.open_streams("default") for peers in pair] == [2, 2]
    clock.now_s += SILENT_S
    assert [peers.open_streams("default") for peers in pair] == [2, 0]


def test_a_stream_elsewhere_is_open_unless_its_owner_says_otherwise(
    pair: tuple[Peers, Peers], owner: OrderTracking
) -> None:
    speaker, listener = pair
    view = listener.view(order())
    assert view is not None
    assert view.state is StreamState.OPEN
    owner.lose_all("the wire is cut", 9)
    speaker.tell()
    assert listener.view(order()) is None


def test_nothing_is_claimed_of_an_order_whose_owner_is_unknown_or_whose_stream_has_said_nothing(
    pair: tuple[Peers, Peers],
) -> None:
    _, listener = pair
    assert listener.view(order(owner="another")) is None
    assert listener.view(order(applied_seq=0)) is None
    assert listener.view(order(owner="listener")) is None
