"""One list out of those of the shards, newest first, without reading more of any than about its part."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

from service_kit.storage.redis_link import SHARDS

#: A member of an index, and the value that it stands for.
Item: TypeAlias = tuple[bytes, bytes]
#: Reads on from a place in each of these shards, up to so many items; answers the places to go on from (b"" at the
#: end of a shard) and the items.
Fetch: TypeAlias = Callable[[Sequence[tuple[int, bytes]], int], Sequence[tuple[bytes, Sequence[bytes]]]]

#: Where a list begins: above every member.
TOP = b"~"


class _Run:
    """What has been read of one shard and not been taken yet."""

    __slots__ = ("items", "place", "shard")

    def __init__(self, shard: int, place: bytes) -> None:
        self.shard = shard
        self.place = place
        self.items: deque[Item] = deque()

    @property
    def is_to_be_read(self) -> bool:
        """Whether nobody can tell what comes next in this shard."""
        return not self.items and self.place != b""


def newest(fetch: Fetch, before: bytes, limit: int) -> Iterator[Item]:
    """Up to ``limit`` items, newest first."""
    runs = [_Run(shard, before) for shard in range(SHARDS)]
    size = min(limit, 2 * limit // SHARDS + 4)
    for _ in range(limit):
        while empty := [run for run in runs if run.is_to_be_read]:
            answers = fetch([(run.shard, run.place) for run in empty], size)
            for run, (place, flat) in zip(empty, answers, strict=True):
                run.place = place
                run.items.extend(zip(flat[::2], flat[1::2], strict=True))
        filled = [run for run in runs if run.items]
        if not filled:
            return
        yield max(filled, key=lambda run: run.items[0]).items.popleft()
