"""A store that fails for a while, in any of its methods, loses and doubles nothing; when it is well again, all is.

Every method of the contract is covered: under load, at the start of a service, by its cleanup, or because the service
is shown never to call it. A new method is put under load by itself.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.e2e.conftest import Service, eventually, note_body, order_body
from tests.faults.arena import Arena
from tests.faults.audit import read_store
from tests.faults.enduring import EnduringArena
from tests.faults.faulty_store import METHODS, SPARED, Control, Fault, Plan, contract_names
from tests.faults.ledger import Ledger, OrderFacts
from tests.faults.load import Load

SERVICES = ("requestor", "processor")
NEVER_CALLED = {
    "requestor": {"entries_of_many", "get_many", "outbox", "stale"},
    "processor": {"end_lease", "keys", "leases", "now_ms", "owners", "pending_of_many", "pending_refs", "renew_lease"},
}
#: What a service calls when it starts, and else for the operator page alone.
AT_START = {
    "requestor": {"end_lease", "leases", "now_ms", "owners", "pending_refs"},
    "processor": set[str](),
}
#: What its cleanup calls.
IN_CLEANUP = {"requestor": {"purge"}, "processor": {"purge", "stale"}}
ELSEWHERE = {service: NEVER_CALLED[service] | AT_START[service] | IN_CLEANUP[service] for service in SERVICES}
UNDER_LOAD = [(service, method) for service in SERVICES for method in sorted(METHODS - ELSEWHERE[service])]
#: A reopening reads pages, so the trunk must break.
BREAKS_TRUNK = {("requestor", "page")}
#: What a service calls only after another method has failed.
PROVOKED_BY = {("processor", "messages"): ("update_all",)}
#: What a service calls once a second or less often; of anything else every second call goes wrong.
PERIODIC = {"get_many", "outbox_counts", "renew_lease"}
#: Longer than the lease may go without being renewed.
LONG_S = {"renew_lease": 2.3}


class Reader:
    """Reads whatever can be read, again and again, and keeps the statuses of the answers."""

    def __init__(self, arena: Arena, order_id: str) -> None:
        order = f"/api/v1/orders/{order_id}"
        common = ("/readyz", "/metrics", "/api/v1/orders?limit=5", order, f"{order}/events?limit=5")
        tracking = ("/api/v1/orders/tracking/status?limit=5", f"/api/v1/orders/tracking/{order_id}")
        self._urls = [
            *(f"{arena.requestor.url}{path}" for path in (*common, *tracking)),
            *(f"{arena.processor.url}{path}" for path in (*common, "/api/v1/deliveries?limit=5")),
        ]
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reader", daemon=True)
        self.statuses: set[int] = set()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._is_over.set()
        self._thread.join(15)

    def _run(self) -> None:
        with requests.Session() as session:
            for url in itertools.cycle(self._urls):
                if self._is_over.wait(0.02):
                    return
                try:
                    self.statuses.add(session.get(url, timeout=10).status_code)
                except requests.ConnectionError:
                    continue  # the service is being started again


class FaultyArena(EnduringArena):
    """An arena whose stores fail on command."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.controls = {service.name: Control(folder / f"{service.name}-faults") for service in self.both}
        for service in self.both:
            service.command = self.controls[service.name].command(service.name)
        self._reader: Reader | None = None

    def start_reader(self, load: Load) -> Reader:
        """Start to look at an order of the load, and at everything else, until the load ends."""
        self._reader = Reader(self, load.first_order_id)
        self._reader.start()
        return self._reader

    def stop_load(self) -> Ledger:
        """Let the load and its reader come to their end; answers what the load was told."""
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.stop()
        return super().stop_load()

    def heal(self) -> None:
        """Make both stores well."""
        for control in self.controls.values():
            control.heal()


@pytest.fixture(scope="module")
def faulty_arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyArena]:
    """Both services, running, for all faults of this file that a service survives."""
    with FaultyArena(tmp_path_factory.mktemp("faulty")).living() as made:
        yield made


@pytest.fixture
def running(faulty_arena: FaultyArena) -> Iterator[FaultyArena]:
    """The arena, with both stores well and no load before and after the test."""
    yield faulty_arena
    faulty_arena.heal()
    faulty_arena.stop_load()


def plan_for(fault: Fault, *methods: str, every: int, provoked_by: tuple[str, ...] = ()) -> Plan:
    return Plan(methods, fault, every, max(LONG_S.get(method, 0.2) for method in methods), provoked_by)


# ---- the tables


def test_every_method_of_the_contract_is_covered() -> None:
    assert {"update", "update_all", "get", "purge", "check"} <= METHODS
    assert contract_names() == METHODS | SPARED.keys()
    for service in SERVICES:
        tables = [NEVER_CALLED[service], AT_START[service], IN_CLEANUP[service]]
        assert sum(map(len, tables)) == len(ELSEWHERE[service]), "a method stands in two tables"
        assert ELSEWHERE[service] <= METHODS, "a table names what is no method"
        assert {method for name, method in UNDER_LOAD if name == service} | ELSEWHERE[service] == METHODS


def test_no_service_calls_what_the_table_says_it_never_calls(running: FaultyArena) -> None:
    running.start_reader(running.start_load())
    time.sleep(0.5)
    running.stop_load()
    for service in SERVICES:
        called = running.controls[service].called()
        assert {"update_all", "get", "counts"} <= called
        assert called & NEVER_CALLED[service] == set()


# ---- under load


@pytest.mark.parametrize("fault", list(Fault))
@pytest.mark.parametrize(("service_name", "method"), UNDER_LOAD, ids=["-".join(pair) for pair in UNDER_LOAD])
def test_a_store_that_fails_under_load_loses_and_doubles_nothing(
    running: FaultyArena, service_name: str, method: str, fault: Fault
) -> None:
    service, control = getattr(running, service_name), running.controls[service_name]
    deaths, struck, log_size = dict(running.deaths), control.strikes()[method], service.log_size
    provoked_by = PROVOKED_BY.get((service_name, method), ())
    control.arm(plan_for(fault, method, every=1 if method in PERIODIC else 2, provoked_by=provoked_by))
    load = running.start_load()
    reader = running.start_reader(load)

    def has_struck() -> bool:
        load.check()
        return control.strikes()[method] > struck and load.notes_acked >= 5

    if (service_name, method) in BREAKS_TRUNK:
        running.kill(running.processor)
        deaths["processor"] += 1
    eventually(has_struck, what=f"the fault in {method}")
    time.sleep(0.3 if fault is Fault.DELAY else LONG_S.get(method, 0.3))
    if method in PERIODIC:  # without its lease the requestor would let no client come to its end
        control.heal()
    ledger = running.stop_load()
    control.heal()

    assert running.faults_of(ledger) == []
    assert running.deaths == deaths
    assert reader.statuses <= {200, 404, 503}
    assert '"http.failed"' not in service.log_after(log_size)


# ---- at the start

AT_START_CASES = [(service, method) for service in SERVICES for method in sorted(AT_START[service])]


@pytest.mark.parametrize("fault", list(Fault))
@pytest.mark.parametrize(("service_name", "method"), AT_START_CASES, ids=["-".join(pair) for pair in AT_START_CASES])
def test_a_start_whose_store_fails_costs_nothing_but_time(
    running: FaultyArena, service_name: str, method: str, fault: Fault
) -> None:
    service, control = getattr(running, service_name), running.controls[service_name]
    struck = control.strikes()[method]
    load = running.start_load()
    running.start_reader(load)
    eventually(lambda: load.notes_acked >= 10, what="ten notes")

    control.arm(plan_for(fault, method, every=1))
    running.kill(service)
    eventually(lambda: control.strikes()[method] > struck, what=f"the fault in {method}")
    control.heal()
    running.wait_until_ready(service)
    ledger = running.stop_load()

    assert running.faults_of(ledger) == []


# ---- in the cleanup


@pytest.fixture
def forgetful_arena(tmp_path: Path) -> Iterator[FaultyArena]:
    """Both services, running, with a retention of one second."""
    made = FaultyArena(tmp_path)
    for service in made.both:
        service.settings[f"{service.prefix}_RETENTION_S"] = "1"
    try:
        made.start()
        yield made
        made.stop()
    finally:
        made.kill_all()


@pytest.mark.parametrize("fault", list(Fault))
def test_a_cleanup_whose_store_fails_takes_finished_orders_and_no_others(
    forgetful_arena: FaultyArena, fault: Fault
) -> None:
    arena = forgetful_arena
    ledger = Ledger()
    for number in range(12):
        facts = OrderFacts(f"o-{number}", "s1", is_live=number % 2 == 0)
        arena.requestor.post("/orders/initiate", order_body(facts.order_id, notification_type="none"))
        arena.requestor.post("/orders/followup", note_body(facts.order_id, "n1"))
        facts.runs_acked, facts.runs_tried, facts.notes = 1, 1, ["n1"]
        ledger.orders[facts.order_id] = facts
    arena.wait_until_quiet()
    for service in SERVICES:
        arena.controls[service].arm(plan_for(fault, *IN_CLEANUP[service], every=2))
    finished = [facts for facts in ledger.orders.values() if not facts.is_live]
    for facts in finished:
        arena.requestor.post(f"/orders/{facts.order_id}/complete")

    def have_struck() -> bool:
        return all(set(arena.controls[service].strikes()) == IN_CLEANUP[service] for service in SERVICES)

    def has_forgotten(service: Service) -> bool:
        return read_store(service.store).keys().isdisjoint(facts.order_id for facts in finished)

    eventually(have_struck, what="the faults in the cleanups")
    arena.heal()
    eventually(lambda: all(map(has_forgotten, arena.both)), what="the cleanups")
    for facts in finished:
        del ledger.orders[facts.order_id]
    for facts in ledger.orders.values():
        arena.requestor.post("/orders/followup", note_body(facts.order_id, "n2"))
        facts.notes.append("n2")

    assert arena.faults_of(ledger) == []
    assert arena.deaths == {"requestor": 0, "processor": 0}
