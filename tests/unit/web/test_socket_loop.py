"""Who is heard first, and that nobody is heard twice."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator

import pytest

if sys.platform != "linux":
    pytest.skip("other systems have no epoll", allow_module_level=True)

from service_kit.web.socket_loop import AT_ONCE, EpollLoop

MANY = 4 * AT_ONCE


class Channel:
    """One end of a connection whose other end has said something; it ends when it is heard."""

    accepting = False

    def __init__(self, house: House, name: str, *, comes_first: bool) -> None:
        self.house = house
        self.name = name
        self.comes_first = comes_first
        self.near, self.far = socket.socketpair()
        self.near.setblocking(False)
        self._fileno = self.near.fileno()
        house.channels[self._fileno] = self

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return False

    def handle_read_event(self) -> None:
        assert self.near.recv(100) == b"hello", "heard twice"
        self.house.heard.append(self.name)
        self.house.on_heard(self)
        if self.house.is_done():
            for channel in list(self.house.channels.values()):
                channel.close()

    def handle_error(self) -> None:
        raise  # noqa: PLE0704 - called where an error is handled

    def close(self) -> None:
        del self.house.channels[self._fileno]
        self.house.loop.forget(self._fileno)
        self.near.close()
        self.far.close()


class House:
    """A loop and its channels, until as many have been heard as are expected."""

    def __init__(self, expected: int) -> None:
        self.channels: dict[int, Channel] = {}
        self.loop = EpollLoop(self.channels, lambda: 0.05)
        self.heard: list[str] = []
        self.expected = expected
        self.on_heard: Callable[[Channel], object] = lambda _: None

    def is_done(self) -> bool:
        return len(self.heard) >= self.expected


@pytest.fixture
def crowd() -> Iterator[House]:
    house = House(MANY + 1)
    for number in range(MANY):
        Channel(house, str(number), comes_first=False).far.send(b"hello")
    yield house
    assert not house.channels


def test_who_comes_first_waits_for_few_of_those_who_were_there_before(crowd: House) -> None:
    watcher = Channel(crowd, "watcher", comes_first=True)
    crowd.on_heard = lambda channel: watcher.far.send(b"hello") if channel.name == "0" else None
    crowd.loop.run()
    assert crowd.heard.index("watcher") <= AT_ONCE
    assert sorted(crowd.heard) == sorted(["watcher", *map(str, range(MANY))])


def test_who_does_not_come_first_waits_for_all_of_them(crowd: House) -> None:
    other = Channel(crowd, "other", comes_first=False)
    crowd.on_heard = lambda channel: other.far.send(b"hello") if channel.name == "0" else None
    crowd.loop.run()
    assert crowd.heard[-1] == "other"


def test_a_channel_that_is_armed_anew_while_it_waits_is_heard_once(crowd: House) -> None:
    last = Channel(crowd, "last", comes_first=False)

    def arm_all(_: Channel) -> None:
        for channel in crowd.channels.values():
            crowd.loop.watch(channel)
        if len(crowd.heard) == MANY:
            last.far.send(b"hello")

    crowd.on_heard = arm_all
    crowd.loop.run()
    assert len(crowd.heard) == MANY + 1
    assert len(set(crowd.heard)) == MANY + 1
