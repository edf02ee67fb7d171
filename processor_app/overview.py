"""What goes on at this processor, at a glance: for the operator page and its charts."""

from __future__ import annotations

from dataclasses import dataclass

from processor_app.delivery.delivery import DeliveryState
from processor_app.delivery.dispatcher import Dispatcher
from processor_app.delivery.sellers import SellerState, directory_of
from processor_app.streams import StreamHub
from service_kit.change import ACTIVE_STATES, DEFAULT_TENANT
from service_kit.storage.contract import Store


@dataclass(frozen=True, slots=True)
class Situation:
    """How things stand now. ``requestors`` are the peers whose calls carry streams; it ``is_linked`` while one does.

    ``oldest_active_ms`` is when the oldest delivery that is still to be sent was made. ``open_breakers`` counts the
    doors that are given a rest after failures, ``slow_sellers`` those behind which attempts take long.
    """

    orders: dict[str, int]
    open_streams: int
    deliveries: dict[str, int]
    oldest_active_ms: int | None
    open_breakers: int
    slow_sellers: int
    sellers: int
    is_linked: bool
    requestors: tuple[str, ...]


class Overview:
    """Reads the numbers where they are kept anyway."""

    def __init__(self, store: Store, hub: StreamHub, dispatcher: Dispatcher) -> None:
        self._store = store
        self._hub = hub
        self._dispatcher = dispatcher

    def look(self, tenant: str) -> Situation:
        """How things stand now for a tenant. Raises `StoreUnavailable`.

        What the service is made of, and what is known of all tenants together, is for the first tenant alone.
        """
        is_first = tenant == DEFAULT_TENANT
        deliveries = self._store.outbox_counts(tenant)
        oldest_ms = self._store.measure().oldest_ms if is_first else {}
        doors = self._dispatcher.troubled_doors(tenant)
        peers = tuple(sorted(outlet.peer for outlet in self._hub.outlets()))
        return Situation(
            orders=self._store.counts(tenant),
            open_streams=self._hub.streams_of(tenant),
            deliveries=deliveries,
            oldest_active_ms=min((oldest_ms[state] for state in ACTIVE_STATES if state in oldest_ms), default=None),
            open_breakers=doors.resting,
            slow_sellers=doors.slow,
            sellers=self._store.counts(directory_of(tenant)).get(SellerState.REGISTERED, 0),
            is_linked=bool(peers),
            requestors=peers if is_first else (),
        )

    def sample(self) -> dict[str, float]:
        """The numbers that charts are drawn from, for the first tenant. Raises `StoreUnavailable`."""
        now = self.look(DEFAULT_TENANT)
        return {
            **{f"orders.{state}": n for state, n in now.orders.items()},
            "streams.open": now.open_streams,
            **{f"deliveries.{state}": now.deliveries.get(state, 0) for state in DeliveryState},
            "requestors": len(now.requestors),
        }
