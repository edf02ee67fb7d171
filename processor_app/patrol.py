"""A component that compares the streams of this processor with the store, for what no hint has told.

Several processors share a store. What happens at another one comes here as a hint; a hint may be lost.
"""

from __future__ import annotations

import itertools

from processor_app.streams import StreamHub
from service_kit.background import Background
from service_kit.errors import ServiceError
from service_kit.logs import get_logger

#: Between two parts of a round, parts in a round, and streams in one read.
EVERY_S = 0.5
_PARTS = 8
_BATCH = 500

log = get_logger(__name__)


class Patrol(Background):
    """Looks at a part of the streams at a time: all of them within four seconds."""

    name = "patrol"
    not_running = "streams are not compared"

    def __init__(self, hub: StreamHub) -> None:
        super().__init__()
        self._hub = hub

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
