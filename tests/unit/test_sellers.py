from __future__ import annotations

from dataclasses import replace

import pytest

from processor_app.delivery import sellers
from processor_app.delivery.channel import Seller
from processor_app.delivery.sellers import NoWebhook, SellerNotFound, SellerState, SellerWish, seller_of, seller_ref
from service_kit.change import Change, Snapshot
from service_kit.rules import ID_PATTERN

REF = seller_ref("default", "seller1")
WISH = SellerWish("One", "one@example.com", "https://one.example/hook", ("webhook",), "en")
EMPTY = Snapshot(None)


def after(snapshot: Snapshot, change: Change | None) -> Snapshot:
    assert change is not None
    before = snapshot.record
    assert change.expect == (None if before is None else before.version)
    assert change.record.version == (0 if before is None else before.version) + 1
    entries = {**snapshot.entries, **{entry.entry_id: entry for entry in change.entries}}
    assert [entry.seq for entry in entries.values()] == list(range(1, len(entries) + 1))
    return Snapshot(change.record, entries)


def registered(snapshot: Snapshot = EMPTY, wish: SellerWish = WISH, new_secret: str = "") -> Snapshot:
    return after(snapshot, sellers.put(snapshot, REF, wish, new_secret or "first", now_ms=1000))


def removed(snapshot: Snapshot) -> Snapshot:
    return after(snapshot, sellers.remove(snapshot, now_ms=2000))


def disabled(snapshot: Snapshot) -> Snapshot:
    change = sellers.disable_webhook(snapshot, WISH.webhook_url, "Gone.", now_ms=1500)
    return after(snapshot, change)


def the_seller(snapshot: Snapshot) -> Seller:
    seller = seller_of(snapshot.record)
    assert seller is not None
    return seller


def log_of(snapshot: Snapshot) -> list[tuple[str, str]]:
    return [(entry.kind, entry.body["by"]) for entry in snapshot.entries.values()]


def test_a_seller_stands_under_a_tenant_that_no_caller_can_name() -> None:
    assert not ID_PATTERN.fullmatch(REF.tenant)


def test_a_new_seller_is_registered_with_the_secret_of_its_webhook() -> None:
    snapshot = registered()
    assert the_seller(snapshot) == Seller(
        "seller1", "One", "one@example.com", "https://one.example/hook", ("webhook",), "en", ("first",)
    )
    assert log_of(snapshot) == [("registered", "operator")]


def test_a_seller_without_a_webhook_has_no_secret() -> None:
    assert the_seller(registered(wish=replace(WISH, webhook_url=""))).webhook_secrets == ()


def test_what_is_put_again_changes_nothing() -> None:
    assert sellers.put(registered(), REF, WISH, "second", now_ms=1100) is None


def test_a_change_is_logged_by_the_names_of_its_fields_and_keeps_the_secret() -> None:
    snapshot = registered(registered(), replace(WISH, name="Two", email=""), "second")
    assert the_seller(snapshot).webhook_secrets == ("first",)
    assert list(snapshot.entries.values())[-1].body == {"by": "operator", "fields": ["name", "email"]}
    assert "first" not in str(snapshot.entries)


def test_another_url_has_another_secret() -> None:
    snapshot = registered(registered(), replace(WISH, webhook_url="https://two.example/"), "second")
    assert the_seller(snapshot).webhook_secrets == ("second",)


def test_a_url_that_is_taken_away_takes_its_secrets_along() -> None:
    snapshot = registered(registered(), replace(WISH, webhook_url=""))
    assert the_seller(snapshot).webhook_secrets == ()
    assert the_seller(registered(snapshot, WISH, "third")).webhook_secrets == ("third",)


def test_two_secrets_live_while_one_is_rotated_and_never_three() -> None:
    snapshot = registered()
    for secret in ("second", "third"):
        snapshot = after(snapshot, sellers.rotate_secret(snapshot, secret, now_ms=1200))
    assert the_seller(snapshot).webhook_secrets == ("third", "second")
    assert log_of(snapshot)[1:] == [("secret_rotated", "operator")] * 2


def test_without_a_webhook_there_is_nothing_to_rotate() -> None:
    with pytest.raises(NoWebhook):
        sellers.rotate_secret(registered(wish=replace(WISH, webhook_url="")), "second", now_ms=1)


def test_a_webhook_is_disabled_once_by_the_processor_and_keeps_its_secret() -> None:
    snapshot = disabled(registered())
    assert (the_seller(snapshot).webhook_disabled, the_seller(snapshot).webhook_secrets) == ("Gone.", ("first",))
    assert log_of(snapshot)[-1] == ("webhook_disabled", "processor")
    assert sellers.disable_webhook(snapshot, WISH.webhook_url, "Again.", now_ms=1) is None


@pytest.mark.parametrize("snapshot", [EMPTY, registered(), removed(registered())])
def test_an_answer_from_another_url_disables_nothing(snapshot: Snapshot) -> None:
    assert sellers.disable_webhook(snapshot, "https://old.example/", "Gone.", now_ms=1) is None


def test_a_url_that_is_put_is_tried_again_even_when_it_is_the_same() -> None:
    snapshot = registered(disabled(registered()), WISH, "second")
    assert (the_seller(snapshot).webhook_disabled, the_seller(snapshot).webhook_secrets) == ("", ("first",))
    assert list(snapshot.entries.values())[-1].body["fields"] == ["webhook_disabled"]


def test_a_removed_seller_leaves_its_log_and_nothing_else() -> None:
    snapshot = removed(registered())
    assert seller_of(snapshot.record) is None
    assert snapshot.record is not None
    assert (snapshot.record.state, snapshot.record.body) == (SellerState.REMOVED, {"head": 2})
    assert log_of(snapshot) == [("registered", "operator"), ("removed", "operator")]


def test_a_removed_seller_can_be_registered_anew() -> None:
    snapshot = registered(removed(registered()), WISH, "second")
    assert the_seller(snapshot).webhook_secrets == ("second",)
    assert log_of(snapshot)[-1] == ("registered", "operator")


@pytest.mark.parametrize("snapshot", [EMPTY, removed(registered())])
def test_who_is_not_registered_is_not_found(snapshot: Snapshot) -> None:
    with pytest.raises(SellerNotFound):
        sellers.remove(snapshot, now_ms=1)
    with pytest.raises(SellerNotFound):
        sellers.rotate_secret(snapshot, "second", now_ms=1)
