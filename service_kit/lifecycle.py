"""Parts with threads: started in order, stopped in reverse within one deadline, ended by a signal."""

from __future__ import annotations

import gc
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import NamedTuple, NoReturn, Protocol

from service_kit.errors import ServiceError, StartRefused
from service_kit.logs import get_logger

_log = get_logger(__name__)

#: Windows delivers Ctrl+C only when the main thread wakes up, so no wait of it lasts longer than this.
_WAKE_UP_S = 0.5
#: The collector looks at new objects when there are so many more of them.
_COLLECT_AFTER = 10_000


class Component(Protocol):
    """A part of a process that runs: a server, a store, a supervisor."""

    @property
    def name(self) -> str:
        """A short name for logs and health reports."""

    def start(self) -> None:
        """Begin to work; on an error leave nothing behind. Raises `StartRefused` when the set-up is to blame."""

    def stop(self, timeout_s: float) -> None:
        """Finish what runs, within the time, and give everything back. Safe to call twice."""

    def check(self) -> str | None:
        """None when it works, else the reason why not."""


class Lifecycle:
    """Starts components in order and stops them in reverse."""

    def __init__(self, components: Iterable[Component]) -> None:
        self._components = tuple(components)
        self._started: list[Component] = []
        self._state = "not started"
        #: Guards the list of started components: two stops at once never stop a part twice.
        self._lock = threading.Lock()

    @property
    def components(self) -> tuple[Component, ...]:
        """All components, in the order of their start."""
        return self._components

    def start(self) -> None:
        """Start every component; when one fails, stop those before it and raise its error."""
        self._state = "starting"
        for component in self._components:
            try:
                component.start()
            except BaseException:
                self.stop()
                raise
            self._started.append(component)
        self._state = "running"

    def stop(self, timeout_s: float = 10.0) -> None:
        """Stop what was started, in reverse, within one deadline; a failure is logged and does not stop the rest.

        Each part but the last may take half of the time that is left, so that none uses up the time of all others.
        """
        deadline = time.monotonic() + timeout_s
        self._state = "stopping"
        with self._lock:
            while self._started:
                component = self._started.pop()
                try:
                    left_s = max(0.0, deadline - time.monotonic())
                    component.stop(left_s / 2 if self._started else left_s)
                except Exception:  # noqa: BLE001 - the rest must be stopped whatever went wrong here
                    _log.exception(f"Could not stop {component.name}", action="lifecycle.stop_failed")
            self._state = "stopped"

    def check(self) -> str | None:
        """None while every component is started, else the state: a readiness check."""
        return None if self._state == "running" else self._state


class _StopRequest(NamedTuple):
    """Why the process is to end, and the exit code that tells so."""

    reason: str
    exit_code: int


# A SimpleQueue, because its put() may interrupt its get(): an Event that a signal handler sets while the same thread
# is about to wait for it can lock up.
_stop_requests: queue.SimpleQueue[_StopRequest] = queue.SimpleQueue()


def ask_to_stop(exit_code: int, reason: str = "a component asked for it") -> None:
    """Make `run_until_stopped` stop the process in order; for a watchdog that has lost its trust in it."""
    _stop_requests.put(_StopRequest(reason, exit_code))


def run_until_stopped(
    lifecycle: Lifecycle, *, stop_timeout_s: float = 10.0, on_started: Callable[[], None] | None = None
) -> int:
    """Run the components until a signal or `ask_to_stop`, and return the exit code; for the main thread.

    The first SIGINT, SIGTERM or (on Windows) SIGBREAK stops in order, the second ends the process at once.
    """
    _forget_old_requests()
    with _stop_signals():
        try:
            lifecycle.start()
        except StartRefused as refusal:
            return report_refusal(refusal)
        except ServiceError as error:  # such as a store whose disk is full
            return report_refusal(StartRefused(f"The service cannot start. {error.detail}"))
        try:
            if on_started is not None:
                on_started()
            with _collector_spared():
                request = _wait_for_request()
            _log.info(f"Stopping: {request.reason}", action="lifecycle.stopping")
            return request.exit_code
        finally:
            lifecycle.stop(stop_timeout_s)
            _log.info("Stopped", action="lifecycle.stopped")


def end_process(exit_code: int) -> NoReturn:
    """End this process now, after everything had its time to stop; for the last line of a program.

    An ordinary exit waits for every thread, for ever for one whose call can never end: that of a gRPC server that no
    longer serves.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):  # nobody reads it any more
            stream.flush()
    os._exit(exit_code)


def report_refusal(refusal: StartRefused) -> int:
    """Print why the service does not start, as one line without a traceback; answers the exit code."""
    line = " ".join(str(refusal).split())
    sys.stderr.write(line + "\n")
    return 1


def _forget_old_requests() -> None:
    while not _stop_requests.empty():
        _stop_requests.get_nowait()


def _wait_for_request() -> _StopRequest:
    while True:
        try:
            return _stop_requests.get(timeout=_WAKE_UP_S)
        except queue.Empty:
            continue


@contextmanager
def _collector_spared() -> Iterator[None]:
    """Keep the garbage collector from walking through what a start has made: it stays, and there is much of it.

    And let it walk less often: nearly all that requests leave behind is freed by its last reference going.
    """
    thresholds = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER, *thresholds[1:])
    try:
        yield
    finally:
        gc.set_threshold(*thresholds)
        gc.unfreeze()


@contextmanager
def _stop_signals() -> Iterator[None]:
    """Turn stop signals into requests for the time of the block."""
    seen: list[int] = []

    # Runs between any two steps of the main thread, which may hold the lock of the log: so it logs nothing.
    def handle(number: int, _frame: FrameType | None) -> None:
        seen.append(number)
        if len(seen) > 1:
            os._exit(128 + number)
        _stop_requests.put(_StopRequest(signal.Signals(number).name, 0))

    names = [name for name in ("SIGINT", "SIGTERM", "SIGBREAK") if hasattr(signal, name)]
    numbers = [signal.Signals[name] for name in names]
    before = [(number, signal.signal(number, handle)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)
