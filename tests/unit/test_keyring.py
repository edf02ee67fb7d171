"""Keys and the keyring, over an access store in a file."""

from __future__ import annotations

import hmac
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from service_kit.access import keyring as keyring_module
from service_kit.access.keyring import Keyring
from service_kit.access.keys import TOKEN_PATTERN, NewKey, digest_of, make_key
from service_kit.access.model import BadKey, Principal, Scope
from service_kit.errors import StoreUnavailable
from service_kit.storage.sqlite_access import SqliteAccess


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteAccess]:
    made = SqliteAccess(tmp_path / "access.db")
    yield made
    made.stop()


@pytest.fixture
def keyring(store: SqliteAccess) -> Iterator[Keyring]:
    made = Keyring(store, every_s=0.05)
    made.start()
    yield made
    made.stop(5)


def kept(store: SqliteAccess, **changes: object) -> NewKey:
    new = make_key([Scope.ORDERS_READ], tenant="acme")
    key = replace(new.key, **changes)  # type: ignore[arg-type] # which fields there are
    store.add(key)
    return NewKey(key, new.token)


def fault_of(keyring: Keyring, token: str) -> str:
    with pytest.raises(BadKey) as refusal:
        keyring.verify(token)
    return refusal.value.detail


def test_a_token_names_its_key_and_holds_256_bits() -> None:
    made = [make_key([Scope.OPERATE]) for _ in range(100)]
    for new in made:
        match = TOKEN_PATTERN.fullmatch(new.token)
        assert match is not None
        assert match[1] == new.key.key_id
        assert new.key.digest == digest_of(match[2])
        assert match[2] not in repr(new.key)
    assert len({new.token for new in made}) == 100
    assert 62**43 > 2**256


def test_a_good_token_stands_for_its_principal(store: SqliteAccess, keyring: Keyring) -> None:
    new = kept(store, seller_id="seller1")
    expected = Principal("acme", frozenset({Scope.ORDERS_READ}), new.key.key_id, "seller1")
    assert keyring.verify(new.token) == expected
    assert keyring.principal_of(new.key.key_id) == expected


def test_what_is_no_token_of_a_key_is_not_known(store: SqliteAccess, keyring: Keyring) -> None:
    new, other = kept(store), kept(store)
    secret = new.token.rpartition("_")[2]
    for token in (
        *("", "oc", "oc__", "oc_" + new.key.key_id, f"oc_{new.key.key_id}_", "é" * 5, "\ud800", "x" * 10_000),
        *(f"oc_{other.key.key_id}_{secret}", f"oc_nobody000000_{secret}", f"xx_{new.key.key_id}_{secret}"),
        *(new.token + "x", new.token[:-1], new.token.upper(), " " + new.token),
    ):
        assert fault_of(keyring, token) == "This key is not known."


def test_an_expired_and_a_revoked_key_are_told_apart_to_who_has_the_secret_alone(
    store: SqliteAccess, keyring: Keyring
) -> None:
    expired, revoked = kept(store, expires_ms=1), kept(store, revoked_ms=1)
    assert fault_of(keyring, expired.token) == "This key has expired."
    assert fault_of(keyring, revoked.token) == "This key was revoked."
    for new in (expired, revoked):
        assert fault_of(keyring, new.token[:-1] + "~") == "This key is not known."
        assert keyring.principal_of(new.key.key_id) is None
    assert keyring.principal_of("nobody") is None


def test_secrets_are_compared_in_constant_time_and_unknown_keys_as_well(
    store: SqliteAccess, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = kept(store)
    keyring.verify(new.token)
    compared: list[tuple[str, str]] = []

    def compare(left: str, right: str) -> bool:
        compared.append((left, right))
        return hmac_compare(left, right)

    hmac_compare = hmac.compare_digest
    monkeypatch.setattr(hmac, "compare_digest", compare)
    keyring.verify(new.token)
    for token in (new.token[:-1], "oc_nobody000000_x", ""):
        fault_of(keyring, token)
    assert len(compared) == 4
    assert all(len(left) == len(right) == 64 for left, right in compared)


def test_a_new_key_is_good_at_once_and_strangers_do_not_read_the_store_each_time(
    store: SqliteAccess, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyring = Keyring(store, every_s=60)
    new = kept(store)
    assert keyring.verify(new.token).tenant == "acme"
    looks: list[int] = []
    version = store.version

    def look() -> int:
        looks.append(1)
        return version()

    monkeypatch.setattr(store, "version", look)
    for number in range(200):
        fault_of(keyring, f"oc_nobody{number:06}_x")
    assert 0 < len(looks) <= keyring_module.STRANGERS


def test_a_revoked_key_is_dead_soon(store: SqliteAccess, keyring: Keyring) -> None:
    new = kept(store)
    keyring.verify(new.token)
    store.revoke(new.key.key_id, 5)
    _eventually(lambda: keyring.principal_of(new.key.key_id) is None)
    assert fault_of(keyring, new.token) == "This key was revoked."


def test_the_last_use_is_written_at_the_stop_and_only_once(store: SqliteAccess, keyring: Keyring) -> None:
    new, unused = kept(store), kept(store)
    keyring.verify(new.token)
    keyring.stop(5)
    kept_keys = store.keys()
    used = {key.key_id: key.last_used_ms for key in kept_keys}
    assert used[new.key.key_id] is not None
    assert used[unused.key.key_id] is None


def test_the_last_use_is_written_while_it_runs(store: SqliteAccess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keyring_module, "USES_S", 0.05)
    keyring = Keyring(store, every_s=0.02)
    keyring.start()
    new = kept(store)
    keyring.verify(new.token)
    _eventually(lambda: store.keys()[0].last_used_ms is not None)
    keyring.stop(5)


def test_known_keys_stay_good_while_the_store_does_not_answer(
    store: SqliteAccess, keyring: Keyring, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = kept(store)
    keyring.verify(new.token)

    def fail() -> int:
        raise StoreUnavailable("The access store cannot be used.")

    monkeypatch.setattr(store, "version", fail)
    _eventually(lambda: keyring.check() is not None)
    assert keyring.verify(new.token).tenant == "acme"
    monkeypatch.undo()
    _eventually(lambda: keyring.check() is None)


def test_a_start_without_the_store_is_refused(store: SqliteAccess, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> int:
        raise StoreUnavailable("The access store cannot be used.")

    monkeypatch.setattr(store, "version", fail)
    with pytest.raises(StoreUnavailable):
        Keyring(store).start()


def _eventually(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)
