"""Work is spread evenly, and little of it moves when somebody comes or goes."""

from __future__ import annotations

from collections import Counter

from service_kit.change import Ref
from service_kit.sharing import chosen

REFS = [Ref("default", f"order-{number}") for number in range(3_000)]


def test_work_is_spread_evenly() -> None:
    counts = Counter(chosen(ref, ["a", "b", "c"]) for ref in REFS)
    assert set(counts) == {"a", "b", "c"}
    assert min(counts.values()) > 800


def test_the_choice_depends_on_nothing_but_the_names() -> None:
    assert [chosen(ref, ["a", "b", "c"]) for ref in REFS] == [chosen(ref, ("c", "a", "b")) for ref in REFS]


def test_when_a_name_goes_only_its_work_moves() -> None:
    for ref in REFS:
        before = chosen(ref, ["a", "b", "c"])
        if before != "c":
            assert chosen(ref, ["a", "b"]) == before


def test_names_that_are_nearly_the_same_share_alike() -> None:
    names = [f"127.0.0.1:{port}" for port in (50052, 50053)]
    counts = Counter(chosen(ref, names) for ref in REFS)
    assert min(counts.values()) > 1_200
