"""``--profile``: where the time of each of our services goes under load, by a sampling profiler from outside."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import folded
from benchmarks.contender import Contender
from benchmarks.faults import BenchFault
from benchmarks.paths import DATA
from benchmarks.runner import Runner
from benchmarks.workloads import Workload

FOLDER = DATA / "profiles"
#: What is profiled when nothing is named.
DEFAULT = ("initiate-16", "initiate-64", "follow-up-16")
_RATE_HZ = 200
_ATTACH_S = 1.0
_SHOWN = 25


def profile(console: Console, runner: Runner, workloads: Sequence[Workload], contender: Contender) -> None:
    """Profile the contender under each workload; prints tables, and leaves the profiles in a folder."""
    spy = shutil.which("py-spy", path=str(Path(sys.executable).parent)) or shutil.which("py-spy")
    if spy is None:
        raise BenchFault("py-spy is not installed")
    FOLDER.mkdir(parents=True, exist_ok=True)
    for workload in workloads:
        # The same once more for the flame graph, because a recording has one format.
        costs = _record(spy, runner, workload, contender, form="raw", ending="folded")
        _record(spy, runner, workload, contender, form="flamegraph", ending="svg")
        for role, cpu_us in costs.items():
            stacks = list(folded.read(_path(contender, workload, role, "folded").read_text(encoding="utf-8")))
            title = f"{workload.title}: {role}. {cpu_us:,.0f} µs of CPU per request, shared out by who holds the GIL"
            _show(console, title, stacks, cpu_us)
    console.print(f"Flame graphs (.svg) and folded stacks (.folded, which speedscope opens) are in {FOLDER}")


def _path(contender: Contender, workload: Workload, role: str, ending: str) -> Path:
    return FOLDER / f"{contender.name}-{workload.name}-{role}.{ending}"


def _record(
    spy: str, runner: Runner, workload: Workload, contender: Contender, *, form: str, ending: str
) -> dict[str, float]:
    """Run the workload under the profiler; answers the CPU time of each process per request in µs."""
    with runner.warm(contender, workload.warm_up_orders) as bench:
        before = bench.cpu_s()
        files = {process.pid: _path(contender, workload, role, ending) for role, process in contender.processes.items()}
        with _spying(spy, form, files):
            workload.measure(bench)
        return {role: 1e6 * (cpu_s - before[role]) / bench.last_successes for role, cpu_s in bench.cpu_s().items()}


@contextmanager
def _spying(spy: str, form: str, files: dict[int, Path]) -> Iterator[None]:
    """Record processes, by their ids, for the time of the block.

    Only who holds the GIL is seen: whether a thread that does not is at work or waits cannot be told from outside.
    """
    command = [spy, "record", "--rate", str(_RATE_HZ), "--gil", "--threads", "--function", "--format", form]
    spies = [
        subprocess.Popen(
            [*command, "--output", str(path), "--pid", str(pid)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
        for pid, path in files.items()
    ]
    try:
        time.sleep(_ATTACH_S)
        yield
        for child in spies:
            child.send_signal(signal.SIGINT)  # write what was seen, and end
        for child in spies:
            output, _ = child.communicate(timeout=60)
            if child.returncode:
                raise BenchFault(f"py-spy: {output.strip()}")
    finally:
        for child in spies:
            if child.poll() is None:
                child.kill()


def _show(console: Console, title: str, stacks: Sequence[folded.Stack], cpu_us: float) -> None:
    table = Table(title=title, title_justify="left")
    table.add_column("function")
    for heading in ("own", "own, µs", "with calls", "with calls, µs"):
        table.add_column(heading, justify="right")
    for share in folded.by_function(stacks)[:_SHOWN]:
        table.add_row(
            share.what,
            f"{share.own:.1%}",
            f"{share.own * cpu_us:,.0f}",
            f"{share.total:.1%}",
            f"{share.total * cpu_us:,.0f}",
        )
    console.print(table)
    threads = ", ".join(f"{thread} {share:.0%}" for thread, share in folded.by_thread(stacks)[:8])
    console.print(f"threads: {threads}\n", markup=False)
