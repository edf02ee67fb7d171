"""Whether Redis is there and set up to keep what it has: looked at before the start, and again and again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import redis
from redis.cluster import RedisCluster
from redis.exceptions import RedisClusterException

from service_kit.background import Background
from service_kit.errors import ServiceError, StartRefused
from service_kit.logs import get_logger
from service_kit.storage.redis_link import RedisLink, public_error

#: Between two calls that tell whether Redis is there, and how many of them pass before its set-up is looked at again.
PROBE_S = 1.0
_LOOK_EVERY = 15
_NO_EVICTION = "noeviction"

log = get_logger(__name__)


class RedisWatch(Background):
    """Keeps an eye on Redis, so that a service knows by itself that it is away, or back."""

    name = "store-watch"
    not_running = "nobody looks any more whether Redis is there"

    def __init__(self, link: RedisLink, *, probe: Callable[[], object]) -> None:
        super().__init__()
        self._link = link
        self._probe = probe
        self._objection: str | None = None
        self._facts: Mapping[str, Any] = {}

    def start(self) -> None:
        """Look for the first time. Raises `StartRefused` for a Redis that throws data away, or `StoreUnavailable`."""
        self._probe()
        self._look()
        if self._objection is not None:
            raise StartRefused(f"The Redis of the store must not be used: {self._objection}.")
        if not self._facts["aof"]:
            log.warning(
                "Redis has no append-only file: a crash of Redis loses what it has taken since its last snapshot",
                action="store.aof_off",
            )
        self._stopping.clear()
        super().start()

    @property
    def objection(self) -> str | None:
        """Why this Redis must not be used; None when it may."""
        return self._objection

    @property
    def facts(self) -> Mapping[str, Any]:
        """How Redis was set up at the last look."""
        return self._facts

    def used_memory_bytes(self) -> int:
        """How much memory Redis uses now, on all servers that take writes. Raises `StoreUnavailable`."""
        return _used_memory_of(self._servers())

    def _run(self) -> None:
        number = 0
        while not self._stopping.wait(PROBE_S):
            number += 1
            try:
                self._probe()
                if number % _LOOK_EVERY == 0:
                    self._look()
            except ServiceError:
                pass  # its cause stands in the log once, by the link
            except Exception as error:
                log.error("Redis could not be looked at", action="store.watch_failed", exc_info=error)

    def _look(self) -> None:
        servers = self._servers()
        policies = {str(server.get("maxmemory_policy", "unknown")) for server in servers}
        evicting = sorted(policies - {_NO_EVICTION, "unknown"})
        self._objection = None
        if evicting:
            self._objection = f"its maxmemory-policy is {evicting[0]} and must be {_NO_EVICTION}"
        self._facts = {
            "engine": "redis",
            "version": str(servers[0].get("redis_version", "unknown")),
            "servers": len(servers),
            "maxmemory_policy": ",".join(sorted(policies)),
            "aof": all(int(server.get("aof_enabled", 0)) for server in servers),
            "aof_fsync": self._fsync(),
            "used_memory_bytes": _used_memory_of(servers),
        }

    def _servers(self) -> list[Mapping[str, Any]]:
        """What each server that takes writes says of itself."""
        client = self._link.client
        try:
            if not isinstance(client, RedisCluster):
                return [client.info()]
            answers: Mapping[str, Any] = client.info(target_nodes=RedisCluster.PRIMARIES)
        except (redis.RedisError, RedisClusterException, OSError) as error:
            raise public_error(error) from error
        # A cluster of one answers as a single server does.
        return [answers] if "redis_version" in answers else list(answers.values())

    def _fsync(self) -> str:
        """When the append-only file is flushed; a provider may not say."""
        client = self._link.client
        try:
            target = {"target_nodes": RedisCluster.RANDOM} if isinstance(client, RedisCluster) else {}
            return str(dict(client.config_get("appendfsync", **target)).get("appendfsync", "unknown"))
        except (redis.RedisError, RedisClusterException, OSError, TypeError, ValueError):
            return "unknown"


def _used_memory_of(servers: Sequence[Mapping[str, Any]]) -> int:
    return sum(int(server.get("used_memory", 0)) for server in servers)
