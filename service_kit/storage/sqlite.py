"""The embedded engine: SQLite with one writer thread and group commit.

The writer owns the only connection that writes and checkpoints (`sqlite_writer`); reads go through a few read-only
connections (`sqlite_readers`). The tables are in `sqlite_schema`, what one transaction does in `sqlite_batch`.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout

from service_kit.change import ACTIVE_STATES, Change, Entry, Message, Record, Ref, Step
from service_kit.errors import StartRefused, StoreUnavailable
from service_kit.storage.contract import (
    CommitMeasures,
    KeyPage,
    Lease,
    MessageFilter,
    MessagePage,
    Page,
    StoreMeasures,
)
from service_kit.storage.sqlite_batch import (
    ENTRY_COLUMNS,
    MESSAGE_COLUMNS,
    RECORD_COLUMNS,
    SELECT_RECORDS,
    entry_of,
    message_of,
    pairs,
    record_of,
)
from service_kit.storage.sqlite_outbox import message_page
from service_kit.storage.sqlite_page import MAX_ID, Filter, cursor_of_id, id_of_cursor, marks, page_rows
from service_kit.storage.sqlite_readers import ReaderPool
from service_kit.storage.sqlite_schema import open_file
from service_kit.storage.sqlite_writer import Result, Writer, public_error
from service_kit.times import now_ms

#: Records that one transaction purges; callers that write wait no longer than for these.
_PURGE_BATCH = 500
#: What `check` writes, to see whether there is room again; more than any order or note needs.
_PROBE_BYTES = 256 * 1024
#: A list of ids, given as JSON.
_LISTED = "(SELECT value FROM json_each(?))"
#: Every record of a list of ((tenant, key), number), given as JSON. CROSS JOIN fixes the nesting of the loops, so rows
#: come record by record in the order of an index, and reading ends at the limit instead of sorting all there is.
_EACH_NAMED = """FROM json_each(?) j CROSS JOIN records r
    ON r.tenant = json_extract(j.value, '$[0][0]') AND r.key = json_extract(j.value, '$[0][1]')"""

T = TypeVar("T")


class SqliteStore:
    """A `Store` in one file. A second store on the same file is refused, in this process and in any other."""

    name = "store"
    is_shared = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.commits = CommitMeasures()
        # Not thread-local: the thread that ends releases the lock that another has taken.
        self._lock_file = FileLock(f"{path}.lock", timeout=0, thread_local=False)
        self._thread: threading.Thread | None = None
        self._writer: Writer | None = None
        self._readers: ReaderPool | None = None

    # ---- the component

    def start(self) -> None:
        """Lock the file, check and migrate it, and begin to write. Raises `StartRefused`."""
        if self._thread is not None and self._thread.is_alive():
            raise RuntimeError("the store is started already")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock_file.acquire()
        except Timeout:
            raise StartRefused(
                f"The store {self.path} is in use by another instance: stop that one, or set another store."
            ) from None
        except OSError as error:
            raise StartRefused(f"The store {self.path} cannot be used: {error.strerror}.") from None
        try:
            connection = open_file(self.path)
        except BaseException:
            self._lock_file.release()
            raise
        writer, readers = Writer(connection, self.commits), ReaderPool(self.path)
        self._writer, self._readers = writer, readers
        self._thread = threading.Thread(
            target=self._run, args=(connection, writer, readers), name="store-writer", daemon=True
        )
        self._thread.start()

    def _run(self, connection: sqlite3.Connection, writer: Writer, readers: ReaderPool) -> None:
        # The thread that writes also cleans up, so the lock is held as long as anything can still be written.
        try:
            writer.run()
        finally:
            # Readers first: the last connection to close does the checkpoint, and that must be the writer's.
            readers.close()
            connection.close()
            self._lock_file.release()

    def stop(self, timeout_s: float = 5.0) -> None:
        """Write what is queued and close. Safe to call twice."""
        if self._writer is not None and self._thread is not None:
            self._writer.close()
            self._thread.join(timeout_s)

    def check(self) -> str | None:
        """None when the last commit went well, or a probe does now."""
        if self._writer is None or self._thread is None or not self._thread.is_alive():
            return "the store is not running"
        if self._writer.failure is not None:
            with suppress(StoreUnavailable):
                for size in (_PROBE_BYTES, 0):
                    self._writer.call(partial(_probe, size))
        return self._writer.failure

    def facts(self) -> Mapping[str, Any]:
        """Which engine this is."""
        return {"engine": "sqlite"}

    # ---- changes

    def update(self, step: Step) -> Change | None:
        """Read, decide and write one record atomically; answer what was written once it is durable."""
        (result,) = self._writing().update_all((step,))
        if isinstance(result, Exception):
            raise result
        return result

    def update_all(self, steps: Sequence[Step]) -> list[Result]:
        """Many steps in one durable commit, each atomic by itself, in the given order."""
        writer = self._writing()
        return writer.update_all(steps) if steps else []

    def _writing(self) -> Writer:
        if self._writer is None or not self._writer.is_open:
            raise StoreUnavailable("The store is closed.", retry_after_s=1)
        return self._writer

    # ---- reads

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        if self._readers is None:
            raise StoreUnavailable("The store is closed.", retry_after_s=1)
        try:
            with self._readers.connection() as connection:
                yield connection
        except sqlite3.Error as error:
            raise public_error(error) from error

    def _rows(self, query: str, parameters: Sequence[Any] = ()) -> list[Any]:
        with self._reading() as connection:
            return connection.execute(query, parameters).fetchall()

    def get(self, ref: Ref) -> Record | None:
        """The record, or None."""
        rows = self._rows(f"SELECT {RECORD_COLUMNS} FROM records r WHERE r.tenant = ? AND r.key = ?", ref)
        return record_of(rows[0]) if rows else None

    def get_many(self, refs: Iterable[Ref]) -> dict[Ref, Record]:
        """Those of the records that there are."""
        records = [record_of(row) for row in self._rows(SELECT_RECORDS, (pairs(refs),))]
        return {record.ref: record for record in records}

    def entries(self, ref: Ref, *, after: int = 0, limit: int = 1000, kinds: Sequence[str] = ()) -> list[Entry]:
        """Log entries with ``seq > after`` in order, of these kinds when any are given."""
        of_kind = f"AND e.kind IN ({marks(kinds)})" if kinds else ""
        rows = self._rows(
            f"SELECT {ENTRY_COLUMNS} FROM entries e JOIN records r ON r.id = e.record "
            f"WHERE r.tenant = ? AND r.key = ? AND e.seq > ? {of_kind} ORDER BY e.seq LIMIT ?",
            (*ref, after, *kinds, limit),
        )
        return [entry_of(row) for row in rows]

    def entries_of_many(self, after: Mapping[Ref, int], *, limit: int = 1000) -> dict[Ref, list[Entry]]:
        """For each record its entries with ``seq`` above the given one, ``limit`` in all."""
        rows = self._rows(
            f"SELECT r.tenant, r.key, {ENTRY_COLUMNS} {_EACH_NAMED} "
            "CROSS JOIN entries e ON e.record = r.id AND e.seq > json_extract(j.value, '$[1]') LIMIT ?",
            (pairs(after.items()), limit),
        )
        return _grouped(rows, entry_of)

    def messages(self, ref: Ref, *, limit: int = 1000) -> list[Message]:
        """The record's outbox in order of position, whatever the state."""
        rows = self._rows(
            f"SELECT {MESSAGE_COLUMNS} FROM outbox o JOIN records r ON r.id = o.record "
            "WHERE r.tenant = ? AND r.key = ? ORDER BY o.position LIMIT ?",
            (*ref, limit),
        )
        return [message_of(row) for row in rows]

    def pending_of_many(self, after: Mapping[Ref, int], *, limit: int = 1000) -> dict[Ref, list[Message]]:
        """For each record its pending messages without an address above the given position, ``limit`` in all."""
        rows = self._rows(
            f"SELECT r.tenant, r.key, {MESSAGE_COLUMNS} {_EACH_NAMED} "
            "CROSS JOIN outbox o INDEXED BY outbox_by_position "
            "ON o.record = r.id AND o.position > json_extract(j.value, '$[1]') AND o.address = '' "
            "AND o.state = 'pending' LIMIT ?",
            (pairs(after.items()), limit),
        )
        return _grouped(rows, message_of)

    def pending_refs(self) -> list[Ref]:
        """Every record that has a pending message."""
        rows = self._rows(
            "SELECT r.tenant, r.key FROM (SELECT DISTINCT record FROM outbox WHERE state = 'pending') p "
            "JOIN records r ON r.id = p.record"
        )
        return [Ref(*row) for row in rows]

    def outbox(self, wanted: MessageFilter, *, cursor: str | None = None, limit: int = 100) -> MessagePage:
        """Messages newest first, filtered. Raises `InvalidInput` for a cursor that no page gave out."""
        with self._reading() as connection:
            return message_page(connection, wanted, cursor, limit)

    def page(
        self,
        *,
        tenant: str | None,
        states: Sequence[str] = (),
        group: str | None = None,
        owner: str | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page:
        """Records newest first, filtered. Raises `InvalidInput` for a cursor that no page gave out."""
        before_id = MAX_ID if cursor is None else id_of_cursor(cursor)
        with self._reading() as connection:
            # One transaction, so that no record can change its state between two reads and be missed.
            connection.execute("BEGIN")
            try:
                rows = page_rows(connection, Filter(tenant, states, group, owner), before_id, limit + 1)
            finally:
                connection.execute("COMMIT")
        next_cursor = cursor_of_id(rows[limit - 1][0]) if len(rows) > limit else None
        return Page(tuple(record_of(row) for row in rows[:limit]), next_cursor)

    def keys(self, tenant: str, *, cursor: str | None = None, limit: int = 100) -> KeyPage:
        """The keys of a tenant's records, newest first. Raises `InvalidInput` for a cursor that no page gave out."""
        before_id = MAX_ID if cursor is None else id_of_cursor(cursor)
        # The plus sign keeps SQLite to the order of ids.
        query = "SELECT id, key FROM records WHERE id < ? AND +tenant = ? ORDER BY id DESC LIMIT ?"
        rows = self._rows(query, (before_id, tenant, limit + 1))
        next_cursor = cursor_of_id(rows[limit - 1][0]) if len(rows) > limit else None
        return KeyPage(tuple([key for _, key in rows[:limit]]), next_cursor)

    def counts(self, tenant: str | None) -> dict[str, int]:
        """How many records stand in each state."""
        rows = self._rows(
            "SELECT state, sum(n) FROM counts WHERE (? IS NULL OR tenant = ?) GROUP BY state", (tenant, tenant)
        )
        return {state: n for state, n in rows if n}

    def outbox_counts(self, tenant: str | None = None) -> dict[str, int]:
        """How many outbox messages stand in each state; of all tenants when None."""
        rows = self._rows(
            "SELECT state, sum(n) FROM outbox_counts WHERE (? IS NULL OR tenant = ?) GROUP BY state", (tenant, tenant)
        )
        return {state: n for state, n in rows if n}

    def measure(self) -> StoreMeasures:
        """The size of the file and of its log, and the oldest message in each state."""
        rows = self._rows(
            "SELECT c.state, (SELECT min(o.created_ms) FROM outbox o WHERE o.state = c.state) "
            "FROM (SELECT DISTINCT state FROM outbox_counts WHERE n > 0) c"
        )
        return StoreMeasures(
            size_bytes=_size_of(self.path) + _size_of(Path(f"{self.path}-wal")),
            oldest_ms={state: created_ms for state, created_ms in rows if created_ms is not None},
        )

    def owners(self) -> list[str]:
        """Every instance that owns a record, in the order of names."""
        # From one owner to the next by the index, instead of through all records.
        rows = self._rows(
            "WITH RECURSIVE o(owner) AS (SELECT min(owner) FROM records WHERE owner <> '' UNION ALL "
            "SELECT (SELECT min(owner) FROM records WHERE owner <> '' AND owner > o.owner) FROM o "
            "WHERE o.owner IS NOT NULL) SELECT owner FROM o WHERE owner IS NOT NULL"
        )
        return [owner for (owner,) in rows]

    # ---- instances

    def renew_lease(self, instance: str, lease_ms: int) -> Lease:
        """Let the instance act for another ``lease_ms`` from now on the store's clock."""
        # The time counts from the call: a lease that waited in the queue is shorter, never longer.
        lease = Lease(instance, self.now_ms() + lease_ms)
        statement = "INSERT OR REPLACE INTO leases VALUES (?, ?)"
        self._writing().call(lambda connection: connection.execute(statement, (lease.instance, lease.until_ms)))
        return lease

    def end_lease(self, instance: str) -> None:
        """Forget the instance's lease; its orders are free at once."""
        statement = "DELETE FROM leases WHERE instance = ?"
        self._writing().call(lambda connection: connection.execute(statement, (instance,)))

    def leases(self) -> list[Lease]:
        """All leases, ended ones included until their instance is forgotten."""
        return [Lease(*row) for row in self._rows("SELECT instance, until_ms FROM leases ORDER BY instance")]

    def now_ms(self) -> int:
        """The wall clock of this machine, in milliseconds since the epoch."""
        return now_ms()

    # ---- cleanup

    def stale(self, *, states: Sequence[str], before_ms: int, limit: int = 500) -> list[Ref]:
        """Records in one of the states, last changed before the time and with no pending message."""
        where, parameters = _purgeable(states, before_ms)
        rows = self._rows(
            f"SELECT r.tenant, r.key FROM records r WHERE {where} ORDER BY r.id LIMIT ?", (*parameters, limit)
        )
        return [Ref(*row) for row in rows]

    def purge(self, *, states: Sequence[str], before_ms: int, limit: int = 500) -> int:
        """Remove finished records with everything that is theirs; answers how many went."""
        # Found by a reader, since that may walk the whole table; the writer looks at each again before it goes.
        where, parameters = _purgeable(states, before_ms)
        rows = self._rows(f"SELECT r.id FROM records r WHERE {where} ORDER BY r.id LIMIT ?", (*parameters, limit))
        purged = 0
        for start in range(0, len(rows), _PURGE_BATCH):
            ids = [record_id for (record_id,) in rows[start : start + _PURGE_BATCH]]
            purged += self._writing().call(partial(self._purge, ids, states, before_ms))
        return purged

    def _purge(self, ids: list[int], states: Sequence[str], before_ms: int, connection: sqlite3.Connection) -> int:
        where, parameters = _purgeable(states, before_ms)
        rows = connection.execute(
            f"SELECT r.id, r.tenant, r.state, r.token FROM records r WHERE r.id IN {_LISTED} AND {where}",
            (json.dumps(ids), *parameters),
        ).fetchall()
        gone = json.dumps([row[0] for row in rows])
        for table, column in (("entries", "record"), ("outbox", "record"), ("records", "id")):
            connection.execute(f"DELETE FROM {table} WHERE {column} IN {_LISTED}", (gone,))
        connection.executemany(
            "UPDATE counts SET n = n - 1 WHERE tenant = ? AND state = ?", [(row[1], row[2]) for row in rows]
        )
        connection.execute(
            "UPDATE meta SET value = max(value, ?) WHERE name = 'token_floor'",
            (max([0, *(row[3] for row in rows)]),),
        )
        return len(rows)

    def raise_token_floor(self, token: int) -> None:
        """Let every new record's token be above this one, unless the floor is higher already."""
        statement = "UPDATE meta SET value = max(value, ?) WHERE name = 'token_floor'"
        self._writing().call(lambda connection: connection.execute(statement, (token,)))


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:  # a log that is empty may be gone
        return 0


def _probe(size: int, connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE meta SET value = zeroblob(?) WHERE name = 'probe'", (size,))


def _purgeable(states: Sequence[str], before_ms: int) -> tuple[str, tuple[Any, ...]]:
    condition = (
        f"r.state IN ({marks(states)}) AND r.updated_ms < ? "
        f"AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.record = r.id AND o.state IN {ACTIVE_STATES})"
    )
    return condition, (*map(str, states), before_ms)


def _grouped(rows: Sequence[Any], make: Callable[[Sequence[Any]], T]) -> dict[Ref, list[T]]:
    found: dict[Ref, list[T]] = {}
    for row in rows:
        found.setdefault(Ref(row[0], row[1]), []).append(make(row[2:]))
    return found
