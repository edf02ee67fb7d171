"""Where a Redis is: one server, a master that Sentinels name, or a cluster."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

import redis
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry
from redis.sentinel import Sentinel

from service_kit.errors import StartRefused

_PORTS = {"": 6379, "sentinel": 26379, "cluster": 6379}
#: How long a connection, and then an answer, may take. An answer to a caller is one or two of them.
CONNECT_TIMEOUT_S, ANSWER_TIMEOUT_S = 0.7, 0.8
#: Connections at a time; a caller beyond them waits for one.
MAX_CONNECTIONS = 128


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """What a URL says. ``form`` is empty for one server, else ``sentinel`` or ``cluster``."""

    form: str
    hosts: tuple[tuple[str, int], ...]
    is_tls: bool
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    service: str = ""
    db: int = 0


def read_url(url: str) -> RedisUrl:
    """What the URL says. Raises `StartRefused`; its text never repeats the URL, which may hold a password."""
    try:
        return _read(url)
    except ValueError:
        raise StartRefused(
            "The store's URL must look like redis://host:6379/0, redis+sentinel://host:26379,host2:26379/service/0 or "
            "redis+cluster://host:6379,host2:6379 (rediss for TLS)."
        ) from None


def _read(url: str) -> RedisUrl:
    parts = urlsplit(url)
    scheme, _, form = parts.scheme.partition("+")
    if scheme not in ("redis", "rediss") or form not in _PORTS or parts.query or parts.fragment:
        raise ValueError
    login, _, hosts = parts.netloc.rpartition("@")
    username, _, password = login.partition(":")
    path = [part for part in parts.path.split("/") if part]
    service = path.pop(0) if form == "sentinel" and path else ""
    db = int(path.pop(0)) if path else 0
    if path or (form == "cluster" and db) or (form == "sentinel" and not service) or db < 0:
        raise ValueError
    found = tuple(_host(host, _PORTS[form]) for host in hosts.split(","))
    if not form and len(found) != 1:
        raise ValueError
    return RedisUrl(form, found, scheme == "rediss", unquote(username) or None, unquote(password) or None, service, db)


def _host(text: str, port: int) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname or parts.username is not None:
        raise ValueError
    return parts.hostname, parts.port or port


def open_client(where: RedisUrl) -> redis.Redis | RedisCluster:
    """A client with a pool of connections; a single server is not asked yet. Raises `redis.RedisError`."""
    options: dict[str, Any] = {
        "username": where.username,
        "password": where.password,
        "ssl": where.is_tls,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_timeout": ANSWER_TIMEOUT_S,
        "socket_keepalive": True,
        # Would lengthen the time-outs above when a server asks for it.
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }
    # Once more on a new connection when one is found to be dead; a slow answer is not asked for twice.
    retry = Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,))
    if where.form == "cluster":
        nodes = [ClusterNode(host, port) for host, port in where.hosts]
        return RedisCluster(startup_nodes=nodes, retry=retry, max_connections=MAX_CONNECTIONS, **options)
    if where.form == "sentinel":
        sentinel = Sentinel(where.hosts, sentinel_kwargs=options, db=where.db, retry=retry, **options)
        master: redis.Redis = sentinel.master_for(where.service)
        return master
    ((host, port),) = where.hosts
    return redis.Redis(host, port, where.db, retry=retry, max_connections=MAX_CONNECTIONS, **options)
