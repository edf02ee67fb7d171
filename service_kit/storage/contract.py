"""The contract that every store engine keeps, and its values.

One contract test class (`tests/contract/`) runs over all engines. Every method may be called from any thread.
Every method raises `StoreUnavailable` (or its subclass `StoreFull`) when the engine cannot do it; then nothing of
that call has been applied, or the caller must treat it as unknown and repeat the same step.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from service_kit.change import Change, Entry, Message, Record, Ref, Step
from service_kit.measures import SIZES, Histogram


@dataclass(frozen=True, slots=True)
class Page:
    """One page of records, newest first. ``next_cursor`` is None on the last page."""

    records: tuple[Record, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class KeyPage:
    """One page of records' keys, newest first. ``next_cursor`` is None on the last page."""

    keys: tuple[str, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class MessageFilter:
    """Which messages a page shows: those in one of the states that fit the rest; None fits all.

    ``key`` is that of their record, and needs a tenant. They were made at ``created_from_ms`` or later, and before
    ``created_before_ms``.
    """

    tenant: str | None
    states: Sequence[str]
    address: str | None = None
    key: str | None = None
    created_from_ms: int = 0
    created_before_ms: int = 2**63 - 1


@dataclass(frozen=True, slots=True)
class MessagePage:
    """One page of messages and their records' names, newest first. ``next_cursor`` is None on the last page."""

    messages: tuple[tuple[Ref, Message], ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Lease:
    """How long an instance may act for its orders, in milliseconds of the store's clock."""

    instance: str
    until_ms: int


class CommitMeasures:
    """How long the transactions of a store take, and how many steps each carries."""

    def __init__(self) -> None:
        self.times = Histogram()
        self.sizes = Histogram(bounds=SIZES)

    def note(self, steps: int, seconds: float) -> None:
        """Count one transaction."""
        self.times.observe(seconds)
        self.sizes.observe(steps)


@dataclass(frozen=True, slots=True)
class StoreMeasures:
    """How much there is in a store: the room that it takes up, and when the oldest message in each state was made."""

    size_bytes: int
    oldest_ms: Mapping[str, int]


class Store(Protocol):
    """One record, one log and one outbox per order, changed atomically."""

    @property
    def name(self) -> str:
        """A short name for logs and health reports."""

    @property
    def commits(self) -> CommitMeasures:
        """What its transactions took since the start of the process."""

    @property
    def is_shared(self) -> bool:
        """Whether other instances may work on the same records at the same time."""

    def start(self) -> None:
        """Open the store, bring its schema up to date and begin to serve. Raises `StartRefused`."""

    def stop(self, timeout_s: float = 5.0) -> None:
        """Finish what is queued and close. Safe to call twice."""

    def check(self) -> str | None:
        """None when the store can be written, else the reason why not."""

    def facts(self) -> Mapping[str, Any]:
        """What an operator wants to know of the engine, beside the check; it reads state and does no I/O."""

    # ---- changes

    def update(self, step: Step) -> Change | None:
        """Read, decide and write one record atomically; answer what was written once it is durable.

        An exception of the decision is raised here and nothing is written.
        """

    def update_all(self, steps: Sequence[Step]) -> list[Change | Exception | None]:
        """Many steps in one durable commit, each atomic by itself, in the given order; a refused step harms no other.

        A step sees what earlier steps of the same call on the same record have written.
        """

    # ---- reads

    def get(self, ref: Ref) -> Record | None:
        """The record, or None."""

    def get_many(self, refs: Iterable[Ref]) -> dict[Ref, Record]:
        """Those of the records that there are; one read for many records."""

    def entries(self, ref: Ref, *, after: int = 0, limit: int = 1000, kinds: Sequence[str] = ()) -> list[Entry]:
        """Log entries with ``seq > after`` in order, of these kinds when any are given."""

    def entries_of_many(self, after: Mapping[Ref, int], *, limit: int = 1000) -> dict[Ref, list[Entry]]:
        """For each record its entries with ``seq`` above the given one, ``limit`` in all; one read for many records."""

    def messages(self, ref: Ref, *, limit: int = 1000) -> list[Message]:
        """The record's outbox in order of position, whatever the state."""

    def pending_of_many(self, after: Mapping[Ref, int], *, limit: int = 1000) -> dict[Ref, list[Message]]:
        """For each record its pending messages with ``position`` above the given one, ``limit`` in all.

        Those without an address, that is: they have one receiver, whom they reach in order.
        """

    def pending_refs(self) -> list[Ref]:
        """Every record that has a pending message."""

    def outbox(self, wanted: MessageFilter, *, cursor: str | None = None, limit: int = 100) -> MessagePage:
        """Messages newest first, filtered. Raises `InvalidInput` for a cursor that no page gave out."""

    def page(
        self,
        *,
        tenant: str | None,
        states: Sequence[str] = (),
        group: str | None = None,
        owner: str | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page:
        """Records newest first, filtered. ``tenant=None`` reads all tenants (recovery only).

        Raises `InvalidInput` for a cursor that no page gave out.
        """

    def keys(self, tenant: str, *, cursor: str | None = None, limit: int = 100) -> KeyPage:
        """The keys of a tenant's records, newest first, much cheaper than the records; cursors are those of `page`.

        Raises `InvalidInput` for a cursor that no page gave out.
        """

    def counts(self, tenant: str | None) -> dict[str, int]:
        """How many records stand in each state; states without records are left out."""

    def outbox_counts(self, tenant: str | None = None) -> dict[str, int]:
        """How many outbox messages stand in each state; of all tenants when None."""

    def measure(self) -> StoreMeasures:
        """How much there is, for an operator; it must be quick however much that is."""

    def owners(self) -> list[str]:
        """Every instance that owns a record, in the order of names."""

    # ---- instances

    def renew_lease(self, instance: str, lease_ms: int) -> Lease:
        """Let the instance act for another ``lease_ms`` from now on the store's clock."""

    def end_lease(self, instance: str) -> None:
        """Forget the instance's lease; its orders are free at once."""

    def leases(self) -> list[Lease]:
        """All leases, ended ones included until their instance is forgotten."""

    def now_ms(self) -> int:
        """The store's clock, in milliseconds since the epoch."""

    # ---- cleanup

    def stale(self, *, states: Sequence[str], before_ms: int, limit: int = 500) -> list[Ref]:
        """Records in one of the states, last changed before the time and with no active message."""

    def purge(self, *, states: Sequence[str], before_ms: int, limit: int = 500) -> int:
        """Remove such records with their logs and outboxes; answers how many went.

        The floor that every `Snapshot` carries rises to their highest token. A record that changes at the same moment
        is looked at again before it goes.
        """

    def raise_token_floor(self, token: int) -> None:
        """Let every new record's token be above this one, unless the floor is higher already."""


def every_message(store: Store, wanted: MessageFilter, *, page_size: int = 500) -> Iterator[tuple[Ref, Message]]:
    """All that the filter finds, newest first, read page by page."""
    cursor = None
    while True:
        page = store.outbox(wanted, cursor=cursor, limit=page_size)
        yield from page.messages
        cursor = page.next_cursor
        if cursor is None:
            return
