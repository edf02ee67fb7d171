"""Stores of every engine, and builders of what goes into them."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from service_kit.change import Change, Decide, Entry, Message, Record, Ref, Snapshot, Step, next_version
from service_kit.storage.contract import Store
from service_kit.storage.redis_store import RedisStore
from service_kit.storage.redis_url import read_url
from service_kit.storage.sqlite import SqliteStore
from tests.redis_servers import RedisCluster, RedisServer

REF = Ref("default", "order1")


def ref(number: int, tenant: str = "default") -> Ref:
    """The name of the record with this number."""
    return Ref(tenant, f"order{number}")


def entry(seq: int, kind: str = "noted", entry_id: str = "", **body: Any) -> Entry:
    """A log entry with this number."""
    return Entry(seq, entry_id or f"entry:{seq}", kind, 1000 + seq, body)


def message(position: int, message_id: str = "", **changes: Any) -> Message:
    """An outbox message at this position."""
    values: dict[str, Any] = {"kind": "follow_up", "body": {"n": position}, "due_ms": 1000, "created_ms": 900}
    return Message(message_id or f"message:{position}", position, **{**values, **changes})


def put(
    name: Ref = REF,
    state: str = "live",
    *,
    entries: tuple[Entry, ...] = (),
    puts: tuple[Message, ...] = (),
    settles: tuple[str, ...] = (),
    forget_through: int = 0,
    **changes: Any,
) -> Step:
    """A step that makes or changes the record in any case."""
    values: dict[str, Any] = {"body": {"text": "größer"}, "created_ms": 500, "updated_ms": 600, **changes}

    def decide(snapshot: Snapshot) -> Change:
        before = snapshot.record
        expect = None if before is None else before.version
        record = Record(name, state, version=next_version(before), **values)
        return Change(expect, record, entries, puts, settles, forget_through)

    return Step(name, decide)


def step(name: Ref, decide: Decide, **wanted: tuple[str, ...]) -> Step:
    """A step that sees what it names."""
    return Step(name, decide, **wanted)


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A running redis-server."""
    server = RedisServer(tmp_path_factory.mktemp("redis"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="session")
def redis_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    """Three redis-servers that run as a cluster."""
    cluster = RedisCluster(tmp_path_factory.mktemp("cluster"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.kill()


@pytest.fixture(params=["sqlite", "redis", "cluster"])
def open_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], Store]]:
    """Makes stores over the same data, one after the other; the one that runs is stopped at the end."""
    made: list[Store] = []
    url = ""
    if request.param != "sqlite":
        url = request.getfixturevalue(f"redis_{'server' if request.param == 'redis' else 'cluster'}").url
    prefix = f"test-{uuid.uuid4().hex}"

    def make() -> Store:
        store: Store = RedisStore(read_url(url), prefix=prefix) if url else SqliteStore(tmp_path / "store.db")
        store.start()
        made.append(store)
        return store

    yield make
    for store in made:
        store.stop()


@pytest.fixture
def store(open_store: Callable[[], Store]) -> Store:
    """A running store without records."""
    return open_store()
