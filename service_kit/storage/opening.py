"""Finds the engine for a store's URL."""

from __future__ import annotations

from pathlib import Path

from service_kit.errors import StartRefused
from service_kit.storage.sqlite import SqliteStore

_SQLITE = "sqlite:///"


def open_store(url: str, *, base_folder: Path) -> SqliteStore:
    """The store that the URL names, not started; relative paths stand under ``base_folder``. Raises `StartRefused`."""
    if url.startswith(_SQLITE) and len(url) > len(_SQLITE):
        return SqliteStore(base_folder / Path(url.removeprefix(_SQLITE)))
    if url.startswith(("redis://", "rediss://")):
        raise StartRefused("The Redis engine is not built in yet: use a store such as sqlite:///data/orders.db.")
    raise StartRefused("A store's URL begins with sqlite:///, such as sqlite:///data/orders.db.")
