"""A death or an error at every named place of both services costs nothing but time."""

from __future__ import annotations

import secrets
import time

import pytest

import processor_app.bootstrap
import requestor_app.bootstrap
from service_kit.failpoints import failpoint_names
from tests.e2e.conftest import eventually
from tests.faults.arena import Arena
from tests.faults.load import Load
from tests.faults.torture import audit_arena

SERVICES = {"requestor": requestor_app.bootstrap, "processor": processor_app.bootstrap}
#: Which time somebody passes the place, where the third is not what hurts: a start passes these once.
HITS = {"requestor.recovery.page_claimed": 1, "requestor.lease.renewing": 2}
PLACES = [
    (service, name) for name in failpoint_names() for service in SERVICES if name.startswith((f"{service}.", "store."))
]


def test_every_place_is_covered() -> None:
    assert {name for _, name in PLACES} == set(failpoint_names())


@pytest.mark.parametrize("action", ["kill", "raise"])
@pytest.mark.parametrize(("service_name", "name"), PLACES, ids=[f"{service}-{name}" for service, name in PLACES])
def test_a_fault_there_loses_and_doubles_nothing(arena: Arena, service_name: str, name: str, action: str) -> None:
    seed = secrets.randbelow(2**31)
    print(f"seed {seed}")
    arena.start()
    load = Load(arena, seed, clients=3, orders=12)
    load.start()
    time.sleep(0.4)
    service = getattr(arena, service_name)
    before = len(service.log)

    arena.arm(service, f"{name}={action}@{HITS.get(name, 3)}")

    def has_fired() -> bool:
        load.check()
        if action == "kill":  # the second death; the first was ours
            return arena.deaths[service_name] >= 2
        return "FailpointError" in service.log[before:]

    eventually(has_fired, timeout_s=20, what=f"the fault at {name}")
    time.sleep(0.3)
    ledger = load.stop()
    arena.wait_until_quiet()
    arena.stop()
    assert audit_arena(arena, ledger).faults == []
    assert ledger.refused == []
    assert ledger.notes_acked > 0
