"""What every access store promises, over a file and over a real Redis, single and as a cluster."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from unittest.mock import ANY

import pytest

from service_kit.access.keys import make_key
from service_kit.access.model import AUDIT_LINES, ApiKey, AuditEntry, Scope
from service_kit.storage.opening import AccessEngine, open_access_store
from service_kit.times import now_ms


@pytest.fixture(params=["sqlite", "redis", "cluster"])
def open_access(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], AccessEngine]]:
    """Opens access stores over the same data; all are closed at the end."""
    made: list[AccessEngine] = []
    url = f"sqlite:///{tmp_path / 'data' / 'store.db'}"
    if request.param != "sqlite":
        url = request.getfixturevalue(f"redis_{'server' if request.param == 'redis' else 'cluster'}").url
    prefix = f"test-{uuid.uuid4().hex}"

    def make() -> AccessEngine:
        made.append(open_access_store(url, base_folder=tmp_path, prefix=prefix))
        return made[-1]

    yield make
    for store in made:
        store.stop(1)


@pytest.fixture
def access(open_access: Callable[[], AccessEngine]) -> AccessEngine:
    """An access store without keys."""
    return open_access()


def key(tenant: str = "acme", **other: object) -> ApiKey:
    made = make_key([Scope.ORDERS_READ, Scope.OPERATE], tenant=tenant, name="Größe", lives_ms=1_000).key
    return replace(made, **other)  # type: ignore[arg-type] # which fields there are


def line(number: int, tenant: str = "acme") -> AuditEntry:
    return AuditEntry(number, tenant, "k1", "order.complete", f"order{number}", "127.0.0.1", "done")


def in_threads(count: int, work: Callable[[int], object]) -> list[object]:
    """What the work answers in so many threads that begin at once."""
    barrier, answers = threading.Barrier(count), [None] * count

    def run(number: int) -> None:
        barrier.wait()
        answers[number] = work(number)  # type: ignore[call-overload] # a slot for each thread

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return list(answers)


class TestAccessStore:
    def test_a_store_begins_empty(self, access: AccessEngine) -> None:
        assert list(access.keys()) == []
        assert access.version() == 0
        assert list(access.audit(None, limit=10)) == []
        assert access.check() is None

    def test_keys_come_back_as_they_were_oldest_first(
        self, access: AccessEngine, open_access: Callable[[], AccessEngine]
    ) -> None:
        first, second = key(created_ms=1), key(created_ms=2, seller_id="seller1", expires_ms=None)
        access.add(first)
        access.add(second)
        assert list(access.keys()) == [first, second]
        assert list(open_access().keys()) == [first, second]

    def test_every_change_of_keys_is_another_version_and_nothing_else_is(self, access: AccessEngine) -> None:
        seen = [access.version()]
        keys = [key(), key()]
        for change in (
            *(lambda: access.add(keys[0]), lambda: access.add(keys[1])),
            *(lambda: access.revoke(keys[0].key_id, 5), lambda: access.revoke(keys[1].key_id, 6)),
        ):
            change()
            seen.append(access.version())
        assert sorted(set(seen)) == seen
        access.touch({keys[1].key_id: 7})
        access.record(line(1))
        access.secret()
        access.revoke(keys[0].key_id, 8)
        assert access.version() == seen[-1]

    def test_another_opener_sees_a_revocation(
        self, access: AccessEngine, open_access: Callable[[], AccessEngine]
    ) -> None:
        other, made = open_access(), key()
        access.add(made)
        before = other.version()
        assert access.revoke(made.key_id, 1_234)
        assert other.version() != before
        assert other.keys()[0].revoked_ms == 1_234

    def test_a_revocation_is_for_good(self, access: AccessEngine) -> None:
        made = key()
        access.add(made)
        assert access.revoke(made.key_id, 5)
        assert access.revoke(made.key_id, 9)
        assert access.keys()[0].revoked_ms == 5

    def test_an_unknown_key_is_not_revoked(self, access: AccessEngine) -> None:
        assert not access.revoke("nobody", 5)
        assert access.version() == 0

    def test_the_latest_use_stays(self, access: AccessEngine) -> None:
        one, two = key(created_ms=1), key(created_ms=2)
        access.add(one)
        access.add(two)
        access.touch({one.key_id: 100, two.key_id: 200})
        access.touch({one.key_id: 90, two.key_id: 300})
        assert list(access.keys()) == [replace(one, last_used_ms=100), replace(two, last_used_ms=300)]

    def test_the_audit_log_is_newest_first_and_of_one_tenant(self, access: AccessEngine) -> None:
        lines = [line(1), line(2, "other"), line(3)]
        for each in lines:
            access.record(each)
        assert list(access.audit(None, limit=10)) == lines[::-1]
        assert list(access.audit("acme", limit=10)) == [lines[2], lines[0]]
        assert list(access.audit("acme", limit=1)) == [lines[2]]
        assert list(access.audit("nobody", limit=10)) == []

    def test_the_audit_log_forgets_the_oldest_lines(
        self, access: AccessEngine, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert AUDIT_LINES == 10_000
        for module in ("sqlite_access", "redis_access"):
            monkeypatch.setattr(f"service_kit.storage.{module}.AUDIT_LINES", 20)
        for number in range(35):
            access.record(line(number))
        assert [each.at_ms for each in access.audit(None, limit=100)] == list(range(34, 14, -1))

    def test_the_secret_is_made_once_whoever_asks_first(self, open_access: Callable[[], AccessEngine]) -> None:
        stores = [open_access() for _ in range(8)]
        found = in_threads(8, lambda number: stores[number].secret())
        assert found == [ANY] * 8
        assert len(set(found)) == 1
        assert len(str(found[0])) >= 43

    def test_many_openers_may_write_at_once(self, open_access: Callable[[], AccessEngine]) -> None:
        stores = [open_access() for _ in range(4)]

        def work(number: int) -> None:
            for _ in range(10):
                made = key()
                stores[number].add(made)
                stores[number].touch({made.key_id: number})
                stores[number].record(line(number))

        in_threads(4, work)
        kept = stores[0].keys()
        assert stores[0].version() == len(kept) == 40
        assert all(found.last_used_ms is not None for found in kept)
        assert len(stores[0].audit(None, limit=100)) == 40

    def test_an_ended_session_is_known_to_every_opener_and_no_other_is(
        self, access: AccessEngine, open_access: Callable[[], AccessEngine]
    ) -> None:
        until_ms = now_ms() + 60_000
        access.end_session("s1", until_ms)
        access.end_session("s1", until_ms)
        access.end_session("s2", until_ms)
        other = open_access()
        assert [other.has_ended(session) for session in ("s1", "s2", "s3")] == [True, True, False]

    def test_an_ended_session_is_forgotten_when_its_time_is_over(self, access: AccessEngine) -> None:
        access.end_session("s1", now_ms() + 3_000)
        assert access.has_ended("s1")
        time.sleep(3.1)
        access.end_session("s2", now_ms() + 60_000)
        assert [access.has_ended(session) for session in ("s1", "s2")] == [False, True]

    def test_it_works_again_after_its_stop(self, access: AccessEngine) -> None:
        made = key()
        access.add(made)
        access.stop(1)
        access.stop(1)
        assert list(access.keys()) == [made]
