#!/usr/bin/env python3
"""The project's commands: run the services, test them, check the code.

It needs Python 3.11 or newer and nothing else. The first command makes a virtual environment beside this file and
installs the requirements into it; later ones do that again only when the requirement files have changed.

    python dev.py up            start both services; Ctrl+C stops them
    python dev.py demo          start both with data of their own, and show what they do; --once ends by itself
    python dev.py test [...]    run the tests; what follows goes to pytest
    python dev.py lint          check style, types and generated code; --fix repairs what can be repaired
    python dev.py proto         generate the modules in proto/ from the .proto file
    python dev.py openapi       write docs/openapi/ from the running code
    python dev.py sbom          print a list of the packages that the services run on (CycloneDX)
    python dev.py audit         look those packages up among the published vulnerabilities
    python dev.py bench [...]   run the benchmarks beside the rivals, in an environment of their own
    python dev.py torture [...] run the fault tests
"""

# This file starts on any Python since 3.7, so that an older one than OLDEST_PYTHON gets a sentence, not a SyntaxError.
from __future__ import annotations

import argparse
import collections
import contextlib
import hashlib
import json
import os
import re
import secrets
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple, TextIO

ROOT = Path(__file__).resolve().parent
OLDEST_PYTHON = (3, 11)

#: Another folder for the virtual environment, such as one for each Python version; relative to this file.
VENV_VARIABLE = "ORDER_COMMUNICATOR_VENV"
STAMP = "order-communicator.json"
RUN_REQUIREMENTS = ("requirements.txt",)
DEV_REQUIREMENTS = ("requirements.txt", "requirements-otel.txt", "requirements-dev.txt")
#: The rivals' libraries are many, and none of them belongs to the project: they have an environment of their own.
BENCH_REQUIREMENTS = ("requirements.txt", "benchmarks/requirements.txt")

PROTO = "proto/order_service.proto"
OPENAPI = "docs/openapi"
#: What `.ci/packages.py` does.
PACKAGE_COMMANDS = ("sbom", "audit")
SERVICES = ("requestor", "processor")
GENERATED = ("proto/order_service_pb2.py", "proto/order_service_pb2.pyi", "proto/order_service_pb2_grpc.py")
TYPED = (
    *("service_kit", "requestor_app", "processor_app", "requestor_client", "wsgi_*.py"),
    *("dev.py", "demo", "tests", "benchmarks"),
)

#: Commands whose further arguments belong to the tool that they start.
PASSING_ON = ("test", "bench", "torture")

READY_S = 60.0
STOP_S = 12.0
STILL_BUSY_S = 10.0
INTERRUPTED = 130

DEMO_FOLDER = "data/demo"
#: Where a Redis of our own keeps what several instances share, and how many instances there may be.
REDIS_FOLDER = "data/redis"
MAX_INSTANCES = 16
#: Says that a folder is the demo's, and is locked while one runs there.
DEMO_MARK = "demo.lock"
#: Short pauses, so that a delivery is dead while the newcomer still looks.
DEMO_SETTINGS = {"PROCESSOR_WEBHOOK_ALLOW_NETWORKS": "127.0.0.0/8", "PROCESSOR_RETRY_SCHEDULE_S": "1,2"}


class Fault(Exception):
    """Something that a person must put right; the text says what, in one line."""

    def __init__(self, text: str, status: int = 1) -> None:
        super().__init__(text)
        self.status = status


class Terminated(KeyboardInterrupt):
    """Somebody asked this process to end, by other means than Ctrl+C."""


def say(text: str) -> None:
    """Print at once, also into a pipe."""
    print(text, flush=True)


class Progress:
    """Prints what is going on, with the seconds since the start."""

    def __init__(self) -> None:
        self._start = time.monotonic()

    def __call__(self, text: str) -> None:
        """Print one line."""
        say(f"[{time.monotonic() - self._start:5.1f} s] {text}")


# ---- child processes


def child_environment() -> dict[str, str]:
    """Our own environment; text is UTF-8 on every system, and lines come as they are written."""
    return {**os.environ, "PYTHONUTF8": "1", "PYTHONIOENCODING": "utf-8", "PYTHONUNBUFFERED": "1"}


def run(command: Sequence[str | Path]) -> int:
    """Run a tool in the project's folder, on our own terminal, and return its exit status."""
    with subprocess.Popen([str(word) for word in command], cwd=ROOT, env=child_environment()) as child:
        try:
            status = child.wait()
        except Terminated:
            raise
        except KeyboardInterrupt:  # the tool has got the Ctrl+C as well, and may have a summary to print
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.wait(STOP_S)
            raise
        finally:
            if child.poll() is None:
                child.terminate()
    return status if status >= 0 else 128 - status


def run_quietly(command: Sequence[str | Path], progress: Progress, what: str) -> None:
    """Run a step whose output matters only when it fails."""
    progress(what)
    with subprocess.Popen(
        [str(word) for word in command],
        cwd=ROOT,
        env=child_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    ) as child:
        try:
            output = None
            while output is None:
                try:
                    output, _ = child.communicate(timeout=STILL_BUSY_S)
                except subprocess.TimeoutExpired:
                    progress(f"still {what}")
        finally:
            if child.poll() is None:
                child.terminate()
    if child.returncode:
        say(output.rstrip())
        raise Fault(f"{what} failed; the reason stands above")


# ---- the virtual environment


def venv_folder(environment: Mapping[str, str]) -> Path:
    """Where the virtual environment is: beside this file, unless the environment names another folder."""
    return ROOT / environment.get(VENV_VARIABLE, ".venv")


def bench_folder() -> Path:
    """Where the virtual environment of the benchmarks is: one for each Python, so that Pythons can be compared."""
    return ROOT / ".venvs" / "bench-{}.{}".format(*sys.version_info)


def venv_python(venv: Path, *, windows: bool = sys.platform == "win32") -> Path:
    """The interpreter of a virtual environment."""
    return venv / "Scripts" / "python.exe" if windows else venv / "bin" / "python"


def venv_version(config: str) -> str:
    """The Python that a virtual environment was made with, such as "3.11", from its ``pyvenv.cfg``; "" if unknown."""
    found = re.search(r"^version(?:_info)?\s*=\s*(\d+\.\d+)", config, re.MULTILINE)
    return found.group(1) if found else ""


def wanted_stamp(requirements: Sequence[str], root: Path = ROOT) -> dict[str, str]:
    """The hash of each requirement file. Line ends do not count."""
    return {
        name: hashlib.sha256("\n".join((root / name).read_text(encoding="utf-8").splitlines()).encode()).hexdigest()
        for name in requirements
    }


def read_stamp(venv: Path) -> dict[str, str]:
    """The hashes of the requirement files that are installed; empty when nobody knows."""
    try:
        stamp = json.loads((venv / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def is_usable(venv: Path, version: str) -> bool:
    """The virtual environment is of this Python version and complete; a broken-off creation leaves it without pip."""
    python, config = venv_python(venv), venv / "pyvenv.cfg"
    if not (python.exists() and config.exists() and venv_version(config.read_text(encoding="utf-8")) == version):
        return False
    if (venv / STAMP).exists():
        return True
    return subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=False).returncode == 0


def prepare(venv: Path, requirements: Sequence[str], progress: Progress) -> Path:
    """Make the virtual environment hold the requirements, and return its interpreter."""
    python = venv_python(venv)
    ours = "{}.{}".format(*sys.version_info)
    wanted = wanted_stamp(requirements)
    usable = is_usable(venv, ours)
    if usable and wanted.items() <= read_stamp(venv).items():
        return python
    if not usable:
        if venv.exists() and any(venv.iterdir()) and not (venv / "pyvenv.cfg").exists():
            raise Fault(f"{venv} is not a virtual environment; move it away, or set {VENV_VARIABLE} to another folder")
        venv.mkdir(parents=True, exist_ok=True)
        run_quietly([sys.executable, "-m", "venv", "--clear", venv], progress, f"making {venv.name} with Python {ours}")
    # Without the stamp a broken-off installation starts again next time.
    (venv / STAMP).unlink(missing_ok=True)
    run_quietly(
        [python, "-m", "pip", "install", "--disable-pip-version-check", "--no-input", "-r", ROOT / requirements[-1]],
        progress,
        f"installing {requirements[-1]}",
    )
    (venv / STAMP).write_text(json.dumps(wanted, indent=1), encoding="utf-8")
    progress("installed")
    return python


# ---- up


class Address(NamedTuple):
    """Where a service listens, as its environment variables say."""

    host: str
    port: int

    @classmethod
    def of(cls, prefix: str, port: int, environment: Mapping[str, str], port_variable: str = "PORT") -> Address:
        """Read ``<prefix>_HOST`` and ``<prefix>_PORT``; a host that means "every address" is reached as loopback."""
        host = environment.get(f"{prefix}_HOST", "")
        name = f"{prefix}_{port_variable}"
        try:
            number = int(environment.get(name) or port)
        except ValueError:
            raise Fault(f"{name} is {environment[name]!r}, which is not a port number", 2) from None
        return cls({"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), number)  # noqa: S104

    @property
    def url(self) -> str:
        """The address as the base of URLs; an IPv6 host stands in brackets."""
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"

    def is_taken(self) -> bool:
        """Somebody accepts connections here."""
        try:
            socket.create_connection(self, timeout=1).close()
        except OSError:
            return False
        return True

    def or_free(self) -> Address:
        """This address, or the same host with a free port when somebody is there, or the port is 0."""
        if self.port and not self.is_taken():
            return self
        with socket.socket(socket.AF_INET6 if ":" in self.host else socket.AF_INET) as probe:
            probe.bind((self.host, 0))
            return self._replace(port=probe.getsockname()[1])


class Service:
    """One service as a child process.

    Its output passes through, each line after the service's name, or goes to a file. ``environment`` is ours if None.
    """

    def __init__(
        self,
        name: str,
        address: Address,
        *,
        environment: Mapping[str, str] | None = None,
        log: Path | None = None,
    ) -> None:
        self.name = name
        self.address = address
        self.last_lines: collections.deque[str] = collections.deque(maxlen=15)
        self._script = f"wsgi_{name}.py"
        self._environment = environment
        self._log = log
        self._child: subprocess.Popen[str] | None = None
        self._reader = threading.Thread(target=self._pass_output_on, name=f"{name}-output", daemon=True)

    def start(self, python: Path) -> None:
        """Start the process in a group of its own, so that a Ctrl+C reaches us alone and we stop it in our order."""
        options: dict[str, Any] = {}
        if sys.platform == "win32":
            options["creationflags"] = subprocess.CREATE_NEW_PROCESS_GROUP
        else:
            options["start_new_session"] = True
        self._child = subprocess.Popen(
            [str(python), self._script],
            cwd=ROOT,
            env=child_environment() if self._environment is None else self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
            **options,
        )
        self._reader.start()

    def exit_status(self) -> int | None:
        """The exit status; None while the process runs."""
        return self._child.poll() if self._child else None

    def is_ready(self) -> bool:
        """The service answers 200 at /readyz."""
        # A proxy of the environment must not stand between us and our own machine.
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"{self.address.url}/readyz", timeout=2) as answer:
                return bool(answer.status == 200)
        except (OSError, ValueError):
            return False

    def stop(self) -> None:
        """Ask the process to end, wait for it, and kill it when it takes too long or Ctrl+C comes again."""
        if self._child is None:
            return
        if self._child.poll() is None:
            try:
                if sys.platform == "win32":
                    self._child.send_signal(signal.CTRL_BREAK_EVENT)
                else:
                    self._child.terminate()
                self._child.wait(STOP_S)
            except (subprocess.TimeoutExpired, KeyboardInterrupt, OSError):
                say(f"{self.name} did not stop in time: killing it")
                self._child.kill()
                self._child.wait()
        # Another process may have inherited the pipe and hold it open; the output is not worth waiting for it.
        self._reader.join(timeout=2)

    def _pass_output_on(self) -> None:
        if self._child is None or self._child.stdout is None:
            return
        with self._child.stdout as lines, self._open_log() as log:
            for line in lines:
                self.last_lines.append(line.rstrip())
                # When nobody reads our output any more, or the disk is full, the service must still be able to write.
                with contextlib.suppress(OSError, ValueError):
                    if log is None:
                        say(f"{self.name} | {line.rstrip()}")
                    else:
                        log.write(line)

    def _open_log(self) -> contextlib.AbstractContextManager[TextIO | None]:
        if self._log is None:
            return contextlib.nullcontext()
        return self._log.open("w", encoding="utf-8", buffering=1)


def ending(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"exit status {status}"
    with contextlib.suppress(ValueError):
        return f"signal {signal.Signals(-status).name}"
    return f"signal {-status}"


def wait_until_ready(services: Sequence[Service], progress: Progress) -> None:
    """Return when every service is ready; fail when one has ended, or after a minute."""
    deadline = time.monotonic() + READY_S
    remind_at = time.monotonic() + STILL_BUSY_S / 2
    waiting = list(services)
    while waiting:
        time.sleep(0.2)
        for service in waiting[:]:
            ready = service.is_ready()
            refuse_ended(services)
            if ready:
                progress(f"{service.name} is ready")
                waiting.remove(service)
        names = " and ".join(service.name for service in waiting)
        if waiting and time.monotonic() > deadline:
            raise Fault(f"{names} did not answer 200 at /readyz within {READY_S:.0f} s")
        if waiting and time.monotonic() > remind_at:
            remind_at += STILL_BUSY_S / 2
            progress(f"still waiting for {names}")


def refuse_ended(services: Sequence[Service]) -> None:
    """Fail, with the last lines of its output, when a service has ended before it was ready."""
    for service in services:
        status = service.exit_status()
        if status is not None:
            service.stop()
            say(f"The last lines of {service.name}:")
            for line in service.last_lines:
                say(f"    {line}")
            raise Fault(f"{service.name} ended before it was ready ({ending(status)})")


def watch(services: Sequence[Service]) -> None:
    """Return never; fail when the last instance of a service has ended by itself."""
    running = list(services)
    while True:
        for service in list(running):
            status = service.exit_status()
            if status is None:
                continue
            running.remove(service)
            ended = f"{service.name} at {service.address.url} ended by itself ({ending(status)})"
            if all(other.name != service.name for other in running):
                raise Fault(ended)
            say(f"{ended}; the others go on")
        time.sleep(0.2)


def first_calls(base: str, *, powershell: bool) -> str:
    """Three calls to try, for the shell of the system."""
    body = '{"order_req_id": "TEST001", "session_id": "sess_test_001", "notification_type": "email"}'
    orders = f"{base}/api/v1/orders"
    if powershell:
        # Windows PowerShell strips the quotes of an argument to curl.exe, so the body goes another way.
        initiate = f"Invoke-RestMethod -Method Post {orders}/initiate -ContentType application/json -Body '{body}'"
    else:
        initiate = f"curl -X POST {orders}/initiate -H 'Content-Type: application/json' -d '{body}'"
    curl = "curl.exe" if powershell else "curl"
    return "\n".join([initiate, f"{curl} {orders}/tracking/status", f"{curl} {orders}/TEST001"])


class RedisServer:
    """A redis-server as a child process, over files in a folder; it has on disk what it has answered."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = Address("127.0.0.1", 6379).or_free()
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it is, as a store's URL."""
        return f"redis://{self.address.host}:{self.address.port}/0"

    def start(self) -> None:
        """Start it and wait until it accepts connections."""
        program = shutil.which("redis-server")
        if program is None:
            raise Fault("--redis needs the program redis-server, or the URL of a Redis that runs: --redis redis://host")
        self.folder.mkdir(parents=True, exist_ok=True)
        own_group: dict[str, Any] = {} if sys.platform == "win32" else {"start_new_session": True}
        with (self.folder / "redis.log").open("ab") as log:
            self._child = subprocess.Popen(
                [
                    *(program, "--bind", self.address.host, "--port", str(self.address.port)),
                    *("--dir", str(self.folder), "--save", "", "--appendonly", "yes", "--appendfsync", "always"),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **own_group,
            )
        while not self.address.is_taken():
            if self._child.poll() is not None:
                raise Fault(f"redis-server ended; {self.folder / 'redis.log'} says why")
            time.sleep(0.1)

    def stop(self) -> None:
        """Ask it to end, and wait for it."""
        if self._child is not None:
            self._child.terminate()
            try:
                self._child.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()


def link_secret(folder: Path) -> str:
    """What all processors sign reply links with; made once."""
    file = folder / "link-secret"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
        file.write_text(secrets.token_hex(32), encoding="ascii")
    return file.read_text(encoding="ascii").strip()


def instances_of(count: int, redis_url: str | None) -> list[Service]:
    """The services of ``up``, processors first: the first of each at its usual place, the others at free ports."""
    processors = [Address.of("PROCESSOR", 8005, os.environ)]
    requestors = [Address.of("REQUESTOR", 8004, os.environ)]
    grpcs = [Address.of("PROCESSOR", 50052, os.environ, "GRPC_PORT")]
    # An older run would answer in the place of ours.
    for variable, address in (
        ("PROCESSOR_PORT", processors[0]),
        ("PROCESSOR_GRPC_PORT", grpcs[0]),
        ("REQUESTOR_PORT", requestors[0]),
    ):
        if address.is_taken():
            raise Fault(f"port {address.port} is in use; stop what uses it, or set {variable} to another port")
    if redis_url is None:
        return [Service("processor", processors[0]), Service("requestor", requestors[0])]
    for addresses in (processors, grpcs, requestors):
        addresses += [addresses[0]._replace(port=0).or_free() for _ in range(count - 1)]
    shared = child_environment()
    shared.setdefault("PROCESSOR_LINK_SECRET", link_secret(ROOT / REDIS_FOLDER))
    shared |= {"PROCESSOR_STORE": redis_url, "REQUESTOR_STORE": redis_url}
    shared["REQUESTOR_PROCESSORS"] = ",".join(f"{grpc.host}:{grpc.port}" for grpc in grpcs)
    return [
        *(
            Service(
                "processor",
                address,
                environment={**shared, "PROCESSOR_PORT": str(address.port), "PROCESSOR_GRPC_PORT": str(grpc.port)},
            )
            for address, grpc in zip(processors, grpcs, strict=True)
        ),
        *(
            Service("requestor", address, environment={**shared, "REQUESTOR_PORT": str(address.port)})
            for address in requestors
        ),
    ]


def up(python: Path, progress: Progress, *, instances: int = 1, redis: str | None = None) -> int:
    """Run both services until Ctrl+C or SIGTERM; with ``redis`` (a URL, or "" for our own) any number."""
    if not 1 <= instances <= MAX_INSTANCES:
        raise Fault(f"--instances must be from 1 to {MAX_INSTANCES}", 2)
    if instances > 1 and redis is None:
        raise Fault("several instances share their store: use --instances together with --redis", 2)
    server = RedisServer(ROOT / REDIS_FOLDER) if redis == "" else None
    services: list[Service] = []
    try:
        if server is not None:
            progress("starting redis-server")
            server.start()
        services = instances_of(instances, redis if server is None else server.url)
        for service in services:
            progress(f"starting {service.name}")
            service.start(python)
        wait_until_ready(services, progress)
        say("")
        for service in services:
            say(f"{service.name}: {service.address.url}  (page: /, API: /docs, metrics: /metrics)")
        if server is not None:
            say(f"redis: {server.url}")
        requestor = next(service for service in services if service.name == "requestor")
        say("\nTry in another terminal:\n")
        say(first_calls(requestor.address.url, powershell=sys.platform == "win32"))
        say("\nCtrl+C stops both.\n" if len(services) == 2 else "\nCtrl+C stops all.\n")
        watch(services)
    except KeyboardInterrupt:
        say("stopping")
    finally:
        for service in reversed(services):
            service.stop()
        if server is not None:
            server.stop()
    say("stopped")
    return 0


# ---- demo


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


# ---- the other commands


def run_module(python: Path, folder: str, module: str, arguments: Sequence[str]) -> int:
    """Run a package of ours that is a command."""
    if not (ROOT / folder / "__main__.py").exists():
        raise Fault(f"{folder}/ is not part of this copy of the project", 2)
    return run([python, "-m", module, *arguments])


def generate(python: Path, target: Path) -> None:
    """Generate the modules of the .proto file into a folder. From the root, so that imports say ``from proto``."""
    if not (ROOT / PROTO).exists():
        raise Fault(f"{PROTO} is missing", 2)
    outputs = [f"--{kind}_out={target}" for kind in ("python", "pyi", "grpc_python")]
    if run([python, "-m", "grpc_tools.protoc", "-I.", *outputs, PROTO]):
        raise Fault(f"{PROTO} cannot be translated; the reason stands above")


def drift(expected: Path, actual: Path) -> list[str]:
    """The generated files that differ between two folders or are missing in one. Line ends do not count."""

    def lines(file: Path) -> list[bytes] | None:
        return file.read_bytes().splitlines() if file.exists() else None

    return [name for name in GENERATED if lines(expected / name) != lines(actual / name)]


def proto(python: Path, *, check: bool) -> int:
    """Generate the modules, or check that the committed ones are what would be generated."""
    if not check:
        generate(python, ROOT)
        say(f"generated {', '.join(GENERATED)}")
        return 0
    with tempfile.TemporaryDirectory() as folder:
        generate(python, Path(folder))
        differing = drift(Path(folder), ROOT)
    for name in differing:
        say(f"{name} is not what {PROTO} gives: run `python dev.py proto`")
    return 1 if differing else 0


def openapi(python: Path, *, check: bool) -> int:
    """Write what each service says of its REST interface, or check that the committed documents say the same."""
    # A setting has no place in a document of the code.
    environment = {
        name: value for name, value in child_environment().items() if not name.startswith(("REQUESTOR_", "PROCESSOR_"))
    }
    differing = []
    for service in SERVICES:
        command = [str(python), "-m", "flask", "--app", f"wsgi_{service}", "openapi"]
        done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, encoding="utf-8", check=False)
        if done.returncode:
            raise Fault(f"the {service} does not tell its REST interface; the reason stands above")
        file = ROOT / OPENAPI / f"{service}.json"
        if file.exists() and file.read_text(encoding="utf-8") == done.stdout:
            continue
        differing.append(f"{OPENAPI}/{service}.json")
        if not check:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(done.stdout, encoding="utf-8", newline="\n")
    for name in differing:
        say(f"{name} is not what the code says: run `python dev.py openapi`" if check else f"wrote {name}")
    return 1 if check and differing else 0


def lint(python: Path, *, fix: bool) -> int:
    """Run every check, also after one has failed, and name the failed ones."""
    # mypy takes a folder without a Python file for a fault.
    typed = [
        path.name
        for pattern in TYPED
        for path in sorted(ROOT.glob(pattern))
        if path.is_file() or next(path.rglob("*.py"), None)
    ]
    checks: dict[str, list[str]] = {
        "ruff check": ["ruff", "check", *(["--fix"] if fix else []), "."],
        "ruff format": ["ruff", "format", *([] if fix else ["--check"]), "."],
        "mypy": ["mypy", *typed],
    }
    failed = []
    for name, command in checks.items():
        say(f"== {name}")
        if run([python, "-m", *command]):
            failed.append(name)
    say("== generated code")
    if proto(python, check=True):
        failed.append("generated code")
    say("== OpenAPI")
    if openapi(python, check=not fix):
        failed.append("OpenAPI")
    say(f"lint: {', '.join(failed)} failed" if failed else "lint: all checks passed")
    return 1 if failed else 0


# ---- the command line


def parse(words: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Split the command line into our own options and what goes on, unread, to the tool of the command."""
    own, passed_on = list(words), []
    command = next((place for place, word in enumerate(words) if not word.startswith("-")), None)
    if command is not None and words[command] in PASSING_ON:
        own, passed_on = list(words[: command + 1]), list(words[command + 1 :])

    parser = argparse.ArgumentParser(
        prog="dev.py",
        description="The project's commands. They run in .venv beside this file, which the first one makes.",
        epilog=f"{VENV_VARIABLE} names another folder than .venv.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--no-install",
        action="store_true",
        help="leave the virtual environment as it is; without one, use the Python that runs this",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    with_instances = commands.add_parser("up", help="start both services; Ctrl+C stops them")
    with_instances.add_argument("--instances", type=int, default=1, metavar="N", help="so many of each; needs --redis")
    with_instances.add_argument(
        "--redis", nargs="?", const="", metavar="URL", help="keep everything in this Redis, or in one of our own"
    )
    with_once = commands.add_parser("demo", help="show what the services do, on data of their own; Ctrl+C ends it")
    with_once.add_argument("--once", action="store_true", help="end when everything is shown")
    with_once.add_argument("--data", metavar="FOLDER", default=DEMO_FOLDER, help=f"instead of {DEMO_FOLDER}")
    commands.add_parser("test", help="run the tests; further arguments go to pytest", add_help=False)
    with_fix = commands.add_parser("lint", help="check style, types, generated code and OpenAPI documents")
    with_fix.add_argument("--fix", action="store_true", help="repair what can be repaired")
    with_check = commands.add_parser("proto", help=f"generate the modules of {PROTO}")
    with_check.add_argument("--check", action="store_true", help="only compare with the committed modules")
    with_openapi_check = commands.add_parser("openapi", help=f"write {OPENAPI}/ from the code")
    with_openapi_check.add_argument("--check", action="store_true", help="only compare with the committed documents")
    commands.add_parser("sbom", help="print what the services run on, as CycloneDX")
    commands.add_parser("audit", help="look up whether something is known against what the services run on")
    commands.add_parser("bench", help="run the benchmarks; further arguments go to them", add_help=False)
    commands.add_parser("torture", help="run the fault tests; further arguments go to them", add_help=False)
    return parser.parse_args(own), passed_on


def execute(options: argparse.Namespace, passed_on: Sequence[str]) -> int:
    """Prepare the virtual environment and run the command in it."""
    progress = Progress()
    venv = bench_folder() if options.command == "bench" else venv_folder(os.environ)
    requirements = {"up": RUN_REQUIREMENTS, "demo": RUN_REQUIREMENTS, "bench": BENCH_REQUIREMENTS}.get(
        options.command, DEV_REQUIREMENTS
    )
    if options.no_install:
        python = venv_python(venv) if venv_python(venv).exists() else Path(sys.executable)
    else:
        python = prepare(venv, requirements, progress)
    if options.command == "up":
        return up(python, progress, instances=options.instances, redis=options.redis)
    if options.command == "demo":
        return demo(python, progress, ROOT / options.data, once=options.once)
    if options.command == "lint":
        return lint(python, fix=options.fix)
    if options.command == "proto":
        return proto(python, check=options.check)
    if options.command == "openapi":
        return openapi(python, check=options.check)
    if options.command in PACKAGE_COMMANDS:
        return run([python, ROOT / ".ci" / "packages.py", options.command])
    if options.command == "bench":
        return run_module(python, "benchmarks", "benchmarks", passed_on)
    if options.command == "torture":
        return run_module(python, "tests/faults", "tests.faults", passed_on)
    return run([python, "-m", "pytest", *passed_on])


def on_signal(number: int, _frame: FrameType | None) -> None:
    """Turn a signal to end into an exception, so that every ``finally`` runs."""
    raise Terminated(number)


def main(words: Sequence[str]) -> int:
    """Run one command and return its exit status."""
    if sys.version_info < OLDEST_PYTHON:
        say("dev.py needs Python {}.{} or newer; this is {}.{}".format(*OLDEST_PYTHON, *sys.version_info))
        return 2
    for stream in (sys.stdout, sys.stderr):
        # A console with a small character set shows "?" instead of ending us.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    for name in ("SIGTERM", "SIGHUP", "SIGBREAK"):
        number = getattr(signal, name, None)
        # nohup has SIGHUP ignored, and it stays so.
        if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, on_signal)
    options, passed_on = parse(words)
    try:
        return execute(options, passed_on)
    except Fault as fault:
        print(f"dev.py: {fault}", file=sys.stderr)
        return fault.status
    except OSError as fault:
        print(f"dev.py: {fault}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
