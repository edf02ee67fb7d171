"""How many orders may be live, over a store of which only the counts are asked."""

from __future__ import annotations

from typing import Any, cast

import pytest

from requestor_app.live_limit import LiveLimit, TooManyLive
from service_kit.storage.contract import Store


class Counts:
    def __init__(self) -> None:
        self.live = {"acme": 3, "other": 1}

    def counts(self, tenant: str | None) -> dict[str, int]:
        live = sum(self.live.values()) if tenant is None else self.live.get(tenant, 0)
        return {"live": live, "completed": 50}


@pytest.fixture
def counts() -> Counts:
    return Counts()


def limit(counts: Counts, **limits: int) -> LiveLimit:
    made = LiveLimit(cast("Store", cast("Any", counts)), **{"in_all": 0, "per_tenant": 0} | limits)
    made.refresh()
    return made


def admitted(made: LiveLimit, tenant: str = "acme") -> int:
    number = 0
    while number < 100:
        try:
            made.admit(tenant)
        except TooManyLive:
            break
        number += 1
    return number


def test_without_a_limit_nothing_is_refused(counts: Counts) -> None:
    assert admitted(limit(counts)) == 100


def test_the_limit_in_all_counts_every_tenant(counts: Counts) -> None:
    made = limit(counts, in_all=10)
    assert admitted(made) == 6
    with pytest.raises(TooManyLive, match="10 orders are live") as refused:
        made.admit("other")
    assert refused.value.retry_after_s == 5


def test_a_tenant_has_a_limit_of_its_own(counts: Counts) -> None:
    made = limit(counts, per_tenant=5)
    assert admitted(made) == 2
    assert admitted(made, "other") == 4
    assert admitted(made, "third") == 5


def test_a_refresh_makes_room_for_what_has_ended_and_keeps_what_was_added(counts: Counts) -> None:
    made = limit(counts, in_all=10, per_tenant=5)
    assert admitted(made) == 2
    counts.live["acme"] = 5
    made.refresh()
    assert admitted(made) == 0
    counts.live["acme"] = 4
    made.refresh()
    assert admitted(made) == 1
    made.refresh()  # nobody has asked since: the tenant is counted anew when it asks
    made.refresh()
    counts.live["acme"] = 0
    assert admitted(made) == 5
