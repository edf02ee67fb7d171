"""``dev.py test``: every test, several side by side, and a last line that counts them."""

from __future__ import annotations

import os
import tempfile
import time
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from devtools.processes import child_environment, run, say

#: Arguments that choose no tests: with these alone, it is the whole suite that is asked for.
LOUDNESS = frozenset({"-q", "-qq", "-v", "-vv", "--quiet", "--verbose"})
#: Runs what has failed once more, alone. Tests of faults have deadlines, and a busy machine may miss one.
ONCE_MORE = "--once-more"
#: What pytest ends with when every test has passed, when some have failed, and when there are none.
PASSED, FAILED, NONE = 0, 1, 5
#: The worst first.
OUTCOMES = ("failed", "error", "skipped", "passed")

_ALONE, _LONG = "alone", "long"
_REPORT = "report.xml"


def is_whole(arguments: Sequence[str]) -> bool:
    """Whether these arguments of ``test`` leave nothing out."""
    return LOUDNESS.issuperset(set(arguments) - {ONCE_MORE})


def workers(cores: int) -> int:
    """How many tests run at a time. Most wait more than they compute."""
    return min(2 * cores, 8)


def run_suite(python: Path, arguments: Sequence[str]) -> int:
    """Run every test side by side with others, then those that need the machine alone; answer an exit status."""
    began_s = time.monotonic()
    loudness = [word for word in arguments if word != ONCE_MORE]
    side_by_side = ["-n", str(workers(os.cpu_count() or 1)), "--dist", "worksteal"]
    rounds: list[list[str]] = [
        [*side_by_side, "-m", f"not {_ALONE} and not {_LONG}"],
        ["-m", f"{_ALONE} and not {_LONG}"],
    ]
    runs: list[Mapping[str, str]] = []
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, _REPORT)
        for chosen in rounds:
            status = run_tests(python, [*loudness, *chosen, f"--junit-xml={report}"])
            if status not in (PASSED, FAILED, NONE):
                return status
            runs.append(outcomes_of(report.read_text(encoding="utf-8")))
        if ONCE_MORE in arguments and is_failed(runs):
            say("== once more, what has failed")
            run_tests(python, [*loudness, "--last-failed", f"--junit-xml={report}"])
            runs.append(outcomes_of(report.read_text(encoding="utf-8")))
    say(counted(runs, time.monotonic() - began_s))
    return FAILED if is_failed(runs) else PASSED


def run_tests(python: Path, arguments: Sequence[str]) -> int:
    """Run pytest. The services that tests start find their code compiled, whatever the environment says."""
    environment = {name: value for name, value in child_environment().items() if name != "PYTHONDONTWRITEBYTECODE"}
    return run([python, "-m", "pytest", *arguments], environment)


def outcomes_of(report: str) -> dict[str, str]:
    """How each test of a JUnit report ended. One that failed and then could not be taken down is there twice."""
    found: dict[str, str] = {}
    for case in ET.fromstring(report).iter("testcase"):  # noqa: S314 - pytest wrote it
        name = f"{case.get('classname')}::{case.get('name')}"
        tags = {"failure": "failed", "error": "error", "skipped": "skipped"}
        seen = [tags[child.tag] for child in case if child.tag in tags]
        found[name] = min([*seen, found.get(name, "passed")], key=OUTCOMES.index)
    return found


def last_outcomes(runs: Iterable[Mapping[str, str]]) -> dict[str, str]:
    """How each test ended the last time that it ran."""
    return {name: outcome for run in runs for name, outcome in run.items()}


def is_failed(runs: Iterable[Mapping[str, str]]) -> bool:
    """Whether a test has not passed, or there was none."""
    ends = Counter(last_outcomes(runs).values())
    return bool(ends["failed"] or ends["error"] or not ends)


def counted(runs: Sequence[Mapping[str, str]], seconds: float) -> str:
    """The last line: each test counts once, by the end of its last run."""
    ends = last_outcomes(runs)
    counts = Counter(ends.values())
    second = sum(runs[0].get(name) in ("failed", "error") for name, end in ends.items() if end == "passed")
    parts = [f"{counts[outcome]} {outcome}" for outcome in ("failed", "passed", "skipped", "error") if counts[outcome]]
    if second:
        parts.append(f"{second} at the second try")
    return f"{', '.join(parts) or 'no tests'} in {seconds:.0f} s"
