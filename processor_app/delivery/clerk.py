"""What the backlog has to know from the store: how deliveries stand, and which of those that wait can go by now."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import partial

from processor_app.delivery import lifecycle
from processor_app.delivery.backlog import Backlog, Errands
from processor_app.delivery.delivery import DeliveryState
from processor_app.delivery.routes import RouteFinder
from processor_app.streams import StreamHub
from service_kit.change import ACTIVE_STATES, Change, Ref, Step
from service_kit.failpoints import failpoint
from service_kit.logs import get_logger
from service_kit.storage.contract import MessageFilter, Store, every_message
from service_kit.times import now_ms

#: Orders whose deliveries are released in one commit.
_BATCH = 500
#: More deliveries than an order can have.
_ALL = 10_000_000

log = get_logger(__name__)

_RELEASED = failpoint("processor.delivery.released")


class Clerk:
    """Reads deliveries from the store into the backlog, and releases those that wait. One thread uses it."""

    def __init__(
        self,
        store: Store,
        hub: StreamHub,
        routes: RouteFinder,
        backlog: Backlog,
        *,
        is_mine: Callable[[Ref], bool] = lambda _: True,
    ) -> None:
        self._store = store
        self._is_mine = is_mine
        self._hub = hub
        self._routes = routes
        self._backlog = backlog
        self._missed: set[str] = set()
        self._counts: Mapping[str, int] = {}

    @property
    def counts(self) -> Mapping[str, int]:
        """How many deliveries stood in each state at the last look."""
        return self._counts

    def load(self) -> None:
        """Take in every delivery that is to be sent, and have each seller looked up for whom one waits."""
        for ref, message in every_message(self._store, MessageFilter(None, (*ACTIVE_STATES, DeliveryState.WAITING))):
            self._backlog.apply(ref, (message,))
        self.count()

    def count(self) -> None:
        """Look at the counts."""
        self._counts = self._store.outbox_counts()

    def compare(self) -> None:
        """Take in what another processor over the same store has left behind; a look at the counts is enough mostly.

        What is missing now may be on its way into the backlog. What is missing twice is not.
        """
        self.count()
        active = sum(self._counts.get(state, 0) for state in ACTIVE_STATES)
        if active == self._backlog.facts().queued:
            self._missed = set()
            return
        listed = {
            message.message_id: (ref, message)
            for ref, message in every_message(self._store, MessageFilter(None, ACTIVE_STATES))
            if self._is_mine(ref)
        }
        missed = self._backlog.unknown(listed)
        for ref, message in sorted(
            (listed[name] for name in missed & self._missed), key=lambda found: found[1].position
        ):
            self._backlog.apply(ref, (message,))
        self._missed = missed - self._missed

    def run(self, errands: Errands) -> None:
        """Ask the store what is to be asked. Raises `StoreUnavailable`; then all of it is to be asked again."""
        if errands.is_reload:
            self.load()
        for ref in errands.refs:
            self._backlog.resolve(ref, self._store.messages(ref, limit=_ALL))
        for tenant, seller_id in errands.sellers:
            self._release(tenant, seller_id)

    def _release(self, tenant: str, seller_id: str) -> None:
        """Let go what waits for a seller, as far as the seller can be reached now."""
        routes = self._routes.find_anew(tenant, (seller_id,))
        if seller_id not in routes or not routes[seller_id].reachable:
            return
        waiting: defaultdict[Ref, list[str]] = defaultdict(list)
        wanted = MessageFilter(tenant, (DeliveryState.WAITING,), address=seller_id)
        for ref, message in every_message(self._store, wanted):
            if message.kind in routes[seller_id].reachable:
                waiting[ref].append(message.message_id)
        decide = partial(lifecycle.release, routes=routes, now_ms=now_ms())
        steps = [Step(ref, decide, message_ids=tuple(ids)) for ref, ids in waiting.items()]
        for start in range(0, len(steps), _BATCH):
            self._change(steps[start : start + _BATCH])
        if waiting:
            count = sum(map(len, waiting.values()))
            log.info(
                f"Released {count} deliveries that waited for seller {seller_id}",
                action="delivery.released",
                seller_id=seller_id,
                deliveries=count,
            )

    def _change(self, steps: Sequence[Step]) -> None:
        try:
            results = self._store.update_all(steps)
            _RELEASED()
        except BaseException:
            # It may be on disk all the same.
            self._backlog.look_again([step.ref for step in steps])
            raise
        for result in results:
            if isinstance(result, Change):
                self._backlog.announce(result.record.ref, result.puts)
        self._hub.publish([result.record.ref for result in results if isinstance(result, Change)])
