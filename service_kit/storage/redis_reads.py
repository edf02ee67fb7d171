"""What is read of a Redis store: records, logs and outboxes by name, and lists that are merged over the shards."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from service_kit.change import Entry, Message, Record, Ref
from service_kit.storage import redis_scripts as scripts
from service_kit.storage.contract import KeyPage, MessageFilter, MessagePage, Page
from service_kit.storage.redis_cursors import cursor_of_id, cursor_of_place, id_of_cursor, place_of_cursor
from service_kit.storage.redis_link import Call, RedisLink
from service_kit.storage.redis_merge import TOP, Fetch, newest
from service_kit.storage.redis_values import (
    ID_LENGTH,
    entry_of,
    listed,
    message_of,
    moment,
    name_of,
    pairs_of,
    quoted,
    record_of,
    ref_of,
    unquoted,
)


class RedisReads:
    """The reads of a `Store` that change nothing."""

    def __init__(self, link: RedisLink) -> None:
        self.link = link

    def get(self, ref: Ref) -> Record | None:
        """The record, or None."""
        name = name_of(ref)
        value = self.link.command("GET", RedisLink.shard_of(name), b":record:" + name)
        return None if value is None else record_of(ref, value)[1]

    def get_many(self, refs: Iterable[Ref]) -> dict[Ref, Record]:
        """Those of the records that there are."""
        by_shard = _by_shard(dict.fromkeys(refs))
        calls = [
            Call(scripts.LOAD, shard, [len(named)] + [part for _, name in named for part in (name, 0, 0)])
            for shard, named in by_shard.items()
        ]
        found = {}
        for named, (_, *rows) in zip(by_shard.values(), self.link.run_all(calls), strict=True):
            for (ref, _), (value, _, _) in zip(named, rows, strict=True):
                if value is not None:
                    found[ref] = record_of(ref, value)[1]
        return found

    def entries(self, ref: Ref, *, after: int = 0, limit: int = 1000, kinds: Sequence[str] = ()) -> list[Entry]:
        """Log entries with ``seq > after`` in order, of these kinds when any are given."""
        name = name_of(ref)
        shard = RedisLink.shard_of(name)
        (values,) = self.link.run(scripts.LOGS, shard, limit, *listed(kinds), 1, name, after)
        return [entry_of(value) for value in values]

    def entries_of_many(self, after: Mapping[Ref, int], *, limit: int = 1000) -> dict[Ref, list[Entry]]:
        """For each record its entries with ``seq`` above the given one, ``limit`` in all."""
        by_shard = _by_shard(after)
        calls = [
            Call(
                scripts.LOGS,
                shard,
                [limit, 0, len(named)] + [part for ref, name in named for part in (name, after[ref])],
            )
            for shard, named in by_shard.items()
        ]
        found: dict[Ref, list[Entry]] = {}
        for named, logs in zip(by_shard.values(), self.link.run_all(calls), strict=True):
            for (ref, _), values in zip(named, logs, strict=True):
                kept = values[:limit]
                if kept:
                    limit -= len(kept)
                    found[ref] = [entry_of(value) for value in kept]
        return found

    def messages(self, ref: Ref, *, limit: int = 1000) -> list[Message]:
        """The record's outbox in order of position, whatever the state."""
        return sorted(self._outbox_of(ref), key=lambda message: message.position)[:limit]

    def _outbox_of(self, ref: Ref) -> list[Message]:
        name = name_of(ref)
        flat = self.link.command("HGETALL", RedisLink.shard_of(name), b":messages:" + name)
        return [message_of(message_id, value) for message_id, value in pairs_of(flat)]

    def pending_of_many(self, after: Mapping[Ref, int], *, limit: int = 1000) -> dict[Ref, list[Message]]:
        """For each record its pending messages without an address above the given position, ``limit`` in all."""
        by_shard = _by_shard(after)
        calls = [
            Call(scripts.PENDING, shard, [len(named)] + [part for ref, name in named for part in (name, after[ref])])
            for shard, named in by_shard.items()
        ]
        found: dict[Ref, list[Message]] = {}
        for named, outboxes in zip(by_shard.values(), self.link.run_all(calls), strict=True):
            for (ref, _), flat in zip(named, outboxes, strict=True):
                messages = sorted((message_of(*pair) for pair in pairs_of(flat)), key=lambda message: message.position)
                if kept := messages[:limit]:
                    limit -= len(kept)
                    found[ref] = kept
        return found

    def pending_refs(self) -> list[Ref]:
        """Every record that has a pending message."""
        members = self.link.command_on_every_shard("ZRANGE", ":outbox:pending", 0, -1)
        return [ref_of(name) for name in {member.split(b"\0", 1)[1] for part in members for member in part}]

    def outbox(self, wanted: MessageFilter, *, cursor: str | None = None, limit: int = 100) -> MessagePage:
        """Messages newest first, filtered. Raises `InvalidInput` for a cursor that no page gave out."""
        before = moment(min(wanted.created_before_ms, 2**63 - 1))
        if cursor is not None:
            before = min(before, place_of_cursor(cursor))
        states = sorted({str(state) for state in wanted.states})
        if not states or wanted.address == "":
            return MessagePage((), None)
        if wanted.key is not None:
            found = self._outbox_of_record(wanted, before, limit + 1)
        else:
            found = self._outbox_of_all(wanted, states, before, limit + 1)
        next_cursor = cursor_of_place(found[limit - 1][0]) if len(found) > limit else None
        return MessagePage(tuple((ref, message) for _, ref, message in found[:limit]), next_cursor)

    def _outbox_of_all(
        self, wanted: MessageFilter, states: Sequence[str], before: bytes, limit: int
    ) -> list[tuple[bytes, Ref, Message]]:
        tenant = "" if wanted.tenant is None else quoted(wanted.tenant)
        filters = (tenant, *listed(() if wanted.address is None else (wanted.address,)), *listed(states))
        lowest = moment(wanted.created_from_ms)

        def fetch(places: Sequence[tuple[int, bytes]], size: int) -> Any:
            return self.link.run_all(
                [Call(scripts.OUTBOX, shard, (place, lowest, size, *filters)) for shard, place in places]
            )

        found = []
        for member, value in newest(fetch, before, limit):
            place, _, name = member.partition(b"\0")
            message_id = place[16 + ID_LENGTH :]
            found.append((place, ref_of(name), message_of(message_id, value)))
        return found

    def _outbox_of_record(self, wanted: MessageFilter, before: bytes, limit: int) -> list[tuple[bytes, Ref, Message]]:
        ref = Ref(wanted.tenant or "", wanted.key or "")
        name = name_of(ref)
        shard = RedisLink.shard_of(name)
        value = self.link.command("GET", shard, b":record:" + name)
        if value is None:
            return []
        record_id, _ = record_of(ref, value)
        found = [
            (moment(message.created_ms) + record_id + message.message_id.encode(), ref, message)
            for message in self._outbox_of(ref)
            if message.state in set(map(str, wanted.states))
            and wanted.address in (None, message.address)
            and message.created_ms >= wanted.created_from_ms
        ]
        # A place is compared as the index compares it, with the NUL that ends an id.
        fitting = [item for item in found if item[0] + b"\0" < before]
        return sorted(fitting, key=lambda item: item[0], reverse=True)[:limit]

    def page(
        self,
        *,
        tenant: str | None,
        states: Sequence[str] = (),
        group: str | None = None,
        owner: str | None = None,
        cursor: str | None = None,
        limit: int = 100,
    ) -> Page:
        """Records newest first, filtered. Raises `InvalidInput` for a cursor that no page gave out."""
        of_tenant = "" if tenant is None else quoted(tenant)
        walk = ("states", "")
        if group and tenant is not None:
            walk = ("groups", f"{of_tenant}/{group}\0")
        elif owner:
            walk = ("owners", f"{owner}\0")
        filters = (
            *(of_tenant, *listed(sorted({str(state) for state in states}))),
            *listed(() if group is None else (group,)),
            *listed(() if owner is None else (owner,)),
        )
        items = self._newest("1", walk, filters, cursor, limit + 1)
        next_cursor = cursor_of_id(items[limit - 1][0]) if len(items) > limit else None
        records = [record_of(ref_of(member[ID_LENGTH:]), value)[1] for member, value in items[:limit]]
        return Page(tuple(records), next_cursor)

    def keys(self, tenant: str, *, cursor: str | None = None, limit: int = 100) -> KeyPage:
        """The keys of a tenant's records, newest first. Raises `InvalidInput` for a cursor that no page gave out."""
        items = self._newest("0", ("states", ""), (quoted(tenant), 0, 0, 0), cursor, limit + 1)
        next_cursor = cursor_of_id(items[limit - 1][0]) if len(items) > limit else None
        return KeyPage(tuple([ref_of(member[ID_LENGTH:]).key for member, _ in items[:limit]]), next_cursor)

    def _newest(
        self, values: str, walk: tuple[str, str], filters: Sequence[str | int], cursor: str | None, limit: int
    ) -> list[tuple[bytes, bytes]]:
        before = TOP if cursor is None else id_of_cursor(cursor)

        def fetch(places: Sequence[tuple[int, bytes]], size: int) -> Any:
            return self.link.run_all(
                [Call(scripts.PAGE, shard, (place, size, values, *walk, *filters)) for shard, place in places]
            )

        wanted: Fetch = fetch
        return list(newest(wanted, before, limit))

    def counts(self, tenant: str | None) -> dict[str, int]:
        """How many records stand in each state."""
        return self._counted(":counts", tenant)

    def outbox_counts(self, tenant: str | None = None) -> dict[str, int]:
        """How many outbox messages stand in each state; of all tenants when None."""
        return self._counted(":outbox-counts", tenant)

    def _counted(self, suffix: str, tenant: str | None) -> dict[str, int]:
        counts: Counter[str] = Counter()
        for flat in self.link.command_on_every_shard("HGETALL", suffix):
            for field, number in pairs_of(flat):
                of, _, state = field.decode().partition("/")
                if tenant is None or unquoted(of) == tenant:
                    counts[state] += int(number)
        return dict(counts)

    def owners(self) -> list[str]:
        """Every owner of a record."""
        found = self.link.run_on_every_shard(scripts.OWNERS)
        return sorted({owner.decode() for part in found for owner in part})


def _by_shard(refs: Iterable[Ref]) -> dict[int, list[tuple[Ref, bytes]]]:
    found: dict[int, list[tuple[Ref, bytes]]] = defaultdict(list)
    for ref in refs:
        name = name_of(ref)
        found[RedisLink.shard_of(name)].append((ref, name))
    return found
