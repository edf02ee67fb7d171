"""``python dev.py bench``: runs the order communicator and its rivals in turn, and shows the figures."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks import machine, profiling, publish, report
from benchmarks.choice import pick
from benchmarks.contender import Contender
from benchmarks.faults import BenchFault
from benchmarks.load import LoadProcess
from benchmarks.ours import SQLITE
from benchmarks.paths import DATA
from benchmarks.registry import all_contenders
from benchmarks.results import Document, Results, document, merged
from benchmarks.runner import Runner
from benchmarks.sizes import LONG, QUICK, USUAL, Sizes
from benchmarks.workloads import Workload, all_workloads

INTERRUPTED = 130


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
    parser.add_argument(
        "--publish",
        type=Path,
        nargs="*",
        metavar="FILE",
        help="write the results into docs/; with files that --json has written, merge them and run nothing",
    )
    parser.add_argument("--profile", action="store_true", help="show where the time of our services goes, and stop")
    parser.add_argument("--store", default=SQLITE, metavar="URL", help="our store; {folder} and {role} are filled in")
    parser.add_argument("--list", action="store_true", help="show the names and stop")
    return parser.parse_args(words)


def sizes_of(arguments: argparse.Namespace) -> Sizes:
    """How large the runs are."""
    if arguments.quick:
        return QUICK
    return LONG if arguments.long else USUAL


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
) -> Document:
    """Measure everything, with a progress bar. After Ctrl+C, what there is."""
    results = Results()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # A slow refresh: what draws the bar takes CPU from what is measured.
    with LoadProcess() as load, Progress(*columns, console=console, refresh_per_second=1) as bar:
        task = bar.add_task("the machine", total=len(workloads) * rounds * len(contenders))
        about = machine.describe(DATA) | {"generator": machine.generator_ceiling(load)}
        about |= {"size": sizes.name, "rounds": rounds}
        runner = Runner(load, sizes, on_begin=lambda text: bar.update(task, description=text))
        try:
            for _ in runner.run(workloads, contenders, rounds, results):
                bar.advance(task)
        except KeyboardInterrupt:
            console.print("stopped: what follows is not complete")
            about["stopped"] = True
    return document(about, workloads, results)


def show(console: Console, found: Document) -> None:
    """All tables on the terminal."""
    for grid in report.grids(found):
        report.print_grid(console, grid)
    goals = report.goal_grid(found, with_unmeasured=False)
    if goals.rows and found["about"]["size"] != QUICK.name:
        report.print_grid(console, goals)
    generator = found["about"]["generator"]
    console.print(f"load generator: {generator['per_s']:,} calls/s, {generator['cpu_us']} µs of CPU each")


def run_profile(console: Console, workloads: Sequence[Workload], contender: Contender, sizes: Sizes) -> None:
    """Profile one contender under each workload."""
    with LoadProcess() as load:
        profiling.profile(console, Runner(load, sizes, on_begin=console.print), workloads, contender)


def carry_out(arguments: argparse.Namespace, console: Console) -> None:
    """Do what the command line asks for."""
    if arguments.publish:
        publish.publish(merged([json.loads(path.read_text(encoding="utf-8")) for path in arguments.publish]))
        return
    sizes = sizes_of(arguments)
    known_workloads, known_contenders = all_workloads(sizes), all_contenders(arguments.store)
    if arguments.list:
        console.print("workloads: ", ", ".join(known_workloads))
        console.print("contenders:", ", ".join(known_contenders))
        return
    if arguments.profile:
        workloads, _ = pick(arguments.names or profiling.DEFAULT, known_workloads, known_contenders)
        run_profile(console, workloads, known_contenders["ours"], sizes)
        return
    workloads, contenders = pick(arguments.names, known_workloads, known_contenders)
    contenders, left_out = able(contenders, console)
    found = run(console, workloads, contenders, sizes, arguments.rounds or sizes.rounds)
    found["about"]["left_out"] = left_out
    show(console, found)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    if arguments.markdown is not None:
        arguments.markdown.write_text(report.markdown(found), encoding="utf-8")
    if arguments.publish is not None and "stopped" not in found["about"]:
        publish.publish(found)


def end_in_order(_number: int, _frame: FrameType | None) -> None:
    """Take a request to end for a Ctrl+C, so that no contender is left running."""
    raise KeyboardInterrupt


def main(words: Sequence[str] | None = None) -> int:
    """Read the command line and carry it out; answers the exit status."""
    arguments = read_arguments(words)
    console = Console()
    for name in ("SIGTERM", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), end_in_order)
    try:
        carry_out(arguments, console)
    except BenchFault as fault:
        console.print(f"dev.py bench: {fault}", markup=False)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


if __name__ == "__main__":
    sys.exit(main())
