"""What the figures were taken on, and what its disk and the load generator can do."""

from __future__ import annotations

import os
import platform
import selectors
import socket
import statistics
import subprocess
import time
from datetime import UTC, datetime
from importlib import metadata
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks.calls import Address, Call
from benchmarks.load import LoadProcess, Outcome, Plan
from benchmarks.paths import ROOT

_PACKAGES = ("flask", "waitress", "marshmallow", "grpcio", "protobuf", "fastapi", "uvicorn", "dbos")
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


def describe(folder: Path) -> dict[str, Any]:
    """The machine and the versions of what runs on it."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": _commit(),
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "packages": {name: version for name in _PACKAGES if (version := _version(name))},
        "fsync_ms": fsync_ms(folder),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str:
    command = ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", check=False)
    except OSError:
        return ""
    return done.stdout.strip()


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor()


def fsync_ms(folder: Path, times: int = 200) -> float:
    """How long it takes to append 4 KB to a file and have it on disk; the median."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "fsync"
    took = []
    try:
        with path.open("wb", buffering=0) as file:
            for _ in range(times):
                began_s = time.perf_counter()
                file.write(bytes(4096))
                os.fsync(file.fileno())
                took.append((time.perf_counter() - began_s) * 1000)
    finally:
        path.unlink(missing_ok=True)
    return round(statistics.median(took), 3)


def generator_ceiling(load: LoadProcess, *, clients: int = 64, seconds: float = 2.0) -> dict[str, float]:
    """What the load generator makes of a server that does nothing but answer."""
    context = get_context("spawn")
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        address = Address(*listener.getsockname())
        server = context.Process(target=_answer_all, args=(listener,), daemon=True)
        server.start()
    try:
        request = Call("/nothing", {"order_req_id": "order-0000001", "session_id": "s1"}).encode(address)
        outcome: Outcome = load.run(Plan(address, [request], clients, seconds, repeat=True))
    finally:
        server.terminate()
        server.join()
    return {
        "per_s": round(outcome.per_s),
        "cpu_us": round(1e6 * outcome.generator_cpu_s / len(outcome.took_s), 1),
    }


def _answer_all(listener: socket.socket) -> None:
    """Answer whatever comes, on any number of connections."""
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is listener:
                connection, _ = listener.accept()
                selector.register(connection, selectors.EVENT_READ, connection)
            elif key.data.recv(65_536):
                key.data.sendall(_ANSWER)
            else:
                selector.unregister(key.data)
                key.data.close()
