"""The access store in a file beside the service's own store. Services and commands may have it open at once."""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from service_kit.access.model import AUDIT_LINES, ApiKey, AuditEntry, Scope
from service_kit.errors import StoreFull, StoreUnavailable
from service_kit.logs import get_logger
from service_kit.times import now_ms

_BUSY_TIMEOUT_S = 15.0
_AGAIN_S = 0.01
_SCHEMA = """
    CREATE TABLE IF NOT EXISTS keys (
        id INTEGER PRIMARY KEY,
        key_id TEXT NOT NULL UNIQUE,
        tenant TEXT NOT NULL,
        name TEXT NOT NULL,
        scopes TEXT NOT NULL, -- with spaces between them
        seller_id TEXT,
        digest TEXT NOT NULL,
        created_ms INTEGER NOT NULL,
        expires_ms INTEGER,
        revoked_ms INTEGER,
        last_used_ms INTEGER
    );
    CREATE TABLE IF NOT EXISTS audit (
        id INTEGER PRIMARY KEY,
        at_ms INTEGER NOT NULL,
        tenant TEXT NOT NULL,
        key_id TEXT NOT NULL,
        action TEXT NOT NULL,
        target TEXT NOT NULL,
        address TEXT NOT NULL,
        outcome TEXT NOT NULL
    );
    CREATE TABLE IF NOT EXISTS ended_sessions (session_id TEXT PRIMARY KEY, until_ms INTEGER NOT NULL);
    CREATE TABLE IF NOT EXISTS secret (id INTEGER PRIMARY KEY CHECK (id = 1), value TEXT NOT NULL);
"""
_VERSION = 1
_KEY = "key_id, tenant, name, scopes, seller_id, digest, created_ms, expires_ms, revoked_ms, last_used_ms"
_AUDIT = "at_ms, tenant, key_id, action, target, address, outcome"
_log = get_logger(__name__)


class SqliteAccess:
    """An `AccessStore` in a file, which is made when it is first needed. A component: its stop closes the file."""

    name = "access-store"

    def __init__(self, path: Path) -> None:
        self._path = path
        #: Guards the connection, which all threads share.
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._failure: str | None = None

    def start(self) -> None:
        """Nothing: the file is opened when it is needed."""

    def stop(self, timeout_s: float = 0.0) -> None:  # noqa: ARG002 # as components are stopped
        """Close the file. Safe to call twice; it is opened anew when it is needed again."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def check(self) -> str | None:
        """None when the last work on the file went well."""
        return self._failure

    def keys(self) -> Sequence[ApiKey]:
        """All keys, revoked ones too, oldest first."""
        with self._opened() as connection:
            rows = connection.execute(f"SELECT {_KEY} FROM keys ORDER BY id").fetchall()
        return [_key_of(row) for row in rows]

    def add(self, key: ApiKey) -> None:
        """Keep a new key."""
        row = (
            *(key.key_id, key.tenant, key.name, " ".join(sorted(key.scopes)), key.seller_id, key.digest),
            *(key.created_ms, key.expires_ms, key.revoked_ms, key.last_used_ms),
        )
        with self._opened() as connection:
            connection.execute(f"INSERT INTO keys ({_KEY}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    def revoke(self, key_id: str, at_ms: int) -> bool:
        """Make a key useless for good; False when there is no such key."""
        with self._opened() as connection:
            query = "UPDATE keys SET revoked_ms = coalesce(revoked_ms, ?) WHERE key_id = ?"
            return bool(connection.execute(query, (at_ms, key_id)).rowcount)

    def touch(self, used: dict[str, int]) -> None:
        """Note when keys were used; an earlier time than the known one changes nothing."""
        query = "UPDATE keys SET last_used_ms = max(coalesce(last_used_ms, 0), ?) WHERE key_id = ?"
        with self._opened() as connection, _transaction(connection):
            connection.executemany(query, [(at_ms, key_id) for key_id, at_ms in used.items()])

    def version(self) -> int:
        """How often a key was added or revoked: neither is ever undone."""
        with self._opened() as connection:
            (version,) = connection.execute("SELECT count(*) + count(revoked_ms) FROM keys").fetchone()
        return int(version)

    def record(self, entry: AuditEntry) -> None:
        """Keep a line of the audit log, and forget those above its limit."""
        row = (*(entry.at_ms, entry.tenant, entry.key_id, entry.action, entry.target, entry.address, entry.outcome),)
        with self._opened() as connection, _transaction(connection):
            connection.execute(f"INSERT INTO audit ({_AUDIT}) VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            connection.execute("DELETE FROM audit WHERE id <= (SELECT max(id) FROM audit) - ?", (AUDIT_LINES,))

    def audit(self, tenant: str | None, *, limit: int) -> Sequence[AuditEntry]:
        """The newest lines of the audit log, newest first; of all tenants when None."""
        query = f"SELECT {_AUDIT} FROM audit WHERE ? IS NULL OR tenant = ? ORDER BY id DESC LIMIT ?"
        with self._opened() as connection:
            rows = connection.execute(query, (tenant, tenant, limit)).fetchall()
        return [AuditEntry(*row) for row in rows]

    def secret(self) -> str:
        """A random secret, made once."""
        with self._opened() as connection:
            connection.execute("INSERT OR IGNORE INTO secret VALUES (1, ?)", (secrets.token_hex(32),))
            (value,) = connection.execute("SELECT value FROM secret").fetchone()
        return str(value)

    def end_session(self, session_id: str, until_ms: int) -> None:
        """Keep in mind until then that a session was ended by its owner."""
        with self._opened() as connection, _transaction(connection):
            connection.execute("DELETE FROM ended_sessions WHERE until_ms < ?", (now_ms(),))
            connection.execute("INSERT OR REPLACE INTO ended_sessions VALUES (?, ?)", (session_id, until_ms))

    def has_ended(self, session_id: str) -> bool:
        """Whether a session was ended by its owner."""
        with self._opened() as connection:
            query = "SELECT 1 FROM ended_sessions WHERE session_id = ?"
            return connection.execute(query, (session_id,)).fetchone() is not None

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """The connection, for one thread at a time. Raises `StoreUnavailable`."""
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = _open(self._path)
                yield self._connection
            except (sqlite3.Error, OSError) as error:
                self._failure = "the access store cannot be used"
                _log.error("The access store failed", action="access.failed", reason=str(error))
                if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL:
                    raise StoreFull("The access store has no room left.") from None
                raise StoreUnavailable("The access store cannot be used.") from None
            self._failure = None


def _open(path: Path) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    # Made here, because SQLite would let others read it; what it puts beside it has the same rights.
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
    connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        _write_ahead(connection)
        with _transaction(connection):
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > _VERSION:
                raise sqlite3.DatabaseError(f"its schema has version {version}, this software knows {_VERSION}")
            for statement in _SCHEMA.split(";\n"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {_VERSION}")
        connection.execute("PRAGMA synchronous = FULL")
    except BaseException:
        connection.close()
        raise
    return connection


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Switch a new file over. SQLite does not wait here for others that have it open, as it does elsewhere."""
    give_up_at = time.monotonic() + _BUSY_TIMEOUT_S
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError:
            if time.monotonic() >= give_up_at:
                raise
            time.sleep(_AGAIN_S)
        else:
            return


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")


def _key_of(row: tuple[Any, ...]) -> ApiKey:
    key_id, tenant, name, scopes, *rest = row
    return ApiKey(key_id, tenant, name, frozenset(map(Scope, scopes.split())), *rest)
