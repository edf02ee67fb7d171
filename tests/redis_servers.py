"""Real Redis servers of the tests: a single one, and a cluster of three on this machine."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import redis
from redis.crc import key_slot

from tests.e2e.conftest import free_port
from tests.system import require_program

_START_S = 10.0
_SLOTS = 16_384


class RedisServer:
    """One redis-server with a folder of its own; it may be killed and started again."""

    def __init__(self, folder: Path, *options: str, port: int | None = None) -> None:
        self.folder = folder
        self.port = port or free_port()
        self.options = list(options)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def client(self) -> redis.Redis:
        """A client of its own."""
        return redis.Redis("127.0.0.1", self.port, socket_timeout=10)

    def start(self, *first: str) -> None:
        """Start it and wait until it answers; ``first`` stands before all options."""
        program = require_program("redis-server")
        self.folder.mkdir(parents=True, exist_ok=True)
        saving = [] if first else ["--save", ""]
        command = [program, *first, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        with (self.folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(
                [*command, *saving, *self.options], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        wait_until(self._is_up, "redis-server")

    def _is_up(self) -> bool:
        assert self._process is not None
        if self._process.poll() is not None:
            raise AssertionError((self.folder / "redis.log").read_text(encoding="utf-8")[-2000:])
        with suppress(redis.RedisError, OSError), self.client as client:
            return bool(client.ping())
        return False

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def freeze(self) -> None:
        """Let it answer nothing."""
        self.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                self._process.send_signal(getattr(signal, "SIGCONT", signal.SIGTERM))
            self._process.kill()
            self._process.wait(10)

    def restart(self) -> None:
        """Kill it and start it again over what it has on disk."""
        self.kill()
        self.start()

    def wipe(self) -> None:
        """Kill it and start it again without anything."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.start()


class RedisCluster:
    """Three redis-servers that share the slots."""

    def __init__(self, folder: Path, size: int = 3) -> None:
        options = ("--cluster-enabled", "yes", "--cluster-config-file", "nodes.conf", "--cluster-node-timeout", "2000")
        buses = [free_port() for _ in range(size)]
        self.servers = [
            RedisServer(folder / str(n), *options, "--cluster-port", str(bus), "--appendonly", "no")
            for n, bus in enumerate(buses)
        ]
        self._buses = buses

    @property
    def url(self) -> str:
        """Where it is."""
        return "redis+cluster://" + ",".join(f"127.0.0.1:{server.port}" for server in self.servers)

    def start(self) -> None:
        """Start the servers and make them one cluster."""
        for server in self.servers:
            server.start()
        bounds = [_SLOTS * n // len(self.servers) for n in range(len(self.servers) + 1)]
        first, *others = [server.client for server in self.servers]
        for server, low, high in zip(self.servers, bounds, bounds[1:], strict=False):
            with server.client as client:
                client.execute_command("CLUSTER ADDSLOTSRANGE", low, high - 1)
        for server, bus in zip(self.servers[1:], self._buses[1:], strict=True):
            first.execute_command("CLUSTER MEET", "127.0.0.1", server.port, bus)
        clients = [first, *others]
        wait_until(lambda: all(_is_whole(client, len(self.servers)) for client in clients), "the cluster")
        for client in clients:
            client.close()

    def kill(self) -> None:
        """End all servers."""
        for server in self.servers:
            server.kill()

    def server_of(self, key: str) -> RedisServer:
        """The server that has a key."""
        slot = key_slot(key.encode())
        return self.servers[min(slot * len(self.servers) // _SLOTS, len(self.servers) - 1)]


class Sentinel:
    """A replica of a running server, and a Sentinel that makes it the master when that one dies."""

    def __init__(self, master: RedisServer, folder: Path) -> None:
        self._replica = RedisServer(folder / "replica", "--replicaof", "127.0.0.1", str(master.port))
        self._master = master
        self._folder = folder / "sentinel"
        self._watcher = RedisServer(self._folder)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis+sentinel://127.0.0.1:{self._watcher.port}/orders"

    def start(self) -> None:
        """Start both."""
        self._replica.start()
        self._folder.mkdir()
        config = self._folder / "sentinel.conf"
        config.write_text(
            f"sentinel monitor orders 127.0.0.1 {self._master.port} 1\n"
            "sentinel down-after-milliseconds orders 500\nsentinel failover-timeout orders 3000\n",
            encoding="ascii",
        )
        self._watcher.start(str(config), "--sentinel")

    def wait_for_replica(self) -> None:
        """Wait until the replica has what the master has, and the Sentinel knows it."""
        with self._watcher.client as watcher, self._master.client as master, self._replica.client as replica:
            wait_until(lambda: bool(watcher.execute_command("SENTINEL REPLICAS", "orders")), "the replica's discovery")
            wait_until(lambda: master.dbsize() == replica.dbsize(), "the replication")

    def kill(self) -> None:
        """End both."""
        self._watcher.kill()
        self._replica.kill()


def _is_whole(client: redis.Redis, size: int) -> bool:
    answer = client.execute_command("CLUSTER INFO")
    text = answer.decode() if isinstance(answer, bytes) else str(answer)
    state = answer.get("cluster_state") if isinstance(answer, dict) else None
    known = answer.get("cluster_known_nodes") if isinstance(answer, dict) else None
    if state is not None:
        return state == "ok" and int(known or 0) == size
    return "cluster_state:ok" in text and f"cluster_known_nodes:{size}" in text


def wait_until(look: Callable[[], bool], what: str, timeout_s: float = _START_S) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + timeout_s
    while not look():
        assert time.monotonic() < deadline, f"{what} did not come within {timeout_s:g} s"
        time.sleep(0.02)


def stop_all(servers: Sequence[RedisServer | RedisCluster]) -> None:
    """End what still runs."""
    for server in servers:
        server.kill()
