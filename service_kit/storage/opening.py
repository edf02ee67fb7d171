"""Finds the engine for a store's URL. That of Redis is loaded only where it is asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from service_kit.access.model import AccessStore
from service_kit.errors import StartRefused
from service_kit.hints import Hints, NoHints
from service_kit.lifecycle import Component
from service_kit.rates import Budget
from service_kit.storage.contract import Store
from service_kit.storage.sqlite import SqliteStore
from service_kit.storage.sqlite_access import SqliteAccess

_SQLITE = "sqlite:///"
_REDIS = tuple(f"{scheme}{form}://" for scheme in ("redis", "rediss") for form in ("", "+sentinel", "+cluster"))


class AccessEngine(AccessStore, Component, Protocol):
    """An access store as a part of a service. It works before its start, and after its stop as well."""


def open_store(url: str, *, base_folder: Path, prefix: str) -> Store:
    """The store that the URL names, not started. A relative path stands under ``base_folder``. Raises `StartRefused`.

    After ``sqlite:///`` comes the path as the system writes it: ``data/orders.db``, ``/var/lib/orders.db``,
    ``C:/orders/orders.db``. In a Redis, all keys of the service begin with ``prefix``.
    """
    if url.startswith(_SQLITE) and len(url) > len(_SQLITE):
        return SqliteStore(base_folder / Path(url.removeprefix(_SQLITE)))
    if is_redis(url):
        from service_kit.storage.redis_store import RedisStore  # noqa: PLC0415 # only who asks for it pays for it
        from service_kit.storage.redis_url import read_url  # noqa: PLC0415

        return RedisStore(read_url(url), prefix=prefix)
    raise StartRefused(
        "A store's URL begins with sqlite:/// or redis://, such as sqlite:///data/orders.db or redis://127.0.0.1:6379/0."
    )


def is_redis(url: str) -> bool:
    """Whether the URL names a Redis, in which both services may have their stores."""
    return url.startswith(_REDIS)


def open_access_store(url: str, *, base_folder: Path, prefix: str) -> AccessEngine:
    """The access store that belongs to a service's store, which the URL names: a file beside it, or the same Redis."""
    if is_redis(url):
        from service_kit.storage.redis_access import RedisAccess  # noqa: PLC0415 # only who asks for it pays for it
        from service_kit.storage.redis_url import read_url  # noqa: PLC0415

        return RedisAccess(read_url(url), prefix=prefix)
    return SqliteAccess(folder_beside(url, base_folder=base_folder) / f"{prefix}-access.db")


def hints_of(store: Store) -> Hints:
    """The way to tell other instances over the same store that there is something to look at; not started."""
    if not store.is_shared:
        return NoHints()
    from service_kit.storage.redis_hints import RedisHints  # noqa: PLC0415 # in memory by now
    from service_kit.storage.redis_store import RedisStore  # noqa: PLC0415

    return RedisHints(store.link) if isinstance(store, RedisStore) else NoHints()


def budget_of(store: Store) -> Budget | None:
    """What instances over the same store share when they count requests; None when there is one instance."""
    if not store.is_shared:
        return None
    from service_kit.storage.redis_budget import RedisBudget  # noqa: PLC0415 # in memory by now
    from service_kit.storage.redis_store import RedisStore  # noqa: PLC0415

    return RedisBudget(store.link) if isinstance(store, RedisStore) else None


def folder_beside(url: str, *, base_folder: Path) -> Path:
    """The folder for what a service keeps in files: that of the store's own file, or ``data`` without one."""
    if url.startswith(_SQLITE):
        return (base_folder / Path(url.removeprefix(_SQLITE))).parent
    return base_folder / "data"
