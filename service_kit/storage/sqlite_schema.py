"""The SQLite engine's tables, as a list of migrations counted by ``user_version``."""

from __future__ import annotations

import sqlite3

from service_kit.errors import StartRefused

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
        body TEXT NOT NULL,
        created_ms INTEGER NOT NULL,
        updated_ms INTEGER NOT NULL,
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
        body TEXT NOT NULL,
        state TEXT NOT NULL,
        address TEXT NOT NULL,
        due_ms INTEGER NOT NULL,
        attempts INTEGER NOT NULL,
        last_error TEXT NOT NULL,
        created_ms INTEGER NOT NULL,
        PRIMARY KEY (record, message_id)
    ) WITHOUT ROWID;
    CREATE INDEX outbox_due ON outbox (due_ms) WHERE state = 'pending';
    CREATE INDEX outbox_by_state ON outbox (state);
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
)


def migrate(connection: sqlite3.Connection) -> None:
    """Bring the file up to date. Raises `StartRefused` for a file that newer software has written."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version > len(MIGRATIONS):
        raise StartRefused(
            f"The store has schema version {version}, this software knows {len(MIGRATIONS)}: run the newer software."
        )
    for number, script in enumerate(MIGRATIONS[version:], start=version + 1):
        connection.executescript(f"BEGIN IMMEDIATE; {script}; PRAGMA user_version = {number}; COMMIT;")
