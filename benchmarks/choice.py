"""What a command line names: contenders and workloads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from benchmarks.faults import BenchFault

W = TypeVar("W")
C = TypeVar("C")


def pick(names: Sequence[str], workloads: Mapping[str, W], contenders: Mapping[str, C]) -> tuple[list[W], list[C]]:
    """What the names name: a contender's whole name, or the beginning of workloads' names up to a dash.

    Where nothing is named, everything is. The order is always our own. Raises `BenchFault` for an unknown name.
    """
    some_workloads: set[str] = set()
    some_contenders: set[str] = set()
    for name in names:
        if name in contenders:
            some_contenders.add(name)
            continue
        found = {key for key in workloads if key == name or key.startswith(f"{name}-")}
        if not found:
            raise BenchFault(f"{name} is neither a workload nor a contender; --list shows them")
        some_workloads |= found
    return (
        [workload for key, workload in workloads.items() if key in (some_workloads or workloads)],
        [contender for key, contender in contenders.items() if key in (some_contenders or contenders)],
    )
