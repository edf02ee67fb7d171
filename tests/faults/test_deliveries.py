"""Sellers who refuse, fail, hang and hang up, a processor that is killed, an outage: every note ends as it should."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TypeAlias

import pytest

from processor_app.settings import ProcessorSettings
from tests.e2e.conftest import eventually
from tests.faults.arena import Arena, Chaos
from tests.faults.delivery_audit import differences_at_the_requestor, faults_in
from tests.faults.sellers import CHANNELS, EMAIL, WEBHOOK, Market, Size, every_delivery

OpenMarket: TypeAlias = Callable[..., Market]

#: Every fault of a seller, at once.
BAD = ("--refuse", "0.3", "--error", "0.2", "--hang", "0.1", "--drop", "0.05", "--hang-s", "2")
FAULTS = ("refuse", "error", "hang", "drop")
#: Long enough beside its pauses that hardly a seller is silent throughout: then all that waits would be given up.
PATIENT = {"PROCESSOR_RETRY_SCHEDULE_S": ",".join(["0.3", "0.6", *["1"] * 16])}
SHORT = Size(orders=15, sellers=24, notes_per_order=5)
FULL = Size(orders=50, sellers=100, notes_per_order=10)
SIZES = pytest.mark.parametrize(
    "size", [pytest.param(SHORT, id="150-notes"), pytest.param(FULL, id="1000-notes", marks=pytest.mark.long)]
)
#: How much faster than in earnest the outage goes by.
HASTE = 300
OUTAGE_S = 30 * 60 / HASTE


@pytest.fixture
def open_market(arena: Arena) -> Iterator[OpenMarket]:
    """Opens a market whose services run and whose sinks have these flags."""
    made: list[Market] = []

    def open_market(*flags: str, attempt_s: float = 0.5, **settings: str) -> Market:
        made.append(Market(arena, *flags, attempt_s=attempt_s, **settings))
        arena.start()
        return made[-1]

    yield open_market
    for market in made:
        market.close()


def new_seed() -> str:
    """A seed that is told, so that a failure can be had again."""
    seed = str(secrets.randbelow(2**31))
    print(f"seed {seed}")
    return seed


def assert_that_all_is_well(market: Market) -> None:
    assert faults_in(market) == []
    eventually(lambda: not differences_at_the_requestor(market), timeout_s=20, what="the last events at the requestor")


def assert_that_every_fault_bit(market: Market) -> None:
    for channel, sink in market.sinks.items():
        actions = sink.actions
        print(channel, dict(actions))
        assert all(actions[fault] for fault in FAULTS), f"{channel}: {actions}"


def counts_of(market: Market) -> Counter[tuple[str, str]]:
    """How many deliveries of each channel ended how."""
    return Counter((delivery["channel"], delivery["state"]) for delivery in market.deliveries())


@SIZES
@pytest.mark.timeout(300)
def test_bad_sellers_cost_no_note_and_repeat_none_unsaid(open_market: OpenMarket, size: Size) -> None:
    market = open_market(*BAD, "--seed", new_seed(), **PATIENT)
    market.start_sinks()
    market.open(size)
    assert [*market.notes_for(size)][-1] == size.notes
    market.wait_until_ended(timeout_s=150)
    assert_that_every_fault_bit(market)
    assert_that_all_is_well(market)
    counts = counts_of(market)
    print(counts)
    assert counts.total() == 3 * size.notes
    assert counts[EMAIL, "dead"], "a mail server's 554 is final"
    assert all(counts[channel, "delivered"] for channel in CHANNELS)


@SIZES
@pytest.mark.timeout(300)
def test_a_processor_that_is_killed_meanwhile_loses_no_note_and_repeats_none_unsaid(
    open_market: OpenMarket, size: Size
) -> None:
    seed = new_seed()
    market = open_market(*BAD, "--seed", seed, **PATIENT)
    market.start_sinks()
    market.open(size)
    chaos = Chaos(market.arena, int(seed), kills=6, freezes=0, which="processor", pause_s=1.5)
    chaos.start()
    assert [*market.notes_for(size)][-1] == size.notes
    eventually(lambda: chaos.is_over, timeout_s=60, what="the last kill")
    market.wait_until_ended(timeout_s=150)
    assert market.arena.deaths["processor"] >= 4  # a kill may hit a process that is dying already
    assert_that_every_fault_bit(market)
    assert_that_all_is_well(market)
    # An answer of a webhook is never uncertain: these were under way when the processor died.
    lost = [delivery for delivery in market.deliveries() if delivery["channel"] == WEBHOOK and delivery["uncertain"]]
    print(counts_of(market), len(lost), "cut off")
    assert lost


@pytest.mark.timeout(180)
def test_after_an_outage_everything_arrives_in_the_order_of_the_notes(open_market: OpenMarket) -> None:
    schedule = ",".join(f"{pause_s / HASTE:.4f}" for pause_s in ProcessorSettings().retry_schedule_s)
    # Long attempts: what a sink on a busy machine answers too late would be sent again, and taken twice.
    market = open_market(attempt_s=5.0, PROCESSOR_RETRY_SCHEDULE_S=schedule)
    size = Size(orders=5, sellers=6, notes_per_order=12)
    market.open(size)
    began_s = time.monotonic()
    for number in market.notes_for(size):
        time.sleep(max(0.0, began_s + OUTAGE_S * number / size.notes - time.monotonic()))
    during = market.deliveries()
    assert Counter(delivery["state"] for delivery in during).keys() <= {"pending", "sending", "retrying"}
    assert sum(delivery["attempts"] for delivery in during) >= 2 * len(CHANNELS) * size.sellers
    assert not any(sink.records for sink in market.sinks.values())

    market.start_sinks()
    market.wait_until_ended(timeout_s=60)
    assert_that_all_is_well(market)
    counts = counts_of(market)
    assert counts == {(channel, "delivered"): 3 * size.notes // 2 for channel in CHANNELS}
    assert all(sink.actions == {"take": 3 * size.notes // 2} for sink in market.sinks.values())


@pytest.mark.parametrize(
    ("channel", "hanging"),
    [(WEBHOOK, 1), (EMAIL, 1), (WEBHOOK, 6)],
    ids=["a-webhook", "a-mailbox", "more-webhooks-than-are-served-at-a-time"],
)
def test_sellers_who_hang_delay_no_other(open_market: OpenMarket, channel: str, hanging: int) -> None:
    hangs = ("--only-for", "bad", "--hang", "1", "--hang-s", "100")
    market = open_market(*hangs, attempt_s=100, PROCESSOR_DELIVERY_THREADS="4")  # attempts outlast the test
    market.start_sinks()
    bad = [f"bad-{number}" for number in range(hanging)]
    good = [f"good-{number}" for number in range(3)]
    for seller_id in (*bad, *good):
        market.register(seller_id, channel)
    for number in range(5):
        market.begin(f"{channel}-order-{number}", channel, [*bad, *good])
    for _ in market.notes_for(Size(orders=5, sellers=0, notes_per_order=8)):
        pass
    processor = market.arena.processor
    for seller_id in good:
        eventually(
            lambda seller_id=seller_id: (  # type: ignore[misc] # mypy does not infer defaults of lambdas
                {d["state"] for d in every_delivery(processor, f"&seller_id={seller_id}")} == {"delivered"}
            ),
            timeout_s=30,
            what=f"all notes at {seller_id}",
        )
    assert market.sinks[channel].actions == {"take": 40 * len(good), "hang": hanging}
    for seller_id in bad:
        states = Counter(delivery["state"] for delivery in every_delivery(processor, f"&seller_id={seller_id}"))
        assert states == {"sending": 1, "pending": 39}, "its first attempt is not over yet"
