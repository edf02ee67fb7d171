"""The ``dbos`` contender: DBOS Transact on SQLite in one process."""

from __future__ import annotations

from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

from benchmarks.calls import Address, Call, Client
from benchmarks.contender import Contender, follow_up_body, initiate_body, python, wait_until_healthy
from benchmarks.log_times import opening_times
from benchmarks.processes import Process, free_port


class Dbos(Contender):
    """A workflow for each order, whose id is the order's."""

    name: ClassVar[str] = "dbos"
    description: ClassVar[str] = "DBOS Transact on SQLite (WAL) behind FastAPI: a workflow for each order, one process"
    is_durable: ClassVar[bool] = True
    #: It begins some hundred a second at most, and ten thousand would take minutes.
    most_orders: ClassVar[int | None] = 3_000

    def why_not(self) -> str | None:
        missing = [package for package in ("dbos", "fastapi", "uvicorn") if find_spec(package) is None]
        return f"{' and '.join(missing)} cannot be imported" if missing else None

    def start(self, folder: Path) -> None:
        self.front = Address("127.0.0.1", free_port())
        command = python("-m", "uvicorn", "benchmarks.peers.dbos_app:app", "--host", self.front.host)
        command += ["--port", str(self.front.port), "--no-access-log", "--log-level", "warning"]
        process = Process("requestor", command, folder, {"PEER_LOG": str(folder / "dbos.sqlite")})
        self.processes = {"requestor": process}
        process.launch()
        wait_until_healthy(self, "requestor")

    def initiate(self, order: str) -> Call:
        return Call("/api/v1/orders/initiate", initiate_body(order))

    def follow_up(self, order: str, note: str) -> Call:
        return Call("/api/v1/orders/followup", follow_up_body(order, note))

    def tracking(self, order: str) -> Call:
        return Call(f"/api/v1/orders/tracking/{order}")

    def streams_open(self) -> int:
        return len(self._running())

    def notes_at_processor(self, orders: Collection[str]) -> int:
        return sum(count for order, count in self._running().items() if order in orders)

    def opening_times(self) -> dict[str, float]:
        return opening_times(self.processes["requestor"].log_lines())

    def _running(self) -> dict[str, int]:
        client = Client(self.front)
        try:
            found: dict[str, int] = client.json(Call("/running"))
        finally:
            client.close()
        return found
