"""The results as tables on a terminal, as Markdown and as JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.metrics import metric_of
from benchmarks.runner import Results
from benchmarks.summary import Spread, ratio
from benchmarks.workloads import Workload

OURS = "ours"


def show_spread(name: str, values: Sequence[float]) -> str:
    """The median, and between what the rounds lie."""
    metric, spread = metric_of(name), Spread.of(values)
    if len(values) == 1:
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


def table_of(workload: Workload, results: Results) -> tuple[list[str], list[list[str]]]:
    """The headings and rows of a workload: a row for each contender, the ratio of the primary figure at the end."""
    contenders = results.figures.get(workload.name, {})
    names = list(dict.fromkeys(name for figures in contenders.values() for name in figures if name != "errors"))
    failed = any(max(figures.get("errors", [0])) for figures in contenders.values())
    if failed:
        names.append("errors")
    ours = contenders.get(OURS, {}).get(workload.primary)
    headings = ["contender", *(metric_of(name).heading for name in names)]
    if ours:
        headings.append(f"{OURS} ÷ it")
    rows = []
    for contender, figures in contenders.items():
        row = [contender, *(show_spread(name, figures[name]) if name in figures else "" for name in names)]
        if ours:
            theirs = figures.get(workload.primary, [])
            row.append("" if contender == OURS else show_ratio(ours, theirs))
        rows.append(row)
    for contender, reason in results.gaps.get(workload.name, {}).items():
        rows.append([f"{contender}: {reason.splitlines()[0]}"])
    return headings, rows


def print_tables(console: Console, workloads: Sequence[Workload], results: Results) -> None:
    """All tables on a terminal."""
    for workload in workloads:
        headings, rows = table_of(workload, results)
        table = Table(title=f"{workload.title} ({workload.name})", title_justify="left")
        for place, heading in enumerate(headings):
            table.add_column(heading, justify="left" if place == 0 else "right")
        for row in rows:
            if len(row) > 1:
                table.add_row(*row)
        if table.row_count:
            console.print(table)
        else:
            console.print(f"{workload.title} ({workload.name})", style="italic")
        for row in rows:
            if len(row) == 1:
                console.print(row[0], markup=False)


def markdown(workloads: Sequence[Workload], results: Results) -> str:
    """All tables as Markdown."""
    parts = []
    for workload in workloads:
        headings, rows = table_of(workload, results)
        lines = [f"### {workload.title}", "", _line(headings), "|---" + "|--:" * (len(headings) - 1) + "|"]
        lines += [_line(row) for row in rows if len(row) > 1]
        notes = [f"* {row[0]}" for row in rows if len(row) == 1]
        parts.append("\n".join([*lines, *(["", *notes] if notes else [])]))
    return "\n\n".join(parts) + "\n"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def as_json(about: Mapping[str, Any], workloads: Sequence[Workload], results: Results) -> dict[str, Any]:
    """Everything, with the value of each round."""
    return {
        "about": about,
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
