"""Both services as real processes, on free ports, with their stores and logs in a folder of the test."""

from __future__ import annotations

import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, TypeVar

import pytest
import requests

from requestor_client import RequestorClient

ROOT = Path(__file__).resolve().parents[2]
START_S = 30.0
STOP_S = 5.0
if sys.platform == "win32":
    #: Signals that ask a service to stop; the first is the usual one.
    STOP_SIGNALS = (signal.CTRL_BREAK_EVENT,)
    # A process group of its own is what lets Ctrl+Break reach the service and not the test.
    _CREATION_FLAGS = subprocess.CREATE_NEW_PROCESS_GROUP
else:
    STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
    _CREATION_FLAGS = 0

_LOG_LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (DEBUG|INFO |WARN |ERROR|FATAL) ")

T = TypeVar("T")


def _ports_of_this_worker() -> range:
    """Below those that systems give to outgoing connections, which may take a port between its choice and its use.

    A port that somebody has chosen and does not use yet looks free: workers that run side by side share none.
    """
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    return range(20_000, 32_000)[worker :: int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))]


_PORTS = _ports_of_this_worker()
_given_ports: set[int] = set()


def free_port() -> int:
    """A port that nobody listens on now; never the same twice."""
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            if port not in _given_ports:
                _given_ports.add(port)
                return port


def eventually(look: Callable[[], T], *, timeout_s: float = 30.0, what: str = "it") -> T:
    """Look again and again until the answer is true; fails with the last answer when the time is over."""
    deadline = time.monotonic() + timeout_s
    pause_s = 0.02
    while True:
        seen = look()
        if seen:
            return seen
        assert time.monotonic() < deadline, f"{what} did not come within {timeout_s:g} s; last seen: {seen!r}"
        time.sleep(pause_s)
        pause_s = min(1.3 * pause_s, 0.1)  # looks cost those whom they look at


class Service:
    """One service as a process. It may be started again after it has ended: same ports, same store, same log."""

    def __init__(self, name: str, folder: Path, settings: Mapping[str, str], cwd: Path = ROOT) -> None:
        self.name = name
        self.prefix = name.upper()
        self.store = folder / f"{name}.db"
        self.settings = {f"{self.prefix}_STORE": f"sqlite:///{self.store}", **settings}
        self.cwd = cwd
        #: Where it listens, and what to run instead of the service's own script: for tests of networks and guards.
        self.host = "127.0.0.1"
        self.command = [sys.executable, str(ROOT / f"wsgi_{name}.py")]
        self._log_path = folder / f"{name}.log"
        self._out_path = folder / f"{name}.out"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The base of the service's REST interface."""
        return f"http://{self.host}:{self.settings[f'{self.prefix}_PORT']}"

    @property
    def log(self) -> str:
        """All that the service has written to stderr, in all its lives."""
        return self._log_path.read_text(encoding="utf-8")

    @property
    def log_size(self) -> int:
        """How long the log is, in bytes."""
        return self._log_path.stat().st_size

    def log_after(self, size: int) -> str:
        """What was written to stderr since the log was so long."""
        with self._log_path.open("rb") as log:
            log.seek(size)
            return log.read().decode()

    @property
    def complaints(self) -> list[str]:
        """The lines of stderr that are no log lines."""
        return [line for line in self.log.splitlines() if not _LOG_LINE.match(line)]

    @property
    def output(self) -> str:
        """All that the service has written to stdout."""
        return self._out_path.read_text(encoding="utf-8")

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The process, running or ended."""
        assert self._process is not None, f"the {self.name} was never launched"
        return self._process

    def launch(self) -> None:
        """Start the process and wait for nothing."""
        assert self._process is None or self._process.poll() is not None, f"the {self.name} runs already"
        own = ("REQUESTOR_", "PROCESSOR_")
        environ = {key: value for key, value in os.environ.items() if not key.startswith(own)} | self.settings
        with _appending(self._log_path) as log, _appending(self._out_path) as out:
            self._process = subprocess.Popen(
                self.command,
                cwd=self.cwd,
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                creationflags=_CREATION_FLAGS,
            )

    def start(self) -> None:
        """Start the process and wait until it is ready."""
        self.launch()
        eventually(self.is_ready, timeout_s=START_S, what=f"the {self.name}'s readiness")

    def is_ready(self) -> bool:
        """Whether the service says that it is ready; fails when it has ended instead."""
        assert self.process.poll() is None, f"the {self.name} ended with {self.process.returncode}:\n{self.log}"
        try:
            return requests.get(f"{self.url}/readyz", timeout=5).status_code == 200
        except requests.ConnectionError:
            return False

    def wait(self, timeout_s: float = START_S) -> int:
        """Wait until the process ends by itself; its exit status."""
        return self.process.wait(timeout_s)

    def stop(self, number: int = STOP_SIGNALS[0], timeout_s: float = STOP_S) -> int:
        """Ask the service to stop by a signal and wait until it has; its exit status."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait(timeout_s)

    def kill(self) -> None:
        """End the process at once, without a chance to clean up."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(STOP_S)

    @property
    def client(self) -> RequestorClient:
        """A client of this requestor, which tries everything once."""
        return RequestorClient(self.url, retries=0)

    def get(self, path: str) -> Any:
        """What a GET below /api/v1 answers, which must be 200."""
        return _body(requests.get(f"{self.url}/api/v1{path}", timeout=10))

    def post(self, path: str, body: Mapping[str, Any] | None = None) -> Any:
        """What a POST below /api/v1 answers, which must be 200."""
        return _body(requests.post(f"{self.url}/api/v1{path}", json=body, timeout=10))


def _appending(path: Path) -> IO[bytes]:
    return path.open("ab")


def _body(answer: requests.Response) -> Any:
    assert answer.status_code == 200, f"{answer.status_code}: {answer.text}"
    return answer.json()


class Services:
    """Makes services that belong together; those that still run at the end are killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.grpc_port = free_port()
        self._made: list[Service] = []

    def processor(self, name: str = "", cwd: Path = ROOT, **settings: str) -> Service:
        """A processor that is not started yet; another ``name`` gives it a folder, and so a store, of its own."""
        ports = {"PROCESSOR_PORT": str(free_port()), "PROCESSOR_GRPC_PORT": str(self.grpc_port)}
        return self._make("processor", name, ports | settings, cwd)

    def requestor(self, name: str = "", cwd: Path = ROOT, **settings: str) -> Service:
        """A requestor of that processor, not started yet."""
        ports = {"REQUESTOR_PORT": str(free_port()), "REQUESTOR_PROCESSORS": f"127.0.0.1:{self.grpc_port}"}
        return self._make("requestor", name, ports | settings, cwd)

    def _make(self, kind: str, name: str, settings: Mapping[str, str], cwd: Path) -> Service:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        service = Service(kind, folder, settings, cwd)
        self._made.append(service)
        return service

    def kill_all(self) -> None:
        """End what still runs."""
        for service in self._made:
            service.kill()


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    """Makes services in the folder of the test."""
    made = Services(tmp_path)
    yield made
    made.kill_all()


@pytest.fixture
def processor(services: Services) -> Service:
    """A running processor."""
    service = services.processor()
    service.start()
    return service


@pytest.fixture
def requestor(services: Services, processor: Service) -> Service:
    """A running requestor, connected to the running processor."""
    service = services.requestor()
    service.start()
    eventually(lambda: "Connected to the processor" in service.log, what="the trunk")
    return service


# ---- stories that several tests tell


def order_body(order_req_id: str, session_id: str = "s1", notification_type: str = "email") -> dict[str, Any]:
    """The body of an initiate."""
    return {"order_req_id": order_req_id, "session_id": session_id, "notification_type": notification_type}


def note_body(order_req_id: str, follow_up_id: str) -> dict[str, Any]:
    """The body of a follow-up."""
    message = {"urls": [], "message_type": "text", "message": "Please expedite this order"}
    return {"order_req_id": order_req_id, "follow_up_id": follow_up_id, "audience": ["seller1"], "message": message}


def stream_state(requestor: Service, order_req_id: str) -> str:
    """``connecting``, ``open`` or ``closed``."""
    with requestor.client as client:
        return client.order(order_req_id).stream.state


def wait_for_stream(requestor: Service, order_req_id: str, state: str = "open") -> None:
    """Wait until the order's stream stands so."""
    eventually(lambda: stream_state(requestor, order_req_id) == state, what=f"{order_req_id}'s stream {state}")


def wait_until_relayed(requestor: Service, order_req_id: str) -> None:
    """Wait until the processor has everything that was added to the order."""
    with requestor.client as client:
        eventually(lambda: client.order(order_req_id).unsent_count == 0, what=f"{order_req_id}'s relay")


def kinds_at(processor: Service, order_req_id: str) -> list[str]:
    """The kinds of the order's events at the processor, oldest first."""
    return [event["kind"] for event in processor.get(f"/orders/{order_req_id}/events")["events"]]
