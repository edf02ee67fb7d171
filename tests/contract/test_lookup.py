"""What people look up, over every engine."""

from __future__ import annotations

import pytest

from service_kit import lookup
from service_kit.change import Record
from service_kit.errors import InvalidInput
from service_kit.lookup import search
from service_kit.storage.contract import Store
from tests.contract.conftest import put, ref


def keys_of(records: tuple[Record, ...]) -> list[str]:
    return [record.ref.key for record in records]


@pytest.fixture
def orders(store: Store) -> Store:
    """Orders 0 to 119, of which every third is done, in two sessions."""
    store.update_all([put(ref(n), "done" if n % 3 == 0 else "live", group=f"session{n % 2}") for n in range(120)])
    return store


def test_a_search_answers_what_begins_alike_newest_first_and_the_very_key_before_all(orders: Store) -> None:
    page = search(orders, "default", "order11")
    assert keys_of(page.records) == ["order11", *(f"order{n}" for n in range(119, 109, -1))]
    assert page.next_cursor is None


def test_pages_of_a_search_hold_every_record_once(orders: Store) -> None:
    found: list[str] = []
    cursor = None
    while True:
        page = search(orders, "default", "order1", cursor=cursor, limit=7)
        assert len(page.records) <= 7
        found += keys_of(page.records)
        cursor = page.next_cursor
        if cursor is None:
            break
    assert found == ["order1", *(f"order{n}" for n in range(119, 99, -1)), *(f"order{n}" for n in range(19, 9, -1))]


def test_a_search_is_filtered(orders: Store) -> None:
    assert keys_of(search(orders, "default", "order10", states=("done",)).records) == [
        "order108",
        "order105",
        "order102",
    ]
    assert keys_of(search(orders, "default", "order2", group="session1").records) == [
        f"order{n}" for n in range(29, 20, -2)
    ]
    assert keys_of(search(orders, "default", "order3", states=("live",)).records) == [
        f"order{n}" for n in range(38, 30, -1) if n % 3
    ]


@pytest.mark.parametrize("prefix", ["x", "order1190", "ORDER", "order1%", "order_"])
def test_a_search_takes_every_letter_as_it_is(orders: Store, prefix: str) -> None:
    assert search(orders, "default", prefix).records == ()


def test_a_search_stays_within_its_tenant(orders: Store) -> None:
    orders.update(put(ref(5, "other")))
    assert keys_of(search(orders, "other", "order").records) == ["order5"]


def test_a_search_that_has_looked_at_enough_says_where_to_go_on(orders: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookup, "_CHUNK", 10)
    monkeypatch.setattr(lookup, "MAX_LOOKED_AT", 50)
    page = search(orders, "default", "order7")
    assert keys_of(page.records) == ["order7", *(f"order{n}" for n in range(79, 69, -1))]
    assert page.next_cursor is not None
    assert search(orders, "default", "order7", cursor=page.next_cursor).records == ()


def test_a_cursor_that_no_search_gave_out_is_refused(orders: Store) -> None:
    with pytest.raises(InvalidInput):
        search(orders, "default", "order", cursor="nonsense")
