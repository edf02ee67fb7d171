"""A peer that is frozen or cannot be reached is noticed in time, and the streams are back as soon as it is there again.

The services stand in a network of their own, so that the driver can ask both while they cannot hear each other.
"""

from __future__ import annotations

import itertools
import random
import secrets
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import requests

from tests.e2e.conftest import Service, eventually, note_body, order_body
from tests.faults.arena import AS_SHIPPED, FAILPOINTS, FAST, Arena, pending_in
from tests.faults.ledger import Ledger, OrderFacts
from tests.faults.load import Load
from tests.faults.network import SERVICES, Network
from tests.faults.torture import audit_arena

ORDERS = 2_000
CLIENTS = 8
#: All streams are back so long after the fault.
BACK_S = 5.0
#: The fault goes on for so long after it was noticed, so that attempts to connect fail too.
AFTERMATH_S = 1.0
#: The longest text of a note or of a seller's answer.
LONG_TEXT = "x" * 10_000


class World:
    """Both services in a network of their own, and a buyer with live orders."""

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self.arena = Arena(folder, settings)
        self.network = Network()
        self.network.house(self.arena)
        self.ledger = Ledger()

    @property
    def requestor(self) -> Service:
        return self.arena.requestor

    @property
    def processor(self) -> Service:
        return self.arena.processor

    def remove(self) -> None:
        """End the services and take the network away."""
        self.arena.kill_all()
        self.network.remove()

    def open_orders(self, count: int) -> None:
        """Initiate orders from a few clients at once and wait for their streams."""
        orders = [OrderFacts(f"A{number}", "s1", runs_tried=1, is_live=True) for number in range(count)]

        def initiate(session: requests.Session, facts: OrderFacts) -> None:
            post(session, self.requestor, "/orders/initiate", order_body(facts.order_id, notification_type="none"))
            facts.runs_acked += 1

        for_each(orders, initiate)
        self.ledger.orders |= {facts.order_id: facts for facts in orders}
        eventually(lambda: self.open_streams() == {count}, what="the streams")

    def add_note(self, session: requests.Session, facts: OrderFacts, text: str = "Any update?") -> None:
        """Add one note to an order."""
        body = note_body(facts.order_id, f"{facts.order_id}-n{len(facts.notes)}")
        body["message"]["message"] = text
        post(session, self.requestor, "/orders/followup", body)
        facts.notes.append(body["follow_up_id"])

    @contextmanager
    def noting(self) -> Iterator[None]:
        """Add notes to one order after another, until the block ends."""
        over = threading.Event()

        def add_notes() -> None:
            with requests.Session() as session:
                for facts in self.ledger.orders.values():
                    self.add_note(session, facts)
                    if over.wait(0.01):
                        return

        with ThreadPoolExecutor(1) as pool:
            work = pool.submit(add_notes)
            try:
                yield
            finally:
                over.set()
            work.result()

    def open_streams(self) -> set[int]:
        """How many streams are open, as each service sees it: one number when they agree."""
        return {self.arena.status()["open_streams"], streams_at_processor(self)}

    def trunks(self) -> int:
        """How many trunks the processor holds, by its log."""
        return told(self.processor, "trunk.opened") - told(self.processor, "trunk.ended")

    def audit(self) -> list[str]:
        """What is lost, doubled or different once the last events have arrived."""
        self.arena.wait_until_quiet()
        deadline = time.monotonic() + 5
        while (faults := audit_arena(self.arena, self.ledger).faults) and time.monotonic() < deadline:
            time.sleep(0.1)
        return faults


def for_each(orders: list[OrderFacts], call: Callable[[requests.Session, OrderFacts], None]) -> None:
    """Call for every order from a few clients at once."""

    def run(own: list[OrderFacts]) -> None:
        with requests.Session() as session:
            for facts in own:
                call(session, facts)

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(run, [orders[start::CLIENTS] for start in range(CLIENTS)]))


def post(session: requests.Session, service: Service, path: str, body: Mapping[str, Any]) -> None:
    answer = session.post(f"{service.url}/api/v1{path}", json=body, timeout=30)
    assert answer.status_code == 200, answer.text


def told(service: Service, action: str) -> int:
    """How often the service's log tells of something."""
    return service.log.count(f'"action":"{action}"')


def streams_at_processor(world: World) -> int:
    streams: int = world.processor.get("/orders?limit=1")["open_streams"]
    return streams


def seen_by_the_requestor(world: World) -> str | None:
    """Why an order has no stream, as the requestor tells it; None while it has one."""
    stream = world.requestor.get("/orders/A7")["stream"]
    return stream["last_error"] if stream["state"] == "connecting" else None


def seen_by_the_processor(world: World) -> bool:
    return streams_at_processor(world) == 0


# ---- the faults


class Fault(NamedTuple):
    """Something that comes between the services, who can see it, and how it is brought about until a block ends."""

    name: str
    inject: Callable[[World], AbstractContextManager[None]]
    witnesses: tuple[Callable[[World], object], ...] = (seen_by_the_requestor, seen_by_the_processor)


FROZEN_PROCESSOR = Fault(
    "the processor is frozen", lambda world: world.arena.frozen(world.processor), (seen_by_the_requestor,)
)
BLACK_HOLE = Fault("nothing gets through", lambda world: world.network.cut(*SERVICES))
NOTHING_REACHES_THE_PROCESSOR = Fault("nothing reaches the processor", lambda world: world.network.cut("processor"))
NOTHING_REACHES_THE_REQUESTOR = Fault("nothing reaches the requestor", lambda world: world.network.cut("requestor"))


def check_that_it_is_survived(world: World, fault: Fault, *, noticed_s: float) -> None:
    """Inject the fault into a world with work in flight: it is noticed in time, heals in time, and costs nothing."""
    losses = told(world.requestor, "trunk.lost")
    assert world.open_streams() == {ORDERS}
    with world.noting():
        with fault.inject(world):
            began = time.monotonic()
            for witness in fault.witnesses:
                left_s = began + noticed_s - time.monotonic()
                eventually(partial(witness, world), timeout_s=left_s, what=witness.__name__)
                print(f"{fault.name}: {witness.__name__} after {time.monotonic() - began:.1f} s")
            time.sleep(AFTERMATH_S)
            unsent = pending_in(world.requestor.store)
        healed = time.monotonic()
        eventually(lambda: world.open_streams() == {ORDERS}, timeout_s=BACK_S, what="the last stream")
        print(f"{fault.name}: all streams are back {time.monotonic() - healed:.1f} s after it, with {unsent} notes")
    assert told(world.requestor, "trunk.lost") > losses
    assert unsent > 0
    assert world.audit() == []
    eventually(lambda: world.trunks() == 1, what="the end of the old trunk at the processor")


# ---- the tests


def make_world(folder: Path, settings: Mapping[str, str], orders: int) -> Iterator[World]:
    made = World(folder, settings)
    try:
        made.arena.start()
        made.open_orders(orders)
        yield made
    finally:
        made.remove()


@pytest.fixture(scope="module")
def crowded_world(iproute2: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Two thousand live orders, with the test settings."""
    yield from make_world(tmp_path_factory.mktemp("fast"), FAST, ORDERS)


@pytest.fixture(scope="module")
def crowded_world_as_shipped(iproute2: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Two thousand live orders, with the settings that a user gets."""
    yield from make_world(tmp_path_factory.mktemp("shipped"), AS_SHIPPED, ORDERS)


@pytest.fixture
def quiet_world(iproute2: None, tmp_path: Path) -> Iterator[World]:
    """Some live orders, with the test settings."""
    yield from make_world(tmp_path, FAST, 70)


@pytest.mark.parametrize(
    "fault",
    [FROZEN_PROCESSOR, BLACK_HOLE, NOTHING_REACHES_THE_PROCESSOR, NOTHING_REACHES_THE_REQUESTOR],
    ids=lambda fault: fault.name,
)
def test_a_peer_that_is_not_heard_is_noticed_within_4_s_and_its_streams_come_back(
    crowded_world: World, fault: Fault
) -> None:
    check_that_it_is_survived(crowded_world, fault, noticed_s=4)


@pytest.mark.slow
@pytest.mark.parametrize("fault", [FROZEN_PROCESSOR, BLACK_HOLE], ids=lambda fault: fault.name)
def test_a_peer_that_is_not_heard_is_noticed_within_15_s_as_shipped(
    crowded_world_as_shipped: World, fault: Fault
) -> None:
    check_that_it_is_survived(crowded_world_as_shipped, fault, noticed_s=15)


def test_a_flapping_link_loses_and_doubles_nothing(quiet_world: World) -> None:
    seed = secrets.randbelow(2**31)
    print(f"seed {seed}")
    dice = random.Random(seed)
    # Most are over before a silence counts as death; one is not.
    cuts_s = [*(dice.uniform(0.2, 1.2) for _ in range(5)), 3.8]
    dice.shuffle(cuts_s)
    load = Load(quiet_world.arena, seed, clients=3, orders=12)
    load.start()
    unsent = []
    for cut_s in cuts_s:
        time.sleep(dice.uniform(0.2, 0.8))
        with quiet_world.network.cut(*dice.choice([SERVICES, ("requestor",), ("processor",)])):
            time.sleep(cut_s)
            unsent.append(pending_in(quiet_world.requestor.store))
    healed = time.monotonic()
    quiet_world.ledger.add(load.stop())
    eventually(quiet_world.arena.has_all_streams, timeout_s=healed + BACK_S - time.monotonic(), what="the last stream")
    print(f"all streams are back {time.monotonic() - healed:.1f} s after the last cut; unsent in each cut: {unsent}")
    assert all(unsent)
    assert told(quiet_world.requestor, "trunk.lost") >= 1
    assert quiet_world.audit() == []
    assert quiet_world.ledger.refused == []


def test_a_slow_link_is_no_reason_to_end_a_trunk(quiet_world: World) -> None:
    def write_much(session: requests.Session, facts: OrderFacts) -> None:
        quiet_world.add_note(session, facts, LONG_TEXT)
        reply_id = f"{facts.order_id}-r"
        reply = {"reply_id": reply_id, "seller_id": "seller1", "answer": "message", "message": LONG_TEXT}
        post(session, quiet_world.processor, f"/orders/{facts.order_id}/replies", reply)
        facts.replies.append(reply_id)

    with quiet_world.network.slow("1mbit"):
        for_each(list(quiet_world.ledger.orders.values()), write_much)
        began = time.monotonic()
        eventually(
            lambda: audit_arena(quiet_world.arena, quiet_world.ledger).faults == [], timeout_s=30, what="the last text"
        )
        late_s = time.monotonic() - began
    print(f"the last text arrived after {late_s:.1f} s")
    assert late_s > 4  # a silence of 3 s counts as death
    assert told(quiet_world.requestor, "trunk.lost") == 0
    assert told(quiet_world.processor, "trunk.opened") == 1


@pytest.mark.parametrize(
    ("mute", "failpoint", "witness", "told_so"),
    [
        ("processor", "processor.events.read=delay:30@3", "requestor", "no sign of life from the processor for 3 s"),
        ("requestor", "requestor.trunk.taken=delay:30@9", "processor", "Cut a call whose peer is silent"),
    ],
    ids=["processor", "requestor"],
)
def test_a_peer_that_answers_pings_but_says_nothing_is_noticed_within_4_s(
    arena: Arena, mute: str, failpoint: str, witness: str, told_so: str
) -> None:
    services = {service.name: service for service in arena.both}
    services[mute].settings[FAILPOINTS] = failpoint
    arena.start()
    numbers = itertools.count()
    while "failpoint" not in services[mute].log:
        arena.requestor.post("/orders/initiate", order_body(f"A{next(numbers)}", notification_type="none"))
        time.sleep(0.1)  # so that each is a message of its own
    assert told_so not in services[witness].log
    began = time.monotonic()
    eventually(lambda: told_so in services[witness].log, timeout_s=4, what="the end of the trunk")
    print(f"the {witness} noticed after {time.monotonic() - began:.1f} s")
    eventually(arena.has_all_streams, timeout_s=BACK_S, what="the last stream")
    print(f"all streams are back after {time.monotonic() - began:.1f} s")
