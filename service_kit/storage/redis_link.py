"""The way to Redis: scripts on shards, many in one round trip, and what its failures mean."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import redis
from redis.cluster import RedisCluster
from redis.exceptions import NoScriptError, RedisClusterException

from service_kit.errors import StoreFull, StoreUnavailable
from service_kit.logs import get_logger
from service_kit.storage.redis_scripts import Script
from service_kit.storage.redis_url import RedisUrl, open_client

#: Into so many parts the keys of a service are split. It can never change for data that there is.
SHARDS = 16

log = get_logger(__name__)


class Call(NamedTuple):
    """One script on one shard."""

    script: Script
    shard: int
    arguments: Sequence[bytes | int | str] = ()


class RedisLink:
    """Runs scripts; any thread may. ``prefix`` keeps the services of one Redis apart."""

    def __init__(self, where: RedisUrl, prefix: str) -> None:
        self._where = where
        self.prefix = prefix
        self._tags = [f"{{{prefix}:{shard}}}".encode() for shard in range(SHARDS)]
        self._client: redis.Redis | RedisCluster | None = None
        self._is_open = False
        self._failure: str | None = None

    @property
    def db(self) -> int:
        """The number of the database."""
        return self._where.db

    # ---- open and closed

    def connect(self) -> None:
        """Make a client. Raises `StoreUnavailable`."""
        try:
            self._client = open_client(self._where)
        except (redis.RedisError, RedisClusterException, OSError) as error:
            raise self._failed(error) from None
        self._is_open = True

    def close(self) -> None:
        """Take no more work and let the connections go. Safe to call twice."""
        self._is_open = False
        client, self._client = self._client, None
        if client is not None:
            with suppress(redis.RedisError, OSError):
                client.close()

    @property
    def is_open(self) -> bool:
        """Whether work is taken."""
        return self._is_open

    @property
    def failure(self) -> str | None:
        """Why the last call failed; None when it went well."""
        return self._failure

    @property
    def client(self) -> Any:
        """The client, one of two classes with the same calls. Raises `StoreUnavailable` when this is closed."""
        client = self._client
        if client is None or not self._is_open:
            raise StoreUnavailable("The store is closed.", retry_after_s=1)
        return client

    # ---- work

    @staticmethod
    def shard_of(name: bytes) -> int:
        """The shard of a record; the same at every instance and for ever."""
        return zlib.crc32(name) % SHARDS

    def run(self, script: Script, shard: int, *arguments: bytes | int | str) -> Any:
        """Run one script. Raises `StoreUnavailable`; it may have run all the same."""
        client = self.client
        tag = self._tags[shard]
        try:
            try:
                answer = client.execute_command("EVALSHA", script.sha, 1, tag, *arguments)
            except NoScriptError:
                answer = client.execute_command("EVAL", script.text, 1, tag, *arguments)
        except (redis.RedisError, RedisClusterException, OSError) as error:
            raise self._failed(error) from error
        self._succeeded()
        return answer

    def run_all(self, calls: Sequence[Call]) -> list[Any]:
        """Run scripts in one round trip. Raises `StoreUnavailable`; some may have run all the same."""
        if len(calls) == 1:
            ((script, shard, arguments),) = calls
            return [self.run(script, shard, *arguments)]
        if not calls:
            return []
        try:
            answers = self._send(calls, is_known=True)
            unknown = [n for n, answer in enumerate(answers) if isinstance(answer, NoScriptError)]
            if unknown:
                again = self._send([calls[n] for n in unknown], is_known=False)
                for n, answer in zip(unknown, again, strict=True):
                    answers[n] = answer
            for answer in answers:
                if isinstance(answer, Exception):
                    raise answer
        except (redis.RedisError, RedisClusterException, OSError) as error:
            raise self._failed(error) from error
        self._succeeded()
        return answers

    def _send(self, calls: Iterable[Call], *, is_known: bool) -> list[Any]:
        pipeline = self.client.pipeline(transaction=False)
        for script, shard, arguments in calls:
            name, text = (b"EVALSHA", script.sha) if is_known else (b"EVAL", script.text)
            pipeline.execute_command(name.decode(), text, 1, self._tags[shard], *arguments)
        return list(pipeline.execute(raise_on_error=False))

    def run_on_every_shard(self, script: Script, *arguments: bytes | int | str) -> list[Any]:
        """The same script on every shard; the answers stand in their order."""
        return self.run_all([Call(script, shard, arguments) for shard in range(SHARDS)])

    def command_on_every_shard(self, command: str, suffix: str, *arguments: bytes | int | str) -> list[Any]:
        """The same command on the same key of every shard."""
        try:
            pipeline = self.client.pipeline(transaction=False)
            for tag in self._tags:
                pipeline.execute_command(command, tag + suffix.encode(), *arguments)
            answers = list(pipeline.execute())
        except (redis.RedisError, RedisClusterException, OSError) as error:
            raise self._failed(error) from error
        self._succeeded()
        return answers

    def command(self, command: str, shard: int, suffix: bytes, *arguments: bytes | int | str) -> Any:
        """One command on one key. Raises `StoreUnavailable`."""
        try:
            answer = self.client.execute_command(command, self._tags[shard] + suffix, *arguments)
        except (redis.RedisError, RedisClusterException, OSError) as error:
            raise self._failed(error) from error
        self._succeeded()
        return answer

    # ---- failures

    def _succeeded(self) -> None:
        if self._failure is not None:
            self._failure = None
            log.info("Redis answers again", action="store.healed")

    def _failed(self, error: Exception) -> StoreUnavailable:
        if not self._is_open and self._client is None and self._failure is None:
            return StoreUnavailable("The store is closed.", retry_after_s=1)
        public = public_error(error)
        # Once per trouble, not once per call: under load that would be thousands of lines.
        if self._failure is None:
            log.error("Redis failed", action="store.failed", error=type(error).__name__, reason=str(error))
        self._failure = public.detail
        return public


def public_error(error: Exception) -> StoreUnavailable:
    """What a caller may know of a failure; the log has the rest."""
    if isinstance(error, redis.OutOfMemoryError):
        return StoreFull("The store has no room left.", retry_after_s=5)
    if isinstance(error, redis.ConnectionError | redis.TimeoutError | OSError):
        return StoreUnavailable("The store does not answer.", retry_after_s=1)
    return StoreUnavailable("The store could not do this.", retry_after_s=1)
