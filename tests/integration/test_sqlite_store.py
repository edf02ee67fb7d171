"""What only the embedded engine does: its file, its lock, its writer and what it survives."""

from __future__ import annotations

import itertools
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from service_kit.change import Change, Ref, Snapshot, Step
from service_kit.errors import StartRefused, StoreFull, StoreUnavailable
from service_kit.storage import sqlite_writer
from service_kit.storage.contract import MessageFilter
from service_kit.storage.opening import open_store
from service_kit.storage.sqlite import SqliteStore
from service_kit.storage.sqlite_schema import MIGRATIONS
from tests.contract.conftest import REF, entry, message, put, ref

PROJECT_FOLDER = Path(__file__).resolve().parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the store's file is."""
    return tmp_path / "folder" / "store.db"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    """A running store."""
    store = SqliteStore(path)
    store.start()
    yield store
    store.stop()


def run_python(script: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a Python process that can import the project."""
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments], cwd=PROJECT_FOLDER, stdout=subprocess.PIPE, text=True
    )


# ---- the lock


def test_a_second_store_on_the_file_is_refused(store: SqliteStore) -> None:
    with pytest.raises(StartRefused, match="in use by another instance") as caught:
        SqliteStore(store.path).start()
    assert str(store.path) in str(caught.value)
    # The refused one has not let go of what it never had.
    with pytest.raises(StartRefused):
        SqliteStore(store.path).start()


HOLD = """
import sys
from pathlib import Path
from service_kit.storage.contract import MessageFilter
from service_kit.storage.sqlite import SqliteStore
SqliteStore(Path(sys.argv[1])).start()
print("started", flush=True)
sys.stdin.read()
"""


def test_a_store_of_another_process_is_refused_until_that_one_is_gone(path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)],
        cwd=PROJECT_FOLDER,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "started\n"
        store = SqliteStore(path)
        with pytest.raises(StartRefused, match="in use"):
            store.start()
    finally:
        holder.kill()
        holder.communicate()
    store.start()
    store.stop()


def test_a_store_that_was_stopped_can_be_started_by_another(store: SqliteStore) -> None:
    store.update(put())
    store.stop()
    other = SqliteStore(store.path)
    other.start()
    assert other.get(REF) is not None
    other.stop()


# ---- durability

WRITE_FOREVER = """
import itertools, sys
from pathlib import Path
from service_kit.storage.contract import MessageFilter
from service_kit.storage.sqlite import SqliteStore
from tests.contract.conftest import entry, put, ref
store = SqliteStore(Path(sys.argv[1]))
store.start()
for number in itertools.count():
    store.update(put(ref(number), entries=(entry(1),)))
    print(number, flush=True)
"""


def test_what_was_acknowledged_survives_a_kill(path: Path) -> None:
    for _ in range(3):
        writer = run_python(WRITE_FOREVER, str(path))
        assert writer.stdout is not None
        acknowledged = [int(line) for line in itertools.islice(writer.stdout, 100)]
        writer.kill()
        rest, _ = writer.communicate()
        # The last line may have been cut in the middle.
        acknowledged += [int(line) for line in rest.splitlines(keepends=True) if line.endswith("\n")]
        store = SqliteStore(path)
        store.start()
        assert [n for n in acknowledged if len(store.entries(ref(n))) != 1] == []
        store.stop()
        for suffix in ("", "-wal", "-shm"):
            Path(f"{path}{suffix}").unlink(missing_ok=True)


def test_every_commit_is_synced(store: SqliteStore) -> None:
    # What a kill of the process cannot show, a cut of the power would.
    writer = store._writer
    assert writer is not None
    assert writer.call(lambda connection: connection.execute("PRAGMA synchronous").fetchone()) == (2,)  # FULL
    assert writer.call(lambda connection: connection.execute("PRAGMA journal_mode").fetchone()) == ("wal",)


# ---- files that do not fit


def test_the_file_of_a_newer_version_is_refused_and_not_touched(path: Path) -> None:
    store = SqliteStore(path)
    store.start()
    store.stop()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute(f"PRAGMA user_version = {len(MIGRATIONS) + 1}")
    before = path.read_bytes()
    with pytest.raises(StartRefused, match="run the newer software"):
        store.start()
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", [b"not a database at all", b"SQLite format 3\x00" + b"\xff" * 4096])
def test_a_file_that_is_no_store_is_refused(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    store = SqliteStore(path)
    for _ in range(2):  # the refusal has let go of the lock
        with pytest.raises(StartRefused, match=str(path.name)):
            store.start()
    assert path.read_bytes() == content


def test_a_damaged_file_is_refused(path: Path) -> None:
    store = SqliteStore(path)
    store.start()
    store.update_all([put(ref(n), body={"text": "x" * 500}) for n in range(200)])
    store.stop()
    content = bytearray(path.read_bytes())
    content[8192:40_960] = b"\xaa" * (40_960 - 8192)
    path.write_bytes(content)
    with pytest.raises(StartRefused, match=r"damaged|cannot be opened"):
        store.start()


WRITE_AND_DIE = """
import os, signal, sys
from pathlib import Path
from service_kit.storage.sqlite import SqliteStore
from tests.contract.conftest import put, ref
store = SqliteStore(Path(sys.argv[1]))
store.start()
for start in range(0, 5_000, 100):
    store.update_all([put(ref(n), body={"text": "x" * 500}) for n in range(start, start + 100)])
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="kills by a signal")
@pytest.mark.parametrize("left", [0, 0.5], ids=["nothing", "half"])
def test_a_file_that_lost_its_end_is_refused_and_left_as_it_is_with_its_log(path: Path, left: float) -> None:
    with run_python(WRITE_AND_DIE, str(path)) as writer:
        assert writer.wait(30) == -signal.SIGKILL
    os.truncate(path, int(path.stat().st_size * left))
    log = Path(f"{path}-wal")
    before = path.read_bytes(), log.read_bytes()
    assert before[1]
    for _ in range(2):
        with pytest.raises(StartRefused, match="damaged"):
            SqliteStore(path).start()
        assert (path.read_bytes(), log.read_bytes()) == before


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StartRefused, match="cannot be used"):
        SqliteStore(tmp_path / "file" / "store.db").start()


def test_a_store_needs_a_url_that_it_knows(tmp_path: Path) -> None:
    store = open_store("sqlite:///data/orders.db", base_folder=tmp_path, prefix="test")
    assert isinstance(store, SqliteStore)
    assert store.path == tmp_path / "data" / "orders.db"
    for url in ("", "orders.db", "sqlite:///", "mysql://orders"):
        with pytest.raises(StartRefused):
            open_store(url, base_folder=tmp_path, prefix="test")


def test_a_file_of_the_first_version_is_brought_up_to_date(path: Path) -> None:
    path.parent.mkdir()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(f"{MIGRATIONS[0]}; PRAGMA user_version = 1;")
        connection.execute("INSERT INTO records VALUES (1, 'default', 'order1', 'live', '', 1, 1, '', 500, 600, '{}')")
        connection.execute("INSERT INTO counts VALUES ('default', 'live', 1)")
        rows = [("message:1", 1, "pending"), ("message:2", 2, "pending"), ("message:3", 3, "set_aside")]
        connection.executemany("INSERT INTO outbox VALUES (1, ?, ?, 'follow_up', ?, '', 1000, 0, '', 900, '{}')", rows)
        connection.commit()
    store = SqliteStore(path)
    store.start()
    try:
        assert store.outbox_counts() == {"pending": 2, "set_aside": 1}
        store.update(put(settles=("message:1",)))
        assert store.outbox_counts() == {"pending": 1, "set_aside": 1}
        assert [m.message_id for _, m in store.outbox(MessageFilter(None, ["set_aside"])).messages] == ["message:3"]
        writer = store._writer
        assert writer is not None
        assert writer.call(lambda c: c.execute("PRAGMA user_version").fetchone()) == (len(MIGRATIONS),)
    finally:
        store.stop()


# ---- a full disk


def limit_pages(store: SqliteStore, more: int) -> None:
    """Let the file grow by a few pages only; 0 lifts the limit."""
    writer = store._writer
    assert writer is not None

    def limit(connection: sqlite3.Connection) -> None:
        (count,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {count + more if more else 2**30}")

    writer.call(limit)


def test_a_full_store_says_so_keeps_what_it_has_and_heals(store: SqliteStore) -> None:
    store.update(put(ref(0)))
    limit_pages(store, 4)
    kept = [0]

    def fill() -> None:
        for n in range(1, 100):
            store.update(put(ref(n), body={"text": "x" * 2000}))
            kept.append(n)

    with pytest.raises(StoreFull, match="no room"):
        fill()
    assert 1 < len(kept) < 20
    assert store.check() == "The store has no room left."
    assert store.counts(None) == {"live": len(kept)}
    assert [record.ref for record in store.page(tenant=None).records] == [ref(n) for n in reversed(kept)]

    limit_pages(store, 0)
    assert store.check() is None
    store.update(put(ref(100), body={"text": "x" * 2000}))
    assert store.counts(None) == {"live": len(kept) + 1}


def test_no_step_overtakes_one_that_found_no_room(store: SqliteStore) -> None:
    store.update(put(ref(0), token=1))
    limit_pages(store, 4)
    # The first cannot be stored at all, so each of the others gets a commit of its own.
    steps = [put(ref(1), token=2**70), put(ref(2), body={"text": "x" * 200_000}), put(ref(3))]
    first, second, third = store.update_all(steps)
    assert isinstance(first, OverflowError)
    assert isinstance(second, StoreFull)
    assert isinstance(third, StoreFull)
    assert store.counts(None) == {"live": 1}


# ---- the writer


def commits_of(store: SqliteStore) -> tuple[int, float]:
    """How many commits there were, and how many steps they had in all."""
    sizes = store.commits.sizes.read()[()]
    return sizes.cumulative[-1], sizes.total


def test_what_waits_during_a_commit_is_written_with_one_commit(store: SqliteStore) -> None:
    writer = store._writer
    assert writer is not None
    held, go_on = threading.Event(), threading.Event()

    def hold(connection: sqlite3.Connection) -> None:
        held.set()
        go_on.wait(10)

    threads = [threading.Thread(target=writer.call, args=(hold,))]
    threads += [threading.Thread(target=store.update, args=(put(ref(n)),)) for n in range(50)]
    threads[0].start()
    held.wait(10)
    before = commits_of(store)
    for thread in threads[1:]:
        thread.start()
    while writer._jobs.qsize() < 50:
        pass
    go_on.set()
    for thread in threads:
        thread.join(10)
    # The one that was held, and one for all the rest.
    assert [after - earlier for after, earlier in zip(commits_of(store), before, strict=True)] == [2, 51]
    assert store.counts(None) == {"live": 50}


def test_a_very_long_queue_is_written_in_several_commits(store: SqliteStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_writer, "MAX_STEPS", 10)
    threads = [threading.Thread(target=store.update, args=(put(ref(n)),)) for n in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert commits_of(store)[0] >= 10
    assert store.counts(None) == {"live": 100}


def test_readers_do_not_wait_for_the_writer(store: SqliteStore) -> None:
    store.update(put())
    writer = store._writer
    assert writer is not None
    held, go_on = threading.Event(), threading.Event()

    def hold(connection: sqlite3.Connection) -> None:
        connection.execute("UPDATE meta SET value = 1 WHERE name = 'probe'")
        held.set()
        go_on.wait(10)

    thread = threading.Thread(target=writer.call, args=(hold,))
    thread.start()
    try:
        assert held.wait(10)
        assert store.get(REF) is not None
    finally:
        go_on.set()
        thread.join(10)


# ---- reads that stay cheap however many orders there are


@pytest.mark.parametrize(
    "read",
    [
        lambda store: store.page(tenant="default"),
        lambda store: store.page(tenant=None),
        lambda store: store.page(tenant="default", states=["live"]),
        lambda store: store.page(tenant="default", states=["live", "closing"]),
        lambda store: store.page(tenant="default", group="s1"),
        lambda store: store.page(tenant="default", group="s1", states=["live"]),
        lambda store: store.page(tenant=None, owner="me", states=["live", "closing"]),
        lambda store: store.keys("default"),
        lambda store: store.get(ref(1)),
        lambda store: store.entries(ref(1)),
        lambda store: store.entries_of_many({ref(1): 0}),
        lambda store: store.pending_of_many({ref(1): 0}),
        lambda store: store.get_many([ref(1), ref(2)]),
        lambda store: store.outbox(MessageFilter("default", ["pending"])),
        lambda store: store.outbox(
            MessageFilter(None, ["pending", "dead"], created_from_ms=5, created_before_ms=10**6)
        ),
        lambda store: store.outbox(MessageFilter("default", ["pending", "dead"], address="s1")),
    ],
)
def test_no_read_sorts_or_walks_more_than_it_answers(store: SqliteStore, read: Callable[[SqliteStore], object]) -> None:
    store.update_all([put(ref(n), entries=(entry(1),), puts=(message(1),)) for n in range(50)])
    store.get(REF)
    queries: list[str] = []
    with store._reading() as connection:  # the one that is lent again and again as long as no other thread reads
        connection.set_trace_callback(queries.append)
    read(store)
    with store._reading() as connection:
        connection.set_trace_callback(None)
        selects = [query for query in queries if query.lstrip().startswith("SELECT")]
        plans = [row[3] for query in selects for row in connection.execute(f"EXPLAIN QUERY PLAN {query}")]
    assert plans
    bad = [
        plan
        for plan in plans
        if "TEMP B-TREE FOR ORDER BY" in plan or (plan.startswith("SCAN") and "USING" not in plan)
    ]
    # json_each is the list of what was asked for; a walk in the order of ids ends at the limit.
    assert [plan for plan in bad if "VIRTUAL TABLE" not in plan] == []


def test_tenants_and_keys_with_strange_characters_are_kept_apart(store: SqliteStore) -> None:
    names = [Ref("a", "b:c"), Ref("a:b", "c"), Ref("a", "'; --"), Ref("ü", "ü")]
    store.update_all([put(name, body={"name": list(name)}) for name in names])
    for name in names:
        record = store.get(name)
        assert record is not None
        assert record.body["name"] == list(name)
    assert len(store.page(tenant=None).records) == len(names)


@pytest.mark.parametrize("steps", [1, 9, 1023, 1024, 1025, 2500])
def test_a_batch_of_any_size_is_written_whole(store: SqliteStore, steps: int) -> None:
    results = store.update_all([put(ref(n)) for n in range(steps)])
    assert all(isinstance(result, Change) for result in results)
    assert store.counts(None) == {"live": steps}
    assert len(store.keys("default", limit=steps + 1).keys) == steps


def test_a_step_sees_what_others_did_to_the_file_since_the_last_step(store: SqliteStore) -> None:
    store.update(put(ref(0)))
    assert store.purge(states=["live"], before_ms=2**60) == 1
    assert store.update(put(ref(0))) is not None  # a record that was still known would be there already
    assert store.counts(None) == {"live": 1}


def test_what_a_failed_commit_left_behind_is_looked_up_anew(store: SqliteStore) -> None:
    store.update(put(ref(0)))
    writer = store._writer
    assert writer is not None
    with pytest.raises(StoreUnavailable):
        # Committed, and then lost on the way back: nobody may go on with what stood there before.
        writer.call(_commit_and_fail)
    seen: list[str] = []

    def look(snapshot: Snapshot) -> None:
        assert snapshot.record is not None
        seen.append(snapshot.record.owner)

    store.update(Step(ref(0), look))
    assert seen == ["somebody"]


def _commit_and_fail(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE records SET owner = 'somebody'")
    connection.execute("COMMIT")
    raise sqlite3.OperationalError("the answer was lost")
