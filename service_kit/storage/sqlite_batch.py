"""One transaction of the SQLite engine: many steps, decided in order, written with one statement per table."""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import orjson

from service_kit.change import ACTIVE_STATES, Change, Entry, Message, Record, Ref, Snapshot, Step
from service_kit.storage.sqlite_incoming import (
    COUNT,
    DROP,
    ENTRY,
    FORGET,
    MESSAGE,
    RECORD,
    TOUCH,
    Row,
    write_incoming,
)
from service_kit.storage.sqlite_recent import RecentWrites

_decode = orjson.loads

RECORD_COLUMNS = (
    "r.id, r.tenant, r.key, r.state, r.owner, r.token, r.version, r.grp, r.created_ms, r.updated_ms, r.body"
)
ENTRY_COLUMNS = "e.seq, e.entry_id, e.kind, e.at_ms, e.body"
MESSAGE_COLUMNS = (
    "o.message_id, o.position, o.kind, o.state, o.address, o.due_ms, o.attempts, o.last_error, o.created_ms, o.body"
)

#: What is named by a list of (tenant, key), given as JSON.
SELECT_RECORDS = f"""
    SELECT {RECORD_COLUMNS} FROM json_each(?) j
    JOIN records r ON r.tenant = json_extract(j.value, '$[0]') AND r.key = json_extract(j.value, '$[1]')"""
_SELECT_ENTRIES = f"""
    SELECT e.record, {ENTRY_COLUMNS} FROM json_each(?) j
    JOIN entries e ON e.record = json_extract(j.value, '$[0]') AND e.entry_id = json_extract(j.value, '$[1]')"""
_SELECT_MESSAGES = f"""
    SELECT o.record, {MESSAGE_COLUMNS} FROM json_each(?) j
    JOIN outbox o ON o.record = json_extract(j.value, '$[0]') AND o.message_id = json_extract(j.value, '$[1]')"""


_NOTHING: Mapping[str, Any] = MappingProxyType({})


def _encode(document: Any) -> str:
    return orjson.dumps(document, default=_plain).decode()


def _plain(value: Any) -> Any:
    """What orjson does not take for JSON by itself: named tuples and mappings that are no dict."""
    if isinstance(value, tuple):
        return tuple(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} is not JSON")


def record_of(row: Sequence[Any]) -> Record:
    """A record from `RECORD_COLUMNS`."""
    _, tenant, key, state, owner, token, version, group, created_ms, updated_ms, body = row
    return Record(Ref(tenant, key), state, _decode(body), owner, token, version, group, created_ms, updated_ms)


def entry_of(row: Sequence[Any]) -> Entry:
    """An entry from `ENTRY_COLUMNS`."""
    seq, entry_id, kind, at_ms, body = row
    return Entry(seq, entry_id, kind, at_ms, _decode(body))


def message_of(row: Sequence[Any]) -> Message:
    """An outbox message from `MESSAGE_COLUMNS`."""
    message_id, position, kind, state, address, due_ms, attempts, last_error, created_ms, body = row
    return Message(message_id, position, kind, _decode(body), state, address, due_ms, attempts, last_error, created_ms)


def pairs(values: Iterable[tuple[Any, Any]]) -> str:
    """Pairs as JSON, for a join with ``json_each``. Raises `ValueError` for a name with a NUL."""
    text = _encode(list(values))
    if "\\u0000" in text:
        # SQLite would take the name for what stands before the NUL, and find the wrong record.
        raise ValueError("a name holds the character NUL")
    return text


class Batch:
    """The steps of one transaction and what they have written so far."""

    def __init__(self, connection: sqlite3.Connection, recent: RecentWrites) -> None:
        self._connection = connection
        self._recent = recent
        self._next_id = 0
        self._ids: dict[Ref, int] = {}
        self._records: dict[Ref, Record] = {}
        #: Each changed record as it stands in the file; None when it is new.
        self._stored: dict[Ref, Record | None] = {}
        self._entries: dict[tuple[int, str], Entry] = {}
        self._messages: dict[tuple[int, str], Message | None] = {}
        self._new_entries: list[tuple[Any, ...]] = []
        self._touched: dict[tuple[int, str], tuple[Any, ...] | None] = {}
        self._forgets: dict[int, int] = {}
        self._counts: Counter[tuple[str, str]] = Counter()
        self._token_floor = 0

    def load(self, steps: Sequence[Step]) -> None:
        """Read what the steps will want to see: one query for records, entries and messages each."""
        execute = self._connection.execute
        self._recent.know(self._connection)
        self._next_id, self._token_floor = self._recent.next_id, self._recent.token_floor
        unknown = []
        for ref in {step.ref for step in steps}:
            if (known := self._recent.record(ref)) is None:
                unknown.append(ref)
            else:
                self._ids[ref], self._records[ref] = known
        if unknown:
            for row in execute(SELECT_RECORDS, (pairs(unknown),)):
                record = record_of(row)
                self._ids[record.ref], self._records[record.ref] = row[0], record
        entry_ids = list(self._wanted((step.ref, step.entry_ids) for step in steps))
        if entry_ids:
            for row in execute(_SELECT_ENTRIES, (pairs(entry_ids),)):
                self._entries[row[0], row[2]] = entry_of(row[1:])
        unread = []
        for name in self._wanted((step.ref, step.message_ids) for step in steps):
            message = self._recent.message(name)
            if message is None:
                unread.append(name)
            else:
                self._messages[name] = message
        if unread:
            for row in execute(_SELECT_MESSAGES, (pairs(unread),)):
                self._messages[row[0], row[1]] = message_of(row[1:])

    def _wanted(self, names: Iterable[tuple[Ref, tuple[str, ...]]]) -> Iterator[tuple[int, str]]:
        for ref, ids in names:
            if ids and ref in self._ids:
                yield from ((self._ids[ref], name) for name in ids)

    def decide(self, step: Step) -> Change | None:
        """Let the step decide on what earlier steps left, and note its Change. Raises what the decision raises."""
        change = step.decide(self._snapshot(step))
        if change is not None:
            self._apply(step.ref, change)
        return change

    def _snapshot(self, step: Step) -> Snapshot:
        record = self._records.get(step.ref)
        if record is None:
            return Snapshot(None, token_floor=self._token_floor)
        if not step.entry_ids and not step.message_ids:
            return Snapshot(record, _NOTHING, _NOTHING, self._token_floor)
        record_id = self._ids[step.ref]
        entries = {name: self._entries.get((record_id, name)) for name in step.entry_ids}
        messages = {name: self._messages.get((record_id, name)) for name in step.message_ids}
        return Snapshot(
            record,
            {name: entry for name, entry in entries.items() if entry is not None},
            {name: message for name, message in messages.items() if message is not None},
            self._token_floor,
        )

    def _apply(self, ref: Ref, change: Change) -> None:
        before = self._records.get(ref)
        after = change.record
        version = None if before is None else before.version
        if change.expect != version or after.version != (version or 0) + 1 or after.ref != ref:
            raise ValueError("the Change does not follow from the record that it was decided on")
        # Everything that can fail comes before the first note, so that a bad Change leaves no trace. The record's body
        # waits until it is written: many steps of one transaction may change the same record.
        record_id = self._ids.get(ref) or self._next_id
        entries = [(record_id, e.seq, e.entry_id, e.kind, e.at_ms, _encode(e.body)) for e in change.entries]
        puts = [(m, (record_id, *_message_values(m))) for m in change.puts]
        self._check_entries(record_id, change.entries)

        if ref not in self._ids:
            self._ids[ref] = record_id
            self._next_id += 1
        self._stored.setdefault(ref, before)
        self._records[ref] = after
        self._forget(record_id, change.forget_through)
        self._new_entries += entries
        for entry in change.entries:
            self._entries[record_id, entry.entry_id] = entry
        for message, row in puts:
            self._messages[record_id, message.message_id] = message
            self._touched[record_id, message.message_id] = row
        for message_id in change.settles:
            self._messages[record_id, message_id] = None
            self._touched[record_id, message_id] = None
        if before is None or before.state != after.state:
            self._counts[ref.tenant, after.state] += 1
            if before is not None:
                self._counts[ref.tenant, before.state] -= 1

    def _forget(self, record_id: int, through: int) -> None:
        if not through:
            return
        self._forgets[record_id] = max(through, self._forgets.get(record_id, 0))
        self._new_entries = [row for row in self._new_entries if row[0] != record_id or row[1] > through]
        for name in [n for n, e in self._entries.items() if n[0] == record_id and e.seq <= through]:
            del self._entries[name]
        for name, message in self._messages.items():
            if name[0] == record_id and message is not None and _is_parked_at(message, through):
                self._messages[name] = self._touched[name] = None

    def _check_entries(self, record_id: int, entries: Sequence[Entry]) -> None:
        for entry in entries:
            if (record_id, entry.entry_id) in self._entries:
                raise ValueError("an entry with this id is in the log already")

    def write(self) -> None:
        """Write every note as one transaction, and return once it is durable."""
        if self._stored:
            write_incoming(self._connection, list(self._rows()))

    def _rows(self) -> Iterator[Row]:
        for ref, stored in self._stored.items():
            yield _record_row(self._ids[ref], stored, self._records[ref])
        for record_id, through in self._forgets.items():
            yield (FORGET, record_id, through)
        for values in self._new_entries:
            yield (ENTRY, *values)
        for name, message_values in self._touched.items():
            yield (DROP, *name) if message_values is None else (MESSAGE, *message_values)
        for (tenant, state), n in self._counts.items():
            if n:
                yield (COUNT, tenant, state, n)

    def committed(self) -> None:
        """Note what is durable now, for the batches that follow."""
        self._recent.next_id = self._next_id
        if self._forgets:  # messages went with the entries
            self._recent.forget_messages()
        for ref in self._stored:
            self._recent.keep_record(ref, self._ids[ref], self._records[ref])
        for name in self._touched:
            self._recent.keep_message(name, self._messages[name])


def _record_row(record_id: int, stored: Record | None, record: Record) -> Row:
    if stored is not None and _listed_by(stored) == _listed_by(record):
        return (TOUCH, record_id, record.token, record.version, record.updated_ms, _encode(record.body))
    return (
        RECORD,
        record_id,
        record.ref.tenant,
        record.ref.key,
        str(record.state),
        record.owner,
        record.token,
        record.version,
        record.group,
        record.created_ms,
        record.updated_ms,
        _encode(record.body),
    )


def _listed_by(record: Record) -> tuple[str, str, str, int]:
    return record.state, record.owner, record.group, record.created_ms


def _is_parked_at(message: Message, through: int) -> bool:
    return message.position <= through and message.state not in ACTIVE_STATES


def _message_values(message: Message) -> tuple[Any, ...]:
    return (
        message.message_id,
        message.position,
        message.kind,
        message.state,
        message.address,
        message.due_ms,
        message.attempts,
        message.last_error,
        message.created_ms,
        _encode(message.body),
    )
