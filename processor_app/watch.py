"""A component that ends the calls of peers that are silent or do not read, and clears away what ended calls left."""

from __future__ import annotations

import time

from processor_app.streams import StreamHub
from service_kit.background import Background
from service_kit.logs import get_logger

log = get_logger(__name__)


class StallWatch(Background):
    """Looks at every outlet again and again and ends the stalled ones."""

    name = "stall-watch"
    not_running = "stalled calls are not watched"

    def __init__(self, hub: StreamHub, *, silence_s: float, every_s: float) -> None:
        super().__init__()
        self._hub = hub
        self._silence_s = silence_s
        self._every_s = every_s

    def _run(self) -> None:
        while not self._stopping.wait(self._every_s):
            now = time.monotonic()
            for outlet in self._hub.outlets():
                if outlet.has_ended:  # its handler may have died in the middle of a send, without cleaning up
                    self._hub.unregister(outlet)
                elif outlet.is_stalled(now, self._silence_s):
                    log.warning(
                        "Cut a call whose peer is silent or does not read", action="trunk.cut", peer=outlet.peer
                    )
                    outlet.cut()
