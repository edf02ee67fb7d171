"""When an arena has come to rest: nothing is on its way any more, from neither side."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from tests.e2e.conftest import eventually
from tests.faults.arena import Arena


def wait_until_settled(arena: Arena, timeout_s: float = 20.0) -> None:
    """Wait until the arena is quiet and every event of the processor is in the requestor's log."""
    arena.wait_until_quiet(timeout_s)
    eventually(lambda: _events_sent(arena) == _events_applied(arena), timeout_s=5, what="the last events")


def _events_sent(arena: Arena) -> int:
    # The directory's sellers have a log too, but no stream.
    of_orders = "SELECT count(*) FROM entries WHERE record IN (SELECT id FROM records WHERE tenant = 'default')"
    return _count(arena.processor.store, of_orders)


def _events_applied(arena: Arena) -> int:
    return _count(arena.requestor.store, "SELECT count(json_extract(body, '$.processor_seq')) FROM entries")


def _count(store: Path, query: str) -> int:
    with closing(sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True, timeout=10)) as connection:
        (count,) = connection.execute(query).fetchone()
        return int(count)
