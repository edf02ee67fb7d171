"""The loop that watches a Waitress server's sockets.

Waitress's own loop asks every connection, at every turn, what it waits for, and a thread that has answered a request
must wake the loop up before the next one can be read. With epoll the system keeps what each connection waits for: a
turn costs the same however many connections there are, and the thread that answered sets it by itself.
"""

from __future__ import annotations

import itertools
import select
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol, TypeAlias

from waitress import wasyncore  # type: ignore[import-untyped]

#: The server looks after its time-outs so often, in seconds.
SWEEP_S = 1.0

#: The loop handles so many events before it looks for new ones, of which some may come first.
AT_ONCE = 32

#: Waitress's channels by their file numbers: connections, the listening socket and the trigger.
SocketMap: TypeAlias = dict[int, Any]


class SocketLoop(Protocol):
    """Lets the channels of a map handle what comes in."""

    def run(self) -> None:
        """Serve until the map is empty."""

    def add(self, channel: Any) -> None:
        """Begin to watch a new channel; in the thread of the loop, or before it runs."""

    def watch(self, channel: Any) -> None:
        """Take note of what the channel waits for now; from any thread."""

    def forget(self, file_number: int) -> None:
        """Watch no more; called before the number is closed, since the system gives it out again."""


class PollLoop:
    """Waitress's own loop, for systems without epoll; ``wake`` makes it begin a new turn."""

    def __init__(self, socket_map: SocketMap, wake: Callable[[], None], turn_s: Callable[[], float]) -> None:
        self._map = socket_map
        self._wake = wake
        self._turn_s = turn_s

    def run(self) -> None:
        """Serve until the map is empty."""
        while self._map:
            wasyncore.loop(timeout=self._turn_s(), map=self._map, use_poll=True, count=1)

    def add(self, channel: Any) -> None:
        """Nothing is kept from one turn to the next."""

    def watch(self, channel: Any) -> None:  # noqa: ARG002 - the next turn asks every channel
        """Begin a new turn, which asks the channel what it waits for."""
        self._wake()

    def forget(self, file_number: int) -> None:
        """Nothing is kept from one turn to the next."""


if sys.platform == "linux":

    class EpollLoop:
        """Arms each channel for one event at a time; whoever has handled the event arms it anew.

        Events of a channel that says that it ``comes_first`` do not wait for those of others, however many there are.

        Two threads may arm a channel at once, and the older wish may come last. It has no lock for that: the wish to
        write comes true at once and is then looked at again, and everything is armed anew at every sweep.
        """

        def __init__(self, socket_map: SocketMap, turn_s: Callable[[], float]) -> None:
            self._map = socket_map
            self._turn_s = turn_s
            self._epoll = select.epoll()
            self._known: set[int] = set()

        def run(self) -> None:
            """Serve until the map is empty."""
            sweep_at = 0.0
            for channel in list(self._map.values()):
                self.add(channel)
            # By their numbers, so that what is armed anew meanwhile and seen twice is handled once.
            waiting: dict[int, tuple[Any, int]] = {}
            while self._map:
                if (now := time.monotonic()) >= sweep_at:
                    sweep_at = now + SWEEP_S
                    self._sweep()
                turn_s = self._turn_s()
                for file_number, events in self._epoll.poll(0 if waiting else turn_s):
                    channel = self._map.get(file_number)
                    if isinstance(channel, wasyncore.file_dispatcher):
                        sweep_at = 0.0  # the trigger: somebody has changed channels
                    if getattr(channel, "comes_first", True):  # so do the trigger and the listening socket
                        self._handle(channel, events)
                    else:
                        waiting[file_number] = channel, events
                for file_number in list(itertools.islice(waiting, AT_ONCE)):
                    self._handle(*waiting.pop(file_number))
            self._epoll.close()

        def _handle(self, channel: Any, events: int) -> None:
            if channel is not None and self._map.get(channel._fileno) is channel:  # noqa: SLF001 - else it is closed
                wasyncore.readwrite(channel, events)
                self.watch(channel)

        def _sweep(self) -> None:
            for channel in list(self._map.values()):
                self.watch(channel)

        def add(self, channel: Any) -> None:
            """Begin to watch a new channel; in the thread of the loop, or before it runs."""
            file_number = channel._fileno  # noqa: SLF001 - Waitress has no other name for it
            self._known.add(file_number)
            self._epoll.register(file_number, _events_of(channel) | select.EPOLLONESHOT)

        def watch(self, channel: Any) -> None:
            """Arm the channel for what it waits for now; from any thread."""
            events = _events_of(channel)
            file_number = channel._fileno  # noqa: SLF001 - None when it is closed
            if events and file_number in self._known:
                with suppress(OSError):  # closed in this very moment
                    self._epoll.modify(file_number, events | select.EPOLLONESHOT)

        def forget(self, file_number: int) -> None:
            """Watch no more; called before the number is closed, since the system gives it out again."""
            if file_number in self._known:
                self._known.discard(file_number)
                self._epoll.unregister(file_number)

    def _events_of(channel: Any) -> int:
        events = select.EPOLLIN if channel.readable() else 0
        return events | select.EPOLLOUT if channel.writable() and not channel.accepting else events


def make_loop(socket_map: SocketMap, wake: Callable[[], None], turn_s: Callable[[], float]) -> SocketLoop:
    """The best loop that this system has; ``turn_s`` says before each turn how long it may take, in seconds."""
    return EpollLoop(socket_map, turn_s) if sys.platform == "linux" else PollLoop(socket_map, wake, turn_s)
