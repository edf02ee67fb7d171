"""``python dev.py torture``: load both services, kill and freeze them, and audit what they kept."""

from __future__ import annotations

import argparse
import json
import secrets
import sys
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.faults.torture import Outcome, torture


def read_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="dev.py torture", description=__doc__)
    parser.add_argument("--kills", type=int, default=40, help="how often a service is killed (default: 40)")
    parser.add_argument("--freezes", type=int, default=4, help="how often one is frozen for up to 2 s (default: 4)")
    parser.add_argument("--notes", type=int, default=2_000, help="acknowledged follow-ups at least (default: 2000)")
    parser.add_argument("--which", choices=("both", "requestor", "processor"), default="both", help="whom to hit")
    parser.add_argument("--seed", type=int, help="repeats a run's plan; the services' timing is their own")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there too")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep stores and logs in this folder")
    return parser.parse_args()


def show(console: Console, outcome: Outcome) -> None:
    """The outcome as a table, and what is wrong."""
    table = Table("what", "count", title=f"seed {outcome.seed}, {outcome.seconds:.0f} s")
    rows: list[tuple[str, object]] = [
        ("deaths of the requestor", outcome.deaths["requestor"]),
        ("deaths of the processor", outcome.deaths["processor"]),
        ("faults injected", outcome.faults_injected),
        ("orders", outcome.orders),
        ("runs acknowledged", outcome.runs),
        ("notes acknowledged", outcome.notes),
        ("replies acknowledged", outcome.replies),
        ("calls repeated", outcome.retries),
        ("calls given up", outcome.abandoned),
        ("calls refused", len(outcome.refused)),
        ("notes set aside", outcome.set_aside),
        ("quiet after", f"{outcome.quiet_after_s:.1f} s"),
        ("acknowledged but lost", len(outcome.report.lost)),
        ("doubled", len(outcome.report.doubled)),
        ("gaps", len(outcome.report.gaps)),
        ("out of order", len(outcome.report.disordered)),
        ("differing", len(outcome.report.differing)),
    ]
    for what, count in rows:
        table.add_row(what, str(count))
    console.print(table)
    for line in (outcome.report.faults + outcome.refused)[:50]:
        console.print(line, markup=False)


def main() -> int:
    """Run once; exit status 1 when anything is wrong."""
    arguments = read_arguments()
    seed = secrets.randbelow(2**31) if arguments.seed is None else arguments.seed
    console = Console()
    console.print(f"seed {seed}")
    if arguments.keep is not None:
        arguments.keep.mkdir(parents=True, exist_ok=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as bars:
        note_bar = bars.add_task("notes", total=arguments.notes)
        fault_bar = bars.add_task("faults", total=arguments.kills + arguments.freezes)

        def progress(notes: int, faults: int) -> None:
            bars.update(note_bar, completed=min(notes, arguments.notes))
            bars.update(fault_bar, completed=faults)

        outcome = torture(
            seed=seed,
            kills=arguments.kills,
            freezes=arguments.freezes,
            notes=arguments.notes,
            which=arguments.which,
            folder=arguments.keep,
            progress=progress,
        )
    show(console, outcome)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(outcome.as_json(), indent=2), encoding="utf-8")
    return 1 if outcome.report.faults or outcome.refused else 0


if __name__ == "__main__":
    sys.exit(main())
