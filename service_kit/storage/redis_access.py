"""The access store in the service's Redis. All its keys share one hash tag, so that it runs on a cluster."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from typing import Any

import orjson
import redis
from redis.cluster import RedisCluster
from redis.exceptions import RedisClusterException

from service_kit.access.model import AUDIT_LINES, ApiKey, AuditEntry, Scope
from service_kit.logs import get_logger
from service_kit.storage.redis_link import public_error
from service_kit.storage.redis_url import RedisUrl, open_client

#: A time that grows: of two instances the later use counts, whichever is written last.
_TOUCH = """
for n = 1, #ARGV, 2 do
    local known = redis.call('HGET', KEYS[1], ARGV[n])
    if not known or tonumber(known) < tonumber(ARGV[n + 1]) then
        redis.call('HSET', KEYS[1], ARGV[n], ARGV[n + 1])
    end
end
"""
_PAGE = 500
_log = get_logger(__name__)


class RedisAccess:
    """An `AccessStore` that many instances share. A component: its stop lets the connections go.

    Keys, their revocations and their last uses stand in hashes of their own, to which fields are only added: no change
    reads what it writes.
    """

    name = "access-store"

    def __init__(self, where: RedisUrl, *, prefix: str) -> None:
        self._where = where
        tag = f"{{{prefix}:access}}"
        self._keys, self._revoked, self._used = f"{tag}:keys", f"{tag}:revoked", f"{tag}:used"
        self._audit, self._secret = f"{tag}:audit", f"{tag}:secret"
        self._ended = f"{tag}:ended"
        #: Guards the making of the client.
        self._lock = threading.Lock()
        self._client: redis.Redis | RedisCluster | None = None
        self._failure: str | None = None

    def start(self) -> None:
        """Nothing: it connects when it is needed."""

    def stop(self, timeout_s: float = 0.0) -> None:  # noqa: ARG002 # as components are stopped
        """Let the connections go. Safe to call twice; it connects anew when it is needed again."""
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            with suppress(redis.RedisError, OSError):
                client.close()

    def check(self) -> str | None:
        """None when the last call went well."""
        return self._failure

    def keys(self) -> Sequence[ApiKey]:
        """All keys, revoked ones too, oldest first."""
        kept = self._call(lambda client: client.hgetall(self._keys))
        revoked = self._call(lambda client: client.hgetall(self._revoked))
        used = self._call(lambda client: client.hgetall(self._used))
        keys = [
            replace(_key_of(text), revoked_ms=_time(revoked.get(key_id)), last_used_ms=_time(used.get(key_id)))
            for key_id, text in kept.items()
        ]
        return sorted(keys, key=lambda key: (key.created_ms, key.key_id))

    def add(self, key: ApiKey) -> None:
        """Keep a new key."""
        text = orjson.dumps({**asdict(key), "scopes": sorted(key.scopes)})
        self._call(lambda client: client.hset(self._keys, key.key_id, text))

    def revoke(self, key_id: str, at_ms: int) -> bool:
        """Make a key useless for good; False when there is no such key."""
        if not self._call(lambda client: client.hexists(self._keys, key_id)):
            return False
        self._call(lambda client: client.hsetnx(self._revoked, key_id, at_ms))
        return True

    def touch(self, used: dict[str, int]) -> None:
        """Note when keys were used; an earlier time than the known one changes nothing."""
        flat = [part for pair in used.items() for part in pair]
        self._call(lambda client: client.eval(_TOUCH, 1, self._used, *flat))

    def version(self) -> int:
        """How often a key was added or revoked: neither is ever undone."""
        added = self._call(lambda client: client.hlen(self._keys))
        return int(added + self._call(lambda client: client.hlen(self._revoked)))

    def record(self, entry: AuditEntry) -> None:
        """Keep a line of the audit log, and forget those above its limit."""
        text = orjson.dumps(asdict(entry))
        self._call(lambda client: client.lpush(self._audit, text))
        self._call(lambda client: client.ltrim(self._audit, 0, AUDIT_LINES - 1))

    def audit(self, tenant: str | None, *, limit: int) -> Sequence[AuditEntry]:
        """The newest lines of the audit log, newest first; of all tenants when None."""
        found: list[AuditEntry] = []
        for first in range(0, AUDIT_LINES, _PAGE):
            texts = self._audit_texts(first)
            entries = (AuditEntry(**orjson.loads(text)) for text in texts)
            found += [entry for entry in entries if tenant is None or entry.tenant == tenant]
            if len(texts) < _PAGE or len(found) >= limit:
                break
        return found[:limit]

    def _audit_texts(self, first: int) -> list[bytes]:
        texts: list[bytes] = self._call(lambda client: client.lrange(self._audit, first, first + _PAGE - 1))
        return texts

    def secret(self) -> str:
        """A random secret, made once."""
        self._call(lambda client: client.set(self._secret, secrets.token_hex(32), nx=True))
        value: bytes = self._call(lambda client: client.get(self._secret))
        return value.decode()

    def end_session(self, session_id: str, until_ms: int) -> None:
        """Keep in mind until then that a session was ended by its owner."""
        self._call(lambda client: client.set(f"{self._ended}:{session_id}", 1, pxat=until_ms))

    def has_ended(self, session_id: str) -> bool:
        """Whether a session was ended by its owner."""
        return bool(self._call(lambda client: client.exists(f"{self._ended}:{session_id}")))

    def _call(self, command: Callable[[Any], Any]) -> Any:
        """Run one command. Raises `StoreUnavailable`."""
        try:
            with self._lock:
                if self._client is None:
                    self._client = open_client(self._where)
                client = self._client
            answer = command(client)
        except (redis.RedisError, RedisClusterException, OSError) as error:
            public = public_error(error)
            if self._failure is None:
                _log.error("The access store failed", action="access.failed", reason=str(error))
            self._failure = public.detail
            raise public from None
        self._failure = None
        return answer


def _time(text: bytes | None) -> int | None:
    return None if text is None else int(text)


def _key_of(text: bytes) -> ApiKey:
    document = orjson.loads(text)
    return ApiKey(**{**document, "scopes": frozenset(map(Scope, document["scopes"]))})
