"""What a person asks of a store that no step of an order needs: reads made of the contract's own, for every engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from service_kit.change import Record, Ref
from service_kit.storage.contract import MessageFilter, Page, Store

#: How many keys one search looks at, so that a search among millions holds nobody up.
MAX_LOOKED_AT = 20_000
_CHUNK = 1_000
#: How exactly the age of the oldest message is told.
_PRECISION_MS = 1_000
_END_OF_TIME_MS = 2**63 - 1


def search(
    store: Store,
    tenant: str,
    prefix: str,
    *,
    states: Sequence[str] = (),
    group: str | None = None,
    cursor: str | None = None,
    limit: int = 100,
) -> Page:
    """Records whose key begins with the prefix, newest first; on the first page the one of this very key comes first.

    A page may hold less than ``limit`` and still have a next one: one call looks at `MAX_LOOKED_AT` keys at most.
    Raises `InvalidInput` for a cursor that no page gave out.
    """

    def fits(record: Record) -> bool:
        return (not states or record.state in states) and group in (None, record.group)

    exact = store.get(Ref(tenant, prefix)) if cursor is None else None
    found = [exact] if exact is not None and fits(exact) else []
    for _ in range(MAX_LOOKED_AT // _CHUNK):
        page = store.keys(tenant, cursor=cursor, limit=_CHUNK)
        named = [(n, key) for n, key in enumerate(page.keys, 1) if key.startswith(prefix) and key != prefix]
        while named:
            # No more than can be shown are read, however many begin alike.
            part, named = named[:limit], named[limit:]
            records = store.get_many(Ref(tenant, key) for _, key in part)
            for place, key in part:
                record = records.get(Ref(tenant, key))
                if record is None or not fits(record):
                    continue
                found.append(record)
                if len(found) >= limit:
                    return Page(tuple(found), store.keys(tenant, cursor=cursor, limit=place).next_cursor)
        cursor = page.next_cursor
        if cursor is None:
            break
    return Page(tuple(found), cursor)


def oldest_message_ms(store: Store, states: Sequence[str]) -> int | None:
    """When the oldest message in one of the states was made, to the second; None when there is none.

    Found by asking for the newest one before a time: first further and further back, then between two such times.
    """

    def newest_before(time_ms: int) -> int | None:
        page = store.outbox(MessageFilter(None, states, created_before_ms=time_ms), limit=1)
        return page.messages[0][1].created_ms if page.messages else None

    oldest_ms = newest_before(_END_OF_TIME_MS)
    if oldest_ms is None:
        return None
    return _between(newest_before, *_bracket(newest_before, oldest_ms))


def _bracket(newest_before: Callable[[int], int | None], oldest_ms: int) -> tuple[int, int]:
    """A time before which there is no message, and the time of a message not much later."""
    step_ms = _PRECISION_MS
    while (found_ms := newest_before(oldest_ms - step_ms)) is not None:
        oldest_ms = found_ms
        step_ms *= 2
    return oldest_ms - step_ms, oldest_ms


def _between(newest_before: Callable[[int], int | None], none_before_ms: int, oldest_ms: int) -> int:
    while oldest_ms - none_before_ms > _PRECISION_MS:
        middle_ms = (none_before_ms + oldest_ms) // 2
        found_ms = newest_before(middle_ms)
        if found_ms is None:
            none_before_ms = middle_ms
        else:
            oldest_ms = found_ms
    return oldest_ms
