"""The shared engine: Redis or Valkey, for any number of instances at a time.

A record, its log, its outbox and its places in the indexes are in one of a fixed number of shards, whose keys share a
hash tag; so one script changes all of them at once, also on a cluster. Lists are merged over the shards. A step is
decided here, on what was read, and written only if the record is still the same; else it is decided again.
"""

from __future__ import annotations

import random
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, TypeAlias

from service_kit.change import Change, Entry, Message, Record, Ref, Step
from service_kit.errors import StartRefused, StoreUnavailable
from service_kit.failpoints import failpoint
from service_kit.storage import redis_scripts as scripts
from service_kit.storage.contract import (
    CommitMeasures,
    KeyPage,
    Lease,
    MessageFilter,
    MessagePage,
    Page,
    StoreMeasures,
)
from service_kit.storage.redis_cursors import cursor_of_id, cursor_of_place, id_of_cursor, place_of_cursor
from service_kit.storage.redis_drafts import Draft, Names
from service_kit.storage.redis_link import Call, RedisLink
from service_kit.storage.redis_merge import TOP, Fetch, newest
from service_kit.storage.redis_url import RedisUrl
from service_kit.storage.redis_values import (
    ID_LENGTH,
    entry_of,
    message_of,
    moment,
    moment_of,
    name_of,
    quoted,
    record_of,
    ref_of,
    unquoted,
)
from service_kit.storage.redis_watch import RedisWatch

#: Records that one run of the commit script changes; other callers wait no longer than for these.
_COMMIT_BATCH = 250
_PURGE_BATCH = 100
#: How long a step is decided again and again because others change its record.
_PATIENCE_S = 10.0
#: Leases and the clock are here.
_LEASE_SHARD = 0

Result: TypeAlias = Change | Exception | None

_BEGINNING = failpoint("store.beginning")
_COMMITTING = failpoint("store.committing")
_COMMITTED = failpoint("store.committed")


class RedisStore:
    """A `Store` that many instances share. ``prefix`` is what the keys of one service begin with."""

    name = "store"
    is_shared = True

    def __init__(self, where: RedisUrl, *, prefix: str) -> None:
        self.link = RedisLink(where, prefix)
        self.commits = CommitMeasures()
        self._watch = RedisWatch(self.link, probe=self.now_ms)
        self._names = Names()
        #: The highest token floor seen; a commit on it is refused when another instance has raised it.
        self._token_floor = 0

    # ---- the component

    def start(self) -> None:
        """Connect, and refuse a Redis that would throw data away. Raises `StartRefused`."""
        if self.link.is_open:
            raise RuntimeError("the store is started already")
        try:
            self.link.connect()
            self._watch.start()
            self._token_floor = max(int(floor or 0) for floor in self.link.command_on_every_shard("GET", ":floor"))
        except StoreUnavailable as error:
            self.stop()
            raise StartRefused(f"The Redis of the store cannot be used. {error.detail}") from None
        except BaseException:
            self.stop()
            raise

    def stop(self, timeout_s: float = 5.0) -> None:
        """Take no more work and disconnect. Safe to call twice."""
        self._watch.stop(timeout_s)
        self.link.close()

    def check(self) -> str | None:
        """None when the last call went well and Redis is set up to keep what it has, else the reason why not."""
        if not self.link.is_open:
            return "the store is not running"
        return self.link.failure or self._watch.objection

    def facts(self) -> Mapping[str, Any]:
        """How Redis is set up to keep what it has."""
        return self._watch.facts

    # ---- changes

    def update(self, step: Step) -> Change | None:
        """Read, decide and write one record atomically; answer what was written once Redis has it."""
        (result,) = self.update_all((step,))
        if isinstance(result, Exception):
            raise result
        return result

    def update_all(self, steps: Sequence[Step]) -> list[Result]:
        """Many steps in few round trips, each atomic by itself, in the given order for each record."""
        results: list[Result] = [None] * len(steps)
        left: dict[Ref, list[int]] = defaultdict(list)
        for number, step in enumerate(steps):
            left[step.ref].append(number)
        if not left:
            self.link.client  # noqa: B018 # raises when the store is closed
            return results
        _BEGINNING()
        began_s = time.perf_counter()
        # What names nothing to see is mostly a record's first step: it is decided on nothing, which saves the read.
        guessed = {ref for ref, numbers in left.items() if not any(_wants(steps[number]) for number in numbers)}
        if len(guessed) < len(left):
            guessed = set()
        attempt = 0
        while left:
            drafts = self._drafts(left, steps, guessed)
            decided = self._decide(steps, left, drafts)
            unsure = {ref for ref in guessed if not all(isinstance(decided[n], Change) for n in left[ref])}
            changed = {ref: draft for ref, draft in drafts.items() if draft.is_changed and ref not in unsure}
            verdicts = self._commit(changed)
            again: dict[Ref, list[int]] = {}
            for ref, numbers in left.items():
                verdict = verdicts.get(ref, b"ok")
                if ref in unsure or verdict == b"conflict":
                    again[ref] = numbers
                else:
                    for number in numbers:
                        results[number] = _outcome(decided[number], verdict)
            if again and not guessed:
                attempt += 1
                self._wait_for_turn(attempt, began_s)
            left, guessed = again, set()
        self.commits.note(len(steps), time.perf_counter() - began_s)
        return results

    def _drafts(self, left: Mapping[Ref, Sequence[int]], steps: Sequence[Step], guessed: set[Ref]) -> dict[Ref, Draft]:
        by_shard: dict[int, list[tuple[Ref, bytes, list[str], list[str]]]] = defaultdict(list)
        drafts = {}
        for ref, numbers in left.items():
            drafts[ref] = Draft(ref, self._names, self._token_floor)
            if ref not in guessed:
                name = name_of(ref)
                entry_ids = list(dict.fromkeys(i for number in numbers for i in steps[number].entry_ids))
                message_ids = list(dict.fromkeys(i for number in numbers for i in steps[number].message_ids))
                by_shard[RedisLink.shard_of(name)].append((ref, name, entry_ids, message_ids))
        calls = [
            Call(
                scripts.LOAD,
                shard,
                [len(wanted)]
                + [part for _, name, entries, messages in wanted for part in (name, *_list(entries), *_list(messages))],
            )
            for shard, wanted in by_shard.items()
        ]
        answers = self.link.run_all(calls)
        for floor, *_ in answers:
            self._token_floor = max(self._token_floor, int(floor))
        for wanted, (_, *rows) in zip(by_shard.values(), answers, strict=True):
            for (ref, _, _, message_ids), (value, entries, messages) in zip(wanted, rows, strict=True):
                drafts[ref] = Draft(ref, self._names, self._token_floor)
                drafts[ref].read(value, entries, list(zip(message_ids, messages, strict=True)))
        return drafts

    @staticmethod
    def _decide(
        steps: Sequence[Step], left: Mapping[Ref, Sequence[int]], drafts: Mapping[Ref, Draft]
    ) -> dict[int, Result]:
        decided: dict[int, Result] = {}
        for number in sorted(number for numbers in left.values() for number in numbers):
            step = steps[number]
            try:
                decided[number] = drafts[step.ref].decide(step)
            except Exception as error:  # noqa: BLE001 - raised where the caller waits
                decided[number] = error
        return decided

    def _commit(self, drafts: Mapping[Ref, Draft]) -> dict[Ref, bytes]:
        """Write the drafts; answers what became of each."""
        by_shard: dict[int, list[tuple[Ref, list[bytes | int]]]] = defaultdict(list)
        for ref, draft in drafts.items():
            name = name_of(ref)
            by_shard[RedisLink.shard_of(name)].append((ref, draft.change(name)))
        parts = [
            (shard, changes[start : start + _COMMIT_BATCH])
            for shard, changes in by_shard.items()
            for start in range(0, len(changes), _COMMIT_BATCH)
        ]
        calls = [
            Call(scripts.COMMIT, shard, [len(part)] + [value for _, change in part for value in change])
            for shard, part in parts
        ]
        _COMMITTING()
        answers = self.link.run_all(calls)
        _COMMITTED()
        return {
            ref: verdict
            for (_, part), verdicts in zip(parts, answers, strict=True)
            for (ref, _), verdict in zip(part, verdicts, strict=True)
        }

    @staticmethod
    def _wait_for_turn(attempt: int, began_s: float) -> None:
        if time.perf_counter() - began_s > _PATIENCE_S:
            raise StoreUnavailable("Too many change this at the same time.", retry_after_s=1)
        if attempt > 2:
            time.sleep(random.uniform(0, 0.001 * min(attempt, 20)))  # noqa: S311 # jitter, not a secret

    # ---- reads

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
        (values,) = self.link.run(scripts.LOGS, shard, limit, *_list(kinds), 1, name, after)
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
        return [message_of(message_id, value) for message_id, value in _pairs(flat)]

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
                messages = sorted((message_of(*pair) for pair in _pairs(flat)), key=lambda message: message.position)
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
        filters = (tenant, *_list(() if wanted.address is None else (wanted.address,)), *_list(states))
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
            *(of_tenant, *_list(sorted({str(state) for state in states}))),
            *_list(() if group is None else (group,)),
            *_list(() if owner is None else (owner,)),
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
            for field, number in _pairs(flat):
                of, _, state = field.decode().partition("/")
                if tenant is None or unquoted(of) == tenant:
                    counts[state] += int(number)
        return dict(counts)

    def measure(self) -> StoreMeasures:
        """The memory of Redis, whoever uses it, and the oldest message in each state."""
        oldest_ms: dict[str, int] = {}
        for state in self.outbox_counts():
            first = self.link.command_on_every_shard("ZRANGE", f":outbox:{state}", 0, 0)
            times = [moment_of(member) for members in first for member in members]
            if times:  # else they went since they were counted
                oldest_ms[state] = min(times)
        return StoreMeasures(size_bytes=self._watch.used_memory_bytes(), oldest_ms=oldest_ms)

    def owners(self) -> list[str]:
        """Every owner of a record."""
        found = self.link.run_on_every_shard(scripts.OWNERS)
        return sorted({owner.decode() for part in found for owner in part})

    # ---- instances

    def renew_lease(self, instance: str, lease_ms: int) -> Lease:
        """Let the instance act for another ``lease_ms`` from now on Redis' clock."""
        return Lease(instance, int(self.link.run(scripts.LEASE, _LEASE_SHARD, instance, lease_ms)))

    def end_lease(self, instance: str) -> None:
        """Forget the instance's lease; its orders are free at once."""
        self.link.command("HDEL", _LEASE_SHARD, b":leases", instance)

    def leases(self) -> list[Lease]:
        """All leases, ended ones included until their instance is forgotten."""
        flat = self.link.command("HGETALL", _LEASE_SHARD, b":leases")
        return sorted(
            (Lease(instance.decode(), int(until)) for instance, until in _pairs(flat)),
            key=lambda lease: lease.instance,
        )

    def now_ms(self) -> int:
        """Redis' clock, in milliseconds since the epoch."""
        return int(self.link.run(scripts.NOW, _LEASE_SHARD))

    # ---- cleanup

    def stale(self, *, states: Sequence[str], before_ms: int, limit: int = 500) -> list[Ref]:
        """Records in one of the states, last changed before the time and with no active message."""
        return [ref_of(name) for name, _ in self._stale(states, before_ms, limit)]

    def _stale(self, states: Sequence[str], before_ms: int, limit: int) -> list[tuple[bytes, int]]:
        parts = self.link.run_on_every_shard(scripts.STALE, before_ms, limit, *_list([str(state) for state in states]))
        found = ((name, int(token)) for flat in parts for name, token in _pairs(flat))
        return list(islice(found, limit))

    def purge(self, *, states: Sequence[str], before_ms: int, limit: int = 500) -> int:
        """Remove finished records with everything that is theirs; answers how many went."""
        found = self._stale(states, before_ms, limit)
        if not found:
            return 0
        # Everywhere before anything goes: what is initiated anew, wherever, begins above it.
        floors = self.link.run_on_every_shard(scripts.FLOOR, max(token for _, token in found))
        self._token_floor = max(self._token_floor, *map(int, floors))
        by_shard: dict[int, list[bytes]] = defaultdict(list)
        for name, _ in found:
            by_shard[RedisLink.shard_of(name)].append(name)
        of_states = _list([str(state) for state in states])
        calls = [
            Call(scripts.PURGE, shard, (before_ms, *of_states, *_list(names[start : start + _PURGE_BATCH])))
            for shard, names in by_shard.items()
            for start in range(0, len(names), _PURGE_BATCH)
        ]
        return sum(self.link.run_all(calls))

    def raise_token_floor(self, token: int) -> None:
        """Let every new record's token be above this one; for a copy of another store."""
        floors = self.link.run_on_every_shard(scripts.FLOOR, token)
        self._token_floor = max(self._token_floor, *map(int, floors))


def _wants(step: Step) -> bool:
    return bool(step.entry_ids or step.message_ids)


def _outcome(decided: Result, verdict: bytes) -> Result:
    if verdict == b"taken" and isinstance(decided, Change):
        return ValueError("an entry with this id or number is in the log already")
    return decided


def _list(values: Sequence[Any]) -> tuple[Any, ...]:
    """A list as scripts take it: its length, then its values."""
    return (len(values), *values)


def _by_shard(refs: Iterable[Ref]) -> dict[int, list[tuple[Ref, bytes]]]:
    found: dict[int, list[tuple[Ref, bytes]]] = defaultdict(list)
    for ref in refs:
        name = name_of(ref)
        found[RedisLink.shard_of(name)].append((ref, name))
    return found


def _pairs(answer: Any) -> Iterable[tuple[bytes, bytes]]:
    """What a hash holds; the older protocol answers a list, the newer one a map."""
    if isinstance(answer, Mapping):
        return list(answer.items())
    return list(zip(answer[::2], answer[1::2], strict=True))
