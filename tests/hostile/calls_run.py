"""Calls that schemathesis makes up from a service's own OpenAPI document, good and bad ones, with all its checks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.conftest import ROOT, Service

CONFIG = Path(__file__).with_name("schemathesis.toml")
_COUNT = re.compile(r"Test cases:\s+([\d,]+) generated")
_SUMMARY = re.compile(r"^=+ (?:FAILURES|ERRORS) =+$.*", re.MULTILINE | re.DOTALL)


@dataclass
class Outcome:
    """How many calls there were, and what the checks found."""

    service: str
    calls: int = 0
    rounds: int = 0
    took_s: float = 0.0
    findings: list[str] = field(default_factory=list)


def run(service: Service, count: int, *, seed: int, examples: int = 500) -> Outcome:
    """Make at least so many calls, in rounds with a seed each. Raises `AssertionError` when a check finds anything."""
    outcome = Outcome(service.name)
    key = _make_key(service)
    begun_s = time.monotonic()
    while outcome.calls < count and not outcome.findings:
        outcome.calls += _round(service, key, seed + outcome.rounds, examples, outcome.findings)
        outcome.rounds += 1
        outcome.took_s = time.monotonic() - begun_s
        print(f"{service.name}: {outcome.calls} calls in {outcome.took_s:.0f} s", flush=True)
    assert outcome.findings == [], "\n".join(outcome.findings)[:20_000]
    assert service.process.poll() is None, "the service has ended"
    failures = [line for line in service.log.splitlines() if re.search(r"Z (ERROR|FATAL) |Traceback", line)]
    assert failures == [], failures[:5]
    return outcome


def _make_key(service: Service) -> str:
    """A key for everything but a seller's replies, which are refused."""
    scopes = ("orders:read", "orders:write", "sellers:write", "operate")
    command = [sys.executable, "-m", "flask", "--app", f"wsgi_{service.name}", "keys", "create"]
    words = [word for scope in scopes for word in ("--scope", scope)]
    environ = {**os.environ, **service.settings}
    done = subprocess.run([*command, *words], cwd=ROOT, env=environ, capture_output=True, text=True, check=True)
    return re.findall(r"oc_[A-Za-z0-9]+_[A-Za-z0-9_-]+", done.stdout)[0]


def _round(service: Service, key: str, seed: int, examples: int, findings: list[str]) -> int:
    """Run schemathesis once; answers how many calls it has made."""
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG), "run"]
    # All checks are on unless the configuration says otherwise; naming them here would overrule it.
    options = ["--max-examples", str(examples), "--seed", str(seed), "--no-color"]
    options += ["--header", f"Authorization: Bearer {key}"]
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [*command, f"{service.url}/openapi.json", *options], cwd=folder, capture_output=True, text=True, check=False
        )
    match = _COUNT.search(done.stdout)
    if done.returncode or match is None:
        shown = _SUMMARY.search(done.stdout)
        findings.append((shown[0] if shown else done.stdout[-5_000:]) + done.stderr[-2_000:])
    return int(match[1].replace(",", "")) if match else 0
