"""The shared engine: Redis or Valkey, for any number of instances at a time.

A record, its log, its outbox and its places in the indexes are in one of a fixed number of shards, whose keys share a
hash tag; so one script changes all of them at once, also on a cluster. Lists are merged over the shards. A step is
decided here, on what was read, and written only if the record is still the same; else it is decided again.
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, TypeAlias

from service_kit.change import Change, Ref, Step
from service_kit.errors import StartRefused, StoreUnavailable
from service_kit.failpoints import failpoint
from service_kit.storage import redis_scripts as scripts
from service_kit.storage.contract import CommitMeasures, Lease, StoreMeasures
from service_kit.storage.redis_drafts import Draft, Names
from service_kit.storage.redis_link import Call, RedisLink
from service_kit.storage.redis_reads import RedisReads
from service_kit.storage.redis_url import RedisUrl
from service_kit.storage.redis_values import listed, moment_of, name_of, pairs_of, ref_of
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


class RedisStore(RedisReads):
    """A `Store` that many instances share. ``prefix`` is what the keys of one service begin with."""

    name = "store"
    is_shared = True

    def __init__(self, where: RedisUrl, *, prefix: str) -> None:
        super().__init__(RedisLink(where, prefix))
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
        return self.link.failure or self._watch.check() or self._watch.objection

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
                + [
                    part
                    for _, name, entries, messages in wanted
                    for part in (name, *listed(entries), *listed(messages))
                ],
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

    # ---- figures

    def measure(self) -> StoreMeasures:
        """The memory of Redis, whoever uses it, and the oldest message in each state."""
        oldest_ms: dict[str, int] = {}
        for state in self.outbox_counts():
            first = self.link.command_on_every_shard("ZRANGE", f":outbox:{state}", 0, 0)
            times = [moment_of(member) for members in first for member in members]
            if times:  # else they went since they were counted
                oldest_ms[state] = min(times)
        return StoreMeasures(size_bytes=self._watch.used_memory_bytes(), oldest_ms=oldest_ms)

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
            (Lease(instance.decode(), int(until)) for instance, until in pairs_of(flat)),
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
        parts = self.link.run_on_every_shard(scripts.STALE, before_ms, limit, *listed([str(state) for state in states]))
        found = ((name, int(token)) for flat in parts for name, token in pairs_of(flat))
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
        of_states = listed([str(state) for state in states])
        calls = [
            Call(scripts.PURGE, shard, (before_ms, *of_states, *listed(names[start : start + _PURGE_BATCH])))
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
