"""The demo tells its story to the end; each of its steps waits for what it tells."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.e2e.conftest import ROOT, free_port


def test_the_demo_ends_well() -> None:
    grpc_port = free_port()
    settings = {
        "REQUESTOR_PORT": str(free_port()),
        "PROCESSOR_PORT": str(free_port()),
        "PROCESSOR_GRPC_PORT": str(grpc_port),
        "REQUESTOR_PROCESSORS": f"127.0.0.1:{grpc_port}",
        "ORDER_COMMUNICATOR_VENV": os.environ.get("ORDER_COMMUNICATOR_VENV", sys.prefix),
        "PYTHONUTF8": "1",
    }
    told = subprocess.run(
        [sys.executable, "dev.py", "--no-install", "demo", "--once"],
        cwd=ROOT,
        env=os.environ | settings,
        capture_output=True,
        text=True,
        encoding="utf-8",
        timeout=90,
        check=False,
    )
    assert told.returncode == 0, told.stdout + told.stderr
    for step in ("'Order already being processed'", "accepted behind the link", "were sent at once", "is dead"):
        assert step in told.stdout
