"""Streams that die leave nothing behind in either process: no thread, no open file, no memory."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from processor_app.rpc.servicer import MAX_SINGLE_CALLS
from tests.e2e.conftest import Service, eventually
from tests.faults.arena import Arena
from tests.faults.buyer import Buyer
from tests.faults.measures import Holdings
from tests.faults.relay import Relay
from tests.faults.stream_caller import open_streams

pytestmark = pytest.mark.slow

ORDERS = 1_000
#: Deaths of the trunk, each the death of every stream: before the first look and between the two.
WARM_UP_CUTS, CUTS = 3, 5
#: Rounds of single-order streams whose client vanishes: before the first look and between the two, of each kind.
WARM_UP_ROUNDS, ROUNDS = 2, 8

#: How far the second look may be above the first. A file: the database and the probe open and close some. Memory: what
#: the allocator and the database's caches keep; a KiB for each of the deaths would be above it.
MORE_THREADS, MORE_FILES, MORE_MEMORY = 2, 3, 4 * 2**20
#: Threads and files of what has just ended are gone by then.
SETTLED_S = 10.0
#: With the keepalive of the tests a frozen client is noticed by then.
NOTICED_S = 8.0


def assert_back_to(base: Holdings, service: Service) -> None:
    """The process holds as much as it did, but for the tolerances above."""

    def is_back() -> bool:
        now = Holdings.of(service)
        return now.threads <= base.threads + MORE_THREADS and now.files <= base.files + MORE_FILES

    eventually(is_back, timeout_s=SETTLED_S, what=f"{base}")
    now = Holdings.of(service)
    print(f"{service.name}: {base} before, {now} after")
    assert now.memory <= base.memory + MORE_MEMORY


# ---- trunks


@pytest.fixture
def relay(arena: Arena) -> Iterator[Relay]:
    """Both services, with this between them."""
    with closing(Relay(arena.services.grpc_port)) as made:
        arena.requestor.settings["REQUESTOR_PROCESSORS"] = f"127.0.0.1:{made.port}"
        arena.start()
        yield made


def test_thousands_of_stream_deaths_by_cut_trunks_leave_nothing_behind(arena: Arena, relay: Relay) -> None:
    Buyer(arena).open_orders(f"A{number}" for number in range(ORDERS))

    def cut(times: int) -> None:
        for _ in range(times):
            trunks = arena.requestor.log.count('"trunk.connected"')
            assert relay.cut() >= 1
            eventually(lambda: arena.requestor.log.count('"trunk.connected"') > trunks, what="the next trunk")  # noqa: B023
            eventually(arena.has_all_streams, timeout_s=30, what="the streams")

    cut(WARM_UP_CUTS)
    bases = [Holdings.of(service) for service in arena.both]
    cut(CUTS)
    for service, base in zip(arena.both, bases, strict=True):
        assert_back_to(base, service)
    assert arena.deaths == {"requestor": 0, "processor": 0}


# ---- single calls


@pytest.fixture
def processor(arena: Arena) -> Service:
    """A processor that is alone."""
    arena.processor.start()
    return arena.processor


def port_of(processor: Service) -> str:
    return processor.settings["PROCESSOR_GRPC_PORT"]


@contextmanager
def channel_to(processor: Service) -> Iterator[grpc.Channel]:
    """A channel with a connection of its own."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    with grpc.insecure_channel(f"127.0.0.1:{port_of(processor)}", options) as channel:
        yield channel


@contextmanager
def caller(processor: Service) -> Iterator[subprocess.Popen[str]]:
    """A process that holds as many streams as there may be."""
    command = [sys.executable, "-m", "tests.faults.stream_caller", port_of(processor), "C", str(MAX_SINGLE_CALLS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == f"{MAX_SINGLE_CALLS} open\n"
            yield process
        finally:
            process.kill()


def wait_until_all_are_free(processor: Service, timeout_s: float = SETTLED_S) -> float:
    """Wait until the processor holds no stream; answers how long it took."""
    began = time.monotonic()
    eventually(lambda: processor.get("/orders?limit=1")["open_streams"] == 0, timeout_s=timeout_s, what="the end")
    return time.monotonic() - began


def test_a_thousand_streams_of_clients_that_vanish_leave_nothing_behind(processor: Service) -> None:
    def vanish(rounds: int) -> None:
        for _ in range(rounds):
            with channel_to(processor) as channel:
                open_streams(channel, "C", MAX_SINGLE_CALLS)
            wait_until_all_are_free(processor)
            with caller(processor) as process:
                process.kill()
            wait_until_all_are_free(processor)

    vanish(WARM_UP_ROUNDS)
    base = Holdings.of(processor)
    vanish(ROUNDS)
    assert_back_to(base, processor)


def test_streams_at_their_limit_leave_room_for_health_and_come_free_when_their_client_freezes(
    processor: Service,
) -> None:
    with channel_to(processor) as channel, caller(processor) as process:
        health = health_pb2_grpc.HealthStub(channel)
        assert health.Check(health_pb2.HealthCheckRequest(), timeout=2).status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as refused:
            open_streams(channel, "D", 1)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        process.send_signal(signal.SIGSTOP)
        took_s = wait_until_all_are_free(processor, NOTICED_S)
        print(f"a frozen client's streams were free after {took_s:.1f} s")
        open_streams(channel, "D", MAX_SINGLE_CALLS)
