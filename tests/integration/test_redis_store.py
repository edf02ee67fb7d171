"""What is the Redis engine's own: other instances at the same records, outages, and the copy from SQLite."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner

from service_kit.change import Change, Record, Ref, Snapshot, Step, next_version
from service_kit.errors import StartRefused, StoreFull, StoreUnavailable
from service_kit.storage.commands import store_commands
from service_kit.storage.contract import Store
from service_kit.storage.copying import copy, differences
from service_kit.storage.opening import open_store
from service_kit.storage.redis_store import RedisStore
from service_kit.storage.redis_url import RedisUrl, read_url
from service_kit.storage.sqlite import SqliteStore
from tests.contract.conftest import REF, entry, message, put, ref, step
from tests.redis_servers import RedisServer, Sentinel, wait_until


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    made = RedisServer(tmp_path / "redis")
    made.start()
    yield made
    made.kill()


def opened(server: RedisServer, prefix: str = "test") -> RedisStore:
    store = RedisStore(read_url(server.url), prefix=prefix)
    store.start()
    return store


@pytest.fixture
def store(server: RedisServer) -> Iterator[RedisStore]:
    made = opened(server)
    yield made
    made.stop()


@pytest.fixture
def other(server: RedisServer) -> Iterator[RedisStore]:
    """Another instance over the same data."""
    made = opened(server)
    yield made
    made.stop()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h", RedisUrl("", (("h", 6379),), False)),
        ("redis://h:7/3", RedisUrl("", (("h", 7),), False, db=3)),
        ("rediss://u:p%40@h", RedisUrl("", (("h", 6379),), True, "u", "p@")),
        ("redis://[::1]:7", RedisUrl("", (("::1", 7),), False)),
        ("redis+sentinel://a,b:7/main/2", RedisUrl("sentinel", (("a", 26379), ("b", 7)), False, service="main", db=2)),
        ("redis+cluster://a:1,b:2", RedisUrl("cluster", (("a", 1), ("b", 2)), False)),
        ("rediss+cluster://a", RedisUrl("cluster", (("a", 6379),), True)),
    ],
)
def test_a_url_says_where_redis_is(url: str, expected: RedisUrl) -> None:
    assert read_url(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        *("redis://", "redis://a,b", "redis://h/x", "redis://h/-1", "redis://h/1/2", "redis://h?db=1", "redis://h:0x"),
        *("redis+sentinel://a", "redis+cluster://a/1", "redis+other://a", "http://h", "redis://secret:x@"),
    ],
)
def test_a_url_that_makes_no_sense_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(StartRefused, match="must look like") as caught:
        read_url(url)
    assert "secret" not in str(caught.value)


def test_a_redis_that_is_not_there_is_refused() -> None:
    with pytest.raises(StartRefused, match="does not answer"):
        open_store("redis://127.0.0.1:1/0", base_folder=Path(), prefix="test").start()


def test_instances_on_one_record_lose_nothing(store: RedisStore, other: RedisStore) -> None:
    def count_up(snapshot: Snapshot) -> Change:
        before = snapshot.record
        number = 0 if before is None else before.body["n"]
        after = Record(REF, "live", {"n": number + 1}, version=next_version(before))
        return Change(None if before is None else before.version, after, (entry(number + 1),))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: (store, other)[n % 2].update(Step(REF, count_up)), range(200)))
    record = other.get(REF)
    assert record is not None
    assert record.body["n"] == record.version == len(store.entries(REF)) == 200


def test_one_of_many_instances_makes_a_record(store: RedisStore, other: RedisStore) -> None:
    barrier = threading.Barrier(8)

    def claim(number: int) -> bool:
        def decide(snapshot: Snapshot) -> Change | None:
            if snapshot.record is not None:
                return None
            return Change(None, Record(REF, "live", {}, owner=f"thread{number}", version=1))

        barrier.wait()
        return (store, other)[number % 2].update(Step(REF, decide)) is not None

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(claim, range(8))) == 1


def test_a_write_that_is_sent_twice_is_done_once(store: RedisStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a client does when the connection broke before the answer."""
    real = store.link.run

    def twice(*arguments: object) -> object:
        real(*arguments)  # type: ignore[arg-type] # passed on as they are
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(store.link, "run", twice)
    change = store.update(put(entries=(entry(1),), puts=(message(1),)))
    assert isinstance(change, Change)
    monkeypatch.undo()
    assert store.counts(None) == {"live": 1}
    assert store.outbox_counts() == {"pending": 1}
    assert store.entries(REF) == [entry(1)]


def test_a_floor_that_another_instance_raised_is_kept(store: RedisStore, other: RedisStore) -> None:
    other.raise_token_floor(41)

    def initiate(snapshot: Snapshot) -> Change:
        return Change(None, Record(REF, "live", {}, token=snapshot.token_floor + 1, version=1))

    change = store.update(step(REF, initiate))
    assert change is not None
    assert change.record.token == 42


def test_services_in_one_redis_do_not_meet(server: RedisServer, store: RedisStore) -> None:
    neighbour = opened(server, "other")
    store.update(put(entries=(entry(1),)))
    assert neighbour.get(REF) is None
    assert neighbour.counts(None) == {}
    neighbour.stop()


def test_all_keys_of_a_record_are_in_one_slot(server: RedisServer, store: RedisStore) -> None:
    store.update(put(group="s1", owner="me", entries=(entry(1),), puts=(message(1, address="seller1"),)))
    with server.client as client:
        tags = {key.partition(b"}")[0] for key in client.scan_iter("*")}
    assert len(tags) == 1


def test_nothing_is_left_of_what_is_purged(server: RedisServer, store: RedisStore) -> None:
    states = ("completed",)
    for n in range(40):
        store.update(
            put(
                ref(n),
                "completed",
                updated_ms=1,
                group="s1",
                token=n,
                entries=(entry(1), entry(2)),
                puts=(message(1, address="seller1", state="dead"),),
            )
        )
    assert store.purge(states=states, before_ms=2) == 40
    with server.client as client:
        assert {key.partition(b"}")[2] for key in client.scan_iter("*")} == {b":floor"}


def test_a_lost_script_is_sent_again(server: RedisServer, store: RedisStore) -> None:
    store.update(put())
    with server.client as client:
        client.script_flush()
    store.update_all([put(ref(n)) for n in range(50)])
    assert store.counts(None) == {"live": 50}


def test_an_outage_is_told_and_ends_by_itself(server: RedisServer, store: RedisStore) -> None:
    store.update(put())
    server.kill()
    with pytest.raises(StoreUnavailable) as caught:
        store.update(put())
    assert caught.value.retry_after_s == 1
    assert store.check() == "The store does not answer."
    server.start()
    wait_until(lambda: store.check() is None, "the return", timeout_s=3)
    assert store.get(REF) is None  # without a file on disk, this Redis has forgotten


def test_a_full_redis_says_so(server: RedisServer, store: RedisStore) -> None:
    store.update(put())
    store.update(put(ref(3), "completed", updated_ms=1, token=5))
    with server.client as client:
        client.config_set("maxmemory", "1mb")
    large = {"text": "x" * 2_000_000}
    with pytest.raises(StoreFull):
        store.update(put(ref(2), body=large))
    assert store.get(REF) is not None
    # What is there goes on: leases are renewed, and room can be made.
    assert store.renew_lease("me", 60_000).until_ms > store.now_ms()
    assert store.purge(states=["completed"], before_ms=2) == 1
    with server.client as client:
        client.config_set("maxmemory", "0")
    store.update(put())
    assert store.check() is None


# ---- fail-over


@pytest.fixture
def sentinel(server: RedisServer, tmp_path: Path) -> Iterator[Sentinel]:
    """A master, its replica, and a Sentinel that watches them."""
    made = Sentinel(server, tmp_path)
    made.start()
    yield made
    made.kill()


def test_a_store_behind_sentinel_follows_the_master(server: RedisServer, sentinel: Sentinel) -> None:
    store = RedisStore(read_url(sentinel.url), prefix="test")
    store.start()
    try:
        store.update(put(entries=(entry(1),)))
        sentinel.wait_for_replica()
        server.kill()
        wait_until(lambda: is_written(store), "the fail-over", timeout_s=20)
        assert [e.seq for e in store.entries(REF)] == [1]
        wait_until(lambda: store.check() is None, "readiness", timeout_s=3)
    finally:
        store.stop()


def is_written(store: Store) -> bool:
    try:
        return store.update(put(ref(2))) is not None
    except StoreUnavailable:
        return False


def test_a_replica_that_lags_forgets_writes_and_its_store_goes_on(server: RedisServer, tmp_path: Path) -> None:
    """What a fail-over to a stale replica does: the floor and the record are those of before."""
    replica = RedisServer(tmp_path / "replica", "--replicaof", "127.0.0.1", str(server.port))
    replica.start()
    store = opened(server)
    try:
        store.update(put(token=1))
        with replica.client as client:
            wait_until(lambda: client.dbsize() > 3, "the replica")
            client.replicaof("NO", "ONE")
        store.update(put(token=2))
        stale = opened(replica)
        record = stale.get(REF)
        assert record is not None
        assert record.token == 1
        stale.stop()
    finally:
        store.stop()
        replica.kill()


# ---- the copy


@pytest.fixture
def filled(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore(tmp_path / "full.db")
    store.start()
    puts = (message(1), message(2, state="dead", address="seller1", attempts=3, last_error="no"))
    store.update_all([put(ref(n), entries=(entry(1), entry(2)), puts=puts, owner="gone", token=n) for n in range(500)])
    store.update_all([put(ref(n), "completed", entries=(entry(3),), forget_through=2) for n in range(0, 500, 7)])
    store.update(put(Ref("a/b%", "x"), "completed", updated_ms=1, token=777))
    store.update(put(Ref("a/b%", "y")))
    store.purge(states=["completed"], before_ms=2)
    yield store
    store.stop()


def test_a_copy_is_the_same_in_every_list(filled: SqliteStore, store: RedisStore) -> None:
    done: list[int] = []
    copy(filled, store, done.append)
    assert sum(done) == 501
    assert differences(filled, store, done.append) == []
    assert store.counts("a/b%") == {"live": 1}
    seen: list[Snapshot] = []
    store.update(step(ref(9999), seen.append))
    assert seen[-1].token_floor == 777


def test_a_copy_that_is_not_the_same_is_found_out(filled: SqliteStore, store: RedisStore) -> None:
    copy(filled, store, lambda done: None)
    store.update(put(ref(3), "cancelled"))
    found = differences(filled, store, lambda done: None)
    assert "record order3 of tenant default differs" in found


def run_copy(*urls: str) -> tuple[int, str]:
    group = store_commands(base_folder=Path(), prefix="test")
    result = CliRunner().invoke(group, ["copy", *urls])
    return result.exit_code, " ".join(result.output.split())


def test_the_command_copies_there_and_back(filled: SqliteStore, server: RedisServer, tmp_path: Path) -> None:
    filled.stop()
    there, back = f"sqlite:///{filled.path}", f"sqlite:///{tmp_path / 'back.db'}"
    assert run_copy(there, server.url)[0] == 0
    status, output = run_copy(server.url, back)
    assert status == 0
    assert "501 records are copied and the same." in output
    status, output = run_copy(server.url, back)
    assert (status, "is not empty" in output) == (1, True)


def test_the_command_refuses_a_store_in_use(filled: SqliteStore, server: RedisServer, tmp_path: Path) -> None:
    status, output = run_copy(f"sqlite:///{filled.path}", server.url)
    assert (status, "in use by another instance" in output) == (1, True)
    running: Store = opened(server)
    running.renew_lease("me", 60_000)
    status, output = run_copy(server.url, f"sqlite:///{tmp_path / 'new.db'}")
    running.stop()
    assert (status, "A service runs on the first store" in output) == (1, True)
