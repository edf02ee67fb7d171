"""Fault tests need Linux; those with networks and file systems of their own need root."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.arena import Arena


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test of this folder, and skip it where it cannot run."""
    here = Path(__file__).parent
    for item in items:
        if here not in item.path.parents:
            continue
        item.add_marker(pytest.mark.faults)
        if sys.platform != "linux":
            item.add_marker(pytest.mark.skip(reason="kills and freezes by Linux signals"))


@pytest.fixture
def arena(tmp_path: Path) -> Iterator[Arena]:
    """Both services, not started yet; whatever still runs at the end is killed."""
    made = Arena(tmp_path)
    yield made
    made.kill_all()


@pytest.fixture(scope="session")
def root() -> None:
    """Skips the test, or fails it where nothing may be skipped, when it is not run by root."""
    if os.geteuid() != 0:
        _cannot_run("needs root, to make a network or a file system of its own")


@pytest.fixture(scope="session")
def iproute2(root: None) -> None:
    """Skips the test, or fails it where nothing may be skipped, when networks cannot be made."""
    if shutil.which("ip") is None or shutil.which("tc") is None:
        _cannot_run("needs ip and tc of iproute2")


def _cannot_run(reason: str) -> None:
    if os.environ.get("REQUIRE_ALL"):
        pytest.fail(reason)
    pytest.skip(reason)
