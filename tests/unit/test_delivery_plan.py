from __future__ import annotations

import pytest

from processor_app.delivery.delivery import created_ms_of, delivery_id_of, delivery_of, message_of
from processor_app.delivery.plan import Occasion, Route, plan
from service_kit.change import Ref
from service_kit.rules import ID_PATTERN

OCCASION = Occasion(Ref("default", "A1"), run=3, seq=7, follow_up_id="n1")
ROUTES = {
    "both": Route(frozenset(["email", "webhook"]), ("webhook",)),
    "mail": Route(frozenset(["email"]), ("webhook",)),
    "hook": Route(frozenset(["webhook"]), ()),
    "nowhere": Route(frozenset(), ("email",)),
}


def planned(notification_type: str, *audience: str) -> list[tuple[str, str, str]]:
    deliveries = plan(OCCASION, notification_type, audience, ROUTES, now_ms=1000)
    return [(d.seller_id, d.channel, str(d.state)) for d in deliveries]


@pytest.mark.parametrize(
    ("notification_type", "seller", "expected"),
    [
        ("email", "mail", [("email", "pending")]),
        ("email", "hook", [("email", "waiting")]),
        ("email", "nowhere", [("email", "waiting")]),
        ("email", "unknown", [("email", "waiting")]),
        ("webhook", "hook", [("webhook", "pending")]),
        ("webhook", "mail", [("webhook", "waiting")]),
        ("webhook", "nowhere", [("webhook", "waiting")]),
        ("email", "both", [("email", "pending"), ("webhook", "pending")]),
        ("webhook", "both", [("webhook", "pending")]),
        ("none", "both", []),
    ],
)
def test_the_order_names_the_channel_and_the_seller_widens_it(
    notification_type: str, seller: str, expected: list[tuple[str, str]]
) -> None:
    assert planned(notification_type, seller) == [(seller, *rest) for rest in expected]


def test_every_seller_has_a_delivery_in_the_order_of_the_audience() -> None:
    assert [seller for seller, *_ in planned("email", "unknown", "both", "mail")] == [
        "unknown",
        "both",
        "both",
        "mail",
    ]


def test_a_delivery_carries_what_it_is_about() -> None:
    (delivery,) = plan(OCCASION, "email", ["mail"], ROUTES, now_ms=1000)
    assert (delivery.run, delivery.seq, delivery.follow_up_id) == (3, 7, "n1")
    assert (delivery.created_ms, delivery.due_ms, delivery.round_ms) == (1000, 1000, 1000)
    assert (delivery.attempts, delivery.uncertain, delivery.last_error) == (0, 0, "")


def test_a_delivery_is_read_back_from_its_message() -> None:
    for delivery in plan(OCCASION, "email", ROUTES, ROUTES, now_ms=1000):
        message = message_of(delivery)
        assert delivery_of(message) == delivery
        assert (message.address, message.kind, message.position) == (delivery.seller_id, delivery.channel, 7)


def test_names_of_deliveries_differ_and_are_ids() -> None:
    names = {
        delivery_id_of(Ref(tenant, key), seq, channel, seller, now_ms)
        for tenant in ("default", "t")
        for key in ("A1", "A12")
        for seq in (1, 2)
        for channel in ("email", "webhook")
        for seller in ("s", "2s")
        for now_ms in (1_795_574_212_505, 1_795_574_212_506)
    }
    assert len(names) == 64
    assert all(ID_PATTERN.fullmatch(name) for name in names)


def test_the_name_of_a_delivery_says_when_it_was_made() -> None:
    name = delivery_id_of(Ref("default", "A1"), 1, "email", "s", 1_795_574_212_505)
    assert created_ms_of(name) == 1_795_574_212_505


@pytest.mark.parametrize("name", ["", "d", "d1", "d-", f"dxyz-{'0' * 20}", f"d1-{'0' * 19}", f"d{'f' * 16}-{'0' * 20}"])
def test_what_names_no_delivery_says_no_time(name: str) -> None:
    assert created_ms_of(name) is None
