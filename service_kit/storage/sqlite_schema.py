"""The SQLite engine's tables, as a list of migrations counted by ``user_version``."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from service_kit.errors import StartRefused
from service_kit.storage.sqlite_incoming import create_incoming

#: Nobody else writes the file; a tool that looks into it may lock it for a moment.
_BUSY_TIMEOUT_S = 1.0
_PRAGMAS = (
    "journal_mode = WAL",
    "synchronous = FULL",
    "foreign_keys = OFF",
    "temp_store = MEMORY",
    "cache_size = -16384",
    "journal_size_limit = 67108864",
)

#: Each script brings a file from the version before to the next; a released one is never changed.
MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE records (
        id INTEGER PRIMARY KEY,
        tenant TEXT NOT NULL,
        key TEXT NOT NULL,
        state TEXT NOT NULL,
        owner TEXT NOT NULL,
        token INTEGER NOT NULL,
        version INTEGER NOT NULL,
        grp TEXT NOT NULL,
        created_ms INTEGER NOT NULL,
        updated_ms INTEGER NOT NULL,
        body TEXT NOT NULL, -- last, so that nothing else is read through a long one
        UNIQUE (tenant, key)
    );
    CREATE INDEX records_by_state ON records (tenant, state);
    CREATE INDEX records_by_group ON records (tenant, grp);
    CREATE INDEX records_by_owner ON records (owner) WHERE owner <> '';
    CREATE TABLE entries (
        record INTEGER NOT NULL,
        seq INTEGER NOT NULL,
        entry_id TEXT NOT NULL,
        kind TEXT NOT NULL,
        at_ms INTEGER NOT NULL,
        body TEXT NOT NULL,
        PRIMARY KEY (record, seq)
    ) WITHOUT ROWID;
    CREATE UNIQUE INDEX entries_by_id ON entries (record, entry_id);
    CREATE TABLE outbox (
        record INTEGER NOT NULL,
        message_id TEXT NOT NULL,
        position INTEGER NOT NULL,
        kind TEXT NOT NULL,
        state TEXT NOT NULL,
        address TEXT NOT NULL,
        due_ms INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        last_error TEXT NOT NULL,
        created_ms INTEGER NOT NULL,
        body TEXT NOT NULL,
        PRIMARY KEY (record, message_id)
    ) WITHOUT ROWID;
    CREATE INDEX outbox_by_position ON outbox (record, position);
    CREATE INDEX outbox_due ON outbox (due_ms, position) WHERE state = 'pending';
    CREATE INDEX outbox_parked ON outbox (state) WHERE state <> 'pending';
    CREATE TABLE counts (
        tenant TEXT NOT NULL,
        state TEXT NOT NULL,
        n INTEGER NOT NULL,
        PRIMARY KEY (tenant, state)
    ) WITHOUT ROWID;
    CREATE TABLE leases (instance TEXT PRIMARY KEY, until_ms INTEGER NOT NULL) WITHOUT ROWID;
    CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
    INSERT INTO meta VALUES ('token_floor', 0), ('probe', 0);
    """,
    # Messages with an address are kept, and listed by state and address; those without are relayed by position. The
    # counts are kept up, since there may be millions.
    """
    DROP INDEX outbox_due;
    DROP INDEX outbox_parked;
    DROP INDEX outbox_by_position;
    CREATE INDEX outbox_by_position ON outbox (record, position) WHERE address = '';
    CREATE INDEX outbox_by_state ON outbox (state, created_ms);
    CREATE INDEX outbox_by_address ON outbox (address, state, created_ms) WHERE address <> '';
    CREATE TABLE outbox_counts (state TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID;
    INSERT INTO outbox_counts SELECT state, count(*) FROM outbox GROUP BY state;
    CREATE TRIGGER outbox_put AFTER INSERT ON outbox BEGIN
        INSERT INTO outbox_counts VALUES (new.state, 1) ON CONFLICT (state) DO UPDATE SET n = n + 1;
    END;
    CREATE TRIGGER outbox_settled AFTER DELETE ON outbox BEGIN
        UPDATE outbox_counts SET n = n - 1 WHERE state = old.state;
    END;
    CREATE TRIGGER outbox_moved AFTER UPDATE OF state ON outbox WHEN old.state <> new.state BEGIN
        UPDATE outbox_counts SET n = n - 1 WHERE state = old.state;
        INSERT INTO outbox_counts VALUES (new.state, 1) ON CONFLICT (state) DO UPDATE SET n = n + 1;
    END;
    """,
    # The counts of messages are kept by tenant, too.
    """
    DROP TRIGGER outbox_put;
    DROP TRIGGER outbox_settled;
    DROP TRIGGER outbox_moved;
    DROP TABLE outbox_counts;
    CREATE TABLE outbox_counts (
        tenant TEXT NOT NULL,
        state TEXT NOT NULL,
        n INTEGER NOT NULL,
        PRIMARY KEY (tenant, state)
    ) WITHOUT ROWID;
    INSERT INTO outbox_counts
        SELECT r.tenant, o.state, count(*) FROM outbox o JOIN records r ON r.id = o.record GROUP BY r.tenant, o.state;
    CREATE TRIGGER outbox_put AFTER INSERT ON outbox BEGIN
        INSERT INTO outbox_counts VALUES ((SELECT tenant FROM records WHERE id = new.record), new.state, 1)
            ON CONFLICT (tenant, state) DO UPDATE SET n = n + 1;
    END;
    CREATE TRIGGER outbox_settled AFTER DELETE ON outbox BEGIN
        UPDATE outbox_counts SET n = n - 1
            WHERE tenant = (SELECT tenant FROM records WHERE id = old.record) AND state = old.state;
    END;
    CREATE TRIGGER outbox_moved AFTER UPDATE OF state ON outbox WHEN old.state <> new.state BEGIN
        UPDATE outbox_counts SET n = n - 1
            WHERE tenant = (SELECT tenant FROM records WHERE id = old.record) AND state = old.state;
        INSERT INTO outbox_counts VALUES ((SELECT tenant FROM records WHERE id = new.record), new.state, 1)
            ON CONFLICT (tenant, state) DO UPDATE SET n = n + 1;
    END;
    """,
)


def open_file(path: Path) -> sqlite3.Connection:
    """The connection that writes, to a file that is whole and up to date. Raises `StartRefused`.

    A file that is refused is left as it is, with what a killed process has left beside it.
    """
    try:
        version = inspect_file(path) if path.exists() else 0
        connection = sqlite3.connect(path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
        try:
            _prepare(connection, version)
        except BaseException:
            connection.close()
            raise
    except sqlite3.Error as error:
        raise StartRefused(f"The store {path} cannot be opened: {error}.") from None
    return connection


def inspect_file(path: Path, *, thoroughly: bool = True) -> int:
    """The schema version of a file that is whole, read by a connection that cannot change it. Raises `StartRefused`.

    One that can would write the log that a kill has left into the file when it closes, be it damaged or not.
    """
    log = path.with_name(f"{path.name}-wal")
    if not path.stat().st_size and log.exists() and log.stat().st_size:
        # SQLite would take the file for a new one and throw the log away.
        raise StartRefused(_damaged(path))
    uri = f"{path.resolve().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True, timeout=_BUSY_TIMEOUT_S)) as connection:
        if thoroughly:
            (verdict,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if verdict != "ok":
                raise StartRefused(_damaged(path))
        (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise StartRefused(
            f"The store {path} has schema version {version}, this software knows {len(MIGRATIONS)}: "
            "run the newer software."
        )
    return int(version)


def _damaged(path: Path) -> str:
    return f"The store {path} is damaged: restore it from a backup."


def _prepare(connection: sqlite3.Connection, version: int) -> None:
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")
    for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
        connection.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {number}; COMMIT;")
    create_incoming(connection)
