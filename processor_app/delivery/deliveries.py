"""The use cases of deliveries: what a person can see of them, and send again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

from processor_app.delivery import lifecycle
from processor_app.delivery.backlog import Backlog
from processor_app.delivery.delivery import Delivery, DeliveryState, created_ms_of, delivery_of
from processor_app.delivery.lifecycle import DeliveryNotFound
from processor_app.streams import StreamHub
from service_kit.change import Change, Ref, Step
from service_kit.failpoints import failpoint
from service_kit.logs import get_logger
from service_kit.storage.contract import MessageFilter, Store, every_message
from service_kit.times import now_ms

#: How many deliveries one call sends again at most.
MAX_RETRIED = 10_000
_BATCH = 500

log = get_logger(__name__)

_RETRIED = failpoint("processor.delivery.retried")


@dataclass(frozen=True, slots=True)
class DeliveryPage:
    """One page of deliveries with their orders, newest first."""

    deliveries: tuple[tuple[Ref, Delivery], ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True)
class Retried:
    """How many deliveries are sent again; ``is_complete`` unless there may be more."""

    count: int
    is_complete: bool


class Deliveries:
    """Lists deliveries and sends them again."""

    def __init__(self, store: Store, hub: StreamHub, backlog: Backlog) -> None:
        self._store = store
        self._hub = hub
        self._backlog = backlog

    def page(self, wanted: MessageFilter, *, cursor: str | None, limit: int) -> DeliveryPage:
        """Deliveries newest first, filtered; no state means all."""
        if not wanted.states:
            wanted = replace(wanted, states=tuple(DeliveryState))
        page = self._store.outbox(wanted, cursor=cursor, limit=limit)
        return DeliveryPage(tuple((ref, delivery_of(message)) for ref, message in page.messages), page.next_cursor)

    def counts(self, tenant: str | None = None) -> dict[str, int]:
        """How many deliveries stand in each state; of all tenants when None."""
        return self._store.outbox_counts(tenant)

    def retry(self, tenant: str, delivery_id: str) -> tuple[Ref, Delivery]:
        """Send a dead or retrying delivery again, now. Raises `DeliveryNotFound` or `DeliveryNotRetryable`."""
        ref = self._order_of(tenant, delivery_id)
        (result,) = self._retry([(ref, delivery_id)])
        if not isinstance(result, Change):
            raise result if result is not None else DeliveryNotFound("No delivery has this id.")
        log.info(
            f"Delivery {delivery_id} is sent again",
            action="delivery.retried",
            order_req_id=ref.key,
            delivery_id=delivery_id,
        )
        return ref, delivery_of(result.puts[0])

    def _order_of(self, tenant: str, delivery_id: str) -> Ref:
        created_ms = created_ms_of(delivery_id)
        if created_ms is not None:
            moment = MessageFilter(
                tenant, tuple(DeliveryState), created_from_ms=created_ms, created_before_ms=created_ms + 1
            )
            for ref, message in every_message(self._store, moment):
                if message.message_id == delivery_id:
                    return ref
        raise DeliveryNotFound("No delivery has this id.")

    def retry_all(self, wanted: MessageFilter) -> Retried:
        """Send again what the filter finds, up to a bound; what changes meanwhile is left as it is."""
        found = islice(every_message(self._store, wanted), MAX_RETRIED + 1)
        named = [(ref, message.message_id) for ref, message in found]
        is_complete = len(named) <= MAX_RETRIED
        del named[MAX_RETRIED:]
        named.reverse()  # oldest first, so that none overtakes another
        count = 0
        for start in range(0, len(named), _BATCH):
            count += sum(isinstance(result, Change) for result in self._retry(named[start : start + _BATCH]))
        log.info(f"{count} deliveries are sent again", action="delivery.retried", deliveries=count)
        return Retried(count, is_complete)

    def _retry(self, named: Sequence[tuple[Ref, str]]) -> list[Change | Exception | None]:
        at_ms = now_ms()
        steps = [
            Step(ref, partial(lifecycle.retry, delivery_id=delivery_id, now_ms=at_ms), message_ids=(delivery_id,))
            for ref, delivery_id in named
        ]
        try:
            results = self._store.update_all(steps)
            _RETRIED()
        except BaseException:
            # It may be on disk all the same.
            self._backlog.look_again([ref for ref, _ in named])
            raise
        for result in results:
            if isinstance(result, Change):
                self._backlog.retry(result.record.ref, result.puts)
        self._hub.publish([ref for ref, _ in named])
        return results
