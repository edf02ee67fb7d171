"""The ``restate`` contender: the Restate server with a Node service, a workflow for each order."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from typing import ClassVar

from benchmarks.calls import Address, Call, Client, wait_until
from benchmarks.contender import (
    START_S,
    Contender,
    follow_up_body,
    initiate_body,
    wait_until_healthy,
)
from benchmarks.faults import BenchFault
from benchmarks.log_times import opening_times
from benchmarks.processes import Process, free_port

_SOURCES = Path(__file__).parent / "restate_app"
#: Beside the Python packages of the benchmarks.
_APP = Path(sys.prefix) / "restate"
_INSTALL_S = 300


class Restate(Contender):
    """The server takes the part of the requestor, the service that of the processor."""

    name: ClassVar[str] = "restate"
    description: ClassVar[str] = "Restate's server with its Node SDK: a workflow for each order, its default durability"
    is_durable: ClassVar[bool] = True

    def __init__(self) -> None:
        super().__init__()
        self._admin = self._service = self._look = Address("127.0.0.1", 0)

    def why_not(self) -> str | None:
        missing = [program for program in ("node", "npm") if shutil.which(program) is None]
        return f"{' and '.join(missing)} not found" if missing else None

    def prepare(self, say: Callable[[str], None]) -> None:
        _APP.mkdir(exist_ok=True)
        package = (_SOURCES / "package.json").read_text(encoding="utf-8")
        stamp = _APP / "package.json"
        is_installed = _server().exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == package
        shutil.copy(_SOURCES / "service.mjs", _APP)
        if is_installed:
            return
        say("installing the packages of restate")
        stamp.write_text(package, encoding="utf-8")
        # Without scripts: all that they do is to report the installation.
        command = [shutil.which("npm") or "npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"]
        try:
            done = subprocess.run(
                command, cwd=_APP, capture_output=True, encoding="utf-8", check=False, timeout=_INSTALL_S
            )
        except subprocess.TimeoutExpired:
            stamp.unlink()
            raise BenchFault(f"npm did not install its packages within {_INSTALL_S} s") from None
        if done.returncode or not _server().exists():
            stamp.unlink()
            raise BenchFault(f"npm could not install its packages: {done.stderr.strip().splitlines()[-1:]}")

    def start(self, folder: Path) -> None:
        self.front, self._admin, self._service, self._look = (Address("127.0.0.1", free_port()) for _ in range(4))
        node = {
            "PEER_PORT": str(self._service.port),
            "PEER_LOOK_PORT": str(self._look.port),
            "RESTATE_LOGGING": "WARN",
        }
        service = Process("processor", [shutil.which("node") or "node", _APP / "service.mjs"], folder, node)
        self.processes = {"processor": service, "requestor": self._server_process(folder)}
        for role, process in self.processes.items():
            process.launch()
            wait_until_healthy(self, role)
        self._register()

    def _server_process(self, folder: Path) -> Process:
        settings = {
            "RESTATE_BASE_DIR": str(folder / "server"),
            "RESTATE_NODE_NAME": "bench",
            "RESTATE_BIND_IP": "127.0.0.1",
            "RESTATE_BIND_PORT": str(free_port()),
            "RESTATE_ADVERTISED_HOST": "127.0.0.1",
            "RESTATE_LISTEN_MODE": "tcp",
            "RESTATE_INGRESS__BIND_PORT": str(self.front.port),
            "RESTATE_ADMIN__BIND_PORT": str(self._admin.port),
            "RESTATE_DISABLE_TELEMETRY": "true",
            "RESTATE_LOG_FILTER": "warn",
            # By default 1,000 workflows run at once, and further ones wait until some are suspended after a minute.
            "RESTATE_WORKER__INVOKER__CONCURRENT_INVOCATIONS_LIMIT": "250000",
        }
        return Process("requestor", [_server(), "--no-logo"], folder, settings)

    def _register(self) -> None:
        """Make the service known to the server, which may not be ready for that at once."""
        admin = Client(self._admin)
        call = Call("/deployments", {"uri": f"http://{self._service}"})
        try:
            wait_until(lambda: admin.answers(call), "the registration at restate", timeout_s=START_S, every_s=0.2)
        finally:
            admin.close()

    # ---- calls

    def initiate(self, order: str) -> Call:
        return Call(f"/orders/{order}/run/send", initiate_body(order))

    def follow_up(self, order: str, note: str) -> Call:
        return Call(f"/orders/{order}/followup", follow_up_body(order, note))

    def follow_up_without_processor(self, order: str, note: str) -> Call:
        return Call(f"/orders/{order}/followup/send", follow_up_body(order, note))

    def tracking(self, order: str) -> Call:
        return Call(f"/orders/{order}/tracking", {})

    # ---- looks

    def health(self, role: str) -> tuple[Address, Call]:
        return (self.front, Call("/restate/health")) if role == "requestor" else (self._look, Call("/"))

    def streams_open(self) -> int:
        return int(self._looked("/")["running"])

    def notes_at_processor(self, orders: Collection[str]) -> int:
        return sum(count for order, count in self._looked("/notes").items() if order in orders)

    def opening_times(self) -> dict[str, float]:
        return opening_times(self.processes["processor"].log_lines())

    def _looked(self, path: str) -> dict[str, int]:
        client = Client(self._look)
        try:
            found: dict[str, int] = client.json(Call(path))
        finally:
            client.close()
        return found


def _server() -> Path:
    """The server's program, as its package starts it."""
    return _APP / "node_modules" / ".bin" / "restate-server"
