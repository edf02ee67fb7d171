"""The demo: what it tells is what the stores hold when it has ended."""

from __future__ import annotations

import os
import re
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT, Services, eventually

pytestmark = pytest.mark.e2e

FREE_PORTS = {"REQUESTOR_PORT": "0", "PROCESSOR_PORT": "0", "PROCESSOR_GRPC_PORT": "0"}


def run_demo(data: Path, settings: Mapping[str, str] = FREE_PORTS) -> subprocess.CompletedProcess[str]:
    """Run the demo to its end, in the environment of the tests."""
    return subprocess.run(
        [sys.executable, ROOT / "dev.py", "--no-install", "demo", "--once", "--data", data],
        env={**os.environ, "ORDER_COMMUNICATOR_VENV": sys.prefix, **settings},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=90,
        check=False,
    )


def test_the_demo_leaves_what_it_tells(services: Services, tmp_path: Path) -> None:
    data = tmp_path / "demo"
    # A setting of the user's: were it used, no mail would be written, and the tour would end with a fault.
    done = run_demo(data, {**FREE_PORTS, "PROCESSOR_SMTP_URL": "smtp://127.0.0.1:1"})
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list((data / "outbox").glob("*.eml"))) == 5
    assert "The requestor says: Order already being processed" in done.stdout
    assert re.search(r"^ +http://127\.0\.0\.1:\d+/reply/\S+$", done.stdout, re.MULTILINE)

    processor = services.processor(
        PROCESSOR_STORE=f"sqlite:///{data / 'processor.db'}", PROCESSOR_WEBHOOK_ALLOW_NETWORKS="127.0.0.0/8"
    )
    requestor = services.requestor(REQUESTOR_STORE=f"sqlite:///{data / 'requestor.db'}")
    processor.start()
    requestor.start()
    (dead,) = [
        delivery for delivery in processor.get("/deliveries?state=dead")["deliveries"] if delivery["follow_up_id"] == ""
    ]
    assert (dead["seller_id"], dead["attempts"], dead["last_error"]) == (
        "broken-seller",
        3,
        "The receiver answered 500.",
    )
    delivered = processor.get("/deliveries?state=delivered")["deliveries"]
    assert sorted({delivery["seller_id"] for delivery in delivered}) == ["hook-seller", "late-seller", "mail-seller"]
    assert len(delivered) == 7
    answers = {
        event["data"]["seller_id"]: event["data"]["answer"]
        for order in ("DEMO-LAMP", "DEMO-SOFA")
        for event in requestor.get(f"/orders/{order}/events")["events"]
        if event["kind"] == "seller_replied"
    }
    assert answers == {"mail-seller": "accepted", "hook-seller": "declined"}
    assert requestor.get("/orders/DEMO-DESK")["state"] == "completed"
    eventually(lambda: requestor.get("/orders/tracking/status")["open_streams"] == 2, what="the two live streams")


def test_the_demo_begins_anew_beside_services_that_hold_its_ports(tmp_path: Path) -> None:
    data = tmp_path / "demo"
    data.mkdir()
    (data / "demo.lock").touch()
    (data / "processor.db").write_text("what an older demo left", encoding="utf-8")
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        done = run_demo(data, {**FREE_PORTS, "PROCESSOR_PORT": str(port)})
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"port {port} is in use; the demo takes " in done.stdout


def test_the_demo_removes_nobody_elses_files(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work", encoding="utf-8")
    done = run_demo(tmp_path)
    assert done.returncode == 2
    assert "holds files that are not a demo's" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_two_demos_never_share_a_folder(tmp_path: Path) -> None:
    (tmp_path / "processor.db").write_text("in use", encoding="utf-8")
    with closing(sqlite3.connect(tmp_path / "demo.lock", isolation_level=None)) as first:
        first.execute("BEGIN EXCLUSIVE")
        done = run_demo(tmp_path)
    assert done.returncode == 1
    assert "another demo runs in" in done.stderr
    assert (tmp_path / "processor.db").read_text(encoding="utf-8") == "in use"
