"""The embedded engine: SQLite with one writer thread and group commit.

The writer owns the only connection that writes and checkpoints. Whatever has queued up since its last commit becomes
one transaction, and callers hear back only after its fsync. Reads go through a few read-only connections.
"""

from __future__ import annotations

import base64
import binascii
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from filelock import FileLock, Timeout

from service_kit.change import Change, Entry, Message, Record, Ref, Step
from service_kit.errors import FieldError, InvalidInput, StartRefused, StoreFull, StoreUnavailable
from service_kit.logs import get_logger
from service_kit.storage.contract import Lease, Page
from service_kit.storage.sqlite_batch import (
    ENTRY_COLUMNS,
    MESSAGE_COLUMNS,
    RECORD_COLUMNS,
    Batch,
    entry_of,
    message_of,
    pairs,
    record_of,
)
from service_kit.storage.sqlite_schema import migrate
from service_kit.times import now_ms

#: Steps in one transaction at most; more would let the first callers wait for the last.
MAX_STEPS = 2_000
#: Read-only connections; a reader that finds none free waits for one.
READERS = 4

T = TypeVar("T")
Result: TypeAlias = Change | Exception | None

log = get_logger(__name__)


@dataclass(slots=True)
class StoreStats:
    """What the writer has done since the start."""

    commits: int = 0
    steps: int = 0
    largest_batch: int = 0
    commit_seconds: float = 0.0


class _Job:
    """Work for the writer, and the lock that its caller waits on until it is durable."""

    __slots__ = ("done", "error", "results")

    def __init__(self) -> None:
        # A bare lock: half the cost of an Event, and every initiate waits on one.
        self.done = threading.Lock()
        self.done.acquire()
        self.error: Exception | None = None
        self.results: Any = None

    def finish(self, results: Any = None, error: Exception | None = None) -> None:
        self.results, self.error = results, error
        self.done.release()


class _Steps(_Job):
    __slots__ = ("steps",)

    def __init__(self, steps: Sequence[Step]) -> None:
        super().__init__()
        self.steps = steps


class _Call(_Job):
    __slots__ = ("call",)

    def __init__(self, call: Callable[[sqlite3.Connection], Any]) -> None:
        super().__init__()
        self.call = call


class SqliteStore:
    """A `Store` in one file. A second store on the same file is refused, in this process and in any other."""

    name = "store"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.stats = StoreStats()
        self._lock_file = FileLock(f"{path}.lock", timeout=0)
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        self._connection: sqlite3.Connection | None = None
        self._readers: queue.LifoQueue[sqlite3.Connection] = queue.LifoQueue()
        self._open_readers = 0
        #: Guards the moment in which the store stops taking work.
        self._gate = threading.Lock()
        self._is_open = False
        self._failure: str | None = None
        self._token_floor = 0
        self._next_id = 1

    # ---- the component

    def start(self) -> None:
        """Lock the file, check and migrate it, and begin to write. Raises `StartRefused`."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock_file.acquire()
        except Timeout:
            raise StartRefused(
                f"Another process uses the store {self.path.name} in {self.path.parent.name}: stop it, or set another "
                "store."
            ) from None
        except OSError as error:
            raise StartRefused(f"The store's folder cannot be used ({error.strerror}): set another store.") from None
        try:
            self._open()
        except BaseException:
            self._close()
            raise
        with self._gate:
            self._is_open = True
        self._writer = threading.Thread(target=self._write, name="store-writer", daemon=True)
        self._writer.start()

    def _open(self) -> None:
        try:
            connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False)
            self._connection = connection
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA temp_store = MEMORY")
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise StartRefused(f"The store {self.path.name} is damaged: restore it from a backup.")
            migrate(connection)
            (self._token_floor,) = connection.execute("SELECT value FROM meta WHERE name = 'token_floor'").fetchone()
            (self._next_id,) = connection.execute("SELECT coalesce(max(id), 0) + 1 FROM records").fetchone()
            for _ in range(READERS):
                reader = sqlite3.connect(
                    f"{self.path.resolve().as_uri()}?mode=ro", uri=True, isolation_level=None, check_same_thread=False
                )
                self._readers.put(reader)
                self._open_readers += 1
        except sqlite3.Error as error:
            raise StartRefused(f"The store {self.path.name} cannot be opened: {error}.") from None

    def stop(self, timeout_s: float = 5.0) -> None:
        """Write what is queued and close. Safe to call twice."""
        with self._gate:
            was_open, self._is_open = self._is_open, False
            if was_open:
                self._jobs.put(None)
        if not was_open or self._writer is None:
            return
        self._writer.join(timeout_s)
        self._close()

    def _close(self) -> None:
        # Readers first: the last connection to close does the checkpoint, and that must be the writer's.
        while self._open_readers:
            with suppress(queue.Empty):
                self._readers.get(timeout=1.0).close()
            self._open_readers -= 1
        if self._connection is not None and (self._writer is None or not self._writer.is_alive()):
            self._connection.close()
            self._connection = None
        self._lock_file.release()

    def check(self) -> str | None:
        """None when the last commit went well, or a probe does now."""
        if self._writer is None or not self._writer.is_alive():
            return "the store is not running"
        if self._failure is not None:
            with suppress(StoreUnavailable):
                self._call(lambda writing: writing.execute("UPDATE meta SET value = value + 1 WHERE name = 'probe'"))
        return self._failure

    # ---- changes

    def update(self, step: Step) -> Change | None:
        """Read, decide and write one record atomically; answer what was written once it is durable."""
        (result,) = self.update_all((step,))
        if isinstance(result, Exception):
            raise result
        return result

    def update_all(self, steps: Sequence[Step]) -> list[Result]:
        """Many steps in one durable commit, each atomic by itself, in the given order."""
        if not steps:
            return []
        results: list[Result] = self._submit(_Steps(steps))
        return results

    def _call(self, call: Callable[[sqlite3.Connection], Any]) -> Any:
        return self._submit(_Call(call))

    def _submit(self, job: _Job) -> Any:
        with self._gate:
            if not self._is_open:
                raise StoreUnavailable("The store is closed.", retry_after_s=1)
            self._jobs.put(job)
        job.done.acquire()
        if job.error is not None:
            raise job.error
        return job.results

    # ---- the writer

    def _write(self) -> None:
        while (jobs := self._next_jobs()) is not None:
            steps = [job for job in jobs if isinstance(job, _Steps)]
            if steps:
                self._commit_steps(steps)
            for job in jobs:
                if isinstance(job, _Call):
                    self._commit_call(job)

    def _next_jobs(self) -> list[_Job] | None:
        """Wait for a job and take all that have queued up with it; None at the end."""
        job = self._jobs.get()
        if job is None:
            return None
        jobs = [job]
        size = 0
        while size < MAX_STEPS and not self._jobs.empty():
            job = self._jobs.get_nowait()
            if job is None:
                self._jobs.put(None)
                break
            jobs.append(job)
            size += len(job.steps) if isinstance(job, _Steps) else 1
        return jobs

    def _commit_steps(self, jobs: Sequence[_Steps]) -> None:
        connection = self._writing()
        steps = [step for job in jobs for step in job.steps]
        began = time.perf_counter()
        try:
            connection.execute("BEGIN IMMEDIATE")
            batch = Batch(connection, self._next_id)
            batch.load(steps)
            results: list[list[Result]] = [[_decided(batch, step) for step in job.steps] for job in jobs]
            batch.write()
            connection.execute("COMMIT")
        except sqlite3.IntegrityError as error:
            self._roll_back(connection)
            if len(jobs) == 1:
                self._fail(connection, jobs, error)
            for job in jobs if len(jobs) > 1 else ():  # one bad job must not harm those that came with it
                self._commit_steps([job])
            return
        except Exception as error:  # noqa: BLE001  # whatever it is, the callers must hear of it
            self._fail(connection, jobs, error)
            return
        self._next_id = batch.next_id
        self._failure = None
        for job, outcome in zip(jobs, results, strict=True):
            job.finish(outcome)
        stats = self.stats
        stats.commits += 1
        stats.steps += len(steps)
        stats.largest_batch = max(stats.largest_batch, len(steps))
        stats.commit_seconds += time.perf_counter() - began

    def _commit_call(self, job: _Call) -> None:
        connection = self._writing()
        try:
            connection.execute("BEGIN IMMEDIATE")
            result = job.call(connection)
            connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001  # whatever it is, the caller must hear of it
            self._fail(connection, [job], error)
            return
        self._failure = None
        job.finish(result)

    def _writing(self) -> sqlite3.Connection:
        assert self._connection is not None  # noqa: S101  # the writer runs only on an open store
        return self._connection

    def _fail(self, connection: sqlite3.Connection, jobs: Sequence[_Job], error: Exception) -> None:
        """Roll back and tell every caller; the next batch tries anew, so the store heals by itself."""
        self._roll_back(connection)
        public = _public_error(error)
        self._failure = public.detail
        log.error("A commit failed", action="store.commit_failed", exc_info=error)
        for job in jobs:
            job.finish(error=public)

    @staticmethod
    def _roll_back(connection: sqlite3.Connection) -> None:
        with suppress(sqlite3.Error):
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    # ---- reads

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        if not self._is_open:
            raise StoreUnavailable("The store is closed.", retry_after_s=1)
        connection = self._readers.get()
        try:
            yield connection
        except sqlite3.Error as error:
            raise _public_error(error) from error
        finally:
            self._readers.put(connection)

    def _rows(self, query: str, parameters: Sequence[Any] = ()) -> list[Any]:
        with self._reading() as connection:
            return connection.execute(query, parameters).fetchall()

    def get(self, ref: Ref) -> Record | None:
        """The record, or None."""
        rows = self._rows(f"SELECT {RECORD_COLUMNS} FROM records r WHERE r.tenant = ? AND r.key = ?", ref)
        return record_of(rows[0]) if rows else None

    def entries(self, ref: Ref, *, after: int = 0, limit: int = 1000, kind: str | None = None) -> list[Entry]:
        """Log entries with ``seq > after`` in order, of one kind when given."""
        rows = self._rows(
            f"SELECT {ENTRY_COLUMNS} FROM entries e JOIN records r ON r.id = e.record "
            "WHERE r.tenant = ? AND r.key = ? AND e.seq > ? AND (? IS NULL OR e.kind = ?) ORDER BY e.seq LIMIT ?",
            (*ref, after, kind, kind, limit),
        )
        return [entry_of(row) for row in rows]

    def entries_of_many(self, after: Mapping[Ref, int], *, limit: int = 1000) -> dict[Ref, list[Entry]]:
        """For each record its entries with ``seq`` above the given one, ``limit`` in all."""
        rows = self._rows(
            f"SELECT r.tenant, r.key, {ENTRY_COLUMNS} FROM json_each(?) j "
            "JOIN records r "
            "ON r.tenant = json_extract(j.value, '$[0][0]') AND r.key = json_extract(j.value, '$[0][1]') "
            "JOIN entries e ON e.record = r.id AND e.seq > json_extract(j.value, '$[1]') "
            "ORDER BY j.key, e.seq LIMIT ?",
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
        """For each record its pending messages with ``position`` above the given one, ``limit`` in all."""
        rows = self._rows(
            f"SELECT r.tenant, r.key, {MESSAGE_COLUMNS} FROM json_each(?) j "
            "JOIN records r "
            "ON r.tenant = json_extract(j.value, '$[0][0]') AND r.key = json_extract(j.value, '$[0][1]') "
            "JOIN outbox o ON o.record = r.id AND o.state = 'pending' AND o.position > json_extract(j.value, '$[1]') "
            "ORDER BY j.key, o.position LIMIT ?",
            (pairs(after.items()), limit),
        )
        return _grouped(rows, message_of)

    def due(self, now_ms: int, *, limit: int = 1000) -> list[tuple[Ref, Message]]:
        """Pending messages of all records whose time has come, oldest first."""
        rows = self._rows(
            f"SELECT r.tenant, r.key, {MESSAGE_COLUMNS} FROM outbox o JOIN records r ON r.id = o.record "
            "WHERE o.state = 'pending' AND o.due_ms <= ? ORDER BY o.due_ms, o.position LIMIT ?",
            (now_ms, limit),
        )
        return [(Ref(row[0], row[1]), message_of(row[2:])) for row in rows]

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
        conditions: list[str] = []
        parameters: list[Any] = []
        for condition, value in (("tenant = ?", tenant), ("grp = ?", group), ("owner = ?", owner)):
            if value is not None:
                conditions.append(condition)
                parameters.append(value)
        if states:
            conditions.append(f"state IN ({', '.join('?' * len(states))})")
            parameters += [str(state) for state in states]
        if cursor is not None:
            conditions.append("id < ?")
            parameters.append(_id_of_cursor(cursor))
        where = " AND ".join(conditions) or "true"
        rows = self._rows(
            f"SELECT {RECORD_COLUMNS} FROM records r WHERE {where} ORDER BY id DESC LIMIT ?", (*parameters, limit + 1)
        )
        next_cursor = _cursor_of_id(rows[limit - 1][0]) if len(rows) > limit else None
        return Page(tuple(record_of(row) for row in rows[:limit]), next_cursor)

    def counts(self, tenant: str | None) -> dict[str, int]:
        """How many records stand in each state."""
        rows = self._rows(
            "SELECT state, sum(n) FROM counts WHERE (? IS NULL OR tenant = ?) GROUP BY state", (tenant, tenant)
        )
        return {state: n for state, n in rows if n}

    def outbox_counts(self) -> dict[str, int]:
        """How many outbox messages stand in each state, over all tenants."""
        return dict(self._rows("SELECT state, count(*) FROM outbox GROUP BY state"))

    # ---- instances

    def renew_lease(self, instance: str, lease_ms: int) -> Lease:
        """Let the instance act for another ``lease_ms`` from now on the store's clock."""
        lease = Lease(instance, self.now_ms() + lease_ms)
        self._call(
            lambda connection: connection.execute(
                "INSERT OR REPLACE INTO leases VALUES (?, ?)", (lease.instance, lease.until_ms)
            )
        )
        return lease

    def end_lease(self, instance: str) -> None:
        """Forget the instance's lease; its orders are free at once."""
        self._call(lambda connection: connection.execute("DELETE FROM leases WHERE instance = ?", (instance,)))

    def leases(self) -> list[Lease]:
        """All leases, ended ones included until their instance is forgotten."""
        return [Lease(*row) for row in self._rows("SELECT instance, until_ms FROM leases ORDER BY instance")]

    def now_ms(self) -> int:
        """The wall clock of this machine, in milliseconds since the epoch."""
        return now_ms()

    # ---- cleanup

    def token_floor(self) -> int:
        """The highest token of any record that was purged."""
        return self._token_floor

    def purge(self, *, states: Sequence[str], before_ms: int, limit: int = 500) -> int:
        """Remove finished records with everything that is theirs; answers how many went."""
        purged: int = self._call(lambda connection: self._purge(connection, states, before_ms, limit))
        return purged

    def _purge(self, connection: sqlite3.Connection, states: Sequence[str], before_ms: int, limit: int) -> int:
        rows = connection.execute(
            f"SELECT id, tenant, state, token FROM records r WHERE state IN ({', '.join('?' * len(states))}) "
            "AND updated_ms < ? AND NOT EXISTS "
            "(SELECT 1 FROM outbox o WHERE o.record = r.id AND o.state = 'pending') LIMIT ?",
            (*map(str, states), before_ms, limit),
        ).fetchall()
        if not rows:
            return 0
        ids = [(row[0],) for row in rows]
        connection.executemany("DELETE FROM entries WHERE record = ?", ids)
        connection.executemany("DELETE FROM outbox WHERE record = ?", ids)
        connection.executemany("DELETE FROM records WHERE id = ?", ids)
        connection.executemany(
            "UPDATE counts SET n = n - 1 WHERE tenant = ? AND state = ?", [(row[1], row[2]) for row in rows]
        )
        floor = max(self._token_floor, *(row[3] for row in rows))
        connection.execute("UPDATE meta SET value = ? WHERE name = 'token_floor'", (floor,))
        # Raised before the commit: too high a floor harms nothing, too low a one would let a token come twice.
        self._token_floor = floor
        return len(rows)


def _decided(batch: Batch, step: Step) -> Result:
    try:
        return batch.decide(step)
    except sqlite3.Error:
        raise
    except Exception as error:  # noqa: BLE001  # it is the step's caller who hears of it
        return error


def _grouped(rows: Sequence[Any], make: Callable[[Sequence[Any]], T]) -> dict[Ref, list[T]]:
    found: dict[Ref, list[T]] = {}
    for row in rows:
        found.setdefault(Ref(row[0], row[1]), []).append(make(row[2:]))
    return found


def _public_error(error: Exception) -> StoreUnavailable:
    """What a caller may know of a failure; the log has the rest."""
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
        return StoreFull("The store has no room left.", retry_after_s=5)
    return StoreUnavailable("The store could not do this.", retry_after_s=1)


def _cursor_of_id(record_id: int) -> str:
    return base64.urlsafe_b64encode(str(record_id).encode()).decode().rstrip("=")


def _id_of_cursor(cursor: str) -> int:
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        record_id = int(text)
    except (binascii.Error, ValueError):
        record_id = 0
    if not 0 < record_id < 2**63 or _cursor_of_id(record_id) != cursor:
        raise InvalidInput([FieldError("/cursor", "must be the next_cursor of an earlier page")])
    return record_id
