"""Looks at a store from outside, beside a service that may be using it, and changes nothing in it."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from filelock import FileLock, Timeout

from service_kit.errors import StartRefused
from service_kit.findings import Finding, fault, fine, note
from service_kit.storage.opening import open_store
from service_kit.storage.sqlite import SqliteStore
from service_kit.storage.sqlite_schema import MIGRATIONS, inspect_file
from service_kit.times import now_ms, rfc3339

#: Below it the disk is as good as full: the log beside the file alone may grow to 64 MB.
LEAST_FREE_BYTES = 256 * 1024 * 1024
#: A record that was written so far in the future says that the clock has been set back.
CLOCK_SLACK_MS = 60_000

SQLITE_VERSION = sqlite3.sqlite_version
_STORE = "store"


def inspect_store(url: str, *, base_folder: Path, setting: str, foreign_kind: str) -> Iterator[Finding]:
    """What is to be said of the store behind a URL. With ``foreign_kind`` the other service's logs begin."""
    try:
        store = open_store(url, base_folder=base_folder)
    except StartRefused as refusal:
        yield fault(_STORE, str(refusal), f"Set {setting} to such a URL.")
        return
    if isinstance(store, SqliteStore):
        yield from _inspect_sqlite(store.path, setting, foreign_kind)
    else:
        yield note(_STORE, "This kind of store cannot be examined from outside.", "Look at /readyz of the service.")


def _inspect_sqlite(path: Path, setting: str, foreign_kind: str) -> Iterator[Finding]:
    folder = next(parent for parent in path.parents if parent.exists())
    trouble = _trouble_with(folder)
    if trouble is not None:
        yield fault(
            _STORE,
            f"Nothing can be written in {folder}: {trouble}.",
            f"Give the service's user the right to write there, or set {setting} to another place.",
        )
        return
    free = shutil.disk_usage(folder).free
    if free < LEAST_FREE_BYTES:
        yield fault(
            "space", f"Only {_megabytes(free)} are free in {folder}.", f"Make room, or set {setting} to another disk."
        )
    else:
        yield fine("space", f"{_megabytes(free)} are free in {folder}.")
    if not path.exists():
        yield fine(_STORE, f"{path} is made at the first start.")
        return
    yield from _inspect_file(path, setting, foreign_kind)


def _inspect_file(path: Path, setting: str, foreign_kind: str) -> Iterator[Finding]:
    is_locked = _is_locked(path)
    try:
        # The instance that holds it has looked at all of it when it started.
        version = inspect_file(path, thoroughly=not is_locked)
        newest_ms, first_kinds = _contents_of(path) if version else (0, frozenset[str]())
    except StartRefused as refusal:
        yield fault(_STORE, str(refusal), f"Mend the file as said, or set {setting} to another one.")
        return
    except sqlite3.Error as error:
        yield fault(
            _STORE,
            f"{path} is no store of this software, or is damaged ({error}).",
            f"Restore it from a backup, or set {setting} to another file.",
        )
        return
    if foreign_kind in first_kinds:
        yield fault(_STORE, f"{path} is the other service's store.", f"Set {setting} to a file of its own.")
        return
    size = _megabytes(path.stat().st_size)
    age = "" if version == len(MIGRATIONS) else f" It is brought to version {len(MIGRATIONS)} at the next start."
    use = "a running instance holds it" if is_locked else "nobody holds it"
    yield fine(_STORE, f"{path} has schema version {version} and {size}; {use}.{age}")
    if newest_ms > now_ms() + CLOCK_SLACK_MS:
        yield fault(
            "clock",
            f"The store was written at {rfc3339(newest_ms)}, which is in the future.",
            "Set the clock of this machine, or find out who had set it wrong; a time service keeps it right.",
        )


def _trouble_with(folder: Path) -> str | None:
    try:
        with tempfile.TemporaryFile(dir=folder):
            return None
    except OSError as error:
        return error.strerror or type(error).__name__


def _is_locked(path: Path) -> bool:
    lock_path = Path(f"{path}.lock")
    if not lock_path.exists():
        return False
    try:
        with FileLock(lock_path, timeout=0):
            return False
    except Timeout:
        return True


def _contents_of(path: Path) -> tuple[int, frozenset[str]]:
    """When the newest record was changed, and with which kinds the logs of some records begin."""
    with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as connection:
        newest = connection.execute("SELECT updated_ms FROM records ORDER BY id DESC LIMIT 1").fetchone()
        kinds = connection.execute("SELECT kind FROM entries WHERE seq = 1 LIMIT 20").fetchall()
    return (newest[0] if newest else 0), frozenset(kind for (kind,) in kinds)


def _megabytes(size: int) -> str:
    return f"{size / 1_048_576:,.0f} MB" if size >= 1_048_576 else f"{size / 1024:,.0f} KB"
