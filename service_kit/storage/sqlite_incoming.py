"""Everything that one transaction writes, as the rows of one statement.

Each step of a statement lets go of the interpreter's lock and must win it back from the threads that run requests,
which under load takes longer than the write. So a batch is one INSERT into a view, whose triggers put each row where it
belongs; and one statement outside a transaction is its own transaction, fsync included.
"""

from __future__ import annotations

import sqlite3
from bisect import bisect_left
from collections.abc import Sequence
from functools import cache
from itertools import chain
from typing import Any, TypeAlias

from service_kit.change import ACTIVE_STATES

#: What a row is, and its values in the order of the table's columns.
Row: TypeAlias = tuple[Any, ...]

RECORD, TOUCH, FORGET, ENTRY = "record", "touch", "forget", "entry"
MESSAGE, DROP, COUNT = "message", "drop", "count"
_NOTHING = ("",)

_VALUES = 11
_COLUMNS = ", ".join(f"v{number}" for number in range(1, _VALUES + 1))
_NEW = [f"NEW.v{number}" for number in range(1, _VALUES + 1)]
_TRIGGERS = {
    RECORD: f"""INSERT INTO records VALUES ({", ".join(_NEW)})
        ON CONFLICT (id) DO UPDATE SET state = excluded.state, owner = excluded.owner, token = excluded.token,
            version = excluded.version, grp = excluded.grp, created_ms = excluded.created_ms,
            updated_ms = excluded.updated_ms, body = excluded.body""",
    # What no index knows: an UPDATE that names an indexed column writes the index anew, changed or not.
    TOUCH: """UPDATE records SET token = NEW.v2, version = NEW.v3, updated_ms = NEW.v4, body = NEW.v5
        WHERE id = NEW.v1""",
    FORGET: f"""DELETE FROM entries WHERE record = NEW.v1 AND seq <= NEW.v2;
        DELETE FROM outbox WHERE record = NEW.v1 AND position <= NEW.v2 AND state NOT IN {ACTIVE_STATES}""",
    ENTRY: f"INSERT INTO entries VALUES ({', '.join(_NEW[:6])})",
    # Not "INSERT OR REPLACE", which would pass by the triggers that count.
    MESSAGE: f"""INSERT INTO outbox VALUES ({", ".join(_NEW)})
        ON CONFLICT (record, message_id) DO UPDATE SET position = excluded.position, kind = excluded.kind,
            state = excluded.state, address = excluded.address, due_ms = excluded.due_ms,
            attempts = excluded.attempts, last_error = excluded.last_error, created_ms = excluded.created_ms,
            body = excluded.body""",
    DROP: "DELETE FROM outbox WHERE record = NEW.v1 AND message_id = NEW.v2",
    COUNT: """INSERT INTO counts VALUES (NEW.v1, NEW.v2, NEW.v3)
        ON CONFLICT (tenant, state) DO UPDATE SET n = n + excluded.n""",
}

#: So many rows a statement may have; it is filled up with rows of nothing. Few sizes, so that all stay prepared.
_SIZES = sorted({*range(1, 9), *(base << shift for base in (5, 6, 7, 8) for shift in range(1, 8))})


def create_incoming(connection: sqlite3.Connection) -> None:
    """Create the view and its triggers, which live as long as the connection."""
    connection.execute(
        f"CREATE TEMP VIEW incoming AS SELECT '' AS kind, {', '.join(f'NULL AS v{n}' for n in range(1, _VALUES + 1))}"
    )
    for kind, statement in _TRIGGERS.items():
        connection.execute(
            f"CREATE TEMP TRIGGER incoming_{kind} INSTEAD OF INSERT ON incoming WHEN NEW.kind = '{kind}' "
            f"BEGIN {statement}; END"
        )


def write_incoming(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """Write the rows in their order, all or none, and return once they are durable."""
    largest = _SIZES[-1]
    if len(rows) <= largest:
        _write(connection, rows)
        return
    connection.execute("BEGIN IMMEDIATE")
    for start in range(0, len(rows), largest):
        _write(connection, rows[start : start + largest])
    connection.execute("COMMIT")


def _write(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    size = _SIZES[bisect_left(_SIZES, len(rows))]
    padded = chain(rows, [_NOTHING] * (size - len(rows)))
    connection.execute(_statement(size), list(chain.from_iterable(map(_filled, padded))))


def _filled(row: Row) -> Row:
    return row + _NULLS[len(row)]


_NULLS = [(None,) * (_VALUES + 1 - length) for length in range(_VALUES + 2)]


@cache
def _statement(rows: int) -> str:
    row = f"({', '.join('?' * (_VALUES + 1))})"
    return f"INSERT INTO incoming (kind, {_COLUMNS}) VALUES {', '.join([row] * rows)}"
