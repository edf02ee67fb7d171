"""A component that compares the streams of this processor with the store, for what no hint has told.

Several processors share a store. What happens at another one comes here as a hint; a hint may be lost.
"""

from __future__ import annotations

import itertools
import threading

from processor_app.streams import StreamHub
from service_kit.errors import ServiceError
from service_kit.logs import get_logger

#: Between two parts of a round, parts in a round, and streams in one read.
EVERY_S = 0.5
_PARTS = 8
_BATCH = 500

log = get_logger(__name__)


class Patrol:
    """Looks at a part of the streams at a time: all of them within four seconds."""

    name = "patrol"

    def __init__(self, hub: StreamHub) -> None:
        self._hub = hub
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin to look."""
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Look no more. Safe to call twice."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def check(self) -> str | None:
        """None while it looks."""
        return None if self._thread is not None and self._thread.is_alive() else "streams are not compared"

    def _run(self) -> None:
        for part in itertools.cycle(range(_PARTS)):
            if self._stopping.wait(EVERY_S):
                return
            try:
                refs = self._hub.refs()[part::_PARTS]
                for start in range(0, len(refs), _BATCH):
                    self._hub.compare(refs[start : start + _BATCH])
            except ServiceError:
                pass  # its cause stands in the log once, by the store
            except Exception as error:
                log.error("Streams could not be compared", action="patrol.failed", exc_info=error)
