"""Both services as processes, for a whole module: what is hostile must not need a new one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.e2e.conftest import Service, Services


@pytest.fixture(scope="module")
def hostile_services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Makes services in a folder of the module."""
    made = Services(tmp_path_factory.mktemp("hostile"))
    yield made
    made.kill_all()


def settings_of(request: pytest.FixtureRequest, prefix: str) -> dict[str, Any]:
    """Services ask for keys when the module says so."""
    return {f"{prefix}_REQUIRE_KEYS": "on"} if getattr(request.module, "NEEDS_KEYS", False) else {}


@pytest.fixture(scope="module")
def live_processor(hostile_services: Services, request: pytest.FixtureRequest) -> Service:
    """A running processor."""
    made = hostile_services.processor(**settings_of(request, "PROCESSOR"))
    made.start()
    return made


@pytest.fixture(scope="module")
def live_requestor(hostile_services: Services, live_processor: Service, request: pytest.FixtureRequest) -> Service:
    """A running requestor, connected to the processor."""
    made = hostile_services.requestor(**settings_of(request, "REQUESTOR"))
    made.start()
    return made
