"""The order communicator itself, both services as shipped."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from benchmarks.calls import Address, Call, wait_until
from benchmarks.contender import START_S, Pair, python
from benchmarks.paths import ROOT
from benchmarks.processes import Process, free_port

#: The store's URL; ``{folder}`` and ``{role}`` are filled in.
SQLITE = "sqlite:///{folder}/{role}.db"


class Ours(Pair):
    """Both services, each with a store that answers after the fsync."""

    name: ClassVar[str] = "ours"
    description: ClassVar[str] = "both services as shipped: Flask on Waitress, trunk, SQLite with `synchronous=FULL`"
    is_durable: ClassVar[bool] = True

    def __init__(self, store: str = SQLITE, processor_settings: Mapping[str, str] | None = None) -> None:
        super().__init__()
        self._store = store
        self._folder = Path()
        self._processor_settings = processor_settings or {}

    def make_processes(self, folder: Path) -> tuple[Process, Process]:
        self._folder = folder

        def store(role: str) -> str:
            return self._store.format(folder=folder, role=role)

        requestor = {
            "REQUESTOR_PORT": str(self.front.port),
            "REQUESTOR_PROCESSORS": str(self.grpc),
            "REQUESTOR_STORE": store("requestor"),
        }
        processor = {
            "PROCESSOR_PORT": str(self.back.port),
            "PROCESSOR_GRPC_PORT": str(self.grpc.port),
            "PROCESSOR_STORE": store("processor"),
            **self._processor_settings,
        }
        return (
            Process("requestor", python(ROOT / "wsgi_requestor.py"), folder, requestor),
            Process("processor", python(ROOT / "wsgi_processor.py"), folder, processor),
        )

    def kept_bytes(self) -> int:
        return sum(file.stat().st_size for file in self._folder.glob("*.db*"))

    def _is_connected(self) -> bool:
        return self._front_client.answers(Call("/readyz")) and self._back_client.answers(Call("/readyz"))


class OursRedis(Ours):
    """The same over one Redis that answers after the fsync."""

    name: ClassVar[str] = "ours-redis"
    description: ClassVar[str] = "the same services over one Redis with `appendfsync always`"

    def __init__(self) -> None:
        super().__init__(processor_settings={"PROCESSOR_LINK_SECRET": "benchmark" * 4})
        self._redis = Address("127.0.0.1", 0)
        self._server: Process | None = None

    def why_not(self) -> str | None:
        return None if shutil.which("redis-server") else "redis-server is not installed"

    def start(self, folder: Path) -> None:
        self._redis = Address("127.0.0.1", free_port())
        self._store = f"redis://{self._redis}/0"
        address = ("--bind", self._redis.host, "--port", str(self._redis.port))
        keeping = ("--dir", folder, "--save", "", "--appendonly", "yes", "--appendfsync", "always")
        self._server = Process("redis", ["redis-server", *address, *keeping], folder)
        self._server.launch()
        wait_until(self._is_listening, "redis-server", timeout_s=START_S)
        super().start(folder)
        self.processes = {"redis": self._server, **self.processes}

    def _is_listening(self) -> bool:
        if self._server is not None:
            self._server.check()
        try:
            socket.create_connection(self._redis, timeout=1).close()
        except OSError:
            return False
        return True

    def kept_bytes(self) -> int:
        with socket.create_connection(self._redis, timeout=10) as connection:
            connection.sendall(b"INFO memory\r\n")
            return int(connection.recv(65_536).partition(b"used_memory:")[2].partition(b"\r")[0])

    def stop(self) -> None:
        super().stop()
        if self._server is not None:
            self._server.kill()
