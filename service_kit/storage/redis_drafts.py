"""What the steps of one call make of a record, before it is written."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Sequence

from service_kit.change import ACTIVE_STATES, Change, Entry, Message, Record, Ref, Snapshot, Step
from service_kit.storage.redis_values import (
    entry_of,
    entry_value,
    message_id_of,
    message_of,
    message_value,
    record_of,
    record_value,
)


class Names:
    """Gives out ids of new records, which grow, and nonces of writings. Any thread may ask."""

    def __init__(self) -> None:
        self._maker = int.from_bytes(os.urandom(2))
        self._life = os.urandom(6).hex()
        self._numbers = itertools.count()
        #: Guards the last time that was given out.
        self._lock = threading.Lock()
        self._last_us = 0

    def next_id(self) -> bytes:
        """An id above all before it of this process, and about in the order of time with those of others."""
        with self._lock:
            self._last_us = max(self._last_us + 1, time.time_ns() // 1000)
            return b"%013x%04x" % (self._last_us, self._maker)

    def nonce(self) -> bytes:
        """What no other writing has."""
        return f"{self._life}{next(self._numbers):x}".encode()


class Draft:
    """One record of a call, from what was read to what is to be written."""

    def __init__(self, ref: Ref, names: Names, token_floor: int) -> None:
        self.ref = ref
        self._names = names
        self._token_floor = token_floor
        self._expect: int | None = None
        self._record: Record | None = None
        self._id = b""
        self._value: bytes | None = None
        self._known_entries: dict[str, Entry] = {}
        self._known_messages: dict[str, Message] = {}
        self._entries: list[tuple[int, bytes]] = []
        self._touched: dict[str, tuple[bytes, bytes | None]] = {}
        self._forget = 0

    def read(
        self,
        value: bytes | None,
        entries: Sequence[bytes | None],
        messages: Sequence[tuple[str, bytes | None]],
    ) -> None:
        """Take in what is stored."""
        if value is None:
            return
        self._id, self._record = record_of(self.ref, value)
        self._expect = self._record.version
        for found in entries:
            if found is not None:
                entry = entry_of(found)
                self._known_entries[entry.entry_id] = entry
        for message_id, kept in messages:
            if kept is not None:
                self._known_messages[message_id] = message_of(message_id.encode(), kept)

    @property
    def is_changed(self) -> bool:
        """Whether there is anything to write."""
        return self._value is not None

    def decide(self, step: Step) -> Change | None:
        """Let the step decide on what earlier steps left, and note its Change. Raises what the decision raises."""
        change = step.decide(self._snapshot(step))
        if change is not None:
            self._apply(change)
        return change

    def _snapshot(self, step: Step) -> Snapshot:
        if self._record is None:
            return Snapshot(None, token_floor=self._token_floor)
        entries, messages = self._known_entries, self._known_messages
        return Snapshot(
            self._record,
            {name: entries[name] for name in step.entry_ids if name in entries},
            {name: messages[name] for name in step.message_ids if name in messages},
            self._token_floor,
        )

    def _apply(self, change: Change) -> None:
        after = change.record
        version = None if self._record is None else self._record.version
        if change.expect != version or after.version != (version or 0) + 1 or after.ref != self.ref:
            raise ValueError("the Change does not follow from the record that it was decided on")
        # Everything that can fail comes before the first note, so that a bad Change leaves no trace.
        entries = [(entry.seq, entry_value(entry)) for entry in change.entries]
        _check_numbers([seq for seq, _ in self._entries[-1:] + entries])
        if any(entry.entry_id in self._known_entries for entry in change.entries):
            raise ValueError("an entry with this id is in the log already")
        puts = [(message, (message_id_of(message), message_value(message))) for message in change.puts]
        record_id = self._id or self._names.next_id()
        value = record_value(after, record_id, self._names.nonce())

        self._id, self._record, self._value = record_id, after, value
        self._forget_through(change.forget_through)
        self._entries += entries
        self._known_entries |= {entry.entry_id: entry for entry in change.entries}
        for message, kept in puts:
            self._known_messages[message.message_id] = message
            self._touched[message.message_id] = kept
        for message_id in change.settles:
            self._drop(message_id)

    def _drop(self, message_id: str) -> None:
        self._known_messages.pop(message_id, None)
        self._touched[message_id] = (message_id.encode(), None)

    def _forget_through(self, through: int) -> None:
        if not through:
            return
        self._forget = max(through, self._forget)
        self._entries = [(seq, value) for seq, value in self._entries if seq > through]
        self._known_entries = {name: entry for name, entry in self._known_entries.items() if entry.seq > through}
        for message_id, message in list(self._known_messages.items()):
            if message.position <= through and message.state not in ACTIVE_STATES:
                self._drop(message_id)

    def change(self, name: bytes) -> list[bytes | int]:
        """What the script that commits is to do, as its arguments."""
        puts = [part for message_id, kept in self._touched.values() if kept is not None for part in (message_id, kept)]
        settles = [message_id for message_id, kept in self._touched.values() if kept is None]
        return [
            name,
            b"" if self._expect is None else b"%d" % self._expect,
            b"%d" % self._token_floor,
            self._value or b"",
            self._forget,
            len(self._entries),
            *(value for _, value in self._entries),
            len(puts),
            *puts,
            len(settles),
            *settles,
        ]


def _check_numbers(numbers: Sequence[int]) -> None:
    if any(later != earlier + 1 for earlier, later in itertools.pairwise(numbers)):
        raise ValueError("the numbers of entries do not follow from each other")
