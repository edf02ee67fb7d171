"""How many orders may be live, in all and of one tenant; above it, a new one is refused."""

from __future__ import annotations

import threading
from collections import Counter

from requestor_app.domain import OrderState
from service_kit.errors import Unavailable
from service_kit.storage.contract import Store

_ALL = None


class TooManyLive(Unavailable):
    """As many orders are live as may be; nothing was accepted."""

    code = "too_many_live_orders"
    title = "Too many live orders"


class LiveLimit:
    """Counts live orders: exactly at each refresh, from above between two.

    Several instances over one store refresh by themselves: together they may go beyond the limit by what they all admit
    between two refreshes.
    """

    def __init__(self, store: Store, *, in_all: int, per_tenant: int) -> None:
        self._store = store
        #: What may be live, by what is counted; 0 is no limit.
        self._in_all, self._per_tenant = in_all, per_tenant
        #: Guards the numbers and who has asked.
        self._lock = threading.Lock()
        self._counted: dict[str | None, int] = {}
        self._added: Counter[str | None] = Counter()
        #: Tenants that have asked since the last refresh: those are counted anew, and the others forgotten.
        self._asked: set[str] = set()

    @property
    def is_on(self) -> bool:
        """Whether there is a limit at all."""
        return bool(self._in_all or self._per_tenant)

    def admit(self, tenant: str) -> None:
        """Count one more order. Raises `TooManyLive`, or `StoreUnavailable` for a tenant that is counted first."""
        if not self.is_on:
            return
        if self._per_tenant and tenant not in self._counted:
            count = self._count(tenant)
            with self._lock:
                self._counted.setdefault(tenant, count)
        with self._lock:
            self._asked.add(tenant)
            if self._in_all and self._number(_ALL) >= self._in_all:
                raise TooManyLive(f"{self._in_all} orders are live, which is the most in all.", retry_after_s=5)
            if self._per_tenant and self._number(tenant) >= self._per_tenant:
                raise TooManyLive(f"{self._per_tenant} of your orders are live, which is the most.", retry_after_s=5)
            self._added[_ALL] += 1
            if self._per_tenant:
                self._added[tenant] += 1

    def refresh(self) -> None:
        """Count anew. Raises `StoreUnavailable`."""
        if not self.is_on:
            return
        with self._lock:
            before, asked, self._asked = self._added.copy(), self._asked, set()
        counted: dict[str | None, int] = {_ALL: self._count(_ALL)} if self._in_all else {}
        if self._per_tenant:
            counted |= {tenant: self._count(tenant) for tenant in asked}
        with self._lock:
            # What was admitted during the count may be counted twice until the next one: too many, never too few.
            self._counted = counted
            self._added -= before

    def _number(self, of: str | None) -> int:
        return self._counted.get(of, 0) + self._added[of]

    def _count(self, tenant: str | None) -> int:
        states = self._store.counts(tenant)
        return states.get(OrderState.LIVE, 0) + states.get(OrderState.CLOSING, 0)
