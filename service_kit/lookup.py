"""What a person asks of a store that no step of an order needs: reads made of the contract's own, for every engine."""

from __future__ import annotations

from collections.abc import Sequence

from service_kit.change import Record, Ref
from service_kit.storage.contract import Page, Store

#: How many keys one search looks at, so that a search among millions holds nobody up.
MAX_LOOKED_AT = 20_000
_CHUNK = 1_000


def search(
    store: Store,
    tenant: str,
    prefix: str | None,
    *,
    states: Sequence[str] = (),
    group: str | None = None,
    cursor: str | None = None,
    limit: int = 100,
) -> Page:
    """Records newest first; with a prefix those whose key begins with it, and the one of this very key before all.

    A page may hold less than ``limit`` and still have a next one: one call looks at `MAX_LOOKED_AT` keys at most.
    Raises `InvalidInput` for a cursor that no page gave out.
    """
    if prefix is None:
        return store.page(tenant=tenant, states=states, group=group, cursor=cursor, limit=limit)

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
