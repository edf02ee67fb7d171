"""Which instances of a service live over the same store, as their leases say, and whose an order is among them."""

from __future__ import annotations

import threading
from collections.abc import Callable

from service_kit.background import Background
from service_kit.change import Ref
from service_kit.errors import ServiceError
from service_kit.logs import get_logger
from service_kit.sharing import chosen
from service_kit.storage.contract import Store

#: Between two looks at the leases.
LOOK_S = 1.0

log = get_logger(__name__)


class Members(Background):
    """Looks at the leases again and again, as a component.

    Over a store that is not shared there is nobody else, and nothing runs.
    """

    name = "members"
    not_running = "nobody looks who else is there"

    def __init__(self, store: Store, *, instance_id: str) -> None:
        super().__init__()
        self._store = store
        self._instance_id = instance_id
        self._followers: list[Callable[[], None]] = []
        self._living: tuple[str, ...] = (instance_id,)
        self._wake = threading.Event()

    @property
    def living(self) -> tuple[str, ...]:
        """The names of the instances that live, this one among them."""
        return self._living

    def is_mine(self, ref: Ref) -> bool:
        """Whether the order falls to this instance."""
        living = self._living
        return len(living) == 1 or chosen(ref, living) == self._instance_id

    def follow(self, follower: Callable[[], None]) -> None:
        """Be told when somebody came or went; before the start."""
        self._followers.append(follower)

    # ---- the component

    def start(self) -> None:
        """Look for the first time, then again and again. Raises `StoreUnavailable`."""
        if self._store.is_shared:
            self._look()
            super().start()

    def stop(self, timeout_s: float) -> None:
        """Look no more. Safe to call twice."""
        self._stopping.set()
        self._wake.set()
        super().stop(timeout_s)

    def check(self) -> str | None:
        """None, unless the thread that looks after a shared store has ended."""
        return super().check() if self._store.is_shared else None

    def look_now(self) -> None:
        """Look at once: somebody has come or gone."""
        self._wake.set()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.wait(LOOK_S)
            self._wake.clear()
            if self._stopping.is_set():
                return
            try:
                self._look()
            except ServiceError:
                pass  # its cause stands in the log once, by the store; who lived then may live still
            except Exception as error:
                log.error("The leases could not be looked at", action="members.failed", exc_info=error)

    def _look(self) -> None:
        at_ms = self._store.now_ms()
        living = {lease.instance for lease in self._store.leases() if lease.until_ms > at_ms}
        found = tuple(sorted(living | {self._instance_id}))
        if found != self._living:
            log.info(f"{len(found)} instances share the store", action="members.changed", instances=len(found))
            self._living = found
            for follower in self._followers:
                follower()
