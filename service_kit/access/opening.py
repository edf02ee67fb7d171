"""Puts together what a service needs to know who may do what."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from service_kit.access.audit import AuditLog
from service_kit.access.keyring import Keyring
from service_kit.access.sessions import Sessions
from service_kit.lifecycle import Component
from service_kit.storage.opening import AccessEngine, open_access_store


@dataclass(frozen=True, slots=True)
class Access:
    """The keys of a service. Where none are needed, nothing of it runs and no file is made."""

    store: AccessEngine
    keyring: Keyring
    sessions: Sessions
    audit: AuditLog
    is_needed: bool

    @property
    def components(self) -> tuple[Component, ...]:
        """The parts to start, in order, before those that are called."""
        return (self.store, self.keyring) if self.is_needed else (self.store,)


def open_access(store_url: str, *, base_folder: Path, prefix: str, is_needed: bool) -> Access:
    """What belongs to the store of a service. Raises `StartRefused` for a URL that is none."""
    store = open_access_store(store_url, base_folder=base_folder, prefix=prefix)
    keyring = Keyring(store)
    return Access(store, keyring, Sessions(store, keyring, service=prefix), AuditLog(store), is_needed)
