"""What every store engine promises; one class, run over each engine."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, NoReturn

import pytest

from service_kit.change import Change, Record, Ref, Snapshot, Step, next_version
from service_kit.errors import Conflict, InvalidInput, StoreUnavailable
from service_kit.storage.contract import MessageFilter, Store
from tests.contract.conftest import REF, entry, message, put, ref, step


def refuse(snapshot: Snapshot) -> NoReturn:
    """A decision that refuses."""
    raise Conflict("no")


def count_up(snapshot: Snapshot) -> Change:
    """A decision that depends on what is stored: it adds one to the record's number."""
    before = snapshot.record
    number = 0 if before is None else before.body["n"]
    after = Record(REF, "live", {"n": number + 1}, version=next_version(before))
    return Change(None if before is None else before.version, after, (entry(number + 1),))


def keys_of(records: tuple[Record, ...]) -> list[str]:
    return [record.ref.key for record in records]


class TestStoreContract:
    # ---- changes

    def test_what_was_written_is_read_back(self, store: Store) -> None:
        body = {"text": 'ünï "quoted" \x00 \u2028', "list": [1, None, True, 0.5], "nested": {"a": {}}}
        change = store.update(
            put(
                owner="me",
                token=7,
                group="s1",
                body=body,
                entries=(entry(1, text="á"), entry(2, "other")),
                puts=(message(3), message(2, address="seller1", attempts=2, last_error="no", state="set_aside")),
            )
        )
        assert change is not None
        record = store.get(REF)
        assert record == change.record
        assert record == Record(REF, "live", body, "me", 7, 1, "s1", 500, 600)
        assert store.entries(REF) == [entry(1, text="á"), entry(2, "other")]
        assert [m.position for m in store.messages(REF)] == [2, 3]
        assert store.messages(REF)[0] == message(2, address="seller1", attempts=2, last_error="no", state="set_aside")

    def test_numbers_of_64_bits_are_kept(self, store: Store) -> None:
        big = 2**63 - 1
        store.update(put(token=big, body={"n": big}, created_ms=big))
        record = store.get(REF)
        assert record is not None
        assert (record.token, record.body["n"], record.created_ms) == (big, big, big)

    def test_a_decision_of_none_writes_nothing(self, store: Store) -> None:
        assert store.update(step(REF, lambda snapshot: None)) is None
        assert store.get(REF) is None

    def test_a_refusal_is_raised_and_nothing_is_written(self, store: Store) -> None:
        store.update(put())
        with pytest.raises(Conflict):
            store.update(step(REF, refuse))
        record = store.get(REF)
        assert record is not None
        assert record.version == 1

    def test_a_decision_sees_the_record_and_what_it_asked_for(self, store: Store) -> None:
        store.update(put(entries=(entry(1), entry(2)), puts=(message(1), message(2))))
        seen: list[Snapshot] = []

        def look(snapshot: Snapshot) -> None:
            seen.append(snapshot)

        store.update(step(REF, look, entry_ids=("entry:2", "absent"), message_ids=("message:1", "absent")))
        (snapshot,) = seen
        assert snapshot.record == store.get(REF)
        assert snapshot.entries == {"entry:2": entry(2)}
        assert snapshot.messages == {"message:1": message(1)}

    def test_a_decision_on_nothing_sees_nothing(self, store: Store) -> None:
        seen: list[Snapshot] = []
        store.update(step(REF, seen.append, entry_ids=("entry:1",), message_ids=("message:1",)))
        assert seen == [Snapshot(None)]

    def test_a_message_put_again_takes_the_place_of_the_first(self, store: Store) -> None:
        store.update(put(puts=(message(1), message(2))))
        store.update(put(puts=(message(1, attempts=1, due_ms=5000),)))
        assert store.messages(REF) == [message(1, attempts=1, due_ms=5000), message(2)]

    def test_a_settled_message_is_gone_and_settling_it_again_does_no_harm(self, store: Store) -> None:
        store.update(put(puts=(message(1), message(2))))
        for _ in range(2):
            store.update(put(settles=("message:1",)))
        assert store.messages(REF) == [message(2)]

    def test_a_log_forgets_up_to_a_number(self, store: Store) -> None:
        store.update(put(entries=tuple(entry(seq) for seq in range(1, 6))))
        store.update(put(forget_through=4, entries=(entry(6),)))
        assert [e.seq for e in store.entries(REF)] == [5, 6]
        # Its ids are free again, also within one call.
        store.update_all([put(forget_through=6), put(entries=(entry(7, entry_id="entry:6"),))])
        assert [e.seq for e in store.entries(REF)] == [7]

    def test_parked_messages_go_with_the_log_and_active_ones_stay(self, store: Store) -> None:
        states = {1: "delivered", 2: "pending", 3: "sending", 4: "retrying", 5: "dead", 6: "waiting", 7: "dead"}
        store.update(put(puts=tuple(message(n, state=state) for n, state in states.items())))
        store.update(put(forget_through=6, puts=(message(8, state="dead"), message(1, "again", state="dead"))))
        assert sorted(m.position for m in store.messages(REF)) == [1, 2, 3, 4, 7, 8]
        assert store.outbox_counts() == {"pending": 1, "sending": 1, "retrying": 1, "dead": 3}

    def test_a_message_is_kept_or_goes_by_what_earlier_steps_of_the_call_made_of_it(self, store: Store) -> None:
        store.update(put(puts=(message(1), message(2, state="dead"), message(3))))
        seen: list[Snapshot] = []
        ended = put(puts=(message(1, state="dead"), message(2), message(4, state="dead")), settles=("message:3",))
        look = step(REF, seen.append, message_ids=tuple(f"message:{n}" for n in range(1, 5)))
        store.update_all([ended, put(forget_through=9), look])
        assert store.messages(REF) == [message(2)]
        assert seen[0].messages == {"message:2": message(2)}
        assert store.outbox_counts() == {"pending": 1}

    @pytest.mark.parametrize(
        ("expect", "version", "name"), [(None, 1, REF), (7, 8, REF), (1, 1, REF), (1, 3, REF), (1, 2, ref(2))]
    )
    def test_a_change_that_does_not_follow_from_the_record_is_refused(
        self, store: Store, expect: int | None, version: int, name: Ref
    ) -> None:
        store.update(put())
        with pytest.raises(ValueError, match="does not follow"):
            store.update(step(REF, lambda snapshot: Change(expect, Record(name, "live", {}, version=version))))
        assert store.counts(None) == {"live": 1}

    @pytest.mark.parametrize("again", [entry(1, entry_id="new"), entry(2, entry_id="entry:1")], ids=["seq", "id"])
    def test_an_entry_that_is_taken_is_refused_with_its_whole_change(self, store: Store, again: Any) -> None:
        store.update(put(entries=(entry(1),)))
        with pytest.raises(Exception, match=r".") as caught:
            store.update(put(state="closing", entries=(again,), puts=(message(1),)))
        assert not isinstance(caught.value, StoreUnavailable)
        record = store.get(REF)
        assert record is not None
        assert (record.state, record.version, store.messages(REF)) == ("live", 1, [])

    @pytest.mark.parametrize("bad", [{"body": {"n": object()}}, {"token": 2**63}], ids=["not JSON", "too big"])
    def test_what_cannot_be_stored_harms_no_other_step(self, store: Store, bad: dict[str, Any]) -> None:
        results = store.update_all([put(ref(1)), put(ref(2), **bad), put(ref(3), entries=(entry(1),))])
        assert isinstance(results[1], (ValueError, TypeError, OverflowError))
        assert [isinstance(result, Change) for result in results] == [True, False, True]
        assert store.get(ref(2)) is None
        assert store.counts(None) == {"live": 2}
        assert store.check() is None

    # ---- many at once

    def test_many_steps_answer_each_for_itself_and_in_order(self, store: Store) -> None:
        results = store.update_all(
            [put(ref(1)), step(ref(2), refuse), step(ref(3), lambda snapshot: None), put(ref(4))]
        )
        assert isinstance(results[0], Change)
        assert isinstance(results[1], Conflict)
        assert results[2] is None
        assert isinstance(results[3], Change)
        assert store.counts(None) == {"live": 2}
        assert store.update_all([]) == []

    def test_a_step_sees_what_earlier_ones_of_the_same_call_wrote(self, store: Store) -> None:
        seen: list[Snapshot] = []

        def look(snapshot: Snapshot) -> None:
            seen.append(snapshot)

        wanted = {"entry_ids": ("entry:1",), "message_ids": ("message:1", "message:2")}
        store.update_all(
            [
                put(entries=(entry(1),), puts=(message(1), message(2))),
                step(REF, look, **wanted),
                step(REF, refuse),
                put(state="closing", settles=("message:1",), puts=(message(2, attempts=1),)),
                step(REF, look, **wanted),
            ]
        )
        first, last = seen
        assert first.record is not None
        assert last.record is not None
        assert (first.record.state, first.record.version) == ("live", 1)
        assert (last.record.state, last.record.version) == ("closing", 2)
        assert list(first.messages) == ["message:1", "message:2"]
        assert last.messages == {"message:2": message(2, attempts=1)}
        assert first.entries == last.entries == {"entry:1": entry(1)}

    def test_a_thousand_steps_fit_in_one_call(self, store: Store) -> None:
        store.update_all([put(ref(n), entries=(entry(1),), puts=(message(1),)) for n in range(1000)])
        assert store.counts(None) == {"live": 1000}
        assert store.outbox_counts() == {"pending": 1000}

    def test_threads_on_one_record_lose_nothing(self, store: Store) -> None:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: store.update(Step(REF, count_up)), range(200)))
        record = store.get(REF)
        assert record is not None
        assert record.body["n"] == record.version == len(store.entries(REF)) == 200

    def test_one_of_many_threads_makes_a_record(self, store: Store) -> None:
        barrier = threading.Barrier(16)

        def claim(number: int) -> bool:
            def decide(snapshot: Snapshot) -> Change | None:
                if snapshot.record is not None:
                    return None
                return Change(None, Record(REF, "live", {}, owner=f"thread{number}", version=1))

            barrier.wait()
            return store.update(Step(REF, decide)) is not None

        with ThreadPoolExecutor(16) as pool:
            assert sum(pool.map(claim, range(16))) == 1

    # ---- reads

    def test_unknown_names_read_as_nothing(self, store: Store) -> None:
        store.update(put())
        absent, other = Ref("default", "order"), Ref("other", REF.key)
        for name in (absent, other):
            assert store.get(name) is None
            assert store.entries(name) == []
            assert store.messages(name) == []
        assert store.get_many([absent, other]) == store.get_many([]) == {}
        assert store.entries_of_many({absent: 0, other: 0}) == {}
        assert store.pending_of_many({absent: 0, other: 0}) == {}
        assert store.entries_of_many({}) == {}
        assert store.pending_of_many({}) == {}

    def test_many_records_come_in_one_read(self, store: Store) -> None:
        store.update_all([put(ref(n), body={"n": n}) for n in range(5)])
        assert store.get_many([ref(3), ref(1), ref(9), ref(3)]) == {ref(n): store.get(ref(n)) for n in (1, 3)}

    def test_entries_are_read_in_order_after_a_number_up_to_a_limit(self, store: Store) -> None:
        store.update(put(entries=tuple(entry(seq, "even" if seq % 2 == 0 else "odd") for seq in range(1, 13))))
        assert [e.seq for e in store.entries(REF, after=3, limit=4)] == [4, 5, 6, 7]
        assert [e.seq for e in store.entries(REF, after=3, limit=4, kinds=["even"])] == [4, 6, 8, 10]
        assert [e.seq for e in store.entries(REF, limit=3, kinds=["odd", "even"])] == [1, 2, 3]
        assert store.entries(REF, after=12) == []

    def test_entries_of_many_records_come_in_one_read(self, store: Store) -> None:
        store.update_all([put(ref(n), entries=tuple(entry(seq) for seq in range(1, 5))) for n in range(1, 4)])
        found = store.entries_of_many({ref(1): 2, ref(2): 4, ref(3): 0})
        assert {name: [e.seq for e in entries] for name, entries in found.items()} == {
            ref(1): [3, 4],
            ref(3): [1, 2, 3, 4],
        }
        few = store.entries_of_many({ref(1): 0, ref(3): 0}, limit=5)
        assert sum(len(entries) for entries in few.values()) == 5
        # What the limit cut off is a record's end, never its middle.
        assert all([e.seq for e in entries] == list(range(1, len(entries) + 1)) for entries in few.values())

    def test_pending_messages_of_many_records_come_in_one_read(self, store: Store) -> None:
        puts = (message(2), message(1), message(3, state="set_aside"), message(4), message(5, address="seller1"))
        store.update_all([put(ref(1), puts=puts), put(ref(2), puts=(message(1),)), put(ref(3), puts=puts)])
        found = store.pending_of_many({ref(1): 1, ref(2): 1, ref(3): 0})
        assert {name: [m.position for m in messages] for name, messages in found.items()} == {
            ref(1): [2, 4],
            ref(3): [1, 2, 4],
        }
        few = store.pending_of_many({ref(1): 0, ref(3): 0}, limit=4)
        assert sum(len(messages) for messages in few.values()) == 4

    def test_messages_of_all_records_are_listed_newest_first(self, store: Store) -> None:
        store.update(put(ref(2), puts=(message(1, created_ms=100), message(2, created_ms=300))))
        store.update(put(ref(1), puts=(message(1, created_ms=200), message(2, created_ms=100))))
        page = store.outbox(MessageFilter("default", ["pending"]))
        assert [m.created_ms for _, m in page.messages] == [300, 200, 100, 100]
        assert page.messages[0] == (ref(2), message(2, created_ms=300))
        assert page.next_cursor is None

    @pytest.mark.parametrize(
        ("wanted", "expected"),
        [
            ({"states": ["pending"]}, [5, 3, 1]),
            ({"states": ["dead", "pending", "waiting"]}, [7, 6, 5, 4, 3, 2, 1]),
            ({"states": ["absent"]}, []),
            ({"states": []}, []),
            ({"states": ["pending", "dead"], "address": "s1"}, [5, 2, 1]),
            ({"states": ["pending"], "address": "absent"}, []),
            ({"states": ["pending"], "address": ""}, []),
            ({"states": ["pending", "dead", "waiting"], "key": "order1"}, [7, 4, 3, 2, 1]),
            ({"states": ["pending", "waiting"], "key": "order1", "address": "s2"}, [4, 3]),
            ({"states": ["pending"], "key": "absent"}, []),
            ({"states": ["dead"], "tenant": "other"}, [8]),
            ({"states": ["dead"], "tenant": None}, [8, 6, 2]),
            ({"states": ["dead"], "tenant": "other", "key": "order1"}, [8]),
            ({"states": ["dead", "pending"], "created_from_ms": 3, "created_before_ms": 6}, [5, 3]),
            ({"states": ["dead", "pending"], "address": "s1", "created_from_ms": 2, "created_before_ms": 5}, [2]),
            ({"states": ["pending", "waiting"], "key": "order1", "created_before_ms": 4}, [3, 1]),
        ],
        ids=str,
    )
    def test_lists_of_messages_are_filtered(self, store: Store, wanted: dict[str, Any], expected: list[int]) -> None:
        rows = [
            (ref(1), "s1", "pending"),
            (ref(1), "s1", "dead"),
            (ref(1), "s2", "pending"),
            (ref(1), "s2", "waiting"),
            (ref(2), "s1", "pending"),
            (ref(2), "s2", "dead"),
            (ref(1), "s3", "waiting"),
            (ref(1, "other"), "s1", "dead"),
        ]
        for n, (name, address, state) in enumerate(rows, start=1):
            store.update(put(name, puts=(message(n, address=address, state=state, created_ms=n),)))
        which = MessageFilter(**{"tenant": "default", **wanted})
        assert [m.position for _, m in store.outbox(which).messages] == expected
        # The same by pages of one.
        found: list[int] = []
        cursor = None
        while True:
            page = store.outbox(which, cursor=cursor, limit=1)
            found += [m.position for _, m in page.messages]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert found == expected

    def test_messages_that_leave_a_list_between_two_pages_hide_no_other(self, store: Store) -> None:
        store.update(put(puts=tuple(message(n, state="dead", created_ms=5) for n in range(6))))
        wanted = MessageFilter("default", ["dead"])
        first = store.outbox(wanted, limit=3)
        store.update(put(puts=tuple(replace(m, state="pending") for _, m in first.messages)))
        second = store.outbox(wanted, cursor=first.next_cursor, limit=3)
        assert {m.position for _, m in first.messages + second.messages} == set(range(6))
        assert second.next_cursor is None

    @pytest.mark.parametrize(
        "cursor", ["", "x", "WzFd", "WzEsMiwzXQ", "bnVsbA", "W1tbW1tbW1tbW1tbW1tb", "é", "a b", "WyAxLDIsIjMiXQ"]
    )
    def test_a_cursor_that_no_list_gave_out_is_refused(self, store: Store, cursor: str) -> None:
        for key in (None, "order1"):
            with pytest.raises(InvalidInput):
                store.outbox(MessageFilter("default", ["dead"], key=key), cursor=cursor)

    def test_records_with_pending_messages_are_named_once(self, store: Store) -> None:
        store.update_all(
            [
                put(ref(1), puts=(message(1), message(2))),
                put(ref(2)),
                put(ref(3), puts=(message(1, state="set_aside"),)),
                put(ref(4, "other"), puts=(message(1, due_ms=2**60),)),
            ]
        )
        assert sorted(store.pending_refs()) == [ref(1), ref(4, "other")]

    def test_pages_hold_every_record_once_newest_first(self, store: Store) -> None:
        for n in range(25):
            store.update(put(ref(n)))
        store.update(put(ref(3), "closing"))  # a change does not move a record
        seen: list[str] = []
        cursor = None
        for _ in range(3):
            page = store.page(tenant="default", cursor=cursor, limit=10)
            seen += keys_of(page.records)
            cursor = page.next_cursor
        assert cursor is None
        assert seen == [f"order{n}" for n in reversed(range(25))]

    def test_a_page_that_is_just_full_is_the_last(self, store: Store) -> None:
        store.update_all([put(ref(n)) for n in range(10)])
        assert store.page(tenant="default", limit=10).next_cursor is None
        assert store.page(tenant="default", limit=9).next_cursor is not None
        assert store.keys("default", limit=10).next_cursor is None

    @pytest.mark.parametrize(
        ("wanted", "expected"),
        [
            ({"tenant": "default"}, [4, 3, 2, 1]),
            ({"tenant": "other"}, [5]),
            ({"tenant": "absent"}, []),
            ({"tenant": None}, [5, 4, 3, 2, 1]),
            ({"tenant": None, "states": ["closing"]}, [5, 3]),
            ({"tenant": "default", "states": ["live", "closing"]}, [3, 2, 1]),
            ({"tenant": "default", "states": ["absent"]}, []),
            ({"tenant": "default", "group": "s1"}, [2, 1]),
            ({"tenant": "default", "group": "s1", "states": ["live"]}, [2, 1]),
            ({"tenant": "default", "group": "s2", "states": ["closing", "completed"]}, [4, 3]),
            ({"tenant": None, "owner": "me"}, [5, 2, 1]),
            ({"tenant": None, "owner": "me", "states": ["live"]}, [2, 1]),
            ({"tenant": "default", "owner": "you"}, [3]),
            ({"tenant": "default", "owner": "me", "group": "s1", "states": ["live", "closing"]}, [2, 1]),
        ],
        ids=str,
    )
    def test_pages_are_filtered(self, store: Store, wanted: dict[str, Any], expected: list[int]) -> None:
        rows = [("live", "s1", "me"), ("live", "s1", "me"), ("closing", "s2", "you"), ("completed", "s2", "")]
        for n, (state, group, owner) in enumerate(rows, start=1):
            store.update(put(ref(n), state, group=group, owner=owner))
        store.update(put(ref(5, "other"), "closing", group="s1", owner="me"))
        assert keys_of(store.page(**wanted).records) == [f"order{n}" for n in expected]
        # The same by pages of one.
        found: list[str] = []
        cursor = None
        while True:
            page = store.page(**wanted, cursor=cursor, limit=1)
            found += keys_of(page.records)
            cursor = page.next_cursor
            if cursor is None:
                break
        assert found == [f"order{n}" for n in expected]

    def test_a_record_made_between_two_pages_moves_nothing(self, store: Store) -> None:
        store.update_all([put(ref(n)) for n in range(4)])
        first = store.page(tenant="default", limit=2)
        store.update(put(ref(9)))
        second = store.page(tenant="default", cursor=first.next_cursor, limit=2)
        assert keys_of(first.records + second.records) == ["order3", "order2", "order1", "order0"]

    def test_keys_are_the_records_names_in_the_order_of_pages(self, store: Store) -> None:
        for n in range(5):
            store.update(put(ref(n)))
        store.update(put(ref(9, "other")))
        first = store.keys("default", limit=3)
        assert first.keys == ("order4", "order3", "order2")
        assert store.keys("default", cursor=first.next_cursor).keys == ("order1", "order0")
        page = store.page(tenant="default", cursor=first.next_cursor)
        assert keys_of(page.records) == ["order1", "order0"]

    @pytest.mark.parametrize("cursor", ["", "x", "-1", "9" * 40, "é", "a b", "0; DROP TABLE records"])
    def test_a_cursor_that_no_page_gave_out_is_refused(self, store: Store, cursor: str) -> None:
        with pytest.raises(InvalidInput):
            store.page(tenant="default", cursor=cursor)
        with pytest.raises(InvalidInput):
            store.keys("default", cursor=cursor)

    def test_counts_follow_every_change(self, store: Store) -> None:
        assert store.counts(None) == {}
        store.update_all([put(ref(1)), put(ref(2)), put(ref(3, "other"))])
        store.update(put(ref(1), "closing"))
        store.update_all([put(ref(2), "closing"), put(ref(2), "completed")])
        assert store.counts("default") == {"closing": 1, "completed": 1}
        assert store.counts("other") == {"live": 1}
        assert store.counts(None) == {"closing": 1, "completed": 1, "live": 1}
        assert store.counts("absent") == {}

    def test_outbox_counts_tell_the_states_apart(self, store: Store) -> None:
        assert store.outbox_counts() == {}
        store.update(put(ref(1), puts=(message(1), message(2), message(3, state="set_aside"))))
        store.update(put(ref(2, "other"), puts=(message(1, state="failed"),), settles=()))
        store.update(put(ref(1), settles=("message:1", "absent")))
        assert store.outbox_counts() == {"pending": 1, "set_aside": 1, "failed": 1}

    def test_outbox_counts_are_of_one_tenant_when_it_is_named(self, store: Store) -> None:
        theirs = Ref("other", REF.key)
        store.update(put(puts=(message(1), message(2, state="set_aside"))))
        store.update(put(theirs, puts=(message(1),)))
        assert store.outbox_counts("default") == {"pending": 1, "set_aside": 1}
        assert store.outbox_counts("other") == {"pending": 1}
        assert store.outbox_counts("absent") == {}
        assert store.outbox_counts() == {"pending": 2, "set_aside": 1}
        store.update(put(theirs, settles=("message:1",)))
        store.update(put(puts=(message(1, state="set_aside"),)))
        assert store.outbox_counts("other") == {}
        assert store.outbox_counts("default") == {"set_aside": 2}

    def test_outbox_counts_follow_every_change(self, store: Store) -> None:
        store.update(put(ref(1), puts=(message(1), message(2), message(3))))
        store.update_all(
            [
                put(ref(1), puts=(message(1, state="sending"), message(2, attempts=1))),
                put(ref(1), puts=(message(1, state="delivered"), message(4, state="dead"))),
                put(ref(1), settles=("message:3", "message:4")),
            ]
        )
        assert store.outbox_counts() == {"pending": 1, "delivered": 1}
        store.update(put(ref(1), settles=("message:1", "message:2")))
        assert store.outbox_counts() == {}

    def test_the_oldest_message_of_each_state_is_known(self, store: Store) -> None:
        assert store.measure().oldest_ms == {}
        store.update(put(ref(1), puts=(message(1, created_ms=30), message(2, created_ms=20, state="dead"))))
        store.update(put(ref(2), puts=(message(1, created_ms=10), message(2, created_ms=40, state="dead"))))
        assert store.measure().oldest_ms == {"pending": 10, "dead": 20}
        store.update(put(ref(2), settles=("message:1",), puts=(message(2, created_ms=40),)))
        assert store.measure().oldest_ms == {"pending": 30, "dead": 20}

    def test_a_store_tells_its_size_and_what_its_commits_take(self, store: Store) -> None:
        store.update_all([put(ref(n), body={"text": "x" * 1_000}) for n in range(50)])
        size_bytes = store.measure().size_bytes
        store.update_all([put(ref(n), body={"text": "x" * 1_000}) for n in range(100, 1_100)])
        assert store.measure().size_bytes > size_bytes > 0
        (sizes,) = store.commits.sizes.read().values()
        (times,) = store.commits.times.read().values()
        assert sizes.total == 1_050
        assert sizes.cumulative[-1] == times.cumulative[-1] >= 2
        assert 0 < times.total < 60

    def test_tenants_do_not_meet(self, store: Store) -> None:
        store.update(put(Ref("a", "order1"), body={"n": 1}, entries=(entry(1),)))
        store.update(put(Ref("b", "order1"), body={"n": 2}, entries=(entry(1), entry(2))))
        a, b = store.get(Ref("a", "order1")), store.get(Ref("b", "order1"))
        assert a is not None
        assert b is not None
        assert (a.body["n"], b.body["n"]) == (1, 2)
        assert len(store.entries(Ref("a", "order1"))) == 1

    def test_owners_are_named_once(self, store: Store) -> None:
        assert store.owners() == []
        store.update_all([put(ref(n), owner=f"instance{n % 3}") for n in range(20)])
        store.update_all([put(ref(n), owner="") for n in range(0, 20, 3)])
        assert store.owners() == ["instance1", "instance2"]

    # ---- instances

    def test_a_lease_is_renewed_on_the_stores_clock(self, store: Store) -> None:
        before_ms = store.now_ms()
        first = store.renew_lease("me", 5000)
        assert before_ms + 5000 <= first.until_ms <= store.now_ms() + 5000
        second = store.renew_lease("me", 60_000)
        store.renew_lease("you", 1000)
        leases = {lease.instance: lease for lease in store.leases()}
        assert leases["me"] == second
        assert set(leases) == {"me", "you"}

    def test_an_ended_lease_is_forgotten(self, store: Store) -> None:
        store.renew_lease("me", 5000)
        for _ in range(2):
            store.end_lease("me")
        assert store.leases() == []

    # ---- cleanup

    def test_purging_takes_old_records_in_a_state_with_all_that_is_theirs(self, store: Store) -> None:
        store.update_all(
            [
                put(
                    ref(1),
                    "completed",
                    updated_ms=100,
                    token=5,
                    entries=(entry(1),),
                    puts=(message(1, state="failed"),),
                ),
                put(ref(2), "completed", updated_ms=900, token=6),
                put(ref(3), "live", updated_ms=100, token=7),
                put(ref(4), "cancelled", updated_ms=100, token=3, puts=(message(1),)),
                put(ref(6), "cancelled", updated_ms=100, puts=(message(1, state="sending"),)),
                put(ref(7), "cancelled", updated_ms=100, puts=(message(1, state="retrying"),)),
                put(ref(5, "other"), "cancelled", updated_ms=499, token=2),
            ]
        )
        wanted: dict[str, Any] = {"states": ["completed", "cancelled"], "before_ms": 500}
        assert sorted(store.stale(**wanted)) == [ref(1), ref(5, "other")]
        assert store.purge(**wanted) == 2
        assert store.stale(**wanted) == []
        assert store.purge(**wanted) == 0
        assert store.counts(None) == {"completed": 1, "live": 1, "cancelled": 3}
        assert store.outbox_counts() == {"pending": 1, "sending": 1, "retrying": 1}
        assert store.get(ref(1)) is None
        assert store.entries(ref(1)) == []
        # Nothing of the old record shows in a new one of the same name.
        store.update(put(ref(1)))
        assert store.entries(ref(1)) == []
        assert store.messages(ref(1)) == []

    def test_purging_stops_at_its_limit(self, store: Store) -> None:
        store.update_all([put(ref(n), "completed", updated_ms=1) for n in range(1200)])
        wanted: dict[str, Any] = {"states": ["completed"], "before_ms": 2}
        assert len(store.stale(**wanted, limit=7)) == 7
        assert store.purge(**wanted, limit=700) == 700
        assert store.counts(None) == {"completed": 500}

    def test_the_token_floor_is_the_highest_token_that_was_purged(self, open_store: Callable[[], Store]) -> None:
        store = open_store()

        def floor(store: Store) -> int:
            seen: list[Snapshot] = []
            store.update(step(ref(99), seen.append))
            return seen[0].token_floor

        assert floor(store) == 0
        store.update_all([put(ref(n), "completed", updated_ms=1, token=n) for n in range(1, 4)])
        store.purge(states=["completed"], before_ms=2)
        assert floor(store) == 3
        store.update(put(ref(1), "completed", updated_ms=1, token=2))
        store.purge(states=["completed"], before_ms=2)
        assert floor(store) == 3
        store.stop()
        assert floor(open_store()) == 3

    def test_the_token_floor_can_be_raised_and_not_lowered(self, store: Store) -> None:
        floors = []
        for token in (7, 2**62, 9):
            store.raise_token_floor(token)
            seen: list[Snapshot] = []
            store.update(step(ref(1), seen.append))  # a decision may be asked more than once; the last one counts
            floors.append(seen[-1].token_floor)
        assert floors == [7, 2**62, 2**62]

    def test_what_an_operator_wants_to_know_names_the_engine(self, store: Store) -> None:
        assert store.facts()["engine"] in ("sqlite", "redis")

    def test_a_record_that_lives_again_is_not_purged(self, store: Store) -> None:
        """Cleanup races with initiates of the same orders: whoever was told "live" must find the record live."""
        store.update_all([put(ref(n), "completed", updated_ms=1) for n in range(300)])

        def revive(number: int) -> Change | None:
            return store.update(put(ref(number), "live", updated_ms=10_000))

        with ThreadPoolExecutor(4) as pool:
            purging = pool.submit(store.purge, states=["completed"], before_ms=2, limit=300)
            list(pool.map(revive, range(300)))
            purging.result()
        assert store.counts(None) == {"live": 300}
        assert all(store.get(ref(n)) is not None for n in range(300))

    # ---- start and stop

    def test_everything_is_there_after_a_restart(self, open_store: Callable[[], Store]) -> None:
        store = open_store()
        store.update_all([put(ref(n), entries=(entry(1),), puts=(message(1),)) for n in range(20)])
        store.update(put(ref(0), settles=("message:1",)))
        store.renew_lease("me", 5000)
        before = (store.page(tenant=None), store.counts(None), store.outbox_counts(), store.leases())
        store.stop()
        store.stop()
        store = open_store()
        assert (store.page(tenant=None), store.counts(None), store.outbox_counts(), store.leases()) == before
        # New records come before the old ones in pages, also after a restart.
        store.update(put(ref(77)))
        assert keys_of(store.page(tenant=None, limit=1).records) == ["order77"]

    def test_a_stopped_store_says_so(self, store: Store) -> None:
        assert store.check() is None
        store.stop()
        assert store.check() is not None
        calls: list[Callable[[], object]] = [
            lambda: store.update(put()),
            lambda: store.update_all([put()]),
            lambda: store.get(REF),
            lambda: store.page(tenant=None),
            lambda: store.counts(None),
            lambda: store.renew_lease("me", 1000),
            lambda: store.purge(states=["completed"], before_ms=1),
        ]
        for call in calls:
            with pytest.raises(StoreUnavailable):
                call()

    def test_what_was_queued_before_a_stop_is_written(self, open_store: Callable[[], Store]) -> None:
        store = open_store()
        acknowledged: list[int] = []

        def write(number: int) -> None:
            for n in range(number * 100, number * 100 + 100):
                try:
                    store.update(put(ref(n)))
                except StoreUnavailable:
                    return
                acknowledged.append(n)

        with ThreadPoolExecutor(8) as pool:
            for number in range(8):
                pool.submit(write, number)
            while len(acknowledged) < 50:
                pass
            store.stop()
        again = open_store()
        assert all(again.get(ref(n)) is not None for n in acknowledged)
