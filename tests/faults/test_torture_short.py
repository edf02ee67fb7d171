"""The harness in a short form; ``python dev.py torture`` runs it for longer."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from tests.faults.torture import torture


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("kills", [12, pytest.param(40, marks=pytest.mark.long)])
def test_kills_lose_and_double_nothing(tmp_path: Path, kills: int) -> None:
    seed = secrets.randbelow(2**31)
    freezes, notes = kills // 10 + 1, 50 * kills
    print(f"python dev.py torture --kills {kills} --freezes {freezes} --notes {notes} --seed {seed}")
    outcome = torture(seed=seed, kills=kills, freezes=freezes, notes=notes, folder=tmp_path, pause_s=0.6)
    print({name: value for name, value in outcome.as_json().items() if name not in ("report", "refused")})
    assert outcome.report.faults == []
    assert outcome.refused == []
    assert outcome.set_aside == 0
    assert sum(outcome.deaths.values()) >= 0.8 * kills  # a kill may hit a process that is dying already
    assert outcome.notes >= notes
    if kills >= 40:  # else the dice may all fall on one side
        assert min(outcome.deaths.values()) >= 5
