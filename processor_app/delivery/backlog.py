"""The backlog: every delivery that is to be sent, in memory, and which of them a worker may begin with next.

The store is the truth; this is its index by time and door, so that choosing the next delivery reads nothing. Doors take
turns. An attempt that takes long gives its place to another, and its door gets one of a few places for slow doors until
it is quick again: sellers who answer do not wait for those who hang.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from processor_app.delivery.breaker import Breaker
from processor_app.delivery.delivery import CHANNELS, DeliveryState
from processor_app.delivery.doors import Door, DoorKey, Item, Job, Lane
from processor_app.delivery.retries import RetrySchedule
from service_kit.change import ACTIVE_STATES, Message, Ref
from service_kit.times import now_ms

#: An attempt that takes longer is slow.
SLOW_MS = 1_000
_LONGEST_PAUSE_MS = 300_000


@dataclass(slots=True)
class Errands:
    """What the store is to be asked: how orders' deliveries stand, and whether sellers can be reached by now."""

    refs: set[Ref] = field(default_factory=set)
    sellers: set[tuple[str, str]] = field(default_factory=set)
    #: Other orders fall to this processor than before: everything is to be read anew.
    is_reload: bool = False


_NOTHING = Errands()


class Passage(StrEnum):
    """What a job says of its door."""

    PASSED = "passed"
    BLOCKED = "blocked"
    #: No attempt was made.
    UNTRIED = "untried"


class Turn(StrEnum):
    """What a job has made of its door's breaker."""

    OPENED = "opened"
    CLOSED = "closed"


@dataclass(frozen=True, slots=True)
class BacklogFacts:
    """How much there is to do, and what keeps it from being done."""

    queued: int
    running: int
    slow_sellers: int
    open_breakers: int


class TroubledDoors(NamedTuple):
    """Doors through which less goes just now."""

    slow: int
    resting: int


class Backlog:
    """Chooses deliveries for workers. ``places`` is how many attempts run at a time, slow ones aside.

    ``_lock`` guards everything in here; it is held for memory work only.
    """

    def __init__(
        self,
        schedule: RetrySchedule,
        *,
        places: int,
        clock: Callable[[], int] = now_ms,
        is_mine: Callable[[Ref], bool] = lambda _: True,
        tell: Callable[[Ref], None] = lambda _: None,
    ) -> None:
        self._schedule = schedule
        #: Whether this processor sends an order's deliveries, and how to tell the one that does of new ones.
        self._is_mine = is_mine
        self._tell = tell
        self._span_ms = schedule.span_ms
        self._places = places
        self._slow_places = max(1, places // 2)
        self._clock = clock
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)
        self._chores = threading.Condition(self._lock)
        self._is_closed = False
        self._items: dict[str, Item] = {}
        self._doors: dict[DoorKey, Door] = {}
        #: Doors at which something may begin, the quick and the slow ones; and all others by the time when it may.
        self._quick: deque[Door] = deque()
        self._slow: deque[Door] = deque()
        self._alarms: list[tuple[int, int, Door]] = []
        self._numbers = itertools.count()
        #: Jobs by the places that they take up, in the order of their begin; one that has become slow takes up none.
        self._quick_jobs: dict[Job, None] = {}
        self._slow_jobs: dict[Job, None] = {}
        self._running = 0
        #: Lanes that wait for a look into the store.
        self._stuck: dict[Ref, list[Lane]] = {}
        self._errands = Errands()

    # ---- what is to be sent

    def apply(self, ref: Ref, messages: Iterable[Message]) -> None:
        """Note how deliveries of an order stand, after the commit that made them so."""
        with self._lock:
            for message in messages:
                self._note(ref, message)

    def announce(self, ref: Ref, messages: Iterable[Message]) -> None:
        """The same for deliveries that this processor has just made: if another one sends them, it is told."""
        if self._is_mine(ref):
            self.apply(ref, messages)
        else:
            self._tell(ref)

    def regroup(self) -> None:
        """Drop what falls to another processor by now, and have the store asked for what falls to this one."""
        with self._lock:
            others = [item for item in self._items.values() if not self._is_mine(item.lane.ref)]
            for item in others:
                del self._items[item.delivery_id]
                item.lane.door.drop(item)
                self._offer(item.lane)
            self._errands.is_reload = True
            self._chores.notify()
        for ref in {item.lane.ref for item in others}:  # it may have begun before these were made
            self._tell(ref)

    def look_again(self, refs: Iterable[Ref]) -> None:
        """Have the store asked how these orders' deliveries stand."""
        with self._lock:
            self._errands.refs.update(refs)
            self._chores.notify()

    def seller_changed(self, tenant: str, seller_id: str) -> None:
        """Try a seller anew, and have the store asked whether deliveries that wait for it can go."""
        with self._lock:
            self._forgive(tenant, seller_id)
            self._errands.sellers.add((tenant, seller_id))
            self._chores.notify()

    def retry(self, ref: Ref, messages: Sequence[Message]) -> None:
        """Note deliveries that a person wants sent now, however their sellers have answered so far."""
        with self._lock:
            for message in messages:
                self._note(ref, message)
                self._forgive(ref.tenant, message.address)
        if not self._is_mine(ref):
            self._tell(ref)

    def _forgive(self, tenant: str, seller_id: str) -> None:
        for channel in CHANNELS:
            door = self._doors.get(DoorKey(tenant, seller_id, channel))
            if door is not None:
                door.breaker.forgive()
                self._invite(door, self._clock())

    def put_back(self, errands: Errands) -> None:
        """Have the store asked again, when it did not answer."""
        with self._lock:
            self._errands.refs.update(errands.refs)
            self._errands.sellers.update(errands.sellers)
            self._errands.is_reload |= errands.is_reload

    def resolve(self, ref: Ref, messages: Iterable[Message]) -> None:
        """Note what the store says of an order, and let go what waited for that."""
        with self._lock:
            for message in messages:
                # An attempt of this process that has just ended may still read as running.
                if message.message_id in self._items or message.state != DeliveryState.SENDING:
                    self._note(ref, message)
            for lane in self._stuck.pop(ref, ()):
                lane.is_held = False
                self._offer(lane)

    def unknown(self, ids: Iterable[str]) -> set[str]:
        """Those of the deliveries that are not in here."""
        with self._lock:
            return {delivery_id for delivery_id in ids if delivery_id not in self._items}

    def _note(self, ref: Ref, message: Message) -> None:
        item = self._items.get(message.message_id)
        if message.state in ACTIVE_STATES:
            if item is None:
                if not self._is_mine(ref):
                    return
                door = self._door(DoorKey(ref.tenant, message.address, message.kind))
                item = self._items[message.message_id] = Item(message.message_id, message.position, door.lane_of(ref))
                door.add(item)
            item.is_touched = True
            item.due_ms = message.due_ms
            item.give_up_ms = message.body["round_ms"] + self._span_ms
            self._offer(item.lane)
            return
        if item is not None:
            del self._items[message.message_id]
            item.lane.door.drop(item)
            self._offer(item.lane)
        if message.state == DeliveryState.WAITING:
            # The seller may have been registered while this was decided.
            self._errands.sellers.add((ref.tenant, message.address))
            self._chores.notify()

    def _door(self, key: DoorKey) -> Door:
        door = self._doors.get(key)
        if door is None:
            first_ms = max(1, int(self._schedule.pauses_s[0] * 1000))
            longest_ms = max(first_ms, min(_LONGEST_PAUSE_MS, int(max(self._schedule.pauses_s) * 1000)))
            door = self._doors[key] = Door(key, Breaker(first_pause_ms=first_ms, longest_pause_ms=longest_ms))
        return door

    def _offer(self, lane: Lane) -> None:
        lane.door.offer(lane)
        self._invite(lane.door, self._clock())

    def _invite(self, door: Door, now_ms: int) -> None:
        """Have the door's next item begun as soon as it may be.

        Whoever has just found that it may not begin yet must ask with the same time: a later one would have it asked
        again and again.
        """
        at_ms = None if door.is_queued else door.next_ms()
        if at_ms is None:
            if door.is_unremarkable and not door.is_queued and self._doors.get(door.key) is door:
                del self._doors[door.key]
        elif at_ms <= now_ms:
            door.is_queued = True
            (self._slow if door.is_slow else self._quick).append(door)
            self._work.notify()
        elif door.alarm_ms is None or at_ms < door.alarm_ms:
            door.alarm_ms = at_ms
            heapq.heappush(self._alarms, (at_ms, next(self._numbers), door))
            if self._alarms[0][2] is door:
                self._chores.notify()

    # ---- workers

    def take(self) -> Job | None:
        """Wait for the next job; None once the backlog is closed."""
        with self._lock:
            while not self._is_closed:
                job = self._begin_next()
                if job is not None:
                    self._running += 1
                    return job
                self._work.wait(self._patience_s())
            return None

    def _begin_next(self) -> Job | None:
        now = self._clock()
        self._pass_over_slow_jobs(now)
        queues = ((self._quick, self._quick_jobs, self._places), (self._slow, self._slow_jobs, self._slow_places))
        for queue, jobs, places in queues:
            while queue and len(jobs) < places:
                door = queue.popleft()
                door.is_queued = False
                job = door.start(now) if door.is_slow is (queue is self._slow) else None
                self._invite(door, now)
                if job is not None:
                    jobs[job] = None
                    return job
        return None

    def _pass_over_slow_jobs(self, now: int) -> None:
        for job in list(itertools.takewhile(lambda job: now - job.begun_ms >= SLOW_MS, self._quick_jobs)):
            del self._quick_jobs[job]
            job.door.is_slow = True

    def _patience_s(self) -> float | None:
        """How long to wait for a place: until the oldest job counts as slow, when a door waits for that."""
        if not self._quick or not self._quick_jobs:
            return None
        oldest = next(iter(self._quick_jobs))
        return max(0.001, (oldest.begun_ms + SLOW_MS - self._clock()) / 1000)

    def finish(
        self, job: Job, message: Message | None, passage: Passage, *, wished_pause_s: float | None = None
    ) -> Turn | None:
        """Note the end of a job: how its delivery stands now (None: nobody knows), and what it says of its door."""
        with self._lock:
            self._running -= 1
            self._quick_jobs.pop(job, None)
            self._slow_jobs.pop(job, None)
            door, lane = job.door, job.item.lane
            door.busy -= 1
            turn = self._judge(job, passage, int((wished_pause_s or 0) * 1000))
            if message is None or job.item.is_touched:
                self._stuck.setdefault(job.ref, []).append(lane)
                self._errands.refs.add(job.ref)
                self._chores.notify()
            else:
                lane.is_held = False
                self._note(job.ref, message)
                self._offer(lane)
            self._invite(door, self._clock())
            return turn

    def _judge(self, job: Job, passage: Passage, wished_pause_ms: int) -> Turn | None:
        door, now = job.door, self._clock()
        if passage is Passage.UNTRIED:
            door.breaker.skip(is_probe=job.is_probe)
            return None
        door.is_slow = now - job.begun_ms >= SLOW_MS
        if passage is Passage.PASSED:
            door.is_proven = True
            door.trusted_until_ms = now + self._span_ms
            return Turn.CLOSED if door.breaker.succeed() else None
        opened = door.breaker.fail(now, is_probe=job.is_probe, wished_pause_ms=wished_pause_ms)
        return Turn.OPENED if opened else None

    # ---- the clerk

    def next_errands(self, timeout_s: float) -> Errands | None:
        """Wait until there is something to ask the store, or the time is over; None once the backlog is closed."""
        with self._lock:
            self._ring()
            if not self._is_closed and self._errands == _NOTHING:
                until_alarm_s = max(0.0, (self._alarms[0][0] - self._clock()) / 1000) if self._alarms else timeout_s
                self._chores.wait(min(timeout_s, until_alarm_s))
                self._ring()
            if self._is_closed:
                return None
            errands, self._errands = self._errands, Errands()
            return errands

    def _ring(self) -> None:
        """Invite the doors whose time has come."""
        now = self._clock()
        while self._alarms and self._alarms[0][0] <= now:
            at_ms, _, door = heapq.heappop(self._alarms)
            if door.alarm_ms == at_ms:
                door.alarm_ms = None
                self._invite(door, now)

    def facts(self) -> BacklogFacts:
        """How it stands."""
        with self._lock:
            return BacklogFacts(
                queued=len(self._items),
                running=self._running,
                slow_sellers=sum(door.is_slow for door in self._doors.values()),
                open_breakers=sum(door.breaker.is_open for door in self._doors.values()),
            )

    def troubled_doors(self, tenant: str) -> TroubledDoors:
        """How many doors of a tenant are slow, and how many are given a rest."""
        with self._lock:
            doors = [door for door in self._doors.values() if door.key.tenant == tenant]
        return TroubledDoors(sum(door.is_slow for door in doors), sum(door.breaker.is_open for door in doors))

    def close(self) -> None:
        """Hand out nothing more. Safe to call twice."""
        with self._lock:
            self._is_closed = True
            self._work.notify_all()
            self._chores.notify_all()
