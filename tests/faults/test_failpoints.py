"""A death or an error at every named place of both services costs nothing but time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import processor_app.bootstrap
import requestor_app.bootstrap
from service_kit.failpoints import failpoint_names
from tests.e2e.conftest import eventually
from tests.faults.enduring import EnduringArena

SERVICES = {"requestor": requestor_app.bootstrap, "processor": processor_app.bootstrap}
#: Which time somebody passes the place, where the third is not what hurts: a start passes these once.
HITS = {"requestor.recovery.page_claimed": 1, "requestor.lease.renewing": 2}
PLACES = [
    (service, name) for name in failpoint_names() for service in SERVICES if name.startswith((f"{service}.", "store."))
]


def test_every_place_is_covered() -> None:
    assert {name for _, name in PLACES} == set(failpoint_names())


@pytest.fixture(scope="module")
def enduring_arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnduringArena]:
    """Both services, running, for all places."""
    with EnduringArena(tmp_path_factory.mktemp("failpoints")).living() as made:
        yield made


@pytest.fixture
def running(enduring_arena: EnduringArena) -> Iterator[EnduringArena]:
    """The arena, without a load before and after the test."""
    yield enduring_arena
    enduring_arena.stop_load()


@pytest.mark.parametrize("action", ["kill", "raise"])
@pytest.mark.parametrize(("service_name", "name"), PLACES, ids=[f"{service}-{name}" for service, name in PLACES])
def test_a_fault_there_loses_and_doubles_nothing(
    running: EnduringArena, service_name: str, name: str, action: str
) -> None:
    service = getattr(running, service_name)
    load = running.start_load()
    eventually(lambda: load.notes_acked >= 10, what="the load")
    before, deaths = service.log_size, running.deaths[service_name]

    running.arm(service, f"{name}={action}@{HITS.get(name, 3)}")

    def has_fired() -> bool:
        load.check()
        if action == "kill":  # the second death; the first was ours
            return running.deaths[service_name] >= deaths + 2
        return "FailpointError" in service.log_after(before)

    eventually(has_fired, timeout_s=20, what=f"the fault at {name}")
    acknowledged = load.notes_acked
    eventually(lambda: load.notes_acked > acknowledged, timeout_s=20, what="the load's next note")
    ledger = running.stop_load()
    assert running.faults_of(ledger) == []
    assert ledger.notes_acked > 0
