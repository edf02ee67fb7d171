"""What a process holds, by /proc."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from tests.e2e.conftest import Service


class Holdings(NamedTuple):
    """Threads, open files and bytes in memory of one process."""

    threads: int
    files: int
    memory: int

    @classmethod
    def of(cls, service: Service) -> Holdings:
        """What the service's process holds now."""
        process = Path(f"/proc/{service.process.pid}")
        pages = int((process / "statm").read_text(encoding="ascii").split()[1])
        return cls(
            threads=len(list((process / "task").iterdir())),
            files=len(list((process / "fd").iterdir())),
            memory=pages * os.sysconf("SC_PAGE_SIZE"),
        )

    def __str__(self) -> str:
        return f"{self.threads} threads, {self.files} files, {self.memory / 2**20:.1f} MiB"


def cpu_seconds(service: Service) -> float:
    """The processor time that the service's process has used since its start."""
    words = Path(f"/proc/{service.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
