"""Both services as processes that are kept alive whatever kills them."""

from __future__ import annotations

import random
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import requests

from tests.e2e.conftest import Service, Services, eventually

#: Settings that let a dead peer be noticed within 4 s.
FAST = {"REQUESTOR_KEEPALIVE_MS": "1500", "PROCESSOR_KEEPALIVE_MS": "1500", "REQUESTOR_LEASE_S": "3"}
#: The settings that a user gets.
AS_SHIPPED: dict[str, str] = {}
#: Attempts that end quickly one way or the other: mail becomes files, and webhooks may go nowhere.
SENDING = {"PROCESSOR_RETRY_SCHEDULE_S": "0.1,0.2", "PROCESSOR_WEBHOOK_TIMEOUT_S": "0.5"}
FAILPOINTS = "ORDER_COMMUNICATOR_FAILPOINTS"
_LOOK_S = 0.02


class Arena:
    """A processor and a requestor on free ports, their stores in one folder, and a keeper that starts them again."""

    def __init__(self, folder: Path, settings: Mapping[str, str] = FAST) -> None:
        self.services = Services(folder)
        self.processor = self.services.processor()
        self.requestor = self.services.requestor()
        for service in self.both:
            own = {name: value for name, value in settings.items() if name.startswith(f"{service.prefix}_")}
            service.settings.update(own)
            service.settings[f"{service.prefix}_LOG_FORMAT"] = "json"  # what the audit reads
        self.processor.settings.update(SENDING)
        self._armed: dict[str, str] = {}
        self.deaths = {"requestor": 0, "processor": 0}
        self._keeping = threading.Event()
        self._over = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="keeper", daemon=True)

    @property
    def both(self) -> tuple[Service, Service]:
        """The two services, the processor first."""
        return self.processor, self.requestor

    def start(self) -> None:
        """Start both and keep them alive."""
        for service in self.both:
            self._launch(service)
        self._keeping.set()
        self._keeper.start()
        for service in self.both:
            self.wait_until_ready(service)

    def arm(self, service: Service, failpoints: str) -> None:
        """Kill the service; only its next life has these failpoints."""
        self._armed[service.name] = failpoints
        self.kill(service)

    def _launch(self, service: Service) -> None:
        failpoints = self._armed.pop(service.name, None)
        if failpoints is not None:
            service.settings[FAILPOINTS] = failpoints
        service.launch()
        service.settings.pop(FAILPOINTS, None)

    def wait_until_ready(self, service: Service, timeout_s: float = 30.0) -> None:
        """Wait until the service is ready, in this life or in one of the next."""
        eventually(lambda: _is_ready(service), timeout_s=timeout_s, what=f"the {service.name}'s readiness")

    def _keep(self) -> None:
        while not self._over.wait(_LOOK_S):
            for service in self.both:
                if self._keeping.is_set() and service.process.poll() is not None:
                    self.deaths[service.name] += 1
                    self._launch(service)

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

    def status(self) -> dict[str, Any]:
        """The requestor's tracking status."""
        status: dict[str, Any] = self.requestor.get("/orders/tracking/status?limit=1")
        return status

    def wait_until_quiet(self, timeout_s: float = 60.0) -> float:
        """Wait until every live order has its stream and nothing is to be relayed or sent; answers how long it took."""
        began = time.monotonic()
        eventually(self._is_quiet, timeout_s=timeout_s, what="quiet")
        return time.monotonic() - began

    def has_all_streams(self) -> bool:
        """Whether every live order has its stream, as both services see it; False when one does not answer."""
        try:
            status = self.status()
            at_processor = self.processor.get("/orders?limit=1")
        except (requests.RequestException, AssertionError):
            return False
        return bool(
            status["open_streams"] == status["active_streams"] == at_processor["open_streams"]
            and at_processor["states"].get("live", 0) == status["active_streams"]
        )

    def _delivery_states(self) -> set[str]:
        states: dict[str, int] = self.processor.get("/deliveries?limit=1")["states"]
        return set(states)

    def _is_quiet(self) -> bool:
        return (
            self.has_all_streams()
            and self.status()["states"].get("closing", 0) == 0
            and pending_in(self.requestor.store) == 0
            and not self._delivery_states() & {"pending", "sending", "retrying", "waiting"}
        )

    def stop(self) -> None:
        """End both in order."""
        self._keeping.clear()
        self._over.set()
        self._keeper.join()
        for service in reversed(self.both):
            assert service.stop(timeout_s=15) == 0, service.log[-2000:]

    def kill_all(self) -> None:
        """End both at once."""
        self._keeping.clear()
        self._over.set()
        self.services.kill_all()


def _is_ready(service: Service) -> bool:
    try:
        return requests.get(f"{service.url}/readyz", timeout=5).status_code == 200
    except requests.RequestException:
        return False


def pending_in(store: Path) -> int:
    """How many messages of a store's outbox wait, read from the file itself."""
    with closing(sqlite3.connect(f"{store.as_uri()}?mode=ro", uri=True, timeout=10)) as connection:
        (count,) = connection.execute("SELECT count(*) FROM outbox WHERE state = 'pending'").fetchone()
        return int(count)


class Chaos:
    """Kills and freezes services at random moments, one thread, repeatable by its seed."""

    def __init__(self, arena: Arena, seed: int, *, kills: int, freezes: int, which: str, pause_s: float) -> None:
        self._arena = arena
        self._random = random.Random(seed)
        self._plan = ["kill"] * kills + ["freeze"] * freezes
        self._random.shuffle(self._plan)
        self._victims = [service for service in arena.both if which in ("both", service.name)]
        self._pause_s = pause_s
        self.done = 0
        self._thread = threading.Thread(target=self._run, name="chaos", daemon=True)

    @property
    def is_over(self) -> bool:
        """Whether every fault has been injected."""
        return self.done == len(self._plan)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def _run(self) -> None:
        for fault in self._plan:
            victim = self._random.choice(self._victims)
            # Also into the middle of a start, now and then.
            if self._random.random() < 0.9:
                self._arena.wait_until_ready(victim)
            time.sleep(self._random.uniform(0, self._pause_s))
            if fault == "kill":
                self._arena.kill(victim)
            else:
                with self._arena.frozen(victim):
                    time.sleep(self._random.uniform(0.1, 2.0))
            self.done += 1
