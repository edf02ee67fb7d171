"""The dispatcher: a component with workers that send deliveries, and a clerk that keeps the backlog true."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from processor_app.delivery.backlog import Backlog, TroubledDoors
from processor_app.delivery.clerk import Clerk
from processor_app.delivery.courier import Courier
from processor_app.delivery.delivery import DeliveryState
from service_kit.errors import ServiceError
from service_kit.logs import get_logger

#: Between two looks at the counts of the store.
_COUNT_S = 5.0
#: Between two comparisons of its deliveries with the backlog; more often when other processors write to it too.
COMPARE_S, COMPARE_SHARED_S = 60.0, 10.0
#: After the store did not answer.
_PAUSE_S = 1.0

log = get_logger(__name__)


class Dispatcher:
    """Sends what is in the backlog. ``places`` is how many attempts run at a time, slow ones aside."""

    name = "dispatcher"

    def __init__(
        self, backlog: Backlog, clerk: Clerk, courier: Courier, *, places: int, compare_s: float = COMPARE_S
    ) -> None:
        self._compare_s = compare_s
        self._backlog = backlog
        self._clerk = clerk
        self._courier = courier
        # As many again for attempts that have become slow, and half as many for sellers that are known to be slow.
        self._workers = [self._thread(f"courier-{n}", self._work) for n in range(2 * places + max(1, places // 2))]
        self._clerk_thread = self._thread("delivery-clerk", self._keep_books)
        self._stopping = threading.Event()
        self._is_loaded = False
        #: Guards the two numbers: workers that run, and those of them that carry something.
        self._lock = threading.Lock()
        self._started = self._busy = 0

    @staticmethod
    def _thread(name: str, target: Callable[[], None]) -> threading.Thread:
        return threading.Thread(target=target, name=name, daemon=True)

    def start(self) -> None:
        """Begin: first everything that is to be sent is read from the store."""
        self._clerk_thread.start()

    def stop(self, timeout_s: float) -> None:
        """Begin no further attempt and wait for those that run. Safe to call twice.

        One that takes longer is found again after a restart, when its lease is over.
        """
        deadline = time.monotonic() + timeout_s
        self._stopping.set()
        self._courier.stop()
        self._backlog.close()
        for thread in (self._clerk_thread, *self._workers):
            if thread.is_alive():
                thread.join(max(0.0, deadline - time.monotonic()))

    def check(self) -> str | None:
        """None while deliveries are sent."""
        if not self._clerk_thread.is_alive():
            return "deliveries are not sent"
        return None if self._is_loaded else "deliveries are being read from the store"

    def facts(self) -> Mapping[str, Any]:
        """What is to be sent, what runs, and what is stuck; the counts of the store are some seconds old."""
        backlog, counts = self._backlog.facts(), self._clerk.counts
        return {
            "due": backlog.queued,
            "running": backlog.running,
            "slow_sellers": backlog.slow_sellers,
            "open_breakers": backlog.open_breakers,
            "waiting": counts.get(DeliveryState.WAITING, 0),
            "dead": counts.get(DeliveryState.DEAD, 0),
        }

    def troubled_doors(self, tenant: str) -> TroubledDoors:
        """How many doors of a tenant are slow, and how many are given a rest."""
        return self._backlog.troubled_doors(tenant)

    def _work(self) -> None:
        while (job := self._backlog.take()) is not None:
            with self._lock:
                self._busy += 1
                is_last = self._busy == self._started
            if is_last:
                self._add_worker()
            self._courier.carry(job)
            with self._lock:
                self._busy -= 1

    def _add_worker(self) -> None:
        """Start one more worker, so that one is always free; a processor that tells few sellers has few threads."""
        with self._lock:
            if self._started < len(self._workers):
                self._workers[self._started].start()
                self._started += 1

    def _keep_books(self) -> None:
        while not self._is_loaded and not self._stopping.is_set():
            self._is_loaded = self._try(self._clerk.load)
        if self._is_loaded:
            self._add_worker()
        counted_s = compared_s = time.monotonic()
        while (errands := self._backlog.next_errands(_COUNT_S)) is not None:
            if not self._try(partial(self._clerk.run, errands)):
                self._backlog.put_back(errands)
            now_s = time.monotonic()
            if now_s - counted_s >= _COUNT_S:
                counted_s = now_s
                self._try(self._clerk.count)
            if now_s - compared_s >= self._compare_s:
                compared_s = now_s
                self._try(self._clerk.compare)

    def _try(self, work: Callable[[], None]) -> bool:
        """Do what needs the store; after a failure, wait for a moment and answer False."""
        try:
            work()
        except ServiceError as error:
            log.warning("The store cannot be read", action="delivery.clerk_failed", reason=error.detail)
        except Exception as error:
            log.error("The backlog could not be kept", action="delivery.clerk_failed", exc_info=error)
        else:
            return True
        self._stopping.wait(_PAUSE_S)
        return False
