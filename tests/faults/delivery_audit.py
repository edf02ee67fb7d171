"""Compares the notes that were accepted with what is said of their deliveries and with what the sinks got."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from tests.faults.sellers import CHANNELS, EMAIL, Market, Wanted

Delivery: TypeAlias = Mapping[str, Any]
Attempt: TypeAlias = Mapping[str, Any]

_NOTE = re.compile(r"(?:email|webhook)-order-\d+-note-\d+")
#: What the requestor must know of a delivery from its events.
_TOLD = ("order_req_id", "follow_up_id", "seller_id", "channel", "state", "attempts", "uncertain", "last_error")


def faults_in(market: Market) -> list[str]:
    """What is wrong with the market once every delivery has ended; nothing when all is well."""
    deliveries = market.deliveries()
    found = [*_miscounted(market.wanted, deliveries), *_unexplained(deliveries)]
    by_wanted = {_wanted_of(delivery): delivery for delivery in deliveries}
    for channel in CHANNELS:
        attempts = _attempts_of(channel, market.sinks[channel].records)
        found += _foreign(attempts, by_wanted)
        for wanted, delivery in by_wanted.items():
            if wanted.channel == channel:
                found += _inconsistent(delivery, attempts.get(wanted, ()))
        found += _ambiguous(attempts)
        found += _disordered(attempts)
    return found


def differences_at_the_requestor(market: Market) -> list[str]:
    """The deliveries of which the requestor's orders say something else than the processor's list."""
    listed = {delivery["delivery_id"]: _told(delivery) for delivery in market.deliveries()}
    told = {}
    for order_id in market.order_ids:
        for delivery in market.arena.requestor.get(f"/orders/{order_id}")["deliveries"]:
            told[delivery["delivery_id"]] = _told({**delivery, "order_req_id": order_id})
    return [
        f"{name}: {listed.get(name)} at the processor, {told.get(name)} at the requestor"
        for name in sorted(listed.keys() | told.keys())
        if listed.get(name) != told.get(name)
    ]


def _told(delivery: Delivery) -> tuple[Any, ...]:
    return tuple(delivery[name] for name in _TOLD)


def _wanted_of(delivery: Delivery) -> Wanted:
    return Wanted(delivery["order_req_id"], delivery["follow_up_id"], delivery["seller_id"], delivery["channel"])


# ---- the list of deliveries


def _miscounted(wanted: Sequence[Wanted], deliveries: Iterable[Delivery]) -> list[str]:
    counts = Counter(map(_wanted_of, deliveries))
    lost = [f"lost: {missing}" for missing in wanted if missing not in counts]
    doubled = [f"doubled: {name}, {count} deliveries" for name, count in counts.items() if count > 1]
    return [*lost, *doubled, *(f"unwanted: {name}" for name in counts.keys() - set(wanted))]


def _unexplained(deliveries: Iterable[Delivery]) -> list[str]:
    found = []
    for delivery in deliveries:
        state, reason = delivery["state"], delivery["last_error"]
        if state not in ("delivered", "dead"):
            found.append(f"unfinished: {_wanted_of(delivery)} is {state}")
        elif (state == "dead") != bool(reason):
            found.append(f"unexplained: {_wanted_of(delivery)} is {state}, {reason!r}")
    return found


# ---- what the sinks got


def _attempts_of(channel: str, records: Iterable[Attempt]) -> dict[Wanted, list[Attempt]]:
    """The attempts at a sink by what they are about, read from what was sent and not from its id."""
    found: defaultdict[Wanted, list[Attempt]] = defaultdict(list)
    for place, record in enumerate(records):
        (note_id,) = set(_NOTE.findall(record["content" if channel == EMAIL else "body"]))
        order_id = note_id.partition("-note-")[0]
        wanted = Wanted(order_id, note_id, record["receiver"].partition("@")[0], channel)
        found[wanted].append({**record, "place": place})
    return dict(found)


def _foreign(attempts: Iterable[Wanted], by_wanted: Mapping[Wanted, Delivery]) -> list[str]:
    return [f"unwanted at the sink: {name}" for name in attempts if name not in by_wanted]


def _inconsistent(delivery: Delivery, attempts: Sequence[Attempt]) -> list[str]:
    """What a sink's attempts of one delivery and the words of the processor do not agree on."""
    name, is_delivered = _wanted_of(delivery), delivery["state"] == "delivered"
    found = []
    ids = {attempt["id"] for attempt in attempts}
    if len(ids) > 1 or (name.channel != EMAIL and ids - {delivery["delivery_id"]}):
        found.append(f"renamed: {name} came as {sorted(ids)}")
    if len(attempts) > delivery["attempts"]:
        found.append(f"uncounted: {name} came {len(attempts)} times in {delivery['attempts']} attempts")
    if is_delivered and not any(attempt["action"] == "take" for attempt in attempts):
        found.append(f"unheard: {name} is delivered, and the sink has never said so")
    taken = sum(attempt["taken"] for attempt in attempts)
    # A mail is taken once for certain; every further time must stand in the count of those that nobody is sure of.
    if name.channel == EMAIL and taken > delivery["uncertain"] + is_delivered:
        found.append(f"repeated: {name} was taken {taken} times, {delivery['uncertain']} of them uncertain")
    return found


def _ambiguous(attempts: Mapping[Wanted, Sequence[Attempt]]) -> list[str]:
    """Ids under which more than one thing came."""
    names: defaultdict[str, set[Wanted]] = defaultdict(set)
    for wanted, group in attempts.items():
        for attempt in group:
            names[attempt["id"]].add(wanted)
    return [f"ambiguous: {name} stands for {sorted(group)}" for name, group in names.items() if len(group) > 1]


def _disordered(attempts: Mapping[Wanted, Sequence[Attempt]]) -> list[str]:
    """Sellers who got the notes of an order for the first time in another order than the buyer's."""
    firsts: defaultdict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for wanted, group in attempts.items():
        places = [attempt["place"] for attempt in group if attempt["taken"]]
        if places:
            number = int(wanted.note_id.rpartition("-")[2])
            firsts[wanted.seller_id, wanted.order_id].append((min(places), number))
    return [
        f"disordered: {seller_id} got the notes of {order_id} as {[number for _, number in sorted(group)]}"
        for (seller_id, order_id), group in firsts.items()
        if [number for _, number in sorted(group)] != sorted(number for _, number in group)
    ]
