"""Budgets of requests that several instances share, in their Redis and by its clock."""

from __future__ import annotations

from service_kit.rates import Grant
from service_kit.storage.redis_link import RedisLink
from service_kit.storage.redis_scripts import RATE


class RedisBudget:
    """A `Budget` beside the records of a store."""

    def __init__(self, link: RedisLink) -> None:
        self._link = link

    def lease(self, name: str, wanted: int, *, per_s: float, burst: float, is_owed: bool = False) -> Grant:
        """Take a part of a name's budget. Raises `StoreUnavailable`."""
        shard = self._link.shard_of(name.encode())
        granted, wait_ms = self._link.run(RATE, shard, name, repr(per_s), repr(burst), wanted, int(is_owed))
        return Grant(int(granted), int(wait_ms) / 1000)
