"""Pages of records of the SQLite engine: newest first, filtered, and read in the order of an index.

SQLite has no statistics of these tables and would rather sort every record of a tenant than walk the newest, so each
kind of filter names its way: the group's index, the owner's index, a merge over the states' index, or all records.
"""

from __future__ import annotations

import base64
import binascii
import sqlite3
from collections.abc import Sequence
from typing import Any, NamedTuple

from service_kit.errors import FieldError, InvalidInput
from service_kit.storage.sqlite_batch import RECORD_COLUMNS

#: Above every record's id.
MAX_ID = 2**63 - 1
#: SQLite merges at most 500 ordered reads; long before that a walk over all records is as good.
_MAX_MERGED = 100


class Filter(NamedTuple):
    """Which records a page shows; None and () mean all."""

    tenant: str | None
    states: Sequence[str]
    group: str | None
    owner: str | None


def page_rows(connection: sqlite3.Connection, wanted: Filter, before_id: int, limit: int) -> list[Any]:
    """Rows of `RECORD_COLUMNS` with an id below the given one. To be called in a read transaction."""
    if wanted.states and wanted.group is None and wanted.owner is None:
        pairs = _tenants_and_states(connection, wanted)
        if len(pairs) <= _MAX_MERGED:
            return _merged(connection, pairs, before_id, limit)
    return _walked(connection, wanted, before_id, limit)


def _tenants_and_states(connection: sqlite3.Connection, wanted: Filter) -> list[tuple[str, str]]:
    states = sorted({str(state) for state in wanted.states})
    if wanted.tenant is not None:
        return [(wanted.tenant, state) for state in states]
    query = f"SELECT tenant, state FROM counts WHERE n > 0 AND state IN ({marks(states)})"
    return connection.execute(query, states).fetchall()


def _merged(connection: sqlite3.Connection, pairs: Sequence[tuple[str, str]], before_id: int, limit: int) -> list[Any]:
    if not pairs:
        return []
    one = f"SELECT {RECORD_COLUMNS} FROM records r WHERE r.tenant = ? AND r.state = ? AND r.id < ?"
    query = " UNION ALL ".join([one] * len(pairs))
    parameters = [value for pair in pairs for value in (*pair, before_id)]
    return connection.execute(f"{query} ORDER BY 1 DESC LIMIT ?", (*parameters, limit)).fetchall()


def _walked(connection: sqlite3.Connection, wanted: Filter, before_id: int, limit: int) -> list[Any]:
    # A plus sign in front of a column keeps SQLite from using an index on it.
    way = ("tenant", "grp") if wanted.group is not None else ("owner",)
    conditions: list[str] = ["r.id < ?"]
    parameters: list[Any] = [before_id]
    for column, value in (("tenant", wanted.tenant), ("grp", wanted.group), ("owner", wanted.owner)):
        if value is not None:
            conditions.append(f"{'' if column in way else '+'}r.{column} = ?")
            parameters.append(value)
    if wanted.owner:
        conditions.append("r.owner <> ''")  # the owners' index has only these
    if wanted.states:
        conditions.append(f"+r.state IN ({marks(wanted.states)})")
        parameters += map(str, wanted.states)
    where = " AND ".join(conditions)
    query = f"SELECT {RECORD_COLUMNS} FROM records r WHERE {where} ORDER BY r.id DESC LIMIT ?"
    return connection.execute(query, (*parameters, limit)).fetchall()


def marks(values: Sequence[Any]) -> str:
    """As many question marks as there are values."""
    return ", ".join("?" * len(values))


def cursor_of_id(record_id: int) -> str:
    """The text that stands for the last record of a page."""
    return base64.urlsafe_b64encode(str(record_id).encode()).decode().rstrip("=")


def id_of_cursor(cursor: str) -> int:
    """The record's id back. Raises `InvalidInput` for a text that `cursor_of_id` never made."""
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        record_id = int(text)
    except (binascii.Error, ValueError):
        record_id = 0
    if not 0 < record_id < MAX_ID or cursor_of_id(record_id) != cursor:
        raise InvalidInput([FieldError("/cursor", "must be the next_cursor of an earlier page")])
    return record_id
