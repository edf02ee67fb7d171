"""What the processor's gRPC port makes of mutated messages and frames; `python -m tests.hostile` has the long form."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import Service
from tests.hostile.messages_run import run
from tests.hostile.mutants import METHODS, Mutants, is_readable

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]

COUNT = 2_000


def test_mutated_messages_and_frames_harm_nobody(live_processor: Service, live_requestor: Service) -> None:
    outcome = run(live_processor, live_requestor, COUNT, seed=8, warm_up=500)
    print(outcome)
    assert outcome.sent == COUNT + 500
    # The attack has bitten: some was taken, some refused by the rules, some no message at all.
    assert outcome.codes["OK"] > 20
    assert outcome.codes["INVALID_ARGUMENT"] > 200
    assert outcome.connections > 200


def test_mutants_are_of_both_kinds() -> None:
    mutants = Mutants(1)
    made = [mutants.make() for _ in range(1_000)]
    readable = sum(is_readable(method, content) for method, content in made)
    assert 300 < readable < 900
    assert {method for method, _ in made} == set(METHODS)
