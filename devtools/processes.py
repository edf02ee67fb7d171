"""What the commands say, their faults, and the tools that they run."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

STOP_S = 12.0
STILL_BUSY_S = 10.0


class Fault(Exception):
    """Something that a person must put right; the text says what, in one line."""

    def __init__(self, text: str, status: int = 1) -> None:
        super().__init__(text)
        self.status = status


class Terminated(KeyboardInterrupt):
    """Somebody asked this process to end, by other means than Ctrl+C."""


def say(text: str) -> None:
    """Print at once, also into a pipe."""
    print(text, flush=True)


class Progress:
    """Prints what is going on, with the seconds since the start."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def __call__(self, text: str) -> None:
        """Print one line."""
        say(f"[{time.monotonic() - self._start:5.1f} s] {text}")


def child_environment() -> dict[str, str]:
    """Our own environment; text is UTF-8 on every system, and lines come as they are written."""
    return {**os.environ, "PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": "1"}


def run(command: Sequence[str | Path], environment: Mapping[str, str] | None = None) -> int:
    """Run a tool in the project's folder, on our own terminal, and return its exit status."""
    environment = child_environment() if environment is None else environment
    with subprocess.Popen([str(word) for word in command], cwd=ROOT, env=environment) as child:
        try:
            status = child.wait()
        except Terminated:
            raise
        except KeyboardInterrupt:  # the tool has got the Ctrl+C as well, and may have a summary to print
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(STOP_S)
            raise
        finally:
            if child.poll() is None:
                child.terminate()
    return status if status >= 0 else 128 - status


def run_quietly(command: Sequence[str | Path], progress: Progress, what: str) -> None:
    """Run a step whose output matters only when it fails."""
    progress(what)
    with subprocess.Popen(
        [str(word) for word in command],
        cwd=ROOT,
        env=child_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    ) as child:
        try:
            output = None
            while output is None:
                try:
                    output, _ = child.communicate(timeout=STILL_BUSY_S)
                except subprocess.TimeoutExpired:
                    progress(f"still {what}")
        finally:
            if child.poll() is None:
                child.terminate()
    if child.returncode:
        say(output.rstrip())
        raise Fault(f"{what} failed; the reason stands above")


def run_module(python: Path, folder: str, module: str, arguments: Sequence[str]) -> int:
    """Run a package of ours that is a command."""
    if not (ROOT / folder / "__main__.py").exists():
        raise Fault(f"{folder}/ is not part of this copy of the project", 2)
    return run([python, "-m", module, *arguments])
