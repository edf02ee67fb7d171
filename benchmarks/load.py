"""The load generator: closed-loop clients on kept connections, in one loop over raw sockets, in its own process.

Every request is a finished piece of bytes before the clock starts, and an answer is read no further than to find its
end and its status. So a request costs the generator some 20 µs of CPU; `Outcome.generator_cpu_s` says how much it was.
"""

from __future__ import annotations

import selectors
import signal
import time
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from types import TracebackType

from benchmarks import open_loop
from benchmarks.answers import is_complete
from benchmarks.calls import Address
from benchmarks.open_loop import OpenOutcome, OpenPlan
from benchmarks.sockets import CHUNK, collector_off, connect

#: How long the last requests may take after the end of the load.
_GRACE_S = 30.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What is sent: each client sends the next request as soon as it has its answer."""

    address: Address
    requests: Sequence[bytes]
    clients: int
    #: The load ends after this time, or with the last request.
    seconds: float
    #: Begin again at the first request after the last one.
    repeat: bool = False


@dataclass(slots=True)
class Outcome:
    """What came back. The arrays have an element for each success: which request, when it was sent, how long it took.

    Times are seconds on the clock of `time.perf_counter`; ``wall_offset_s`` added gives `time.time`.
    """

    requests: array[int] = field(default_factory=lambda: array("l"))
    sent_s: array[float] = field(default_factory=lambda: array("d"))
    took_s: array[float] = field(default_factory=lambda: array("d"))
    errors: Counter[str] = field(default_factory=Counter)
    began_s: float = 0.0
    ended_s: float = 0.0
    wall_offset_s: float = 0.0
    generator_cpu_s: float = 0.0

    @property
    def seconds(self) -> float:
        """From the first request to the last answer."""
        return self.ended_s - self.began_s

    @property
    def per_s(self) -> float:
        """Successes per second."""
        return len(self.took_s) / self.seconds


class LoadProcess:
    """A process of its own that runs plans, so that nothing else slows the generator down."""

    def __init__(self) -> None:
        # On Ctrl+C it ends without a word: there is nothing to tidy up in it.
        self._pool = ProcessPoolExecutor(
            1, mp_context=get_context("spawn"), initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_DFL)
        )

    def __enter__(self) -> LoadProcess:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._pool.shutdown(cancel_futures=True)

    def run(self, plan: Plan) -> Outcome:
        """Run a plan and wait for its end."""
        return self._pool.submit(run_plan, plan).result()

    def run_open(self, plan: OpenPlan) -> OpenOutcome:
        """Run a plan of requests that leave at their times, and wait for its end."""
        return self._pool.submit(open_loop.run_open_plan, plan).result()


def run_plan(plan: Plan) -> Outcome:
    """Run a plan in this process."""
    loop = _Loop(plan)
    with collector_off():
        return loop.run()


class _Connection:
    """One client: at most one request under way."""

    __slots__ = ("buffer", "request", "sent_s", "socket")

    def __init__(self, address: Address) -> None:
        self.socket = connect(address)
        self.buffer = b""
        self.request = -1
        self.sent_s = 0.0


class _Loop:
    """Sends and receives until the plan is done."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._outcome = Outcome()
        self._selector = selectors.DefaultSelector()
        self._next = self._numbers()
        self._under_way = 0
        self._deadline_s = 0.0

    def _numbers(self) -> Iterator[int]:
        """Which request comes next."""
        while True:
            yield from range(len(self._plan.requests))
            if not self._plan.repeat:
                return

    def run(self) -> Outcome:
        """Open the connections, send until the end, wait for what is under way."""
        outcome = self._outcome
        connections = [self._connect() for _ in range(self._plan.clients)]
        cpu_s = time.process_time()
        outcome.wall_offset_s = time.time() - time.perf_counter()
        outcome.began_s = outcome.ended_s = time.perf_counter()
        self._deadline_s = outcome.began_s + self._plan.seconds
        for connection in connections:
            self._send_next(connection)
        while self._under_way:
            events = self._selector.select(1.0)
            for key, _ in events:
                self._receive(key.data)
            if not events and time.perf_counter() > self._deadline_s + _GRACE_S:
                outcome.errors["no answer"] += self._under_way
                break
        outcome.generator_cpu_s = time.process_time() - cpu_s
        for key in list(self._selector.get_map().values()):
            key.data.socket.close()
        self._selector.close()
        return outcome

    def _connect(self) -> _Connection:
        connection = _Connection(self._plan.address)
        self._selector.register(connection.socket, selectors.EVENT_READ, connection)
        return connection

    def _send_next(self, connection: _Connection) -> None:
        now_s = time.perf_counter()
        number = next(self._next, None) if now_s < self._deadline_s else None
        if number is None:
            return
        connection.request, connection.sent_s, connection.buffer = number, now_s, b""
        self._under_way += 1
        try:
            # Small against the socket's buffer, and the one before it is answered: it fits.
            connection.socket.sendall(self._plan.requests[number])
        except OSError as error:
            self._lose(connection, error)

    def _receive(self, connection: _Connection) -> None:
        try:
            data = connection.socket.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(connection, error)
            return
        if not data:
            self._lose(connection, ConnectionError("closed by the server"))
            return
        connection.buffer = buffer = connection.buffer + data if connection.buffer else data
        if not is_complete(buffer):
            return
        outcome = self._outcome
        outcome.ended_s = now_s = time.perf_counter()
        self._under_way -= 1
        if buffer[9:10] == b"2":
            outcome.requests.append(connection.request)
            outcome.sent_s.append(connection.sent_s)
            outcome.took_s.append(now_s - connection.sent_s)
        else:
            outcome.errors[f"status {buffer[9:12].decode('ascii', 'replace')}"] += 1
        self._send_next(connection)

    def _lose(self, connection: _Connection, error: OSError) -> None:
        """Count the request as failed and go on with a new connection, while there is somebody to connect to."""
        self._under_way -= 1
        self._outcome.errors[type(error).__name__] += 1
        self._selector.unregister(connection.socket)
        connection.socket.close()
        try:
            fresh = self._connect()
        except OSError as refusal:
            self._outcome.errors[f"no connection: {type(refusal).__name__}"] += 1
            return
        self._send_next(fresh)
