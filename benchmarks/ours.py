"""The order communicator itself, both services as shipped."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from benchmarks.calls import Call
from benchmarks.contender import Pair, python
from benchmarks.paths import ROOT
from benchmarks.processes import Process

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
        self._processor_settings = processor_settings or {}

    def make_processes(self, folder: Path) -> tuple[Process, Process]:
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

    def _is_connected(self) -> bool:
        return self._front_client.answers(Call("/readyz")) and self._back_client.answers(Call("/readyz"))
