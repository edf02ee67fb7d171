"""The ``asgi`` contenders: FastAPI on uvicorn and grpc.aio, with a call for each order."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

from benchmarks.calls import Address
from benchmarks.contender import Pair, python
from benchmarks.processes import Process


class Asgi(Pair):
    """The stack that the order communicator replaces: everything in memory, the answer comes before the stream."""

    name: ClassVar[str] = "asgi"
    description: ClassVar[str] = "FastAPI on uvicorn, grpc.aio on both sides, a gRPC call for each order, in memory"

    def why_not(self) -> str | None:
        missing = [package for package in ("fastapi", "uvicorn") if find_spec(package) is None]
        return f"{' and '.join(missing)} cannot be imported" if missing else None

    def make_processes(self, folder: Path) -> tuple[Process, Process]:
        return self._process("requestor", self.front, folder), self._process("processor", self.back, folder)

    def _process(self, role: str, address: Address, folder: Path) -> Process:
        # uvicorn takes uvloop and httptools when they are there. Its access log is off: ours has none either.
        command = python("-m", "uvicorn", f"benchmarks.peers.asgi_{role}:app", "--host", address.host)
        command += ["--port", str(address.port), "--no-access-log", "--log-level", "warning"]
        return Process(role, command, folder, {"PEER_GRPC": str(self.grpc), **self._settings(role, folder)})

    def _settings(self, _role: str, _folder: Path) -> dict[str, str]:
        return {}


class AsgiDurable(Asgi):
    """The same stack with our guarantee: on disk before the answer, on both sides."""

    name: ClassVar[str] = "asgi-durable"
    description: ClassVar[str] = "`asgi` with a SQLite commit (FULL, group commit) before each answer, on both sides"
    is_durable: ClassVar[bool] = True

    def _settings(self, role: str, folder: Path) -> dict[str, str]:
        return {"PEER_LOG": str(folder / f"{role}.db")}
