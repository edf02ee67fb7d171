"""The commands in the documents run as they stand, against both services, and print what the documents say.

A block that begins with ``bash run`` or ``python run`` is run; one that begins with ``text shows`` behind it has, line
by line, what the run must have printed. Blocks of one document belong together.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.e2e.conftest import ROOT, Service, Services, eventually
from tests.system import require_program

pytestmark = pytest.mark.e2e

_BLOCK = re.compile(r"^```(bash run|python run|text shows)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


class Step(NamedTuple):
    """A block to run, and the lines that it must print."""

    language: str
    text: str
    shows: tuple[str, ...]


def steps_of(document: Path) -> list[Step]:
    steps: list[Step] = []
    for kind, text in _BLOCK.findall(document.read_text(encoding="utf-8")):
        if kind == "text shows":
            steps[-1] = steps[-1]._replace(shows=tuple(text.splitlines()))
        else:
            steps.append(Step(kind.split()[0], text, ()))
    return steps


RUNNABLE = [document for document in DOCUMENTS if steps_of(document)]


class Pair(NamedTuple):
    """Both services, with their stores in ``data/`` of a folder."""

    folder: Path
    requestor: Service
    processor: Service

    def run(self, step: Step) -> str:
        """Run a block in the folder as a person would in the project's; what it has printed."""
        bash = require_program("bash")
        command = [sys.executable, "-"] if step.language == "python" else [bash, "-euo", "pipefail", "-s"]
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self._environment(),
            input=self._on_our_ports(step.text),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, f"{step.text}\n{done.stdout}"
        return done.stdout

    def _environment(self) -> dict[str, str]:
        own = {name: text for name, text in os.environ.items() if not name.startswith(("REQUESTOR_", "PROCESSOR_"))}
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        places = {"PATH": path, "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1", "COLUMNS": "200"}
        return {**own, **self.requestor.settings, **self.processor.settings, **places}

    def _on_our_ports(self, text: str) -> str:
        for port, service in (("8004", self.requestor), ("8005", self.processor)):
            text = text.replace(f"localhost:{port}", f"127.0.0.1:{service.settings[f'{service.prefix}_PORT']}")
        return text.replace("sleep 1\n", "sleep 3\n")  # for a machine that is busy with other tests


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    (tmp_path / "data").mkdir()
    services = Services(tmp_path / "data")
    pair = Pair(tmp_path, services.requestor(), services.processor())
    try:
        for service in (pair.processor, pair.requestor):
            service.start()
        eventually(lambda: "Connected to the processor" in pair.requestor.log, what="the trunk")
        yield pair
    finally:
        services.kill_all()


@pytest.mark.parametrize("document", RUNNABLE, ids=lambda document: str(document.relative_to(ROOT)))
def test_every_marked_command_runs_and_prints_what_is_said(pair: Pair, document: Path) -> None:
    for step in steps_of(document):
        printed = pair.run(step)
        missing = [line for line in step.shows if line not in printed]
        assert not missing, f"{step.text}\nprinted:\n{printed}\nwithout: {missing}"


def test_the_documents_that_promise_commands_have_them() -> None:
    named = {str(document.relative_to(ROOT).as_posix()) for document in RUNNABLE}
    promised = {"tutorial.md", "how-to/backups.md", "reference/client.md", "reference/commands.md"}
    assert {f"docs/{name}" for name in promised} <= named


def test_a_command_that_fails_or_prints_something_else_is_found(pair: Pair) -> None:
    with pytest.raises(AssertionError, match="No such command"):
        pair.run(Step("bash", "flask --app wsgi_requestor orders unknown\n", ()))
    assert "2 orders" not in pair.run(Step("bash", "flask --app wsgi_requestor orders list\n", ("2 orders",)))
