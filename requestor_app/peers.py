"""What the other requestors over the same store say of themselves, once a second; forgotten when they fall silent."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from requestor_app.domain import Order
from requestor_app.tracking import OrderTracking, StreamState, StreamView
from service_kit.change import Ref
from service_kit.hints import Hints

#: The topic of what is said.
TOPIC = "peer"
#: An instance that has said nothing for so long is not counted.
SILENT_S = 4.0
#: Streams that are named because they are not open; with more than these, all of the instance count as not open.
_MAX_NAMED = 500


class _Peer:
    """What one instance said last."""

    __slots__ = ("closed", "heard_s", "open_streams")

    def __init__(self, heard_s: float, open_streams: Mapping[str, int], closed: frozenset[Ref] | None) -> None:
        self.heard_s = heard_s
        #: By tenant.
        self.open_streams = open_streams
        #: The orders whose streams are not open; None when they are too many to be named.
        self.closed = closed


class Peers:
    """Tells the others how this instance's streams stand, and knows how theirs do."""

    def __init__(
        self,
        tracking: OrderTracking,
        hints: Hints,
        *,
        instance_id: str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tracking = tracking
        self._hints = hints
        self._instance_id = instance_id
        self._clock = clock
        #: Guards what is known.
        self._lock = threading.Lock()
        self._peers: dict[str, _Peer] = {}

    # ---- told

    def tell(self) -> None:
        """Say how this instance's streams stand."""
        closed = [ref for state in _NOT_OPEN for ref in self._tracking.listed(state)]
        self._hints.send(
            TOPIC,
            [
                {
                    "instance": self._instance_id,
                    "open": self._tracking.open_streams(),
                    "closed": closed if len(closed) <= _MAX_NAMED else None,
                }
            ],
        )

    def hear(self, said: Sequence[Mapping[str, Any]]) -> None:
        """Take in what others say."""
        now_s = self._clock()
        with self._lock:
            for item in said:
                closed = None if item["closed"] is None else frozenset(Ref(*ref) for ref in item["closed"])
                self._peers[str(item["instance"])] = _Peer(now_s, dict(item["open"]), closed)
            self._peers = {name: peer for name, peer in self._peers.items() if now_s - peer.heard_s < SILENT_S}

    # ---- known

    def open_streams(self, tenant: str) -> int:
        """How many streams of a tenant are open, at all instances."""
        own = self._tracking.count(StreamState.OPEN, StreamState.ENDING, tenant=tenant)
        return own + sum(peer.open_streams.get(tenant, 0) for peer in self._living().values())

    def view(self, order: Order) -> StreamView | None:
        """How the stream of an order stands, wherever it is; None when nobody knows."""
        own = self._tracking.view(order.ref)
        if own is not None or not order.is_unfinished or order.owner == self._instance_id:
            return own
        peer = self._living().get(order.owner)
        if peer is None or peer.closed is None or order.ref in peer.closed or not order.applied_seq:
            return None
        return StreamView(StreamState.OPEN, order.updated_ms, "", order.token)

    def _living(self) -> Mapping[str, _Peer]:
        peers = self._peers
        if not peers:
            return peers
        now_s = self._clock()
        with self._lock:
            return {name: peer for name, peer in self._peers.items() if now_s - peer.heard_s < SILENT_S}


_NOT_OPEN = (StreamState.CONNECTING, StreamState.OPENING, StreamState.REFUSED)
