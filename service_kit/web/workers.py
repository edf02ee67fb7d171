"""The threads that run a web server's requests.

A request that waits for the store leaves its thread to the next one, as a greenlet (`service_kit.waiting`). So one
thread does nearly all of the work under load, and no time goes into changes of thread; another one joins in when it is
held up, by something that lets nobody else run in it.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from contextlib import suppress
from typing import Protocol, TypeAlias

from greenlet import getcurrent, greenlet

from service_kit.logs import get_logger
from service_kit.waiting import wait_by

_log = get_logger(__name__)

#: Another thread joins in when the first of those that wait has waited for so long, in seconds,
LONG_WAIT_S = 0.005
#: and under load only when none at work has taken anything up for so long, for each of them.
HELD_UP_S = 0.05
#: So often that is looked at, in seconds.
LOOK_S = 0.02


class Task(Protocol):
    """What Waitress hands over: one connection whose next request is complete."""

    def service(self) -> None:
        """Run the request and send the answer."""

    def cancel(self) -> None:
        """Give the request up."""


class Workers:
    """Waitress's task dispatcher.

    With ``gathers`` off a thread takes up each request at once, while there is one: for a store that cannot be waited
    for in the way that leaves the thread to others.
    """

    def __init__(self, count: int, *, gathers: bool = True) -> None:
        self._tasks: deque[Task] = deque()
        self.team = _Team()
        self._workers = [_Worker(self._tasks, self.team, number) for number in range(count)]
        for worker in self._workers:
            worker.before = self._workers[: worker.number]
        #: So many threads are at work whenever there is something to do.
        self._usual = 1 if gathers else count
        self._first: Task | None = None
        self._first_since = 0.0
        self._look_at = self._moved_at = 0.0

    @property
    def queue_depth(self) -> int:
        """How many requests wait for a thread."""
        return len(self._tasks)

    def start(self) -> None:
        """Start the threads."""
        for worker in self._workers:
            worker.thread.start()

    def add_task(self, task: Task, *, is_first: bool = False) -> None:
        """Let a thread that is at work run it next, or wake one up; with ``is_first`` in front of those that wait."""
        if is_first:
            self._tasks.appendleft(task)
        else:
            self._tasks.append(task)
        if self._at_work() < self._usual:
            self._wake_one()

    def relieve(self, now: float, *, is_busy: bool = False) -> bool:
        """Wake a thread up when the first request has waited for long; whether to look again after `LONG_WAIT_S`.

        When ``is_busy``, one thread does all of the work for as long as it gets on: they share one interpreter with the
        loop, whose turn comes the more seldom the more they are.
        """
        if not is_busy:
            self.team.rests, self._moved_at = False, now
        elif now >= self._look_at:
            self._look_at = now + LOOK_S
            self._look(now)
        first = self._tasks[0] if self._tasks else None
        if first is not self._first:
            self._first, self._first_since = first, now
        elif first is not None and now - self._first_since >= LONG_WAIT_S:
            self._first_since = now
            if now - self._moved_at >= HELD_UP_S * self._at_work() or not is_busy:
                self._wake_one()
        return first is not None

    def _look(self, now: float) -> None:
        moved = [worker.has_moved() for worker in self._workers if not worker.is_idle]
        self.team.rests = len(moved) > 1 and moved[0]
        if any(moved) or not moved:
            self._moved_at = now

    def _at_work(self) -> int:
        return sum(not worker.is_idle for worker in self._workers)

    def _wake_one(self) -> None:
        for worker in self._workers:
            if worker.is_idle:
                worker.is_idle = False
                worker.wake()
                return

    def end(self, deadline: float) -> bool:
        """Cancel what waits, end the threads, and answer whether all have ended by the deadline."""
        while self._tasks:
            with suppress(IndexError):
                self._tasks.popleft().cancel()
        for worker in self._workers:
            worker.end()
        for worker in self._workers:
            worker.thread.join(max(0.01, deadline - time.monotonic()))
        return not any(worker.thread.is_alive() for worker in self._workers)


#: A request of this thread that goes on; None: look for tasks; False: the end.
_Word: TypeAlias = "greenlet | bool | None"


class _Team:
    """What the threads know of each other."""

    #: Whether the first one at work gets on by itself, and the others take up no new requests.
    rests = False


class _Worker:
    """One thread. Whichever of its greenlets runs serves tasks; one that waits lets another one do so."""

    def __init__(self, tasks: deque[Task], team: _Team, number: int) -> None:
        self._tasks = tasks
        self._team = team
        self.number = number
        #: The workers that are asked for before this one.
        self.before: list[_Worker] = []
        self._words: queue.SimpleQueue[_Word] = queue.SimpleQueue()
        self._spare: list[greenlet] = []
        self._hub = getcurrent()
        self._has_ended = False
        self.is_idle = False
        #: How often it has taken something up, and how often when that was last looked at.
        self._steps = self._seen_steps = 0
        self.thread = threading.Thread(target=self._run, name=f"web-{number}", daemon=True)

    def has_moved(self) -> bool:
        """Whether it has taken anything up since this was asked last."""
        before, self._seen_steps = self._seen_steps, self._steps
        return before != self._steps

    def wake(self) -> None:
        """Make the thread look for tasks."""
        self._words.put(None)

    def end(self) -> None:
        """Make the thread end after what it runs now; requests that wait in it are given up."""
        self._words.put(False)

    def _run(self) -> None:
        wait_by(lambda: _Parked(self))
        self._hub = getcurrent()
        while not self._has_ended:
            # Begun here and not where a request waits, whose depth of calls it would inherit.
            greenlet(self._serve).switch()

    def _serve(self) -> None:
        while True:
            word = self._next_word()
            self._steps += 1
            if word is False:
                self._has_ended = True
                return
            if isinstance(word, greenlet):
                self._spare.append(getcurrent())
                word.switch()
            with suppress(IndexError):
                self._serve_one(self._tasks.popleft())

    def _next_word(self) -> _Word:
        """Wait until there is something to do; None when it is a task."""
        if self._words.empty():
            if self._tasks and not self._is_spare():
                return None
            self.is_idle = True
            # One may have come just now, when this thread still counted as being at work.
            if self._tasks and not self._is_spare():
                self.is_idle = False
                return None
        word = self._words.get()
        self.is_idle = False
        return word

    def _is_spare(self) -> bool:
        """Whether others do its work."""
        return self._team.rests and any(not worker.is_idle for worker in self.before)

    def _serve_one(self, task: Task) -> None:
        try:
            task.service()
        except Exception:  # noqa: BLE001 - whatever it is, the thread goes on with the next request
            _log.exception("A request failed outside the app", action="web.task_failed")

    def park(self) -> None:
        """Let another greenlet serve, until `unpark` of the current one."""
        (self._spare.pop() if self._spare else self._hub).switch()

    def unpark(self, request: greenlet) -> None:
        """Let a parked greenlet go on, in its thread; from any thread."""
        self._words.put(request)


class _Parked:
    """The wait of a request that leaves its thread to others."""

    __slots__ = ("_request", "_worker")

    def __init__(self, worker: _Worker) -> None:
        self._worker = worker
        self._request = getcurrent()

    def wait(self) -> None:
        self._worker.park()

    def wake(self) -> None:
        self._worker.unpark(self._request)
