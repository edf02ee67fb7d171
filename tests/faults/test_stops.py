"""How the services end: in order within 10 s whatever they do, at once when told twice, by themselves when deaf."""

from __future__ import annotations

import secrets
import signal
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest
import requests

from tests.e2e.conftest import Service, eventually, order_body
from tests.faults.arena import FAILPOINTS, Arena
from tests.faults.buyer import Buyer
from tests.faults.ledger import Ledger
from tests.faults.load import Load
from tests.faults.settling import wait_until_settled
from tests.faults.torture import audit_arena

SERVICES = ("processor", "requestor")
ORDERS = 1_000
#: What an orderly stop may take, and what the second signal may.
STOP_S = 10.0
AT_ONCE_S = 1.0
#: Longer than any stop waits for a call.
HOLD_S = 30
#: The call that is held up in each service, behind its commit.
HELD_AT = {"requestor": "requestor.follow_up.kept", "processor": "processor.reply.kept"}
#: The probe of `deaf_processor` gives up after 3 s, then everything is stopped.
DEAF_S = 15.0


def stop(service: Service, *, within_s: float = STOP_S) -> int:
    """Send SIGTERM; the exit status, which must come in time."""
    process = service.process
    process.send_signal(signal.SIGTERM)
    return process.wait(within_s)


@pytest.mark.slow
def test_both_services_stop_within_ten_seconds_under_load_and_lose_nothing(arena: Arena) -> None:
    seed = secrets.randbelow(2**31)
    print(f"seed {seed}")
    arena.start()
    buyer = Buyer(arena)
    buyer.open_orders(f"B{number}" for number in range(ORDERS))
    load = Load(arena, seed)
    load.start()
    for name in (*SERVICES, *reversed(SERVICES)):
        acknowledged = load.notes_acked
        eventually(lambda: load.notes_acked > acknowledged + 50, what="the load")  # noqa: B023 - called at once
        service: Service = getattr(arena, name)
        began = time.monotonic()
        assert stop(service) == 0, service.log[-2000:]
        print(f"the {name} stopped within {time.monotonic() - began:.2f} s")
        eventually(lambda: arena.deaths[name] > 0, what="the keeper")  # noqa: B023 - called at once
        arena.wait_until_ready(service)
    ledger = load.stop()
    ledger.add(buyer.ledger)
    wait_until_settled(arena)
    arena.stop()
    assert audit_arena(arena, ledger).faults == []
    assert ledger.refused == []


@contextmanager
def held_call(arena: Arena, name: str) -> Iterator[tuple[Service, Ledger]]:
    """A service in the middle of a call that does not end; what was acknowledged before stands in the ledger."""
    service: Service = getattr(arena, name)
    service.settings[FAILPOINTS] = f"{HELD_AT[name]}=delay:{HOLD_S}@2"
    for each in arena.both:
        each.start()
    buyer = Buyer(arena)
    buyer.open_orders(["A1"])
    (facts,) = buyer.orders
    call: Callable[..., requests.Response] = buyer.note if name == "requestor" else buyer.reply
    assert call(facts, "first").ok
    with ThreadPoolExecutor(1) as pool:
        held: Future[requests.Response] = pool.submit(call, facts, "held")
        eventually(lambda: f"failpoint {HELD_AT[name]}" in service.log, what="the call that is held")
        yield service, buyer.ledger
        assert isinstance(held.exception(HOLD_S), requests.ConnectionError)


def test_a_call_that_does_not_end_does_not_keep_a_service_from_stopping_in_time(arena: Arena) -> None:
    with held_call(arena, "requestor") as (service, ledger):
        began = time.monotonic()
        assert stop(service) == 0
        print(f"stopped within {time.monotonic() - began:.2f} s")
    del service.settings[FAILPOINTS]
    service.start()
    wait_until_settled(arena)
    for each in reversed(arena.both):
        assert stop(each) == 0
    assert audit_arena(arena, ledger).faults == []


@pytest.mark.parametrize("name", SERVICES)
def test_a_second_signal_ends_a_stop_that_is_held_up_at_once(arena: Arena, name: str) -> None:
    with held_call(arena, name) as (service, _):
        service.process.send_signal(signal.SIGTERM)
        eventually(lambda: '"lifecycle.stopping"' in service.log, what="the stop")
        time.sleep(0.5)
        assert service.process.poll() is None
        assert stop(service, within_s=AT_ONCE_S) == 128 + signal.SIGTERM


@pytest.mark.slow
def test_a_processor_that_is_deaf_to_its_callers_ends_itself_and_is_healed_by_a_restart(arena: Arena) -> None:
    processor = arena.processor
    shipped, processor.command = processor.command, [sys.executable, "-m", "tests.faults.deaf_processor"]
    for service in arena.both:
        service.start()
    arena.requestor.post("/orders/initiate", order_body("A1", notification_type="none"))
    eventually(arena.has_all_streams, what="the stream")

    processor.process.send_signal(signal.SIGUSR1)
    began = time.monotonic()
    assert processor.wait(DEAF_S) == 70
    print(f"deaf for {time.monotonic() - began:.1f} s")
    assert "the gRPC server no longer serves" in processor.log

    processor.command = shipped
    processor.start()
    arena.requestor.post("/orders/initiate", order_body("A2", notification_type="none"))
    eventually(arena.has_all_streams, what="the streams")
