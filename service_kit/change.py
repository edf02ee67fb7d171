"""One record, one log, one outbox, and the one atomic Change over them.

Both services keep the same three things per order. Every step of an order's life is a pure function
``(snapshot, input) -> Change``; a store applies the Change wholly or not at all. Nothing here does I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any, NamedTuple, TypeAlias

from service_kit.values import value

DEFAULT_TENANT = "default"

#: States of a message that waits for something its service does by itself; in any other state it is parked.
ACTIVE_STATES = ("pending", "sending", "retrying")

#: A JSON object as the store keeps it: text keys, JSON values.
Body: TypeAlias = Mapping[str, Any]


class Ref(NamedTuple):
    """The name of one record: the tenant that it belongs to, and its key within the tenant."""

    tenant: str
    key: str


@value
class Record:
    """The current state of one order.

    ``version`` grows by one with every Change. ``owner`` is the instance that may act for the order, "" when none.
    ``token`` is the fencing number of that claim. ``group`` is a second name to list records by (the session).
    """

    ref: Ref
    state: str
    body: Body
    owner: str = ""
    token: int = 0
    version: int = 0
    group: str = ""
    created_ms: int = 0
    updated_ms: int = 0


@value
class Entry:
    """One numbered fact of a record's log; ``entry_id`` is unique within the record."""

    seq: int
    entry_id: str
    kind: str
    at_ms: int
    body: Body


@value
class Message:
    """One message of a record's outbox.

    ``position`` orders the messages of a record. ``state`` is ``pending`` or another of `ACTIVE_STATES` until the
    message is settled, which removes it, or parked in a state of its own that a person can list. ``address`` names who
    is to get it.
    """

    message_id: str
    position: int
    kind: str
    body: Body
    state: str = "pending"
    address: str = ""
    due_ms: int = 0
    attempts: int = 0
    last_error: str = ""
    created_ms: int = 0


@value
class Change:
    """What one step does to a record, atomically.

    ``expect`` is the version that must be stored (None: no record may be there); the new ``record`` carries the next
    version. Entries are appended, outbox messages put (by ``message_id``), settled messages removed. With
    ``forget_through`` the log's entries up to that number go, and the parked messages at such a position; what this
    Change brings itself stays.
    """

    expect: int | None
    record: Record
    entries: tuple[Entry, ...] = ()
    puts: tuple[Message, ...] = ()
    settles: tuple[str, ...] = ()
    forget_through: int = 0


@value
class Snapshot:
    """What a step decides on: the record (None when there is none) and the entries and messages it asked for.

    ``token_floor`` is the highest token of any record that was purged: the first token of a new record must be above.
    """

    record: Record | None
    entries: Mapping[str, Entry] = field(default_factory=dict)
    messages: Mapping[str, Message] = field(default_factory=dict)
    token_floor: int = 0


#: A pure function that may run more than once. None means "nothing to change"; a ServiceError refuses the step.
Decide: TypeAlias = Callable[[Snapshot], Change | None]


@value
class Step:
    """One read-decide-write on one record. ``entry_ids`` and ``message_ids`` name what the decision needs to see."""

    ref: Ref
    decide: Decide
    entry_ids: tuple[str, ...] = ()
    message_ids: tuple[str, ...] = ()


def next_version(record: Record | None) -> int:
    """The version that a Change on this record (or on none) must carry."""
    return 1 if record is None else record.version + 1
