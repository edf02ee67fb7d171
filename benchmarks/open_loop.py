"""An open load: requests leave at their times, whether or not those before them are answered, as of many users.

Beside them one more connection asks for /livez a hundred times a second.
"""

from __future__ import annotations

import selectors
import time
from array import array
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.answers import is_complete
from benchmarks.calls import Address, Call
from benchmarks.sockets import CHUNK, collector_off, connect

_LIVEZ_EVERY_S = 0.01
#: How long the last answers may take.
_GRACE_S = 5.0


@dataclass(frozen=True, slots=True)
class OpenPlan:
    """What is sent, how often, and over how many kept connections."""

    address: Address
    requests: Sequence[bytes]
    per_s: float
    connections: int


@dataclass(slots=True)
class OpenOutcome:
    """What came back."""

    statuses: Counter[int] = field(default_factory=Counter)
    #: Refusals that say when to come back.
    with_retry_after: int = 0
    #: Requests that found no free connection at their time, or whose connection was lost.
    unsent: int = 0
    lost: int = 0
    took_s: array[float] = field(default_factory=lambda: array("d"))
    livez_s: array[float] = field(default_factory=lambda: array("d"))
    livez_statuses: Counter[int] = field(default_factory=Counter)
    seconds: float = 0.0
    generator_cpu_s: float = 0.0
    #: How late the latest request left.
    latest_s: float = 0.0


class _Connection:
    __slots__ = ("buffer", "is_livez", "sent_s", "socket")

    def __init__(self, address: Address, *, is_livez: bool = False) -> None:
        self.socket = connect(address)
        self.buffer = b""
        self.sent_s = 0.0
        self.is_livez = is_livez


class _OpenLoop:
    def __init__(self, plan: OpenPlan) -> None:
        self._plan = plan
        self._selector = selectors.DefaultSelector()
        self._outcome = OpenOutcome()
        self._livez_request = Call("/livez").encode(plan.address)
        self._livez = self._connect(is_livez=True)
        #: The one that has rested for the longest time is used next.
        self._free = deque(self._connect() for _ in range(plan.connections))
        self._under_way = 0

    def _connect(self, *, is_livez: bool = False) -> _Connection:
        connection = _Connection(self._plan.address, is_livez=is_livez)
        self._selector.register(connection.socket, selectors.EVENT_READ, connection)
        return connection

    def run(self) -> OpenOutcome:
        plan, outcome = self._plan, self._outcome
        cpu_s = time.process_time()
        began_s = time.perf_counter()
        sent, livez_at_s = 0, began_s
        while sent < len(plan.requests):
            now_s = time.perf_counter()
            due = min(len(plan.requests), int((now_s - began_s) * plan.per_s) + 1)
            if due > sent:
                outcome.latest_s = max(outcome.latest_s, now_s - began_s - sent / plan.per_s)
            for number in range(sent, due):
                self._send(plan.requests[number])
            sent = due
            if now_s >= livez_at_s and not self._livez.sent_s:
                livez_at_s = now_s + _LIVEZ_EVERY_S
                self._livez.sent_s = now_s
                self._livez.socket.send(self._livez_request)
            self._take(0.001)
        outcome.seconds = time.perf_counter() - began_s
        give_up_s = time.perf_counter() + _GRACE_S
        while self._under_way and time.perf_counter() < give_up_s:
            self._take(0.1)
        outcome.lost += self._under_way
        outcome.generator_cpu_s = time.process_time() - cpu_s
        for key in list(self._selector.get_map().values()):
            key.data.socket.close()
        self._selector.close()
        return outcome

    def _send(self, request: bytes) -> None:
        if not self._free:
            self._outcome.unsent += 1
            return
        connection = self._free.popleft()
        connection.sent_s = time.perf_counter()
        self._under_way += 1
        try:
            connection.socket.sendall(request)
        except OSError:
            self._lose(connection)

    def _take(self, wait_s: float) -> None:
        for key, _ in self._selector.select(wait_s):
            connection: _Connection = key.data
            try:
                data = connection.socket.recv(CHUNK)
            except BlockingIOError:
                continue
            except OSError:
                data = b""
            if not data:
                self._lose(connection)
                continue
            connection.buffer += data
            if is_complete(connection.buffer):
                self._note(connection)

    def _note(self, connection: _Connection) -> None:
        outcome, answer = self._outcome, connection.buffer
        took_s = time.perf_counter() - connection.sent_s
        status = int(answer[9:12])
        connection.buffer, connection.sent_s = b"", 0.0
        if connection.is_livez:
            outcome.livez_s.append(took_s)
            outcome.livez_statuses[status] += 1
            return
        self._under_way -= 1
        self._free.append(connection)
        outcome.statuses[status] += 1
        if status < 300:
            outcome.took_s.append(took_s)
        elif b"\r\nRetry-After: " in answer:
            outcome.with_retry_after += 1

    def _lose(self, connection: _Connection) -> None:
        self._selector.unregister(connection.socket)
        connection.socket.close()
        if connection.is_livez:
            self._outcome.livez_statuses[0] += 1
            self._livez = self._connect(is_livez=True)
            return
        if connection.sent_s:
            self._outcome.lost += 1
            self._under_way -= 1
            self._free.append(self._connect())
        else:
            self._free.remove(connection)
            self._free.append(self._connect())


def run_open_plan(plan: OpenPlan) -> OpenOutcome:
    """Run a plan in this process."""
    loop = _OpenLoop(plan)
    with collector_off():
        return loop.run()
