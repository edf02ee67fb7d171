"""A file system of a few MiB, to fill up and to make room on again."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.e2e.conftest import Service

_CHUNK = 4096


class SmallDisk:
    """A mounted tmpfs. What fills it up is a file of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._filler = folder / "filler"

    def hold_store_of(self, service: Service) -> None:
        """Let a service that was not started yet keep its store here; its log stays where it is."""
        service.store = self.folder / service.store.name
        service.settings[f"{service.prefix}_STORE"] = f"sqlite:///{service.store}"

    @property
    def free_bytes(self) -> int:
        """What is left."""
        seen = os.statvfs(self.folder)
        return seen.f_bavail * seen.f_frsize

    def fill(self) -> None:
        """Leave no room, not for one page."""
        with self._filler.open("ab", buffering=0) as filler:
            try:
                while True:
                    filler.write(b"\0" * _CHUNK)
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise
        assert self.free_bytes == 0

    def make_room(self) -> None:
        """Take away what fills it up."""
        self._filler.unlink()


@contextmanager
def small_disk(folder: Path, mib: int) -> Iterator[SmallDisk]:
    """Mount a disk of this size on a folder that is not there yet, and unmount it in the end. Needs root."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={mib}m,mode=700", "tmpfs", str(folder)], check=True)
    try:
        yield SmallDisk(folder)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
