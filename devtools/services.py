"""The services, and a Redis for them, as child processes."""

from __future__ import annotations

import collections
import contextlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from devtools.processes import ROOT, STILL_BUSY_S, STOP_S, Fault, Progress, child_environment, say

READY_S = 60.0


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
