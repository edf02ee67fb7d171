"""The ``threads`` contender: blocking handlers, a call and a thread for each order on both sides."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from benchmarks.calls import Address
from benchmarks.contender import Pair, python
from benchmarks.processes import Process


class Threads(Pair):
    """What the words of the task come to when they are taken as they stand, in memory."""

    name: ClassVar[str] = "threads"
    description: ClassVar[str] = "Flask on Waitress, blocking gRPC, a call and a thread for each order, in memory"
    #: The processor's pool holds a few more; near this many threads it breaks down on small machines.
    most_orders: ClassVar[int | None] = 2_000

    def make_processes(self, folder: Path) -> tuple[Process, Process]:
        return self._process("requestor", self.front, folder), self._process("processor", self.back, folder)

    def _process(self, role: str, address: Address, folder: Path) -> Process:
        environment = {"PEER_PORT": str(address.port), "PEER_GRPC": str(self.grpc)}
        return Process(role, python("-m", f"benchmarks.peers.threads_{role}"), folder, environment)
