"""Several requestors and processors in this process, over one Redis."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from processor_app.bootstrap import Processor, build_processor
from processor_app.delivery.channel import AttemptResult, Channel, Parcel, Seller, Verdict
from processor_app.delivery.sellers import SellerWish
from processor_app.domain import Answer, OpenStream, Reply
from processor_app.settings import ProcessorSettings
from processor_app.steps import open_stream
from requestor_app.bootstrap import Requestor, build_requestor
from requestor_app.domain import CloseKind, FollowUp, OrderRequest, OrderState
from requestor_app.settings import RequestorSettings
from requestor_app.tracking import StreamState
from service_kit.change import Ref, Step
from service_kit.errors import StartRefused
from tests.redis_servers import RedisCluster, RedisServer, wait_until

SECRET = "s" * 40


class Group:
    """Instances over one Redis; each has what the services' processes have, on free ports."""

    def __init__(self, redis_url: str) -> None:
        self.redis_url = redis_url
        self.requestors: list[Requestor] = []
        self.processors: list[Processor] = []

    def add_processor(self, channels: Sequence[Channel] | None = None) -> Processor:
        """Start one more processor."""
        settings = ProcessorSettings(store=self.redis_url, port=0, grpc_port=0, link_secret=SECRET)
        made = build_processor(settings, channels)
        made.lifecycle.start()
        self.processors.append(made)
        return made

    def add_requestor(self, targets: Sequence[str] = ()) -> Requestor:
        """Start one more requestor, of all processors that there are."""
        targets = targets or [f"127.0.0.1:{processor.grpc_server.port}" for processor in self.processors]
        settings = RequestorSettings(store=self.redis_url, port=0, processors=tuple(targets), lease_s=3)
        made = build_requestor(settings)
        made.lifecycle.start()
        self.requestors.append(made)
        return made

    def stop(self) -> None:
        """Stop everything."""
        for lifecycle in [parts.lifecycle for parts in self.requestors] + [
            parts.lifecycle for parts in self.processors
        ]:
            lifecycle.stop()

    def open_streams(self) -> dict[Ref, int]:
        """How many processors have a stream, by the order."""
        return Counter(ref for processor in self.processors for ref in processor.hub.refs())

    def wait_for_streams(self, refs: Sequence[Ref]) -> None:
        """Wait until each of the orders has one stream, at one processor, and some requestor knows that it is open."""
        wait_until(lambda: self.open_streams() == dict.fromkeys(refs, 1), f"streams: {self.open_streams()}")
        wait_until(lambda: self._open_at_requestors() == len(refs), "open streams")

    def _open_at_requestors(self) -> int:
        return sum(requestor.tracking.count(StreamState.OPEN) for requestor in self.requestors)


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path / "redis", "--appendonly", "yes")
    server.start()
    yield server
    server.kill()


@pytest.fixture
def group(redis_server: RedisServer) -> Iterator[Group]:
    made = Group(redis_server.url)
    yield made
    made.stop()


def ref(number: int) -> Ref:
    return Ref("default", f"A{number}")


def request(number: int) -> OrderRequest:
    return OrderRequest(ref(number), "s1", "none", ("seller1",))


def note(number: int, name: str = "n1") -> FollowUp:
    return FollowUp(ref(number), name, ("seller1",), "text", "hello")


@pytest.fixture
def two_and_two(group: Group) -> Group:
    for _ in range(2):
        group.add_processor()
    for _ in range(2):
        group.add_requestor()
    return group


def test_an_order_of_one_instance_is_followed_up_and_ended_at_another(two_and_two: Group) -> None:
    first, second = two_and_two.requestors
    assert first.orders.initiate(request(1))
    assert not second.orders.initiate(request(1))
    two_and_two.wait_for_streams([ref(1)])
    assert second.orders.follow_up(note(1))
    assert not first.orders.follow_up(note(1))
    wait_until(lambda: first.orders.get(ref(1)).unsent == 0, "the relay", timeout_s=2)
    assert [entry.kind for entry in two_and_two.processors[0].orders.events(ref(1), after=0, limit=9)] == [
        "accepted",
        "follow_up_accepted",
    ]
    second.orders.close(ref(1), CloseKind.COMPLETE, "")
    wait_until(lambda: first.orders.get(ref(1)).state is OrderState.COMPLETED, "the end", timeout_s=2)
    wait_until(lambda: two_and_two.open_streams() == {}, "the stream's end")


def test_instances_share_a_cluster(tmp_path: Path) -> None:
    """The same over three nodes: hints reach everybody, wherever they are sent."""
    cluster = RedisCluster(tmp_path)
    cluster.start()
    group = Group(cluster.url)
    try:
        for _ in range(2):
            group.add_processor()
        first, second = (group.add_requestor() for _ in range(2))
        refs = [ref(number) for number in range(20)]
        for number in range(20):
            (first, second)[number % 2].orders.initiate(request(number))
        group.wait_for_streams(refs)
        for number in range(20):
            (second, first)[number % 2].orders.follow_up(note(number))
        wait_until(lambda: all(first.orders.get(name).unsent == 0 for name in refs), "the relay", timeout_s=2)
        first.lifecycle.stop()
        group.requestors.remove(first)
        group.wait_for_streams(refs)
    finally:
        group.stop()
        cluster.kill()


def test_duplicates_at_all_instances_open_one_stream(two_and_two: Group) -> None:
    barrier = threading.Barrier(16)

    def initiate(number: int) -> bool:
        barrier.wait()
        return two_and_two.requestors[number % 2].orders.initiate(request(1))

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(initiate, range(16))) == 1
    two_and_two.wait_for_streams([ref(1)])
    (record,) = (
        two_and_two.requestors[0].orders.page("default", states=(), session_id=None, cursor=None, limit=9).orders
    )
    assert record.token == 1


def test_streams_are_spread_and_move_when_a_processor_goes_or_comes(group: Group) -> None:
    first = group.add_processor()
    second = group.add_processor()
    requestor = group.add_requestor()
    refs = [ref(number) for number in range(40)]
    wait_until(lambda: all(link.is_connected for link in requestor.supervisor.links), "both trunks")
    for number in range(40):
        requestor.orders.initiate(request(number))
    group.wait_for_streams(refs)
    assert first.hub.stream_count > 5
    assert second.hub.stream_count > 5

    second.lifecycle.stop()
    group.processors.remove(second)
    group.wait_for_streams(refs)
    assert first.hub.stream_count == 40

    again = build_processor(replace(second.settings, grpc_port=second.grpc_server.port))
    again.lifecycle.start()
    group.processors.append(again)
    wait_until(lambda: again.hub.stream_count > 5, "the move back")
    group.wait_for_streams(refs)
    # Nothing was opened anew: the same claims, the same runs.
    assert {requestor.orders.get(name).token for name in refs} == {1}
    for name in refs:
        again.orders.reply(Reply(name, "r1", "seller1", Answer.ACCEPTED))
    wait_until(lambda: all(requestor.orders.get(name).applied_seq == 2 for name in refs), "the replies", timeout_s=3)


@pytest.mark.parametrize("hinted", [True, False], ids=["by-a-hint", "by-the-slow-look"])
def test_a_reply_at_one_processor_reaches_the_stream_at_the_other(
    two_and_two: Group, hinted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    requestor = two_and_two.requestors[0]
    refs = [ref(number) for number in range(6)]
    for number in range(6):
        requestor.orders.initiate(request(number))
    two_and_two.wait_for_streams(refs)
    if not hinted:
        for processor in two_and_two.processors:
            monkeypatch.setattr(processor.hub._hints, "send", lambda topic, items: None)
    for number, name in enumerate(refs):
        for turn, processor in enumerate(two_and_two.processors):
            processor.orders.reply(Reply(name, f"r{turn}-{number}", "seller1", Answer.MESSAGE, "hello"))
    wait_until(
        lambda: all(requestor.orders.get(name).applied_seq == 3 for name in refs),
        "the replies",
        timeout_s=1 if hinted else 8,
    )


def test_a_graceful_stop_hands_the_orders_over_at_once(two_and_two: Group) -> None:
    first, second = two_and_two.requestors
    refs = [ref(number) for number in range(30)]
    for number in range(30):
        first.orders.initiate(request(number))
    two_and_two.wait_for_streams(refs)
    first.lifecycle.stop()
    began_s = time.monotonic()
    two_and_two.requestors.remove(first)
    two_and_two.wait_for_streams(refs)
    assert time.monotonic() - began_s < 1
    assert {second.orders.get(name).token for name in refs} == {2}
    assert {second.orders.get(name).owner for name in refs} == {second.lease._instance_id}


def test_orders_of_a_dead_instance_are_spread_over_the_others(group: Group, monkeypatch: pytest.MonkeyPatch) -> None:
    group.add_processor()
    dead, *others = [group.add_requestor() for _ in range(3)]
    refs = [ref(number) for number in range(60)]
    for number in range(60):
        dead.orders.initiate(request(number))
    group.wait_for_streams(refs)
    # As a kill would: the lease is not given back, and the connection breaks.
    monkeypatch.setattr(dead.store, "end_lease", lambda instance: None)
    monkeypatch.setattr(dead.lease, "_on_change", lambda: None)
    dead.lifecycle.stop()
    group.requestors.remove(dead)
    wait_until(lambda: group._open_at_requestors() == 60, "the takeover", timeout_s=5)
    group.wait_for_streams(refs)
    assert all(requestor.tracking.count(StreamState.OPEN) > 10 for requestor in others)
    assert {others[0].orders.get(name).token for name in refs} == {2}


class Mailbox:
    """A channel that keeps what it is to bring, and brings it as slowly as it is told."""

    name = "email"

    def __init__(self, *, takes_s: float = 0.0) -> None:
        self.sent: list[tuple[str, int]] = []
        self._takes_s = takes_s

    def has_address(self, seller: Seller) -> bool:
        return bool(seller.email)

    def send(self, parcel: Parcel) -> AttemptResult:
        self.sent.append((parcel.delivery_id, parcel.attempt))
        time.sleep(self._takes_s)
        return AttemptResult(Verdict.DELIVERED)


def delivered(group: Group) -> int:
    return group.processors[0].deliveries.counts().get("delivered", 0)


def test_each_delivery_is_sent_by_one_processor_alone(group: Group) -> None:
    mailbox = Mailbox()
    for _ in range(2):
        group.add_processor([mailbox])
    requestor = group.add_requestor()
    for number in range(40):
        requestor.orders.initiate(replace(request(number), notification_type="email"))
        requestor.orders.follow_up(note(number))
    wait_until(lambda: group.processors[1].deliveries.counts() == {"waiting": 80}, "the deliveries")
    wish = SellerWish("", "seller1@example.com", "", (), "en")
    group.processors[1].sellers.put("default", "seller1", wish)
    wait_until(lambda: delivered(group) == 80, "the release", timeout_s=5)
    # And what comes while the seller is known: it is sent at once, wherever it was accepted.
    for number in range(40, 60):
        requestor.orders.initiate(replace(request(number), notification_type="email"))
    wait_until(lambda: delivered(group) == 100, "the deliveries", timeout_s=3)
    assert len(mailbox.sent) == len(set(mailbox.sent)) == 100
    assert {attempt for _, attempt in mailbox.sent} == {1}


def test_what_a_processor_has_not_sent_another_one_sends(group: Group) -> None:
    slow, quick = Mailbox(takes_s=0.3), Mailbox()
    first = group.add_processor([slow])
    first.sellers.put("default", "seller1", SellerWish("", "seller1@example.com", "", (), "en"))
    requestor = group.add_requestor()
    for number in range(30):
        requestor.orders.initiate(replace(request(number), notification_type="email"))
    wait_until(lambda: len(slow.sent) > 2, "the first ones")
    second = group.add_processor([quick])
    first.lifecycle.stop()
    group.processors.remove(first)
    wait_until(lambda: second.deliveries.counts() == {"delivered": 30}, "the rest", timeout_s=8)
    assert len(quick.sent) > 10
    assert len(set(slow.sent) | set(quick.sent)) == len(slow.sent) + len(quick.sent) == 30


def test_what_one_instance_has_written_every_other_reads(two_and_two: Group) -> None:
    first, second = two_and_two.requestors
    stale = 0
    for number in range(100):
        writer, reader = (first, second) if number % 2 else (second, first)
        writer.orders.initiate(request(number))
        status = reader.orders.tracking_status("default", cursor=None, limit=1)
        stale += status.total_orders != number + 1 or status.order_ids != (f"A{number}",)
        writer.orders.follow_up(note(number))
        stale += reader.orders.get(ref(number)).notes_count != 1
    assert stale == 0


def test_both_instances_tell_the_same_of_a_stream(two_and_two: Group) -> None:
    first, second = two_and_two.requestors
    for number in range(5):
        first.orders.initiate(request(number))
    refs = [ref(number) for number in range(5)]
    two_and_two.wait_for_streams(refs)

    def told(requestor: Requestor) -> list[StreamState | None]:
        views = [requestor.orders.details(name).stream for name in refs]
        return [None if view is None else view.state for view in views]

    wait_until(lambda: told(second) == told(first) == [StreamState.OPEN] * 5, "the same")
    wait_until(
        lambda: (
            [r.orders.tracking_status("default", cursor=None, limit=1).open_streams for r in (first, second)] == [5, 5]
        ),
        "the same counts",
    )


def test_an_order_whose_later_claim_the_store_has_forgotten_is_claimed_above_it(group: Group) -> None:
    """As after a fail-over to a stale replica: the processor has seen a higher token than the store knows."""
    processor = group.add_processor()
    requestor = group.add_requestor()
    requestor.orders.initiate(request(1))
    group.wait_for_streams([ref(1)])
    step = partial(open_stream, wish=replace(WISH, token=7), routes={}, now_ms=1, holder=processor.hub._holder)
    assert processor.store.update(Step(ref(1), step)) is not None
    for outlet in processor.hub.outlets():
        outlet.cut()
    wait_until(lambda: requestor.orders.get(ref(1)).token == 8, "the new claim")
    group.wait_for_streams([ref(1)])


WISH = OpenStream(ref(1), "s1", "none", ("seller1",), None, token=1, stream_id="st", resume_after=1, run=1)


def test_a_redis_that_evicts_is_refused(redis_server: RedisServer, group: Group) -> None:
    with redis_server.client as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
    with pytest.raises(StartRefused, match="noeviction"):
        group.add_processor()


def test_readiness_tells_how_redis_keeps_what_it_has(group: Group) -> None:
    processor = group.add_processor()
    facts = processor.app.test_client().get("/readyz").get_json()["facts"]["store"]
    assert (facts["engine"], facts["aof"], facts["aof_fsync"]) == ("redis", True, "everysec")


def test_processors_that_share_a_store_must_share_the_secret_of_links(group: Group) -> None:
    with pytest.raises(StartRefused, match="PROCESSOR_LINK_SECRET"):
        build_processor(ProcessorSettings(store=group.redis_url, port=0, grpc_port=0))


def posted(requestor: Requestor, body: Mapping[str, object], path: str = "initiate") -> tuple[int, str | None, float]:
    began_s = time.monotonic()
    answer = requestor.app.test_client().post(f"/api/v1/orders/{path}", json=body)
    return answer.status_code, answer.headers.get("Retry-After"), time.monotonic() - began_s


@pytest.mark.parametrize("is_frozen", [False, True], ids=["gone", "frozen"])
def test_without_redis_nothing_is_taken_and_all_heals_by_itself(
    redis_server: RedisServer, two_and_two: Group, is_frozen: bool
) -> None:
    requestor = two_and_two.requestors[0]
    requestor.orders.initiate(request(1))
    two_and_two.wait_for_streams([ref(1)])
    away: Callable[[], None] = redis_server.freeze if is_frozen else redis_server.kill
    away()
    body = {"order_req_id": "A2", "session_id": "s1", "notification_type": "none"}
    message = {"order_req_id": "A1", "follow_up_id": "n1", "audience": ["seller1"], "message": {"message": "hello"}}
    calls: list[tuple[str, Mapping[str, object]]] = [("initiate", body), ("followup", message)]
    for path, sent in calls:
        status, retry_after, seconds = posted(requestor, sent, path)
        assert (status, retry_after) == (503, "1")
        assert seconds < 2
    assert requestor.tracking.count(StreamState.OPEN) == 1  # as long as the lease allows
    assert requestor.app.test_client().get("/readyz").status_code == 503
    assert two_and_two.open_streams() == {ref(1): 1}

    if is_frozen:
        redis_server.thaw()
    else:
        redis_server.start()
    began_s = time.monotonic()
    wait_until(lambda: posted(requestor, body)[0] == 200, "the return", timeout_s=5)
    wait_until(lambda: posted(requestor, message, "followup")[0] == 200, "the return", timeout_s=5)
    wait_until(lambda: requestor.app.test_client().get("/readyz").status_code == 200, "readiness", timeout_s=5)
    two_and_two.wait_for_streams([ref(1), ref(2)])
    assert time.monotonic() - began_s < 5


def samples_of(requestor: Requestor) -> dict[tuple[str, ...], float]:
    """The metrics of an instance, by name and label values."""
    text = requestor.app.test_client().get("/metrics").text
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_operator_page_shows_every_instance_and_every_processor(two_and_two: Group) -> None:
    first, second = two_and_two.requestors
    first.orders.initiate(request(1))
    two_and_two.wait_for_streams([ref(1)])

    def now(requestor: Requestor) -> Any:
        return requestor.app.test_client().get("/console/data/orders").get_json()["now"]

    wait_until(lambda: [each["error"] for each in now(second)["processors"]] == [None, None], "both connected")
    two_and_two.processors[1].lifecycle.stop()
    del two_and_two.processors[1]
    wait_until(lambda: [each["error"] is None for each in now(second)["processors"]] == [True, False], "one away")
    shown = now(second)
    assert shown["link"]["is_up"], "one is enough"
    assert shown["orders"]["live"] == 1
    assert [each["is_gone"] for each in shown["instances"]] == [False, False]
    samples = samples_of(second)
    assert samples["requestor_processor_links", "connected"] == samples["requestor_processor_links", "away"] == 1
    assert samples["requestor_processor_connected",] == 1
    assert samples_of(first)["requestor_store_commit_steps_count",] > 0
    assert samples["requestor_store_size_bytes",] > 0


def test_what_is_taken_over_from_a_dead_instance_is_counted(two_and_two: Group) -> None:
    first, second = two_and_two.requestors
    for number in range(5):
        first.orders.initiate(request(number))
    first.lifecycle.stop()
    two_and_two.requestors.remove(first)
    two_and_two.wait_for_streams([ref(number) for number in range(5)])
    text = second.app.test_client().get("/metrics").text
    assert "requestor_takeovers_total 5.0" in text
    assert "requestor_takeover_seconds_total 0.0\n" not in text
