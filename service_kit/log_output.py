"""The stream of the logs, and the thread that gathers the lines of a busy moment.

Each write lets go of the interpreter's lock, which under load costs far more than the line. So a few lines go out at
once; those that follow them within the same moment go out together. A process that is killed loses the plain lines of
one busy moment at most; warnings and worse never wait, nor does what was logged before them.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TextIO

#: So long is a moment, in seconds,
MOMENT_S = 0.01
#: and so many plain lines of it go out at once.
AT_ONCE = 4
#: So many lines may wait for a stream that takes none; those that come then are lost.
MOST_WAITING = 50_000


class LogOutput:
    """Lines for one stream; those of different threads never mix.

    Nobody waits for the stream: a thread that finds another one writing leaves its line to that one.
    """

    def __init__(self) -> None:
        self.lost_lines = 0
        #: Whoever holds it writes what waits.
        self._lock = threading.Lock()
        self._waiting: deque[str] = deque()
        self._stream: TextIO | None = None
        #: When the present moment began, and how many lines of it went out at once. Threads may count one too few.
        self._began_at = 0.0
        self._at_once = 0
        #: Whether a thread writes what others leave.
        self._is_gathered = False
        #: Whether that thread knows that there is something.
        self._is_told = False
        self._told = threading.Event()

    def use(self, stream: TextIO | None) -> None:
        """Write to this stream from now on; without one (pythonw.exe has no stderr) lines are dropped."""
        if stream is not None and hasattr(stream, "reconfigure"):
            # A cp1252 console cannot show every character; an escape is better than a lost line.
            stream.reconfigure(errors="backslashreplace", line_buffering=True)
        with self._lock:
            self._stream = stream

    def put(self, line: str, *, is_urgent: bool = True) -> None:
        """Have one line written: now, by the thread that is writing just now, or at the end of this moment."""
        if len(self._waiting) >= MOST_WAITING:
            self.lost_lines += 1
            return
        self._waiting.append(line)
        if (now := time.monotonic()) - self._began_at >= MOMENT_S:
            self._began_at, self._at_once = now, 0
        if is_urgent or not self._is_gathered or self._at_once < AT_ONCE:
            self._at_once += 1
            self._write()
        elif not self._is_told:
            self._is_told = True
            self._told.set()

    def _write(self) -> None:
        # Again after each round: a line may have come after the last look, when the lock was still held.
        while self._waiting and self._lock.acquire(blocking=False):
            try:
                self._write_waiting()
            finally:
                self._lock.release()

    def _write_waiting(self) -> None:
        lines = [self._waiting.popleft() for _ in range(len(self._waiting))]
        if self._stream is not None:
            try:
                self._stream.write("".join(lines))
            except (OSError, ValueError):
                # A full disk or a closed pipe must not stop orders.
                self.lost_lines += len(lines)

    # ---- the thread

    def gather(self, *, is_wanted: bool) -> None:
        """Leave plain lines to `run` from now on, or write each one at once again, which ends it."""
        self._is_gathered = is_wanted
        self._told.set()

    def run(self) -> None:
        """Write what is left for it, moment by moment."""
        while self._is_gathered:
            self._told.wait()
            time.sleep(MOMENT_S)
            self._told.clear()
            self._is_told = False
            self._write()


class LogWriter:
    """A component that gathers the lines of a process's logs while it runs."""

    name = "log-writer"

    def __init__(self, output: LogOutput) -> None:
        self._output = output
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread."""
        self._output.gather(is_wanted=True)
        self._thread = threading.Thread(target=self._output.run, name=self.name, daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Write what waits and end the thread. Safe to call twice."""
        thread, self._thread = self._thread, None
        if thread is not None:
            self._output.gather(is_wanted=False)
            thread.join(timeout_s)

    def check(self) -> str | None:
        """None: a stream that takes nothing stops no orders, and `log_lines_lost` counts."""
        return None
