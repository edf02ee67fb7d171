"""The results as SVG plots. Each is drawn when the document has what it shows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.metrics import size_of
from benchmarks.results import Document, values
from benchmarks.summary import Spread

_SIZE = (9.0, 4.2)
_COLOURS = {
    "ours": "#0b6e4f",
    "floor": "#8d99ae",
    "asgi": "#e09f3e",
    "asgi-durable": "#bc6c25",
    "threads": "#6d597a",
    "restate": "#3d5a80",
    "dbos": "#9b2226",
}
_OTHER_COLOUR = "#444444"

#: A contender's values, by what stands on the x axis.
Bars = dict[str, dict[str, Sequence[float]]]
Lines = dict[str, list[tuple[int, Sequence[float]]]]


def draw_all(document: Document, folder: Path) -> list[tuple[str, str]]:
    """Draw what can be drawn; answers the names of the files with what they show."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for name, title, draw in _PLOTS:
        if draw(document, folder / f"{name}.svg", title):
            drawn.append((f"{name}.svg", title))
    return drawn


def _throughput(document: Document, path: Path, title: str) -> bool:
    workloads = ("initiate-1", "initiate-16", "initiate-64", "duplicate-16", "follow-up-16")
    bars = {name: _by_contender(document, name, "per_s") for name in workloads}
    return _draw_bars(bars, path, title, "calls per second")


def _latency(document: Document, path: Path, title: str) -> bool:
    figures = {"p50_ms": "answer, p50", "p99_ms": "answer, p99", "open_p50_ms": "open, p50", "open_p99_ms": "open, p99"}
    bars = {label: _by_contender(document, "initiate-16", name) for name, label in figures.items()}
    return _draw_bars(bars, path, title, "milliseconds", is_log=True)


def _restart(document: Document, path: Path, title: str) -> bool:
    names = [name for name in document["workloads"] if name.startswith("restart-")]
    bars = {name.removeprefix("restart-"): _by_contender(document, name, "back_s") for name in names}
    return _draw_bars(bars, path, title, "seconds")


def _tracking(document: Document, path: Path, title: str) -> bool:
    lines: Lines = {}
    for name in document["workloads"]:
        base, _, live = name.partition("-")
        if base == "tracking":
            for contender, rounds in _by_contender(document, name, "id_p99_ms").items():
                lines.setdefault(contender, []).append((int(live), rounds))
    return _draw_lines(lines, path, title, "milliseconds")


def _time(document: Document, path: Path, title: str) -> bool:
    return _draw_lines(_by_size(document, "us_per_order"), path, title, "microseconds")


def _memory(document: Document, path: Path, title: str) -> bool:
    return _draw_lines(_by_size(document, "kb_per_order"), path, title, "KB", is_log=True)


_PLOTS: tuple[tuple[str, str, Callable[[Document, Path, str], bool]], ...] = (
    ("throughput", "Calls per second, by the number of clients", _throughput),
    ("latency", "From an initiate to its answer, and to the open stream, 16 clients", _latency),
    ("growth-time", "Time of a further order until its stream is open, by live orders", _time),
    ("growth-memory", "Memory of a live order over all processes, by live orders", _memory),
    ("tracking", "p99 of tracking/{id}, by live orders, 16 clients", _tracking),
    ("restart", "From the first health answer after SIGKILL until everything is back", _restart),
)


def _by_contender(document: Document, workload: str, figure: str) -> dict[str, Sequence[float]]:
    contenders = document["workloads"].get(workload, {}).get("figures", {})
    return {name: rounds for name in contenders if (rounds := values(document, workload, name, figure))}


def _by_size(document: Document, base: str) -> Lines:
    contenders = document["workloads"].get("growth", {}).get("figures", {})
    lines: Lines = {}
    for contender, figures in contenders.items():
        points = [(size, rounds) for name, rounds in figures.items() if (size := _size(name, base)) is not None]
        if points:
            lines[contender] = sorted(points, key=lambda point: point[0])
    return lines


def _size(name: str, base: str) -> int | None:
    return size_of(name) if name.startswith(f"{base}@") else None


def _draw_bars(bars: Bars, path: Path, title: str, unit: str, *, is_log: bool = False) -> bool:
    groups = {label: contenders for label, contenders in bars.items() if contenders}
    if not groups:
        return False
    names = [name for name in _COLOURS if any(name in contenders for contenders in groups.values())]
    width = 0.8 / len(names)
    figure, axes = _axes(title, unit)
    for place, name in enumerate(names):
        shown = [(x, Spread.of(group[name])) for x, group in enumerate(groups.values()) if name in group]
        axes.bar(
            [x + (place - (len(names) - 1) / 2) * width for x, _ in shown],
            [spread.median for _, spread in shown],
            width * 0.92,
            yerr=_whiskers([spread for _, spread in shown]),
            label=name,
            color=_COLOURS[name],
            error_kw={"elinewidth": 1, "ecolor": "#222222"},
        )
    axes.set_xticks(range(len(groups)), list(groups))
    if is_log:
        _make_log(axes, "y")
    _save(figure, axes, path)
    return True


def _draw_lines(lines: Lines, path: Path, title: str, unit: str, *, is_log: bool = False) -> bool:
    if not lines:
        return False
    figure, axes = _axes(title, unit)
    for name, points in lines.items():
        spreads = [Spread.of(rounds) for _, rounds in points]
        axes.errorbar(
            [size for size, _ in points],
            [spread.median for spread in spreads],
            yerr=_whiskers(spreads),
            label=name,
            color=_COLOURS.get(name, _OTHER_COLOUR),
            marker="o",
            markersize=4,
            capsize=2,
        )
    _make_log(axes, "x")
    axes.set_xlabel("live orders")
    if is_log:
        _make_log(axes, "y")
    else:
        axes.set_ylim(bottom=0)
    _save(figure, axes, path)
    return True


def _make_log(axes: Any, name: str) -> None:
    """Give the x or the y axis a logarithmic scale with plain numbers."""
    axes.set(**{f"{name}scale": "log"})
    axis = getattr(axes, f"{name}axis")
    axis.set_major_formatter("{x:,g}")
    axis.set_minor_formatter("")


def _whiskers(spreads: Sequence[Spread]) -> list[list[float]]:
    """How far the rounds lie below and above each median."""
    below = [spread.median - spread.least for spread in spreads]
    above = [spread.most - spread.median for spread in spreads]
    return [below, above]


def _axes(title: str, unit: str) -> tuple[Any, Any]:
    # Loaded here, because only who publishes has it.
    import matplotlib as mpl  # noqa: PLC0415

    # Text stays text, and the same results give the same file.
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "order-communicator", "font.size": 9})
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.add_subplot()
    axes.set_title(title, loc="left")
    axes.set_ylabel(unit)
    axes.grid(axis="y", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _save(figure: Any, axes: Any, path: Path) -> None:
    axes.legend(frameon=False, ncols=4, fontsize=8)
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
