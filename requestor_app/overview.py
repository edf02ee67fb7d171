"""What goes on at this requestor, at a glance: for the operator page and its charts."""

from __future__ import annotations

from dataclasses import dataclass

from requestor_app.domain import SET_ASIDE
from requestor_app.orders import Orders
from requestor_app.supervisor import Supervisor
from requestor_app.tracking import OrderTracking, StreamState
from service_kit.change import DEFAULT_TENANT
from service_kit.storage.contract import Store

_PENDING = "pending"
#: How a person is told of streams: what only differs for the supervisor is one.
_SHOWN_STREAMS = {
    "open": (StreamState.OPEN, StreamState.ENDING),
    "connecting": (StreamState.RESERVED, StreamState.CONNECTING, StreamState.OPENING),
    "refused": (StreamState.REFUSED,),
}


@dataclass(frozen=True, slots=True)
class Instance:
    """One requestor over the same store. One that is gone holds orders until another takes them over."""

    name: str
    is_this: bool
    is_gone: bool


@dataclass(frozen=True, slots=True)
class Processor:
    """One processor that this requestor is set to. ``error`` is why it is not connected, None when it is."""

    target: str
    error: str | None


@dataclass(frozen=True, slots=True)
class Situation:
    """How things stand now. ``link_error`` is why no processor is connected, None when one is.

    ``pending`` counts the messages, notes and closes, that the processor has not taken yet; ``oldest_pending_ms`` is
    when the oldest of them was made. ``set_aside`` counts those that it refused.
    """

    orders: dict[str, int]
    streams: dict[str, int]
    duplicates_refused: int
    pending: int
    set_aside: int
    oldest_pending_ms: int | None
    link_error: str | None
    processors: tuple[Processor, ...]
    instances: tuple[Instance, ...]


class Overview:
    """Reads the numbers where they are kept anyway."""

    def __init__(
        self, store: Store, tracking: OrderTracking, orders: Orders, supervisor: Supervisor, *, instance_id: str
    ) -> None:
        self._store = store
        self._tracking = tracking
        self._orders = orders
        self._supervisor = supervisor
        self._instance_id = instance_id

    def look(self, tenant: str) -> Situation:
        """How things stand now for a tenant. Raises `StoreUnavailable`.

        What the service is made of, and what is known of all tenants together, is for the first tenant alone.
        """
        is_first = tenant == DEFAULT_TENANT
        messages = self._store.outbox_counts(tenant)
        return Situation(
            orders=self._store.counts(tenant),
            streams={name: self._tracking.count(*states, tenant=tenant) for name, states in _SHOWN_STREAMS.items()},
            duplicates_refused=self._orders.duplicates_refused(tenant),
            pending=messages.get(_PENDING, 0),
            set_aside=messages.get(SET_ASIDE, 0),
            oldest_pending_ms=self._store.measure().oldest_ms.get(_PENDING) if is_first else None,
            link_error=self._supervisor.check_processor(),
            processors=self._processors() if is_first else (),
            instances=self._instances() if is_first else (),
        )

    def sample(self) -> dict[str, float]:
        """The numbers that charts are drawn from, for the first tenant. Raises `StoreUnavailable`."""
        now = self.look(DEFAULT_TENANT)
        return {
            **{f"orders.{state}": n for state, n in now.orders.items()},
            **{f"streams.{state}": n for state, n in now.streams.items()},
            "duplicates_refused": now.duplicates_refused,
            "notes.pending": now.pending,
            "notes.set_aside": now.set_aside,
            "processor.connected": float(now.link_error is None),
        }

    def _processors(self) -> tuple[Processor, ...]:
        return tuple(
            Processor(link.target, None if link.is_connected else link.error) for link in self._supervisor.links
        )

    def _instances(self) -> tuple[Instance, ...]:
        now_ms = self._store.now_ms()
        return tuple(
            Instance(lease.instance, lease.instance == self._instance_id, lease.until_ms <= now_ms)
            for lease in self._store.leases()
        )
