"""Both services as processes, for a whole module: what is hostile must not need a new one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.conftest import Service, Services


@pytest.fixture(scope="module")
def hostile_services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Makes services in a folder of the module."""
    made = Services(tmp_path_factory.mktemp("hostile"))
    yield made
    made.kill_all()


@pytest.fixture(scope="module")
def live_processor(hostile_services: Services) -> Service:
    """A running processor."""
    made = hostile_services.processor()
    made.start()
    return made


@pytest.fixture(scope="module")
def live_requestor(hostile_services: Services, live_processor: Service) -> Service:
    """A running requestor, connected to the processor."""
    made = hostile_services.requestor()
    made.start()
    return made
