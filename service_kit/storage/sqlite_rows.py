"""Writes many rows with few statements.

Every step of a statement lets go of the interpreter's lock and must win it back from the threads that run requests;
`executemany` takes a step for each row.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from functools import cache
from itertools import chain
from typing import Any

#: Rows in one statement; far below what SQLite allows in parameters.
_MAX_ROWS = 1_024


def write_rows(connection: sqlite3.Connection, statement: tuple[str, str], rows: Sequence[tuple[Any, ...]]) -> None:
    """Run the statement, given as what stands before and behind its list of rows, for all rows."""
    start = 0
    while start < len(rows):
        # Powers of two: so there are few texts of a statement, and the connection keeps them prepared.
        count = min(_MAX_ROWS, 1 << ((len(rows) - start).bit_length() - 1))
        part = rows[start : start + count]
        connection.execute(_text(statement, len(part[0]), count), list(chain.from_iterable(part)))
        start += count


@cache
def _text(statement: tuple[str, str], columns: int, rows: int) -> str:
    before, behind = statement
    row = f"({', '.join('?' * columns)})"
    return f"{before} {', '.join([row] * rows)} {behind}"
