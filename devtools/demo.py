"""``dev.py demo``: both services on data of their own, and a tour through them."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from devtools.processes import Fault, Progress, child_environment, run_module, say
from devtools.services import Address, Service, wait_until_ready

DEMO_FOLDER = "data/demo"
#: Says that a folder is the demo's, and is locked while one runs there.
DEMO_MARK = "demo.lock"
#: Short pauses, so that a delivery is dead while the newcomer still looks.
DEMO_SETTINGS = {"PROCESSOR_WEBHOOK_ALLOW_NETWORKS": "127.0.0.0/8", "PROCESSOR_RETRY_SCHEDULE_S": "1,2"}


@contextlib.contextmanager
def demo_data(folder: Path) -> Iterator[None]:
    """An empty folder for one demo, locked as long as it runs; nobody else's files are removed."""
    mark = folder / DEMO_MARK
    if folder.exists() and any(folder.iterdir()) and not mark.exists():
        raise Fault(f"{folder} holds files that are not a demo's; name another folder with --data", 2)
    folder.mkdir(parents=True, exist_ok=True)
    # A lock that every system has, and that ends with its process.
    with contextlib.closing(sqlite3.connect(mark, timeout=0, isolation_level=None)) as lock:
        try:
            lock.execute("BEGIN EXCLUSIVE")
        except sqlite3.Error:
            raise Fault(f"another demo runs in {folder}; stop it, or name another folder with --data") from None
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif not path.name.startswith(DEMO_MARK):
                path.unlink()
        yield


def demo_environment(data: Path, processor: Address, requestor: Address, grpc: Address) -> dict[str, str]:
    """What the demo's services get. The user's own settings stay out: no mail server hears of a demo."""
    others = {
        name: value for name, value in child_environment().items() if not name.startswith(("REQUESTOR_", "PROCESSOR_"))
    }
    return {
        **others,
        **DEMO_SETTINGS,
        "PROCESSOR_PORT": str(processor.port),
        "PROCESSOR_GRPC_PORT": str(grpc.port),
        "PROCESSOR_STORE": f"sqlite:///{data / 'processor.db'}",
        "PROCESSOR_PUBLIC_URL": processor.url,
        "REQUESTOR_PORT": str(requestor.port),
        "REQUESTOR_PROCESSORS": f"{grpc.host}:{grpc.port}",
        "REQUESTOR_STORE": f"sqlite:///{data / 'requestor.db'}",
    }


def demo_addresses() -> tuple[Address, Address, Address]:
    """Where the demo's services listen: on loopback, at the usual ports or the environment's, or at free ones."""
    found = []
    for prefix, port, port_variable in (
        ("PROCESSOR", 8005, "PORT"),
        ("REQUESTOR", 8004, "PORT"),
        ("PROCESSOR", 50052, "GRPC_PORT"),
    ):
        wanted = Address.of(prefix, port, os.environ, port_variable)._replace(host="127.0.0.1")
        used = wanted.or_free()
        if wanted.port not in {0, used.port}:
            say(f"port {wanted.port} is in use; the demo takes {used.port} as {prefix}_{port_variable}")
        found.append(used)
    processor, requestor, grpc = found
    return processor, requestor, grpc


def demo(python: Path, progress: Progress, data: Path, *, once: bool) -> int:
    """Run both services on data of their own, and the tour through them."""
    with demo_data(data):
        processor, requestor, grpc = demo_addresses()
        environment = demo_environment(data, processor, requestor, grpc)
        services = [
            Service(name, address, environment=environment, log=data / f"{name}.log")
            for name, address in (("processor", processor), ("requestor", requestor))
        ]
        tour = ["--requestor", requestor.url, "--processor", processor.url, "--data", str(data)]
        try:
            for service in services:
                progress(f"starting {service.name} at {service.address.url}, log in {data / f'{service.name}.log'}")
                service.start(python)
            wait_until_ready(services, progress)
            return run_module(python, "demo", "demo", [*tour, *(["--once"] if once else [])])
        except KeyboardInterrupt:
            say("stopping")
            return 0
        finally:
            for service in reversed(services):
                service.stop()
            say("stopped")
