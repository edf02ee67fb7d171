"""The seller directory: who is told about orders, and where.

It is read for every order and note, so what was read is kept for a moment. A change through this object is seen at
once; one by another processor over the same store is seen within the time to live.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from processor_app.delivery import sellers
from processor_app.delivery.channel import Seller
from processor_app.delivery.sellers import (
    SellerEntry,
    SellerNotFound,
    SellerState,
    SellerWish,
    directory_of,
    entry_of,
    seller_of,
    seller_ref,
)
from processor_app.delivery.webhook_signing import new_secret
from service_kit.change import Change, Decide, Entry, Ref, Step
from service_kit.failpoints import failpoint
from service_kit.logs import get_logger
from service_kit.lookup import search
from service_kit.storage.contract import Store
from service_kit.times import now_ms

_TTL_S = 5.0
#: More sellers than this are not remembered at a time.
_MAX_REMEMBERED = 50_000

log = get_logger(__name__)

_KEPT = failpoint("processor.seller.kept")


@dataclass(frozen=True, slots=True)
class SellerPage:
    """One page of the directory, newest first."""

    entries: tuple[SellerEntry, ...]
    next_cursor: str | None


class _Remembered(NamedTuple):
    """What was read of a seller (None: that there is none), and until when it counts."""

    seller: Seller | None
    until_s: float


class SellerDirectory:
    """The sellers of every tenant. ``announce`` is told of each seller that may be reachable in another way now."""

    def __init__(
        self,
        store: Store,
        *,
        announce: Callable[[str, str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._announce = announce
        self._clock = clock
        #: Guards the memory, and that nothing is remembered which was read before the latest change.
        self._lock = threading.Lock()
        self._remembered: dict[Ref, _Remembered] = {}
        self._changes = 0

    # ---- reads

    def find(self, tenant: str, seller_ids: Collection[str]) -> dict[str, Seller]:
        """Those of the sellers that there are; what was read a moment ago is not read again."""
        found: dict[str, Seller] = {}
        unknown: list[str] = []
        now_s = self._clock()
        for seller_id in seller_ids:
            remembered = self._remembered.get(seller_ref(tenant, seller_id))
            if remembered is None or remembered.until_s < now_s:
                unknown.append(seller_id)
            elif remembered.seller is not None:
                found[seller_id] = remembered.seller
        return found | self.find_anew(tenant, unknown) if unknown else found

    def find_anew(self, tenant: str, seller_ids: Collection[str]) -> dict[str, Seller]:
        """The same, as the store has it now."""
        changes = self._changes
        refs = [seller_ref(tenant, seller_id) for seller_id in seller_ids]
        records = self._store.get_many(refs)
        read = {ref: seller_of(records.get(ref)) for ref in refs}
        until_s = self._clock() + _TTL_S
        with self._lock:
            if changes == self._changes:
                if len(self._remembered) > _MAX_REMEMBERED:
                    self._remembered.clear()
                self._remembered |= {ref: _Remembered(seller, until_s) for ref, seller in read.items()}
        return {ref.key: seller for ref, seller in read.items() if seller is not None}

    def get(self, tenant: str, seller_id: str) -> SellerEntry:
        """A seller's entry as the store has it now. Raises `SellerNotFound`."""
        record = self._store.get(seller_ref(tenant, seller_id))
        if record is None or seller_of(record) is None:
            raise SellerNotFound("The directory has no seller with this id.")
        return entry_of(record)

    def page(self, tenant: str, *, cursor: str | None, limit: int) -> SellerPage:
        """Entries newest first."""
        states = (SellerState.REGISTERED,)
        page = self._store.page(tenant=directory_of(tenant), states=states, cursor=cursor, limit=limit)
        return SellerPage(tuple(entry_of(record) for record in page.records), page.next_cursor)

    def find_entries(self, tenant: str, *, prefix: str | None, cursor: str | None, limit: int) -> SellerPage:
        """Entries newest first whose id begins with a text; a page may hold less and not be the last."""
        if prefix is None:
            return self.page(tenant, cursor=cursor, limit=limit)
        states = (SellerState.REGISTERED,)
        page = search(self._store, directory_of(tenant), prefix, states=states, cursor=cursor, limit=limit)
        return SellerPage(tuple(entry_of(record) for record in page.records), page.next_cursor)

    def history(self, tenant: str, seller_id: str, *, after: int, limit: int) -> list[Entry]:
        """Who changed what, above ``after``; a removed seller's too. Raises `SellerNotFound`."""
        ref = seller_ref(tenant, seller_id)
        if self._store.get(ref) is None:
            raise SellerNotFound("The directory has no seller with this id.")
        return self._store.entries(ref, after=after, limit=limit)

    # ---- changes

    def put(self, tenant: str, seller_id: str, wish: SellerWish) -> tuple[SellerEntry, str | None]:
        """Register or change a seller; answers the entry, and the webhook's secret when it is a new one."""
        secret = new_secret()
        decide = partial(sellers.put, ref=seller_ref(tenant, seller_id), wish=wish, secret=secret, now_ms=now_ms())
        change = self._change(tenant, seller_id, decide)
        if change is None:
            return self.get(tenant, seller_id), None
        entry = entry_of(change.record)
        return entry, secret if secret in entry.seller.webhook_secrets else None

    def rotate_secret(self, tenant: str, seller_id: str) -> str:
        """Give the seller's webhook a new secret, and answer it. Raises `SellerNotFound` or `NoWebhook`."""
        secret = new_secret()
        self._change(tenant, seller_id, partial(sellers.rotate_secret, secret=secret, now_ms=now_ms()))
        return secret

    def disable_webhook(self, tenant: str, seller_id: str, webhook_url: str, reason: str) -> None:
        """Send nothing more to this URL until somebody puts one."""
        decide = partial(sellers.disable_webhook, webhook_url=webhook_url, reason=reason, now_ms=now_ms())
        self._change(tenant, seller_id, decide)

    def remove(self, tenant: str, seller_id: str) -> None:
        """Take a seller out of the directory. Raises `SellerNotFound`."""
        self._change(tenant, seller_id, partial(sellers.remove, now_ms=now_ms()))

    def _change(self, tenant: str, seller_id: str, decide: Decide) -> Change | None:
        ref = seller_ref(tenant, seller_id)
        try:
            change = self._store.update(Step(ref, decide))
            _KEPT()
        finally:
            # Also after an error: it may be on disk all the same.
            self._forget(ref)
            self._announce(tenant, seller_id)
        if change is not None:
            (entry,) = change.entries
            log.info(f"Seller {seller_id}: {entry.kind}", action=f"seller.{entry.kind}", seller_id=seller_id)
        return change

    def _forget(self, ref: Ref) -> None:
        with self._lock:
            self._changes += 1
            self._remembered.pop(ref, None)

    # ---- cleanup

    def prune(self, retention_s: float, limit: int) -> int:
        """Drop what is left of sellers who were removed that long ago; answers how many went."""
        return self._store.purge(
            states=(SellerState.REMOVED,), before_ms=now_ms() - int(retention_s * 1000), limit=limit
        )
