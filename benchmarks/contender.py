"""What every contender offers, and what is common to those that consist of a requestor and a processor over REST."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from pathlib import Path
from typing import ClassVar

from benchmarks.calls import Address, Call, Client, wait_until
from benchmarks.faults import NotOffered
from benchmarks.log_times import opening_times
from benchmarks.processes import Process, free_port

START_S = 60.0
SESSION = "sess_bench_001"


class Contender(ABC):
    """A system that takes orders, as processes on loopback.

    The calls are data, because the load generator sends them; what a contender lacks raises `NotOffered`.
    """

    name: ClassVar[str]
    #: One line for the report.
    description: ClassVar[str]
    #: Whether an order outlives every process.
    is_durable: ClassVar[bool] = False
    #: More live orders than this are not asked of it.
    most_orders: ClassVar[int | None] = None

    def __init__(self) -> None:
        self.processes: dict[str, Process] = {}
        self.front = Address("127.0.0.1", 0)

    def why_not(self) -> str | None:
        """Why it cannot run here; None when it can."""
        return None

    def prepare(self, say: Callable[[str], None]) -> None:  # noqa: B027 - most need nothing
        """Install what it needs beside the Python packages."""

    @abstractmethod
    def start(self, folder: Path) -> None:
        """Start the processes with their data in an empty folder, and wait until they are ready."""

    def stop(self) -> None:
        """End the processes."""
        for process in reversed(self.processes.values()):
            process.kill()

    def check(self) -> None:
        """Raise when a process has ended by itself."""
        for process in self.processes.values():
            process.check()

    # ---- calls that are measured; all go to ``front`` save `reply`

    @abstractmethod
    def initiate(self, order: str) -> Call:
        """Begin an order."""

    def duplicate(self, order: str) -> Call:
        """Begin an order that is live already, in the same words."""
        return self.initiate(order)

    @abstractmethod
    def follow_up(self, order: str, note: str) -> Call:
        """Add a note to a live order."""

    def follow_up_without_processor(self, order: str, note: str) -> Call:
        """Add a note that is answered as soon as it is kept, also while the processor is down."""
        return self.follow_up(order, note)

    def tracking(self, order: str) -> Call:
        """Show the tracking of one order."""
        raise NotOffered("no tracking of an order")

    def tracking_status(self) -> Call:
        """Show the tracking of all orders."""
        raise NotOffered("no tracking of all orders")

    def reply(self, order: str, reply: str) -> tuple[Address, Call]:
        """Answer an order as a seller, at the processor."""
        raise NotOffered("no replies")

    # ---- what is looked at beside the measurement

    def health(self, role: str) -> tuple[Address, Call]:
        """The call that succeeds as soon as the process serves."""
        return self.front, Call("/api/v1/health")

    def kept_bytes(self) -> int:
        """What everything that is kept takes up, on disk or in the memory of a database."""
        raise NotOffered("nothing is kept")

    def streams_open(self) -> int:
        """How many orders' streams are open, as the side says that knows fewer of them."""
        raise NotOffered("no streams")

    def opening_times(self) -> dict[str, float]:
        """When each order's stream was open at the processor, by `time.time`, since the start."""
        raise NotOffered("no times of openings")

    def events_at_requestor(self, order: str) -> int:
        """How many of the processor's events of the order the requestor has."""
        raise NotOffered("no events")

    def notes_at_processor(self, orders: Collection[str]) -> int:
        """How many notes of these orders the processor has; they are among the newest 1,000."""
        raise NotOffered("no notes at the processor")


def python(*words: str | Path) -> list[str | Path]:
    """A command for the interpreter that runs the benchmark."""
    return [sys.executable, *words]


def wait_until_healthy(contender: Contender, role: str, *, timeout_s: float = START_S) -> float:
    """Wait for the first health answer of a process; answers when it came, on the clock of `time.perf_counter`."""
    address, call = contender.health(role)
    client = Client(address)

    def is_healthy() -> bool:
        contender.processes[role].check()
        return client.answers(call)

    try:
        return wait_until(is_healthy, f"the health of the {role} of {contender.name}", timeout_s=timeout_s)
    finally:
        client.close()


def initiate_body(order: str) -> dict[str, object]:
    """The body that begins an order, the same for all contenders."""
    return {
        "order_req_id": order,
        "session_id": SESSION,
        "notification_type": "none",  # telling sellers is a work that no rival does
        "audience": ["seller1", "seller2"],
    }


def follow_up_body(order: str, note: str) -> dict[str, object]:
    """The body that adds a note, the same for all contenders."""
    return {
        "order_req_id": order,
        "follow_up_id": note,
        "audience": ["seller1", "seller2"],
        "message": {
            "urls": ["https://example.com/photo.png"],
            "message_type": "text",
            "message": "Please expedite this order",
        },
    }


class Pair(Contender):
    """A requestor and a processor, both with the REST interface of the order communicator."""

    def __init__(self) -> None:
        super().__init__()
        self.back = Address("127.0.0.1", 0)
        self.grpc = Address("127.0.0.1", 0)
        self._front_client = Client(self.front)
        self._back_client = Client(self.back)

    @abstractmethod
    def make_processes(self, folder: Path) -> tuple[Process, Process]:
        """The requestor and the processor, not started, for the addresses that are set."""

    def start(self, folder: Path) -> None:
        """Choose ports and start the processor, then the requestor."""
        self.front, self.back, self.grpc = (Address("127.0.0.1", free_port()) for _ in range(3))
        self._front_client, self._back_client = Client(self.front), Client(self.back)
        requestor, processor = self.make_processes(folder)
        self.processes = {"processor": processor, "requestor": requestor}
        for role, process in self.processes.items():
            process.launch()
            wait_until_healthy(self, role)
        wait_until(self._is_connected, f"the connection of {self.name}", timeout_s=START_S)

    def _is_connected(self) -> bool:
        """Whether the requestor has its processor; some have nothing to wait for."""
        return True

    def stop(self) -> None:
        """End the processes and give the connections back."""
        super().stop()
        self._front_client.close()
        self._back_client.close()

    def initiate(self, order: str) -> Call:
        return Call("/api/v1/orders/initiate", initiate_body(order))

    def follow_up(self, order: str, note: str) -> Call:
        return Call("/api/v1/orders/followup", follow_up_body(order, note))

    def tracking(self, order: str) -> Call:
        return Call(f"/api/v1/orders/tracking/{order}")

    def tracking_status(self) -> Call:
        return Call("/api/v1/orders/tracking/status")

    def reply(self, order: str, reply: str) -> tuple[Address, Call]:
        body = {"reply_id": reply, "seller_id": "seller1", "answer": "message", "message": "On its way"}
        return self.back, Call(f"/api/v1/orders/{order}/replies", body)

    def health(self, role: str) -> tuple[Address, Call]:
        return (self.front if role == "requestor" else self.back), Call("/api/v1/health")

    def streams_open(self) -> int:
        at_requestor = self._front_client.json(Call("/api/v1/orders/tracking/status?limit=1"))["open_streams"]
        at_processor = self._back_client.json(Call("/api/v1/orders?limit=1"))["open_streams"]
        return min(at_requestor, at_processor)

    def opening_times(self) -> dict[str, float]:
        return opening_times(self.processes["processor"].log_lines())

    def notes_at_processor(self, orders: Collection[str]) -> int:
        newest = self._back_client.json(Call("/api/v1/orders?limit=1000"))["orders"]
        return sum(order["notes_count"] for order in newest if order["order_req_id"] in orders)

    def events_at_requestor(self, order: str) -> int:
        return int(self._front_client.json(Call(f"/api/v1/orders/{order}"))["applied_seq"])
