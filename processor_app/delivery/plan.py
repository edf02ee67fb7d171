"""Which deliveries an order or a follow-up makes: one for each seller and channel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from processor_app.delivery.delivery import NO_CHANNEL, Delivery, DeliveryState, delivery_id_of
from service_kit.change import Ref


class Route(NamedTuple):
    """The channels by which a seller can be reached now, and those that it wants beside the one of an order."""

    reachable: frozenset[str]
    wanted: tuple[str, ...]


#: The routes of the sellers that are known, by their ids.
Routes = Mapping[str, Route]

_UNKNOWN = Route(frozenset(), ())


class Occasion(NamedTuple):
    """What sellers are told about: the order itself, or a follow-up, as the event of this number says it.

    ``kept_origin`` is the buyer's request.
    """

    ref: Ref
    run: int
    seq: int
    follow_up_id: str = ""
    kept_origin: str = ""


def plan(
    occasion: Occasion, notification_type: str, audience: Iterable[str], routes: Routes, *, now_ms: int
) -> list[Delivery]:
    """The deliveries, in the order of the audience.

    The order's own channel is always among them: a seller who cannot be reached by it yet has one that waits. A further
    channel that a seller wants is used if it works now.
    """
    if notification_type == NO_CHANNEL:
        return []
    deliveries = []
    for seller_id in audience:
        route = routes.get(seller_id, _UNKNOWN)
        further = [c for c in route.wanted if c != notification_type and c in route.reachable]
        for channel in (notification_type, *further):
            is_reachable = channel in route.reachable
            deliveries.append(_delivery(occasion, seller_id, channel, now_ms, is_reachable=is_reachable))
    return deliveries


def _delivery(occasion: Occasion, seller_id: str, channel: str, now_ms: int, *, is_reachable: bool) -> Delivery:
    return Delivery(
        delivery_id=delivery_id_of(occasion.ref, occasion.seq, channel, seller_id, now_ms),
        seq=occasion.seq,
        channel=channel,
        seller_id=seller_id,
        state=DeliveryState.PENDING if is_reachable else DeliveryState.WAITING,
        run=occasion.run,
        created_ms=now_ms,
        updated_ms=now_ms,
        due_ms=now_ms,
        round_ms=now_ms,
        follow_up_id=occasion.follow_up_id,
        kept_origin=occasion.kept_origin,
    )
