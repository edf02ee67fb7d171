"""The results as tables: on a terminal and as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.goals import verdicts
from benchmarks.metrics import metric_of, size_of
from benchmarks.results import Document
from benchmarks.summary import Spread, ratio

OURS = "ours"

#: By figure, the value of each round.
Figures = Mapping[str, Sequence[float]]


@dataclass(frozen=True, slots=True)
class Grid:
    """A table as texts; ``notes`` stand below it."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()


def show_spread(name: str, rounds: Sequence[float]) -> str:
    """The median, and between what the rounds lie."""
    metric, spread = metric_of(name), Spread.of(rounds)
    if len(rounds) == 1:
        return metric.show(spread.median)
    return f"{metric.show(spread.median)} ({metric.show(spread.least)}–{metric.show(spread.most)})"


def show_ratio(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Ours by theirs, as a factor with its spread."""
    spread = ratio(ours, theirs)
    if spread is None:
        return ""
    if len(ours) == 1:
        return f"{spread.median:.2f}"
    return f"{spread.median:.2f} ({spread.least:.2f}–{spread.most:.2f})"


def grids(document: Document) -> Iterator[Grid]:
    """The tables of every workload."""
    for name, workload in document["workloads"].items():
        made = list(_grids_of(name, workload))
        notes = _notes(workload["gaps"])
        yield from made[:-1]
        yield replace(made[-1], notes=notes) if made else Grid(_title(name, workload), (), (), notes)


def _title(name: str, workload: Mapping[str, Any]) -> str:
    return f"{workload['title']} ({name})"


def _grids_of(name: str, workload: Mapping[str, Any]) -> Iterator[Grid]:
    """One table of the plain figures, with the ratio of the primary one, and one for each figure that has sizes."""
    contenders: Mapping[str, Figures] = workload["figures"]
    names = list(dict.fromkeys(figure for figures in contenders.values() for figure in figures))
    plain = [figure for figure in names if size_of(figure) is None and figure != "errors"]
    if any(max(figures.get("errors", [0])) for figures in contenders.values()):
        plain.append("errors")
    if plain:
        yield _plain(_title(name, workload), plain, contenders, workload["primary"])
    for base in dict.fromkeys(figure.partition("@")[0] for figure in names if size_of(figure) is not None):
        sizes = sorted({size_of(figure) or 0 for figure in names if figure.startswith(f"{base}@")})
        headings = [f"{metric_of(base).heading}, at", *(f"{size:,}" for size in sizes)]
        yield Grid(_title(name, workload), headings, _rows(contenders, [f"{base}@{size}" for size in sizes]))


def _plain(title: str, names: Sequence[str], contenders: Mapping[str, Figures], primary: str) -> Grid:
    headings = ["contender", *(metric_of(name).heading for name in names)]
    rows = _rows(contenders, names)
    ours = contenders.get(OURS, {}).get(primary)
    if ours and len(contenders) > 1:
        headings.append(f"{OURS} ÷ it")
        for row, (contender, figures) in zip(rows, contenders.items(), strict=True):
            row.append("" if contender == OURS else show_ratio(ours, figures.get(primary, [])))
    return Grid(title, headings, rows)


def _rows(contenders: Mapping[str, Figures], names: Sequence[str]) -> list[list[str]]:
    return [
        [contender, *(show_spread(name, figures[name]) if name in figures else "" for name in names)]
        for contender, figures in contenders.items()
    ]


def _notes(gaps: Mapping[str, str]) -> list[str]:
    """Who has no figures and why; the same reason stands once."""
    by_reason: dict[str, list[str]] = {}
    for contender, reason in gaps.items():
        by_reason.setdefault(reason.splitlines()[0], []).append(contender)
    return [f"{', '.join(contenders)}: {reason}" for reason, contenders in by_reason.items()]


def goal_grid(document: Document, *, with_unmeasured: bool = True) -> Grid:
    """What ours is to reach, and whether it does."""
    rows = [
        [verdict.goal.text, verdict.goal.bound, verdict.shown, {None: "", True: "yes", False: "NO"}[verdict.is_met]]
        for verdict in verdicts(document)
        if with_unmeasured or verdict.measured is not None
    ]
    return Grid("What ours must reach", ["goal", "bound", "measured", "reached"], rows)


def print_grid(console: Console, grid: Grid) -> None:
    """One table on a terminal."""
    if grid.rows:
        table = Table(title=grid.title, title_justify="left")
        for place, heading in enumerate(grid.headings):
            table.add_column(heading, justify="left" if place == 0 else "right")
        for row in grid.rows:
            table.add_row(*row)
        console.print(table)
    else:
        console.print(grid.title, style="italic", markup=False)
    for note in grid.notes:
        console.print(note, markup=False)


def markdown_grid(grid: Grid) -> str:
    """One table as Markdown, without its title."""
    lines = []
    if grid.rows:
        lines = [_line(grid.headings), "|---" + "|--:" * (len(grid.headings) - 1) + "|", *map(_line, grid.rows)]
    if grid.notes:
        lines += ["", *(f"* {note}" for note in grid.notes)]
    return "\n".join(lines)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def markdown(document: Document) -> str:
    """All tables as Markdown, each workload under its title."""
    parts: list[str] = []
    for grid in grids(document):
        heading = f"### {grid.title}"
        if heading not in parts:
            parts.append(heading)
        parts.append(markdown_grid(grid))
    return "\n\n".join(part for part in parts if part) + "\n"
