"""How long and how large runs are: quick, usual, long."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True, slots=True)
class Sizes:
    """The lengths and sizes of all workloads."""

    name: str
    rounds: int
    load_s: float
    warm_up_s: float
    #: Live orders at which tracking is read.
    tracking: tuple[int, ...]
    #: Live orders at which memory and the cost of the next orders are taken.
    growth: tuple[int, ...]
    growth_block: int
    #: Live orders of an idle and of a restarted service.
    live: tuple[int, ...]
    idle_s: float


QUICK = Sizes(
    name="quick",
    rounds=1,
    load_s=1.5,
    warm_up_s=0.5,
    tracking=(10, 300),
    growth=(100, 300, 1_000),
    growth_block=300,
    live=(500,),
    idle_s=3.0,
)
USUAL = Sizes(
    name="usual",
    rounds=3,
    load_s=5.0,
    warm_up_s=1.0,
    tracking=(10, 1_000, 10_000),
    growth=(100, 1_000, 3_000, 10_000),
    growth_block=2_000,
    live=(10_000,),
    idle_s=10.0,
)
LONG = Sizes(
    name="long",
    rounds=3,
    load_s=10.0,
    warm_up_s=2.0,
    tracking=(10, 1_000, 10_000),
    growth=(100, 1_000, 3_000, 10_000, 30_000, 100_000),
    growth_block=2_000,
    live=(10_000, 100_000),
    idle_s=20.0,
)


def growth_steps(sizes: Sizes, most_orders: int | None) -> list[tuple[int, int]]:
    """The sizes at which an order's cost is taken, each with the number of further orders that are timed there."""
    end = sizes.growth[-1] + sizes.growth_block
    most = end if most_orders is None else most_orders
    steps = [
        (size, min(sizes.growth_block, following - size, most - size))
        for size, following in pairwise([*sizes.growth, end])
    ]
    # Fewer orders than the least size say too little about the time of one.
    return [(size, block) for size, block in steps if block >= sizes.growth[0]]
