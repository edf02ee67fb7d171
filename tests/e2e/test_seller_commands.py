from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.e2e.conftest import ROOT, Service

pytestmark = pytest.mark.e2e


def flask(processor: Service, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command of the processor's app, as a person does beside the running service."""
    return subprocess.run(
        [sys.executable, "-m", "flask", "--app", "wsgi_processor", *arguments],
        cwd=ROOT,
        env={**os.environ, **processor.settings, "PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def test_sellers_are_added_beside_the_running_service(processor: Service) -> None:
    added = flask(processor, "sellers", "add", "seller1", "--email", "one@example.com")
    assert (added.returncode, added.stdout.strip()) == (0, "Seller seller1 is registered.")
    listed = flask(processor, "sellers", "list", "--json")
    assert [seller["email"] for seller in json.loads(listed.stdout)] == ["one@example.com"]
    assert processor.stop() == 0
    without = flask(processor, "sellers", "list")
    assert without.returncode == 1
    assert without.stderr.startswith("Error: No processor answers")
