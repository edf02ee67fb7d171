"""200 clients who send slowly or do not read, and 100 of gRPC who never read: they are cut, and nobody else notices."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from tests.e2e.conftest import Service, eventually
from tests.faults import hostile
from tests.faults.arena import AS_SHIPPED, Arena
from tests.faults.buyer import Buyer
from tests.faults.measures import Holdings

pytestmark = pytest.mark.slow

#: Every one of them is cut within it.
CUT_S = 15.0
#: What both processes may hold more than before, when all are gone.
MORE_THREADS, MORE_FILES, MORE_MEMORY = 2, 3, 20 * 2**20
KINDS = {
    "says nothing": hostile.SILENT,
    "dribbles a head": hostile.HEADS,
    "dribbles a body": hostile.BODIES,
    "does not read": hostile.DEAF,
    "gRPC, says nothing": hostile.GRPC_SILENT,
    "gRPC, does not read": hostile.GRPC_DEAF,
    "gRPC, asks for ever": hostile.GRPC_ASKING,
    "gRPC, a trunk that is silent": hostile.GRPC_TRUNKS,
}


@pytest.fixture
def arena(tmp_path: Path) -> Iterator[Arena]:
    made = Arena(tmp_path, AS_SHIPPED)
    yield made
    made.kill_all()


def test_slow_clients_are_cut_within_15_s_while_all_others_are_served(arena: Arena) -> None:
    arena.start()
    buyer = Buyer(arena)
    buyer.open_orders(f"warm-{number}" for number in range(200))
    # The threads of calls stay when they were needed once.
    with grpc.insecure_channel(f"127.0.0.1:{arena.processor.settings['PROCESSOR_GRPC_PORT']}") as channel:
        for call in [hostile.reflect(channel) for _ in range(2 * hostile.GRPC_ASKING + 2 * hostile.GRPC_TRUNKS)]:
            next(call)
    bases = [Holdings.of(service) for service in arena.both]
    ports = (arena.requestor.settings["REQUESTOR_PORT"], arena.processor.settings["PROCESSOR_GRPC_PORT"])
    command = [sys.executable, "-m", "tests.faults.hostile", *ports]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as crowd:
        try:
            assert crowd.stdout is not None
            assert crowd.stdout.readline() == "ready\n"
            opened = 0
            while crowd.poll() is None and opened < 3_000:
                buyer.open_orders(f"order-{opened + number}" for number in range(20))
                opened += 20
            cut = json.loads(crowd.stdout.readline())
        finally:
            crowd.kill()
    print(f"{opened} orders opened meanwhile; {cut}")
    assert opened >= 100
    assert {kind: count for kind, (count, _) in cut.items()} == KINDS
    assert {kind: latest_s for kind, (_, latest_s) in cut.items() if latest_s > CUT_S} == {}
    for service, base in zip(arena.both, bases, strict=True):

        def is_back(service: Service = service, base: Holdings = base) -> bool:
            now = Holdings.of(service)
            return now.threads <= base.threads + MORE_THREADS and now.files <= base.files + MORE_FILES

        eventually(is_back, timeout_s=20, what=f"{service.name}: {base}")
        now = Holdings.of(service)
        print(f"{service.name}: {base} before, {now} after")
        assert now.memory <= base.memory + MORE_MEMORY
    assert arena.deaths == {"requestor": 0, "processor": 0}
