"""Three requestors and two processors on one Redis, in short; ``FLEET=10`` makes the numbers twenty times larger."""

from __future__ import annotations

import os
import random
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest
import requests

from proto import order_service_pb2 as wire
from tests.e2e.conftest import Service, eventually, note_body, order_body
from tests.faults.by_hand import claim, trunk_to
from tests.faults.fleet import Fleet
from tests.faults.load import Load
from tests.faults.redis_kept import owners_in, read_redis
from tests.integration.test_grpc import close_request, follow_up
from tests.system import require_program

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

#: How many times 10 kills, 4 fail-overs, 128 calls for each order and 300 reads.
SCALE = float(os.environ.get("FLEET", "0.5"))
LEASE_S = 3.0


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    require_program("redis-server")
    made = Fleet(tmp_path)
    made.start()
    yield made
    made.kill_all()


def initiate(fleet: Fleet, order_ids: list[str], at: int | None = None) -> None:
    """Make orders at one requestor, or at all of them by turns."""
    with ThreadPoolExecutor(8) as pool:
        for n, order_id in enumerate(order_ids):
            requestor = fleet.requestors[n % len(fleet.requestors) if at is None else at]
            pool.submit(requestor.post, "/orders/initiate", order_body(order_id, notification_type="none"))
    eventually(lambda: fleet.streams() == len(order_ids), timeout_s=30, what="all streams")


def test_duplicates_at_every_instance_open_one_stream_each(fleet: Fleet) -> None:
    orders = [f"d-{n}" for n in range(10)]
    calls = [(order_id, n) for order_id in orders for n in range(int(128 * SCALE))]
    random.shuffle(calls)
    sessions = [requests.Session() for _ in fleet.requestors]

    def call(wanted: tuple[str, int]) -> str:
        order_id, n = wanted
        url = f"{fleet.requestors[n % len(sessions)].url}/api/v1/orders/initiate"
        answer = sessions[n % len(sessions)].post(url, json=order_body(order_id, notification_type="none"), timeout=30)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["message"])

    with ThreadPoolExecutor(64) as pool:
        messages = list(pool.map(call, calls))
    assert messages.count("Order initiated successfully") == len(orders)
    eventually(lambda: fleet.streams() == len(orders), what="all streams")
    assert {order_id: len(seen) for order_id, seen in fleet.openings().items()} == dict.fromkeys(orders, 1)


def has_reached(load: Load, notes: int) -> bool:
    return load.notes_acked >= notes


def test_kills_of_instances_and_of_redis_lose_and_double_nothing(fleet: Fleet) -> None:
    seed = secrets.randbelow(2**31)
    print(f"seed {seed}")
    chance = random.Random(seed)
    load = Load(fleet, seed)  # type: ignore[arg-type] # has what an arena has, with another instance at each look
    load.start()
    kills, redis_kills = int(10 * SCALE), int(4 * SCALE)
    faults = ["kill"] * kills + ["redis"] * redis_kills
    chance.shuffle(faults)
    struck = 0
    for fault in faults:
        goal = load.notes_acked + 10
        eventually(partial(has_reached, load, goal), timeout_s=60, what="work in flight")
        load.check()
        struck += 1
        if fault == "redis":
            fleet.redis.kill()
            time.sleep(chance.uniform(0, 0.5))
            fleet.redis.start()
        else:
            fleet.kill(chance.choice(fleet.services))
    ledger = load.stop()
    quiet_s = fleet.wait_until_quiet()
    report = fleet.audit(ledger)  # before the stop, which hands orders over again
    fleet.stop()
    print(f"{struck} faults, {dict(fleet.deaths)} deaths, {ledger.notes_acked} notes, quiet after {quiet_s:.1f} s")
    assert report.faults == []
    assert ledger.refused == []
    assert sum(fleet.deaths.values()) >= kills - 2  # a kill may hit a process that is dying already


def test_the_orders_of_a_killed_instance_live_again_elsewhere_in_time(fleet: Fleet) -> None:
    orders = [f"k-{n}" for n in range(500)]
    initiate(fleet, orders, at=0)
    eventually(lambda: fleet.owned_open(fleet.requestors[0]) == len(orders), what="all open")
    victim, *others = fleet.requestors
    fleet.retired.add(victim)
    fleet.kill(victim)
    began_s = time.monotonic()
    eventually(lambda: sum(map(fleet.owned_open, others)) == len(orders), timeout_s=30, what="the takeover")
    took_s = time.monotonic() - began_s
    print(f"{len(orders)} orders lived again after {took_s:.2f} s; the lease is {LEASE_S:g} s")
    assert took_s < LEASE_S + 2
    assert min(map(fleet.owned_open, others)) > 100
    eventually(lambda: fleet.streams() == len(orders), what="one stream each")
    with fleet.redis.client as client:
        assert {kept.token for kept in read_redis(client, "requestor").values()} == {2}


def have_all(fleet: Fleet, requestors: Sequence[Service], count: int) -> bool:
    return sum(map(fleet.owned_open, requestors)) == count


def test_a_rolling_restart_hands_every_order_over_within_a_second(fleet: Fleet) -> None:
    orders = [f"r-{n}" for n in range(150)]
    initiate(fleet, orders)
    for requestor in fleet.requestors:
        fleet.retired.add(requestor)
        assert requestor.stop(timeout_s=15) == 0
        others = [other for other in fleet.requestors if other is not requestor]
        eventually(partial(have_all, fleet, others, len(orders)), timeout_s=10, what="the hand-over")
        requestor.start()
        fleet.retired.discard(requestor)
    ended = sorted(moment(line) for line in fleet.lines(fleet.processors, "trunk.ended"))
    gaps = []
    for seen in fleet.openings().values():
        for _, after in pairwise(seen):
            at_s = moment(after)
            gaps.append(at_s - max((end_s for end_s in ended if end_s <= at_s), default=at_s))
    # A trunk ends at both processors; the earlier of the two counts.
    print(f"{len(gaps)} hand-overs, the longest gap {max(gaps) + ended_apart(ended):.3f} s")
    assert len(gaps) >= len(orders)
    assert max(gaps) + ended_apart(ended) < 1
    eventually(lambda: fleet.streams() == len(orders), what="one stream each")


def moment(line: dict[str, str]) -> float:
    """When a line of a log was written, in seconds."""
    return datetime.fromisoformat(line["ts"]).timestamp()


def ended_apart(ended: list[float]) -> float:
    """How far apart the ends of one requestor's trunks were, at most."""
    return max((later - earlier for earlier, later in zip(ended[::2], ended[1::2], strict=False)), default=0.0)


def acts_under_the_old_token(processor: Service, orders: Sequence[str]) -> None:
    """What an owner that knows nothing of the takeover would do: three acts for each order, none of them accepted."""
    with trunk_to(processor, "the old self") as (old, _):
        old.send(
            opens=[claim(order_id, 1) for order_id in orders],
            follow_ups=[follow_up(order_id, follow_up_id="stale") for order_id in orders],
            closes=[close_request(order_id, run=1) for order_id in orders],
        )
        refused = old.wait_for(len(orders), "streams", step="refused")
        notes, closes = old.wait_for(len(orders), "follow_up_acks"), old.wait_for(len(orders), "close_acks")
        assert {response.refused.reason for response in refused} == {wire.StreamRefused.FENCED}
        assert {ack.outcome for ack in (*notes, *closes)} == {wire.OUTCOME_FENCED}


def test_nothing_that_a_thawed_instance_does_counts(fleet: Fleet) -> None:
    orders = [f"f-{n}" for n in range(100)]
    initiate(fleet, orders, at=0)
    frozen, *others = fleet.requestors
    eventually(lambda: fleet.owned_open(frozen) == len(orders), what="all open")
    # What it would have relayed when it thaws, had nobody taken its orders over.
    with fleet.frozen(frozen):
        for n, order_id in enumerate(orders):
            others[n % 2].post("/orders/followup", note_body(order_id, "n1"))
        eventually(lambda: sum(map(fleet.owned_open, others)) == len(orders), timeout_s=30, what="the takeover")
        with fleet.redis.client as client:
            owners = owners_in(client)
            eventually(
                lambda: all(kept.body["unsent"] == 0 for kept in read_redis(client, "requestor").values()),
                what="the relay",
            )
            before = read_redis(client, "processor")
        for processor in fleet.processors:
            acts_under_the_old_token(processor, orders)
    eventually(lambda: fleet.owned_open(frozen) == 0, timeout_s=20, what="the drop")
    eventually(lambda: frozen.log.count('"stream.dropped"') >= len(orders), timeout_s=20, what="the drops")
    time.sleep(2)
    with fleet.redis.client as client:
        assert owners_in(client) == owners
        after = read_redis(client, "processor")
    assert {key: (kept.token, kept.entries) for key, kept in after.items()} == {
        key: (kept.token, kept.entries) for key, kept in before.items()
    }
    assert {kept.token for kept in after.values()} == {2}
    assert fleet.streams() == len(orders)


def test_what_one_instance_has_written_the_others_read(fleet: Fleet) -> None:
    stale = []
    with requests.Session() as session:
        for n in range(int(300 * SCALE)):
            writer, reader = fleet.requestors[n % 3], fleet.requestors[(n + 1) % 3]
            body = order_body(f"w-{n}", notification_type="none")
            assert session.post(f"{writer.url}/api/v1/orders/initiate", json=body, timeout=10).status_code == 200
            status = session.get(f"{reader.url}/api/v1/orders/tracking/status?limit=1", timeout=10).json()
            if status["tracked_order_ids"] != [f"w-{n}"] or status["total_orders"] != n + 1:
                stale.append(f"w-{n}: {status['tracked_order_ids']}, {status['total_orders']}")
            listed = session.get(f"{reader.url}/api/v1/orders?limit=1", timeout=10).json()["orders"]
            if listed[0]["order_req_id"] != f"w-{n}":
                stale.append(f"w-{n}: {listed}")
    assert stale == []


def test_a_wiped_redis_doubles_no_stream(fleet: Fleet) -> None:
    """Wiped like a fail-over to an empty replica: both services have forgotten, and every instance holds streams."""
    orders = [f"x-{n}" for n in range(20)]
    doubled = []

    def holders() -> list[str]:
        found = []
        for processor in fleet.processors:
            for order_id in orders:
                answer = requests.get(f"{processor.url}/api/v1/orders/{order_id}", timeout=10)
                found += [order_id] * bool(answer.status_code == 200 and answer.json()["is_stream_open"])
        return found

    for _ in range(max(1, int(SCALE))):
        initiate_again(fleet, orders)
        eventually(lambda: sorted(holders()) == sorted(orders), timeout_s=20, what="one stream each")
        fleet.redis.wipe()
        # While all instances hold streams of which nobody knows any more, the others are asked for the same orders.
        initiate_again(fleet, orders)
        eventually(lambda: max(Counter(holders()).values(), default=0) < 2, timeout_s=5, what="no stream twice")
        # An instance that still holds a stream has answered from memory; it drops what the store does not know within
        # 20 s, and then the order can be taken again.
        eventually(partial(are_back, fleet, orders, holders), timeout_s=40, what="one stream each, again")
        doubled += [order_id for order_id, count in Counter(holders()).items() if count > 1]
    assert doubled == []


def are_back(fleet: Fleet, orders: list[str], holders: Callable[[], list[str]]) -> bool:
    """Whether each order has its one stream; those that have none are initiated once more."""
    initiate_again(fleet, sorted(set(orders) - set(holders())))
    return sorted(holders()) == sorted(orders)


def initiate_again(fleet: Fleet, orders: list[str]) -> None:
    """Initiate until each order is taken, at any instance."""
    for order_id in orders:

        def is_taken(order_id: str = order_id) -> bool:
            body = order_body(order_id, notification_type="none")
            url = f"{fleet.requestor.url}/api/v1/orders/initiate"
            return requests.post(url, json=body, timeout=10).status_code == 200

        eventually(is_taken, timeout_s=20, what=f"{order_id}'s initiate")
