"""What the writer of a file knows without reading it."""

from __future__ import annotations

import sqlite3

from service_kit.change import Message, Record, Ref

#: Records, and messages, that are kept; what was written last is most likely to be written next.
_MAX_KEPT = 2_048


class RecentWrites:
    """The records and messages written last, the next free id and the token floor, all as they stand in the file.

    Only the file's one writer uses it. Whoever changes the file in another way, or does not know whether he has,
    calls `doubt`.
    """

    def __init__(self) -> None:
        self._records: dict[Ref, tuple[int, Record]] = {}
        self._messages: dict[tuple[int, str], Message] = {}
        self._is_known = False
        self.next_id = 1
        self.token_floor = 0

    def doubt(self) -> None:
        """Forget everything; the next transaction reads it anew."""
        self._records.clear()
        self._messages.clear()
        self._is_known = False

    def forget_messages(self) -> None:
        """Forget every message: some have gone that nobody named."""
        self._messages.clear()

    def know(self, connection: sqlite3.Connection) -> None:
        """Make sure that the two numbers are those of the file; to be called in every transaction."""
        if not self._is_known:
            (free_id,) = connection.execute("SELECT coalesce(max(id), 0) + 1 FROM records").fetchone()
            self.next_id = max(self.next_id, free_id)
            (self.token_floor,) = connection.execute("SELECT value FROM meta WHERE name = 'token_floor'").fetchone()
            self._is_known = True

    def record(self, ref: Ref) -> tuple[int, Record] | None:
        """The record and its id; None when it is not kept, which says nothing about the file."""
        return self._records.get(ref)

    def message(self, name: tuple[int, str]) -> Message | None:
        """The message of a record's id and a message id; None when it is not kept."""
        return self._messages.get(name)

    def keep_record(self, ref: Ref, record_id: int, record: Record) -> None:
        """Keep a record that is durable now."""
        self._records.pop(ref, None)  # so that it becomes the newest
        self._records[ref] = (record_id, record)
        if len(self._records) > _MAX_KEPT:
            del self._records[next(iter(self._records))]

    def keep_message(self, name: tuple[int, str], message: Message | None) -> None:
        """Keep a message that is durable now; None: it is gone."""
        self._messages.pop(name, None)
        if message is not None:
            self._messages[name] = message
            if len(self._messages) > _MAX_KEPT:
                del self._messages[next(iter(self._messages))]
