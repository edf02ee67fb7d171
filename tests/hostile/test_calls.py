"""Both services' answers to calls made up from their OpenAPI documents; `python -m tests.hostile` has the long form."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import Service
from tests.hostile.calls_run import run

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(600)]

NEEDS_KEYS = True
#: Of both services together; a round makes so many more by itself.
COUNT = 2_000


@pytest.mark.parametrize("which", ["requestor", "processor"])
def test_every_answer_is_one_that_the_document_describes(which: str, request: pytest.FixtureRequest) -> None:
    service: Service = request.getfixturevalue(f"live_{which}")
    outcome = run(service, COUNT // 2, seed=8, examples=20)
    assert outcome.calls >= COUNT // 2
