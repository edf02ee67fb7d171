"""The harness in a short form; ``python dev.py torture`` runs it for longer."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from tests.faults.torture import torture


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_forty_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    seed = secrets.randbelow(2**31)
    print(f"python dev.py torture --kills 40 --freezes 4 --notes 2000 --seed {seed}")
    outcome = torture(seed=seed, kills=40, freezes=4, notes=2_000, folder=tmp_path, pause_s=0.6)
    print({name: value for name, value in outcome.as_json().items() if name not in ("report", "refused")})
    assert outcome.report.faults == []
    assert outcome.refused == []
    assert outcome.set_aside == 0
    assert sum(outcome.deaths.values()) >= 35  # a kill may hit a process that is dying already
    assert min(outcome.deaths.values()) >= 5
    assert outcome.notes >= 2_000
