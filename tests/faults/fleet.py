"""Several requestors and processors as processes over one Redis, kept alive whatever kills them."""

from __future__ import annotations

import json
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import requests

from tests.e2e.conftest import Service, Services, eventually, free_port
from tests.faults.arena import FAST, SENDING
from tests.faults.audit import Report, audit_kept, streams_opened
from tests.faults.ledger import Ledger
from tests.faults.redis_kept import read_redis, read_redis_outbox, waiting_in
from tests.redis_servers import RedisServer

_LOOK_S = 0.02
#: What costs nothing that was acknowledged, however Redis ends.
ALWAYS = ("--appendonly", "yes", "--appendfsync", "always")


class Fleet:
    """Instances of both services; ``requestor`` and ``processor`` are another one at each look, as to a balancer."""

    def __init__(
        self,
        folder: Path,
        *,
        requestors: int = 3,
        processors: int = 2,
        redis_options: Sequence[str] = ALWAYS,
        settings: Mapping[str, str] = FAST,
        seed: int = 0,
    ) -> None:
        self.redis = RedisServer(folder / "redis", *redis_options)
        self._services = Services(folder)
        self._random = random.Random(seed)
        grpc_ports = [free_port() for _ in range(processors)]
        self.processors = [
            self._services.processor(f"p{n}", PROCESSOR_GRPC_PORT=str(port), PROCESSOR_LINK_SECRET="s" * 40)
            for n, port in enumerate(grpc_ports)
        ]
        targets = ",".join(f"127.0.0.1:{port}" for port in grpc_ports)
        self.requestors = [self._services.requestor(f"r{n}", REQUESTOR_PROCESSORS=targets) for n in range(requestors)]
        for service in self.services:
            own = {**settings, **SENDING}
            service.settings |= {key: value for key, value in own.items() if key.startswith(f"{service.prefix}_")}
            service.settings |= {f"{service.prefix}_STORE": self.redis.url, f"{service.prefix}_LOG_FORMAT": "json"}
        self.deaths: Counter[str] = Counter()
        #: Instances that nobody starts again.
        self.retired: set[Service] = set()
        self._keeping = threading.Event()
        self._over = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="keeper", daemon=True)

    @property
    def services(self) -> list[Service]:
        """All instances, the processors first."""
        return [*self.processors, *self.requestors]

    @property
    def requestor(self) -> Service:
        """One of the requestors."""
        return self._random.choice([service for service in self.requestors if service not in self.retired])

    @property
    def processor(self) -> Service:
        """One of the processors."""
        return self._random.choice([service for service in self.processors if service not in self.retired])

    def start(self) -> None:
        """Start everything and keep it alive."""
        self.redis.start()
        for service in self.services:
            service.launch()
        for service in self.services:
            eventually(service.is_ready, timeout_s=30, what=f"the {service.name}'s readiness")
        for requestor in self.requestors:
            eventually(partial(self._has_all_trunks, requestor), what="the trunks")
        self._keeping.set()
        self._keeper.start()

    def _has_all_trunks(self, requestor: Service) -> bool:
        return requestor.log.count('"trunk.connected"') >= len(self.processors)

    def _keep(self) -> None:
        while not self._over.wait(_LOOK_S):
            for service in self.services:
                dead = self._keeping.is_set() and service.process.poll() is not None
                if dead and service not in self.retired:
                    self.deaths[service.name] += 1
                    service.launch()

    def kill(self, service: Service) -> None:
        """SIGKILL; the keeper starts it again."""
        service.process.send_signal(signal.SIGKILL)

    @contextmanager
    def frozen(self, service: Service) -> Iterator[None]:
        """SIGSTOP, and SIGCONT when the block ends."""
        process = service.process
        process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            process.send_signal(signal.SIGCONT)

    # ---- what they say

    def streams(self, path: str = "/orders?limit=1") -> int:
        """How many streams are open, over all processors; -1 when one does not answer."""
        try:
            living = [service for service in self.processors if service not in self.retired]
            return sum(int(service.get(path)["open_streams"]) for service in living)
        except (requests.RequestException, AssertionError):
            return -1

    def live(self) -> int:
        """How many orders are live; -1 when nobody answers."""
        try:
            return int(self.requestor.get("/orders/tracking/status?limit=1")["active_streams"])
        except (requests.RequestException, AssertionError):
            return -2

    def owned_open(self, service: Service) -> int:
        """How many open streams a requestor has itself."""
        text = requests.get(f"{service.url}/metrics", timeout=10).text
        (line,) = [line for line in text.splitlines() if line.startswith('requestor_streams{state="open"}')]
        return int(float(line.rpartition(" ")[2]))

    def wait_until_quiet(self, timeout_s: float = 60.0) -> float:
        """Wait until every live order has one stream and nothing is on its way; answers how long it took."""
        began = time.monotonic()
        eventually(self._is_quiet, timeout_s=timeout_s, what="quiet")
        return time.monotonic() - began

    def _is_quiet(self) -> bool:
        try:
            status = self.requestor.get("/orders/tracking/status?limit=1")
            deliveries = self.processor.get("/deliveries?limit=1")["states"]
        except (requests.RequestException, AssertionError):
            return False
        is_open = self.streams() == status["active_streams"] == sum(map(self.owned_open, self.requestors))
        with self.redis.client as client:
            is_relayed = waiting_in(client, "requestor") == 0
        moving = {"pending", "sending", "retrying", "waiting"} & set(deliveries)
        return is_open and is_relayed and not moving and not status["states"].get("closing", 0)

    # ---- the end

    def audit(self, ledger: Ledger) -> Report:
        """Compare what was acknowledged with what Redis has; after `stop`."""
        with self.redis.client as client:
            kept = read_redis(client, "requestor"), read_redis(client, "processor")
            outbox = read_redis_outbox(client, "processor")
        return audit_kept(ledger, *kept, outbox, [processor.log for processor in self.processors])

    def openings(self) -> dict[str, list[dict[str, Any]]]:
        """Every opening of a stream at any processor, by order, in the order of time."""
        found: dict[str, list[dict[str, Any]]] = {}
        for processor in self.processors:
            for seen in streams_opened(processor.log):
                found.setdefault(seen["order_req_id"], []).append(seen)
        return {key: sorted(seen, key=lambda one: one["ts"]) for key, seen in found.items()}

    def lines(self, services: Sequence[Service], action: str) -> list[dict[str, Any]]:
        """What these services' logs say of an action."""
        return [
            json.loads(line)
            for service in services
            for line in service.log.splitlines()
            if f'"{action}"' in line and line.endswith("}")
        ]

    def stop(self) -> None:
        """End all in order; Redis stays, for the audit."""
        self._keeping.clear()
        self._over.set()
        self._keeper.join()
        for service in reversed(self.services):
            if service not in self.retired:
                assert service.stop(timeout_s=15) == 0, service.log[-2000:]

    def kill_all(self) -> None:
        """End everything at once."""
        self._keeping.clear()
        self._over.set()
        self._services.kill_all()
        self.redis.kill()
