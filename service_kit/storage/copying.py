"""Copies everything that one store holds into another, empty one, and compares the two afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from service_kit.change import Change, Entry, Message, Record, Ref, Snapshot, Step
from service_kit.errors import StartRefused
from service_kit.storage.contract import Store

#: Records that are read, and written, at a time.
BATCH = 200
_PAGE = 1_000
#: More messages than a record can have.
_ALL = 10_000_000

#: Is told how many more records are done.
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Content:
    """One record with everything that is its own; its version is the store's, and says nothing elsewhere."""

    record: Record
    entries: tuple[Entry, ...]
    messages: tuple[Message, ...]


def check_source_and_target(source: Store, target: Store) -> int:
    """How many records there are to copy. Raises `StartRefused` when a service runs, or the target is not empty."""
    for store, name in ((source, "first"), (target, "second")):
        at_ms = store.now_ms()
        if any(lease.until_ms > at_ms for lease in store.leases()):
            raise StartRefused(f"A service runs on the {name} store, or has crashed just now: stop all, and wait.")
    if target.counts(None):
        raise StartRefused("The second store is not empty: name one that is, so that nothing is overwritten.")
    return sum(source.counts(None).values())


def copy(source: Store, target: Store, progress: Progress) -> None:
    """Copy every record, oldest first, so that lists keep their order; and the token floor."""
    target.raise_token_floor(_token_floor(source))
    refs = list(_refs(source))
    refs.reverse()
    for start in range(0, len(refs), BATCH):
        contents = _contents(source, refs[start : start + BATCH])
        for result in target.update_all([_step(content) for content in contents]):
            if isinstance(result, Exception):
                raise result
        progress(len(contents))


def differences(source: Store, target: Store, progress: Progress) -> list[str]:
    """What is not the same in both stores, named; nothing when the copy is good."""
    found = []
    if _token_floor(target) < _token_floor(source):
        found.append("the token floor is lower")
    if source.counts(None) != target.counts(None):
        found.append("the counts of records differ")
    if source.outbox_counts() != target.outbox_counts():
        found.append("the counts of messages differ")
    refs = list(_refs(source))
    if refs != list(_refs(target)):
        found.append("the lists of records differ")
    for start in range(0, len(refs), BATCH):
        part = refs[start : start + BATCH]
        ours, theirs = ({content.record.ref: content for content in _contents(s, part)} for s in (source, target))
        found += [
            f"record {ref.key} of tenant {ref.tenant} differs" for ref in part if ours.get(ref) != theirs.get(ref)
        ]
        progress(len(part))
    return found


def _refs(store: Store) -> Iterator[Ref]:
    """Every record, newest first."""
    cursor = None
    while True:
        page = store.page(tenant=None, cursor=cursor, limit=_PAGE)
        yield from (record.ref for record in page.records)
        cursor = page.next_cursor
        if cursor is None:
            return


def _contents(store: Store, refs: Sequence[Ref]) -> list[Content]:
    records = store.get_many(refs)
    return [
        Content(
            replace(records[ref], version=1),
            tuple(_entries(store, ref)),
            tuple(store.messages(ref, limit=_ALL)),
        )
        for ref in refs
        if ref in records
    ]


def _entries(store: Store, ref: Ref) -> Iterator[Entry]:
    after = 0
    while part := store.entries(ref, after=after, limit=_PAGE):
        yield from part
        after = part[-1].seq


def _step(content: Content) -> Step:
    def decide(_: Snapshot) -> Change:
        return Change(None, content.record, content.entries, content.messages)

    return Step(content.record.ref, decide)


def _token_floor(store: Store) -> int:
    seen: list[Snapshot] = []
    # A name that no record has: whatever comes in has an id in it.
    store.update(Step(Ref("", ""), seen.append))
    return seen[-1].token_floor
