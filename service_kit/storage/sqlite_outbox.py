"""Pages of messages of the SQLite engine: newest first, filtered, and read in the order of an index.

As with records, each kind of filter names its way: the messages of one record, or a merge over the states, each read
from the index of states or of addresses.
"""

from __future__ import annotations

import base64
import binascii
import json
import sqlite3
from collections.abc import Sequence
from typing import Any, TypeAlias

from service_kit.change import Ref
from service_kit.errors import FieldError, InvalidInput
from service_kit.storage.contract import MessageFilter, MessagePage
from service_kit.storage.sqlite_batch import MESSAGE_COLUMNS, message_of
from service_kit.storage.sqlite_page import marks

#: The place of a message in the order of pages: when it was made, its record, its id.
_Place: TypeAlias = tuple[int, int, str]

_COLUMNS = f"o.created_ms, o.record, o.message_id, r.tenant, r.key, {MESSAGE_COLUMNS}"
_NEWEST_FIRST = "ORDER BY 1 DESC, 2 DESC, 3 DESC LIMIT ?"
_IN_RANGE = "(o.created_ms, o.record, o.message_id) < (?, ?, ?) AND o.created_ms >= ?"


def message_page(connection: sqlite3.Connection, wanted: MessageFilter, cursor: str | None, limit: int) -> MessagePage:
    """One page, from the cursor on. Raises `InvalidInput` for a cursor that no page gave out."""
    before: _Place = (wanted.created_before_ms, 0, "")
    if cursor is not None:
        before = min(before, _place_of(cursor))
    read = _merged if wanted.key is None else _of_record
    rows = read(connection, wanted, before, limit + 1) if wanted.states else []
    next_cursor = _cursor_of(rows[limit - 1][:3]) if len(rows) > limit else None
    return MessagePage(tuple([(Ref(row[3], row[4]), message_of(row[5:])) for row in rows[:limit]]), next_cursor)


def _of_record(connection: sqlite3.Connection, wanted: MessageFilter, before: _Place, limit: int) -> list[Any]:
    # Sorted in memory: a record's messages are few beside all there are. The plus signs keep SQLite from those.
    query = (
        f"SELECT {_COLUMNS} FROM records r CROSS JOIN outbox o ON o.record = r.id WHERE r.tenant = ? AND r.key = ? "
        f"AND (? IS NULL OR +o.address = ?) AND +o.state IN ({marks(wanted.states)}) AND {_IN_RANGE} {_NEWEST_FIRST}"
    )
    filters = (wanted.tenant, wanted.key, wanted.address, wanted.address, *map(str, wanted.states))
    return connection.execute(query, (*filters, *before, wanted.created_from_ms, limit)).fetchall()


def _merged(connection: sqlite3.Connection, wanted: MessageFilter, before: _Place, limit: int) -> list[Any]:
    conditions, filters = ["o.state = ?", _IN_RANGE], []
    if wanted.address is not None:
        conditions += ["o.address = ?", "o.address <> ''"]  # the addresses' index has only these
        filters.append(wanted.address)
    if wanted.tenant is not None:
        conditions.append("r.tenant = ?")
        filters.append(wanted.tenant)
    # CROSS JOIN fixes the nesting of the loops: first the messages in the order of the index, then each one's record.
    one = f"SELECT {_COLUMNS} FROM outbox o CROSS JOIN records r ON r.id = o.record WHERE {' AND '.join(conditions)}"
    states = sorted({str(state) for state in wanted.states})
    parameters = [value for state in states for value in (state, *before, wanted.created_from_ms, *filters)]
    query = " UNION ALL ".join([one] * len(states))
    return connection.execute(f"{query} {_NEWEST_FIRST}", (*parameters, limit)).fetchall()


def _cursor_of(place: Sequence[Any]) -> str:
    """The text that stands for the last message of a page."""
    return base64.urlsafe_b64encode(json.dumps(place, separators=(",", ":")).encode()).decode().rstrip("=")


def _place_of(cursor: str) -> _Place:
    """The message's place back. Raises `InvalidInput` for a text that `_cursor_of` never made."""
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        match json.loads(text):
            case [int(created_ms), int(record), str(message_id)] if max(abs(created_ms), abs(record)) < 2**63:
                if _cursor_of((created_ms, record, message_id)) == cursor:
                    return created_ms, record, message_id
    except (binascii.Error, ValueError, RecursionError):
        pass
    raise InvalidInput([FieldError("/cursor", "must be the next_cursor of an earlier page")])
