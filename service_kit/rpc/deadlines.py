"""A deadline for calls that end by themselves: whoever does not take the answer is cut."""

from __future__ import annotations

import time

import grpc

from service_kit.background import Background
from service_kit.logs import get_logger
from service_kit.measures import Tally

log = get_logger(__name__)

#: From the arrival of a call until its answer is taken.
CALL_S = 12.0
EVERY_S = 1.0


class CallDeadlines(Background):
    """Ends calls that are overdue.

    gRPC waits for ever until a client makes room for its answer, and a stream of questions, such as that of reflection,
    holds a thread for as long as its client likes.
    """

    name = "grpc-deadlines"
    not_running = "calls have no deadline"

    def __init__(self, *, call_s: float = CALL_S, every_s: float = EVERY_S) -> None:
        super().__init__()
        self._call_s = call_s
        self._every_s = every_s
        #: The calls and when they are overdue; they come and go in any thread.
        self._calls: dict[grpc.ServicerContext, float] = {}
        #: Calls that were ended.
        self.cut = Tally()

    def begin(self, context: grpc.ServicerContext) -> None:
        """Give a call its deadline; it is forgotten when the call is over."""
        self._calls[context] = time.monotonic() + self._call_s
        if not context.add_callback(lambda: self._forget(context)):
            self._forget(context)

    def _forget(self, context: grpc.ServicerContext) -> None:
        self._calls.pop(context, None)

    def _run(self) -> None:
        while not self._stopping.wait(self._every_s):
            now = time.monotonic()
            for context, overdue_at in list(self._calls.items()):
                if now >= overdue_at:
                    self._forget(context)
                    self.cut.add()
                    log.warning("Cut a call whose answer is not taken", action="grpc.call_cut", peer=context.peer())
                    context.cancel()
