"""Doors and lanes: in which order the deliveries to one seller over one channel may begin.

A *door* is one seller's channel: a mailbox, an endpoint. All deliveries to it pass a breaker, and only a few at a time.
In front of it, a *lane* holds the deliveries of one order, of which only the first may be under way. Nothing here has a
lock: the backlog guards it.
"""

from __future__ import annotations

import heapq
import itertools
from bisect import insort
from dataclasses import dataclass
from typing import NamedTuple

from processor_app.delivery.breaker import Breaker
from service_kit.change import Ref

#: Attempts at a time through one door; through one that has never let anything pass, a single one.
AT_A_TIME = 2


class DoorKey(NamedTuple):
    """Whose channel it is."""

    tenant: str
    seller_id: str
    channel: str


class Item:
    """One delivery that is to be sent: ``due_ms`` is when, ``give_up_ms`` is when it has been tried for long enough."""

    __slots__ = ("delivery_id", "due_ms", "give_up_ms", "is_touched", "lane", "seq")

    def __init__(self, delivery_id: str, seq: int, lane: Lane) -> None:
        self.delivery_id = delivery_id
        self.seq = seq
        self.lane = lane
        self.due_ms = self.give_up_ms = 0
        #: Somebody else changed it since its attempt began.
        self.is_touched = False


class Lane:
    """The deliveries of one order through one door, in the order of their events.

    ``is_held`` while one of them is under way, and while it is not known what became of it.
    """

    __slots__ = ("door", "is_held", "items", "ref")

    def __init__(self, ref: Ref, door: Door) -> None:
        self.ref = ref
        self.door = door
        self.items: list[Item] = []
        self.is_held = False


@dataclass(slots=True, eq=False)
class Job:
    """What a worker is to do next: one attempt, or (``is_expired``) to give a delivery up."""

    item: Item
    begun_ms: int
    is_expired: bool
    is_probe: bool

    @property
    def ref(self) -> Ref:
        """The order."""
        return self.item.lane.ref

    @property
    def door(self) -> Door:
        """The door that it goes through."""
        return self.item.lane.door


class Door:
    """One seller's channel with what is to pass it."""

    __slots__ = (
        "_heads",
        "_numbers",
        "alarm_ms",
        "breaker",
        "busy",
        "is_proven",
        "is_queued",
        "is_slow",
        "key",
        "lanes",
        "trusted_until_ms",
    )

    def __init__(self, key: DoorKey, breaker: Breaker) -> None:
        self.key = key
        self.breaker = breaker
        self.lanes: dict[Ref, Lane] = {}
        self.busy = 0
        #: Its last attempt took long.
        self.is_slow = False
        self.is_proven = False
        #: Until then nothing is given up for its age: something has passed not so long ago.
        self.trusted_until_ms = 0
        #: The backlog has it in a queue, or has set an alarm for it.
        self.is_queued = False
        self.alarm_ms: int | None = None
        #: The first of each lane by its time; entries that are out of date are passed over.
        self._heads: list[tuple[int, int, Item]] = []
        self._numbers = itertools.count()

    @property
    def is_unremarkable(self) -> bool:
        """Whether a new door would do as well."""
        return not self.lanes and not self.busy and not self.is_slow and self.breaker.is_unremarkable

    # ---- what is to pass

    def lane_of(self, ref: Ref) -> Lane:
        """The order's lane."""
        lane = self.lanes.get(ref)
        if lane is None:
            lane = self.lanes[ref] = Lane(ref, self)
        return lane

    def add(self, item: Item) -> None:
        """Put a new item into its lane."""
        insort(item.lane.items, item, key=_place)

    def drop(self, item: Item) -> None:
        """Take an item out of its lane."""
        item.lane.items.remove(item)

    def offer(self, lane: Lane) -> None:
        """Let the first of a lane be chosen, or forget a lane that is empty."""
        if lane.is_held:
            return
        if lane.items:
            first = lane.items[0]
            heapq.heappush(self._heads, (first.due_ms, next(self._numbers), first))
        elif self.lanes.get(lane.ref) is lane:
            del self.lanes[lane.ref]

    # ---- what may pass

    def start(self, now_ms: int) -> Job | None:
        """Begin with the item that has been due for longest; None when none may begin now."""
        at_ms = self.next_ms()
        if at_ms is None or at_ms > now_ms:
            return None
        _, _, first = heapq.heappop(self._heads)
        first.lane.is_held = True
        first.is_touched = False
        self.busy += 1
        # Only while nothing passes: where something does, attempts are counted and not the time.
        is_expired = self.breaker.is_open and max(first.give_up_ms, self.trusted_until_ms) <= now_ms
        return Job(first, now_ms, is_expired=is_expired, is_probe=not is_expired and self.breaker.begin())

    def next_ms(self) -> int | None:
        """When the next attempt may begin; None when nothing waits, or only the end of another one can tell."""
        first = self._first()
        has_place = self.busy < (AT_A_TIME if self.is_proven else 1)
        if first is None or not has_place or self.breaker.is_probing:
            return None
        return max(first.due_ms, self.breaker.try_at_ms)

    def _first(self) -> Item | None:
        while self._heads:
            due_ms, _, item = self._heads[0]
            lane = item.lane
            if not lane.is_held and lane.items and lane.items[0] is item and item.due_ms == due_ms:
                return item
            heapq.heappop(self._heads)
        return None


def _place(item: Item) -> tuple[int, str]:
    return item.seq, item.delivery_id
