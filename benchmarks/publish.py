"""``--publish``: writes a document of results into the project's documentation."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

from benchmarks import plots, report
from benchmarks.faults import BenchFault
from benchmarks.paths import ROOT
from benchmarks.results import Document

PAGE = ROOT / "docs" / "performance.md"
FOLDER = ROOT / "docs" / "performance"


def publish(document: Document, page: Path = PAGE, folder: Path = FOLDER) -> None:
    """Draw the plots, keep the values beside them, and fill the marked sections of the page."""
    drawn = plots.draw_all(document, folder)
    (folder / "results.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    pictures = "\n\n".join(f"![{title}]({folder.name}/{file})" for file, title in drawn)
    sections = {
        "machine": "\n".join(machine_lines(document)),
        "goals": report.markdown_grid(report.goal_grid(document)),
        "plots": pictures,
        "tables": report.markdown(document).rstrip(),
    }
    text = page.read_text(encoding="utf-8")
    for name, body in sections.items():
        text = replace_section(text, name, body)
    page.write_text(text, encoding="utf-8")


def replace_section(text: str, name: str, body: str) -> str:
    """The text with another body between the two marks of a section. Raises `BenchFault` without the marks."""
    begin, end = f"<!-- {name}: written by dev.py bench --publish -->", f"<!-- end of {name} -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not pattern.search(text):
        raise BenchFault(f"the page has no section marked {begin}")
    return pattern.sub(lambda _: f"{begin}\n\n{body}\n\n{end}", text, count=1)


def machine_lines(document: Document) -> Iterator[str]:
    """What the results were taken on."""
    about = document["about"]
    packages = ", ".join(f"{name} {version}" for name, version in about["packages"].items())
    yield f"* {about['date']}, commit {about['commit']}, rounds: {about['rounds']}, size: {about['size']}"
    yield f"* {about['processor']}, {about['cores']} cores, {about['system']}, Python {about['python']}"
    yield f"* {packages}"
    yield f"* append and fsync of 4 KB: {about['fsync_ms']:g} ms (median)"
    generator = about["generator"]
    yield f"* load generator: {generator['cpu_us']:g} µs of CPU for each call, {generator['per_s']:,} calls/s at most"
    for contender, reason in about.get("left_out", {}).items():
        yield f"* {contender} was left out: {reason}"
