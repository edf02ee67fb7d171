"""A start may be killed at any point, and what it cannot trust it does not touch."""

from __future__ import annotations

import os
import random
import secrets
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from itertools import pairwise
from pathlib import Path

import pytest

from tests.e2e.conftest import Service, eventually, note_body, order_body
from tests.faults.arena import FAILPOINTS, Arena
from tests.faults.audit import read_store
from tests.faults.big_store import make_big_store
from tests.faults.settling import wait_until_settled
from tests.faults.torture import audit_arena

ORDERS = 3_000
NOTES_EACH = 2
KILLS = 25
#: Stretches the claiming of 3 pages, so that some of the deaths come between two of them.
SLOW_CLAIMS = "requestor.recovery.page_claimed=delay:0.1"
#: A start that is refused is over by then, the imports included.
REFUSED_S = 10.0
PAGE_BYTES = 4_096


def tokens_in(store: Path) -> dict[str, int]:
    """The token of every order, from the file; all of them must be unfinished."""
    with closing(sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True, timeout=10)) as connection:
        rows = connection.execute("SELECT key, token, state FROM records").fetchall()
    assert {state for _, _, state in rows} == {"live"}
    return {key: token for key, token, _ in rows}


def run_for(service: Service, seconds: float) -> None:
    """Start the service and kill it so long after."""
    service.launch()
    time.sleep(seconds)
    service.kill()


@pytest.mark.slow
def test_a_requestor_killed_anywhere_in_its_start_loses_no_order_and_no_note(arena: Arena) -> None:
    seed = secrets.randbelow(2**31)
    print(f"seed {seed}")
    chance = random.Random(seed)
    requestor, processor = arena.requestor, arena.processor
    ledger = make_big_store(requestor.store, orders=ORDERS, notes_each=NOTES_EACH)
    seen = [tokens_in(requestor.store)]
    processor.start()
    requestor.settings[FAILPOINTS] = SLOW_CLAIMS
    # How long a start takes until the first streams are open: the moments of the deaths are spread over that.
    began = time.monotonic()
    requestor.launch()
    eventually(lambda: processor.get("/orders?limit=1")["open_streams"] > 0, timeout_s=30, what="the first stream")
    start_s = time.monotonic() - began
    requestor.kill()
    seen.append(tokens_in(requestor.store))

    for kill in range(KILLS):
        run_for(requestor, start_s * (0.3 + 0.8 * (kill + chance.random()) / KILLS))
        seen.append(tokens_in(requestor.store))
    half_claimed = sum(len(set(tokens.values())) > 1 for tokens in seen)
    print(f"a start of {start_s:.2f} s killed {KILLS} times, {half_claimed} times between two pages of claims")
    assert half_claimed >= 2

    del requestor.settings[FAILPOINTS]
    requestor.start()
    wait_until_settled(arena)
    seen.append(tokens_in(requestor.store))
    for before, after in pairwise(seen):
        assert before.keys() == after.keys() == ledger.orders.keys()
        assert all(before[key] <= after[key] for key in before)
    assert max(seen[-1].values()) <= KILLS + 3  # one for each start at most
    for service in reversed(arena.both):
        assert service.stop(timeout_s=10) == 0
    assert audit_arena(arena, ledger).faults == []


# ---- stores that a start must not use


def refused_line(service: Service, *, after: str = "") -> str:
    """Start the service, which must end with status 1 and one line behind what it said before; answers that line."""
    service.launch()
    assert service.wait(REFUSED_S) == 1
    (line,) = service.log.removeprefix(after).splitlines()
    return line


def flip_bytes(store: Path) -> None:
    """Damage the head of a page in the middle of the file."""
    with store.open("r+b") as file:
        file.seek(store.stat().st_size // PAGE_BYTES // 2 * PAGE_BYTES)
        head = file.read(16)
        file.seek(-len(head), os.SEEK_CUR)
        file.write(bytes(byte ^ 0xFF for byte in head))


def cut_off(store: Path) -> None:
    """Lose the second half of the file."""
    os.truncate(store, store.stat().st_size // PAGE_BYTES // 2 * PAGE_BYTES)


@pytest.mark.parametrize("damage", [flip_bytes, cut_off])
@pytest.mark.parametrize("kind", ["requestor", "processor"])
def test_a_damaged_store_is_refused_in_one_line_and_left_as_it_is(
    arena: Arena, kind: str, damage: Callable[[Path], None]
) -> None:
    for service in arena.both:
        service.start()
    arena.requestor.post("/orders/initiate", order_body("A1", notification_type="none"))
    arena.requestor.post("/orders/followup", note_body("A1", "n1"))
    victim: Service = getattr(arena, kind)
    assert victim.stop() == 0
    damage(victim.store)
    before = victim.store.read_bytes()
    for _ in range(2):
        line = refused_line(victim, after=victim.log)
        assert str(victim.store) in line
        assert "damaged" in line or "malformed" in line
        assert victim.store.read_bytes() == before


def test_a_lost_file_beside_the_log_of_a_killed_requestor_is_not_taken_for_a_new_store(arena: Arena) -> None:
    requestor = arena.requestor
    requestor.start()
    requestor.post("/orders/initiate", order_body("A1", notification_type="none"))
    requestor.kill()
    log = Path(f"{requestor.store}-wal")
    kept = log.read_bytes()
    os.truncate(requestor.store, 0)
    assert "damaged" in refused_line(requestor, after=requestor.log)
    assert requestor.store.stat().st_size == 0
    assert log.read_bytes() == kept


def test_a_frozen_process_keeps_its_store_and_a_dead_one_does_not(arena: Arena) -> None:
    first, second = arena.requestor, arena.services.requestor("second")
    first.start()
    first.post("/orders/initiate", order_body("A1", notification_type="none"))
    second.settings["REQUESTOR_STORE"] = first.settings["REQUESTOR_STORE"]
    with arena.frozen(first):
        assert "in use by another instance" in refused_line(second)
    first.kill()
    second.start()
    assert list(read_store(first.store)) == ["A1"]
    assert second.get("/orders/A1")["token"] == 2
