"""The processes of a contender: started in a folder, killed, started again, and weighed."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from benchmarks.faults import BenchFault
from benchmarks.paths import ROOT

END_S = 15.0

#: Settings of the user's own services must not reach those that are measured.
_OWN_PREFIXES = ("REQUESTOR_", "PROCESSOR_", "ORDER_COMMUNICATOR_")


def free_port() -> int:
    """A port of the loopback address that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Process:
    """One process with all that it starts; it may be started again with the same command, folder and ports."""

    def __init__(
        self, role: str, command: Sequence[str | Path], folder: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.role = role
        self.log_path = folder / f"{role}.log"
        self._command = [str(word) for word in command]
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(_OWN_PREFIXES)}
        # What it leaves in a temporary folder when it is killed goes with the folder of the run.
        self._environment = {**inherited, "PYTHONUTF8": "1", "TMPDIR": str(folder), **(environment or {})}
        self._child: subprocess.Popen[bytes] | None = None
        self._is_wanted = False

    def launch(self) -> None:
        """Start it and wait for nothing."""
        self._is_wanted = True
        # In the project's folder, so that its packages are found; a group of its own keeps our Ctrl+C from it.
        with self.log_path.open("ab") as log:
            self._child = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0 if sys.platform != "win32" else None,
            )

    @property
    def pid(self) -> int:
        """The process id."""
        if self._child is None:
            raise BenchFault(f"the {self.role} was never started")
        return self._child.pid

    def check(self) -> None:
        """Raise when the process has ended by itself, with what it has last said."""
        if self._is_wanted and self._child is not None and self._child.poll() is not None:
            said = [line for line in self.log_lines() if line.strip()]
            raise BenchFault(f"the {self.role} ended with status {self._child.returncode}: {said[-1] if said else ''}")

    def log_lines(self) -> list[str]:
        """Everything that it has written, in all its lives."""
        return self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()

    def kill(self) -> None:
        """End it and all that it started at once, without a chance to clean up."""
        self._is_wanted = False
        if self._child is None or self._child.poll() is not None:
            return
        for process in self._family():
            process.kill()
        self._child.wait(END_S)

    # ---- what it uses

    def _family(self) -> list[psutil.Process]:
        try:
            parent = psutil.Process(self.pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            self.check()
            raise

    def memory_bytes(self) -> int:
        """The resident memory of the process and all that it started."""
        return sum(process.memory_info().rss for process in self._family())

    def cpu_s(self) -> float:
        """The CPU time that they have used so far."""
        times = [process.cpu_times() for process in self._family()]
        return sum(time.user + time.system for time in times)

    def threads(self) -> int:
        """How many threads they have."""
        return sum(process.num_threads() for process in self._family())
