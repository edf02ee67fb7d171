"""What a Redis holds of a service's orders, read from its keys without any code of the services."""

from __future__ import annotations

import json
from typing import Any

import redis

from tests.faults.audit import Kept, Sent


def read_redis(client: redis.Redis, prefix: str) -> dict[str, Kept]:
    """All orders of a service."""
    found = {}
    for key in client.scan_iter(f"{{{prefix}:*}}:record:default/*", count=1000):
        tag, _, name = key.partition(b":record:")
        value: Any = client.get(key)
        if value is None:
            continue
        _, _, _, _, state, _, _, token, document = value.split(b"\0", 8)
        entries = []
        log: Any = client.lrange(tag + b":log:" + name, 0, -1)
        for raw in log:
            seq, entry_id, kind, fact = raw.split(b"\0", 3)
            entries.append((int(seq), entry_id.decode(), kind.decode(), json.loads(fact)[1]))
        found[name.decode().partition("/")[2]] = Kept(state.decode(), int(token), json.loads(document)[1], entries)
    return found


def read_redis_outbox(client: redis.Redis, prefix: str) -> dict[str, dict[str, Sent]]:
    """How the deliveries of each order stand."""
    found: dict[str, dict[str, Sent]] = {}
    for key in client.scan_iter(f"{{{prefix}:*}}:messages:default/*", count=1000):
        name = key.partition(b":messages:")[2].decode().partition("/")[2]
        messages: Any = client.hgetall(key)
        for message_id, value in messages.items():
            state, _, _, _, document = value.split(b"\0", 4)
            kind, _, _, attempts, _ = json.loads(document)
            found.setdefault(name, {})[message_id.decode()] = Sent(state.decode(), kind, attempts)
    return found


def waiting_in(client: redis.Redis, prefix: str) -> int:
    """How many messages of a service's outbox wait."""
    return sum(client.zcard(key) for key in client.scan_iter(f"{{{prefix}:*}}:outbox:pending"))


def owners_in(client: redis.Redis, prefix: str = "requestor") -> dict[str, str]:
    """The instance that owns each order that is not finished."""
    found = {}
    for key in client.scan_iter(f"{{{prefix}:*}}:record:default/*", count=1000):
        value: Any = client.get(key)
        if value is not None and (owner := value.split(b"\0", 8)[5]):
            found[key.partition(b":record:")[2].decode().partition("/")[2]] = owner.decode()
    return found
