"""``python dev.py bench``: runs the order communicator and its rivals in turn, and shows the figures."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import machine, profiling, report
from benchmarks.contender import Contender
from benchmarks.faults import BenchFault
from benchmarks.load import LoadProcess
from benchmarks.ours import SQLITE
from benchmarks.registry import all_contenders
from benchmarks.runner import DATA, Results, Runner
from benchmarks.workloads import Workload, all_workloads
from benchmarks.workloads.base import LONG, QUICK, USUAL, Sizes


def read_arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="dev.py bench", description=__doc__)
    parser.add_argument("names", nargs="*", help="workloads and contenders to run; a prefix will do (default: all)")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="short and small: to see that it works, not for figures")
    size.add_argument("--long", action="store_true", help="up to 100,000 live orders")
    parser.add_argument("--rounds", type=int, metavar="N", help="runs of each contender (default: 3, quick: 1)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every value there")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables there")
    parser.add_argument("--profile", action="store_true", help="show where the time of our services goes, and stop")
    parser.add_argument("--store", default=SQLITE, metavar="URL", help="our store; {folder} and {role} are filled in")
    parser.add_argument("--list", action="store_true", help="show the names and stop")
    return parser.parse_args(words)


def sizes_of(arguments: argparse.Namespace) -> Sizes:
    """How large the runs are."""
    if arguments.quick:
        return QUICK
    return LONG if arguments.long else USUAL


def pick(
    names: Sequence[str], workloads: dict[str, Workload], contenders: dict[str, Contender]
) -> tuple[list[Workload], list[Contender]]:
    """What the names name. A name is a contender's whole name or the beginning of workloads' names."""
    some_workloads: dict[str, Workload] = {}
    some_contenders: dict[str, Contender] = {}
    for name in names:
        if name in contenders:
            some_contenders[name] = contenders[name]
            continue
        found = {key: workload for key, workload in workloads.items() if key == name or key.startswith(f"{name}-")}
        if not found:
            raise SystemExit(f"dev.py bench: {name} is neither a workload nor a contender; --list shows them")
        some_workloads |= found
    # In our own order, whatever the order of the names is.
    return (
        [workload for key, workload in workloads.items() if key in (some_workloads or workloads)],
        [contender for key, contender in contenders.items() if key in (some_contenders or contenders)],
    )


def able(contenders: Sequence[Contender], console: Console) -> tuple[list[Contender], dict[str, str]]:
    """The contenders that can run here, and why the others cannot."""
    left_out: dict[str, str] = {}
    for contender in contenders:
        reason = contender.why_not()
        if reason is None:
            try:
                contender.prepare(lambda text: console.print(text, markup=False))
            except (BenchFault, OSError) as fault:
                reason = str(fault)
        if reason is not None:
            left_out[contender.name] = reason
            console.print(f"{contender.name} is left out: {reason}", markup=False)
    return [contender for contender in contenders if contender.name not in left_out], left_out


def run(
    console: Console, workloads: Sequence[Workload], contenders: Sequence[Contender], sizes: Sizes, rounds: int
) -> tuple[dict[str, Any], Results]:
    """Measure everything, with a progress bar."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # A slow refresh: what draws the bar takes CPU from what is measured.
    with LoadProcess() as load, Progress(*columns, console=console, refresh_per_second=1) as bar:
        task = bar.add_task("the machine", total=len(workloads) * rounds * len(contenders))
        about = machine.describe(DATA) | {"generator": machine.generator_ceiling(load), "rounds": rounds}
        started = False

        def on_step(text: str) -> None:
            nonlocal started
            bar.update(task, description=text, advance=1 if started else 0)
            started = True

        results = Runner(load, sizes, on_step).run(workloads, contenders, rounds)
        bar.update(task, description="done", advance=1)
    return about, results


def run_profile(console: Console, workloads: Sequence[Workload], contender: Contender, sizes: Sizes) -> int:
    """Profile one contender."""
    with LoadProcess() as load:
        try:
            profiling.profile(console, Runner(load, sizes, lambda _: None), workloads, contender)
        except BenchFault as fault:
            console.print(str(fault), markup=False)
            return 1
    return 0


def main(words: Sequence[str] | None = None) -> int:
    """Read the command line, run, show."""
    arguments = read_arguments(words)
    console = Console()
    sizes = sizes_of(arguments)
    known_workloads, known_contenders = all_workloads(sizes), all_contenders(arguments.store)
    if arguments.list:
        console.print("workloads: ", ", ".join(known_workloads))
        console.print("contenders:", ", ".join(known_contenders))
        return 0
    if arguments.profile:
        names = arguments.names or profiling.DEFAULT
        return run_profile(console, pick(names, known_workloads, known_contenders)[0], known_contenders["ours"], sizes)
    workloads, contenders = pick(arguments.names, known_workloads, known_contenders)
    contenders, left_out = able(contenders, console)
    rounds = arguments.rounds or (1 if arguments.quick else 3)
    about, results = run(console, workloads, contenders, sizes, rounds)
    about["left_out"] = left_out
    report.print_tables(console, workloads, results)
    console.print(f"load generator: {about['generator']['per_s']:,} requests/s, {about['generator']['cpu_us']} µs each")
    if arguments.json is not None:
        document = report.as_json(about, workloads, results)
        arguments.json.write_text(json.dumps(document, indent=1), encoding="utf-8")
    if arguments.markdown is not None:
        arguments.markdown.write_text(report.markdown(workloads, results), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
