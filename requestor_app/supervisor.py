"""The supervisor owns the streams of this instance's orders, and spreads them over the links to the processors.

It acts only while the instance's lease is held.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Sequence

from requestor_app.domain import Order, order_of
from requestor_app.link import BATCH, Link
from requestor_app.live_limit import LiveLimit
from requestor_app.measures import RequestorMeasures
from requestor_app.outbox_limit import OutboxLimit
from requestor_app.tracking import OrderTracking, StreamState
from service_kit.change import Ref
from service_kit.errors import StoreUnavailable
from service_kit.lease import InstanceLease
from service_kit.logs import get_logger
from service_kit.origin import UNKNOWN, Origin
from service_kit.sharing import chosen
from service_kit.storage.contract import Store
from service_kit.times import now_ms

#: Between two rounds, and how long a stream waits that the processor could not open.
RETRY_S = 1.0
#: A stream that nobody has asked for in so long, though a processor is connected, is looked into.
FORGOTTEN_S = 2.0

log = get_logger(__name__)


class Supervisor:
    """Keeps one stream per order of this instance, as a component and as the owner of the links."""

    name = "supervisor"

    def __init__(
        self,
        store: Store,
        tracking: OrderTracking,
        lease: InstanceLease,
        limit: OutboxLimit,
        measures: RequestorMeasures,
        *,
        live: LiveLimit,
        instance_id: str,
        targets: Sequence[str],
        on_round: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._tracking = tracking
        self._lease = lease
        self._limit = limit
        self._live = live
        self._instance_id = instance_id
        self._on_round = on_round
        self._stopping = threading.Event()
        self._ticker: threading.Thread | None = None
        numbers = itertools.count(1)
        self.links = tuple(
            Link(target, self, store, tracking, measures, instance_id=instance_id, numbers=numbers)
            for target in targets
        )
        #: Guards the orders below.
        self._lock = threading.Lock()
        #: Orders whose record is to be looked at again.
        self._doubtful: dict[Ref, None] = {}

    # ---- the component

    def start(self) -> None:
        """Begin to tick."""
        self._limit.refresh()
        self._live.refresh()
        self._ticker = threading.Thread(target=self._tick, name="supervisor", daemon=True)
        self._ticker.start()

    def stop(self, timeout_s: float) -> None:
        """Stop ticking. Safe to call twice."""
        self._stopping.set()
        for link in self.links:
            link.stop()
        if self._ticker is not None:
            self._ticker.join(timeout_s)

    def check(self) -> str | None:
        """None while the ticker runs."""
        return None if self._ticker is not None and self._ticker.is_alive() else "the supervisor is not running"

    def check_processor(self) -> str | None:
        """None while a processor is connected, else why not."""
        return None if any(link.is_connected for link in self.links) else self.links[0].error

    def link_counts(self) -> dict[str, int]:
        """How many processors are connected, and how many are not."""
        up = sum(link.is_connected for link in self.links)
        return {"connected": up, "away": len(self.links) - up}

    def _tick(self) -> None:
        while not self._stopping.wait(RETRY_S):
            try:
                self._look_at_doubtful()
                for link in self.links if len(self.links) > 1 else ():
                    link.attract()
                self._limit.refresh()
                self._live.refresh()
                self._on_round()
            except StoreUnavailable:
                pass  # its cause stands in the log once, by the store
            except Exception as error:
                log.error("A round of the supervisor failed", action="supervisor.tick_failed", exc_info=error)

    def _look_at_doubtful(self) -> None:
        with self._lock:
            doubtful, self._doubtful = self._doubtful, {}
        if self.check_processor() is None and all(link.is_settled for link in self.links):
            # Nobody is about to open these: most likely another instance has taken them over.
            waiting = self._tracking.listed(StreamState.CONNECTING, since_ms=now_ms() - int(FORGOTTEN_S * 1000))
            doubtful.update(dict.fromkeys(waiting[:BATCH]))
        pending = list(doubtful)
        while pending:
            try:
                self._look_at(pending[-1])
            except BaseException:
                with self._lock:
                    self._doubtful.update(dict.fromkeys(pending))
                raise
            pending.pop()

    def _look_at(self, ref: Ref) -> None:
        """Do what the order's record asks for: open its stream, relay what waits, or drop it."""
        tracked = self._tracking.find(ref)
        token = 0 if tracked is None else tracked.token
        record = self._store.get(ref)
        order = None if record is None else order_of(record)
        if order is None or (order.is_unfinished and order.owner != self._instance_id):
            self._drop(ref, token, "another instance holds it", UNKNOWN if order is None else order.origin)
            return
        if not order.is_unfinished and not order.unsent:
            self._drop(ref, token, f"it is {order.state}", order.origin)
            return
        if not self._tracking.track(order, now_ms()) and not order.is_unfinished:
            self._tracking.stop(ref, order.token, drain=True)
        link = self._link_for(ref)
        if order.is_unfinished:
            link.open(order)
        link.relay_if_connected(ref)

    def _drop(self, ref: Ref, token: int, reason: str, origin: Origin) -> None:
        if token:
            self._tracking.stop(ref, token)
            log.info(
                f"Dropped order {ref.key}: {reason}",
                action="stream.dropped",
                order_req_id=ref.key,
                token=token,
                **origin.names,
            )

    # ---- for the use cases

    def launch(self, order: Order) -> bool:
        """Open the stream of an order that was just claimed; False when it is launched already."""
        if not self._tracking.track(order, now_ms()):
            return False
        log.info(
            f"Marked gRPC stream as active for order {order.ref.key}",
            action="stream.launched",
            order_req_id=order.ref.key,
            token=order.token,
        )
        self._link_of(order.ref).open(order)
        return True

    def nudge(self, ref: Ref) -> bool:
        """Say that the order's outbox has something to relay; False when this instance does not hold the order."""
        if len(self.links) == 1:
            self.links[0].relay(ref)
        else:
            self._link_for(ref).relay(ref)
        return self._tracking.find(ref) is not None

    def look_again(self, ref: Ref) -> None:
        """Say that nobody can tell what has become of the last step on the order; its record will."""
        with self._lock:
            self._doubtful[ref] = None

    # ---- the owner of the links

    def objection(self) -> str | None:
        """Why nothing may be done for an order: the lease is not held."""
        return None if self._lease.is_held else "this instance's lease has lapsed"

    def is_of(self, ref: Ref, link: Link) -> bool:
        """Whether the order's stream belongs on this link, as things stand."""
        return self._link_of(ref) is link

    def spread(self) -> None:
        """Have the links that are up open what the others have lost."""
        for link in self.links:
            link.reopen()

    def _link_of(self, ref: Ref) -> Link:
        """Where the order's stream belongs: the same link for as long as the same links are up."""
        if len(self.links) == 1:
            return self.links[0]
        up = {link.target: link for link in self.links if link.is_connected}
        return up[chosen(ref, up)] if up else self.links[0]

    def _link_for(self, ref: Ref) -> Link:
        """Where the order's stream is, else where it belongs."""
        tracked = self._tracking.find(ref)
        target = "" if tracked is None else tracked.link
        found: Iterable[Link] = (link for link in self.links if link.target == target)
        return next(iter(found), None) or self._link_of(ref)
