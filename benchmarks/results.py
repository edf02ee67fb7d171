"""The figures of all runs, and the document in which they are kept, shown and published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from benchmarks.workloads import Workload

#: What `document` makes, as JSON reads it back.
Document: TypeAlias = dict[str, Any]


@dataclass(slots=True)
class Results:
    """The figures of the runs so far."""

    #: By workload, contender and figure: one value for each round.
    figures: dict[str, dict[str, dict[str, list[float]]]] = field(default_factory=dict)
    #: By workload and contender: why there are none, or no more.
    gaps: dict[str, dict[str, str]] = field(default_factory=dict)

    def add(self, workload: str, contender: str, figures: Mapping[str, float]) -> None:
        """Add the figures of one run."""
        known = self.figures.setdefault(workload, {}).setdefault(contender, {})
        for name, value in figures.items():
            known.setdefault(name, []).append(value)

    def give_up(self, workload: str, contender: str, reason: str) -> None:
        """Note why a contender is not asked again."""
        self.gaps.setdefault(workload, {})[contender] = reason

    def has_gap(self, workload: str, contender: str) -> bool:
        """Whether the contender was given up."""
        return contender in self.gaps.get(workload, {})


def document(about: Mapping[str, Any], workloads: Sequence[Workload], results: Results) -> Document:
    """Everything, with the value of each round."""
    return {
        "about": dict(about),
        "workloads": {
            workload.name: {
                "title": workload.title,
                "primary": workload.primary,
                "figures": results.figures.get(workload.name, {}),
                "gaps": results.gaps.get(workload.name, {}),
            }
            for workload in workloads
        },
    }


def merged(documents: Sequence[Document]) -> Document:
    """Several documents as one: what a later one has of a workload and a contender takes the place of the earlier."""
    first, *others = [deepcopy(document) for document in documents]
    for other in others:
        first["about"] |= other["about"]
        for name, workload in other["workloads"].items():
            known = first["workloads"].setdefault(name, workload)
            if known is workload:
                continue
            for contender in (*workload["figures"], *workload["gaps"]):
                known["figures"].pop(contender, None)
                known["gaps"].pop(contender, None)
            known["figures"] |= workload["figures"]
            known["gaps"] |= workload["gaps"]
    return first


def values(document: Document, workload: str, contender: str, figure: str) -> list[float]:
    """The values of a figure, one for each round; none when it was not taken."""
    found: list[float] = document["workloads"].get(workload, {}).get("figures", {}).get(contender, {}).get(figure, [])
    return found
