"""Keeps the threads of this process on one core of the machine, and looks for a better one when that is busy.

The interpreter's lock lets one thread run at a time, and a request goes through several. When they sit on different
cores, each hand-over wakes another core up, and a thread that lets the lock go for a call of the system finds it taken
when it comes back. On one core nobody else runs meanwhile, so it finds the lock where it was. As batch work (sched(7))
a thread that wakes up does not push the running one aside either, only to wait for the lock that this one holds.
"""

from __future__ import annotations

import os
import random
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from service_kit.logs import get_logger

log = get_logger(__name__)

#: Between two looks, in seconds; not the same for two processes, so that they do not move at the same moment.
LOOK_S = (0.4, 0.6)
#: A process that uses less of its core than this stays where it is.
LEAST_USE = 0.05
#: What others use of the core must exceed what is used of another one by so much to make a move worthwhile.
LEAST_GAIN = 0.2


class Usage(NamedTuple):
    """Which part of a core's time went where, from 0 to 1, for one look."""

    own: float
    busy: Mapping[int, float]


def better_core(core: int, usage: Usage) -> int:
    """The core to be on after this look: another one only if that is far less used than ours is by others."""
    if usage.own < LEAST_USE or core not in usage.busy:
        return core
    by_others = max(0.0, usage.busy[core] - usage.own)
    best = min(usage.busy, key=lambda other: by_others if other == core else usage.busy[other])
    if best == core or by_others - usage.busy[best] < LEAST_GAIN:
        return core
    return best


class OneCore:
    """A component that keeps all threads of the process together; where systems have no way for it, it does nothing."""

    name = "one-core"

    def __init__(self, *, is_wanted: bool = True) -> None:
        self._is_wanted = is_wanted
        self._allowed: set[int] = set()
        self._core: int | None = None
        #: Guards where the threads are and how they share the core.
        self._lock = threading.Lock()
        self._is_prompt = False
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def core(self) -> int | None:
        """The core that the threads are on; None when they are not kept together."""
        return self._core

    def start(self) -> None:
        """Choose the core that fewest processes are kept on; threads that are started from now on inherit it."""
        if sys.platform != "linux" or not self._is_wanted:
            return
        self._allowed = os.sched_getaffinity(0)
        if len(self._allowed) < 2 or not _busy_s():
            return
        global _at_work  # noqa: PLW0603 - a process has one set of threads
        _at_work = self
        kept = processes_kept_on()
        self._move(min(self._allowed, key=lambda core: (kept[core], random.random())))  # noqa: S311 # nothing to guess
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Let the threads run anywhere again. Safe to call twice."""
        global _at_work  # noqa: PLW0603 - a process has one set of threads
        self._stopping.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            _at_work = None
            thread.join(timeout_s)
            with self._lock:
                self._core = None
                if sys.platform == "linux":
                    _keep_on(self._allowed, os.SCHED_OTHER)

    def check(self) -> str | None:
        """None: without it all works, if more slowly."""
        return None

    def _run(self) -> None:
        if sys.platform != "linux":
            return
        busy, own_s, at_s = _busy_s(), time.process_time(), time.monotonic()
        while not self._stopping.wait(random.uniform(*LOOK_S)):  # noqa: S311 # jitter
            busy_before, own_before, before = busy, own_s, at_s
            busy, own_s, at_s = _busy_s(), time.process_time(), time.monotonic()
            span_s = at_s - before
            used = {core: (busy[core] - busy_before.get(core, 0.0)) / span_s for core in busy if core in self._allowed}
            core = self._core
            if core is not None:
                self._move(better_core(core, Usage((own_s - own_before) / span_s, used)))

    def _move(self, core: int) -> None:
        if core == self._core:
            return
        log.debug(f"All threads run on core {core}", action="process.core", core=core, before=self._core)
        with self._lock:
            self._core = core
            self._apply()

    def be_prompt(self, *, is_wanted: bool) -> None:
        """Let a thread that wakes up push the running one aside, or not: no batch work, or batch work."""
        with self._lock:
            self._is_prompt = is_wanted
            self._apply()

    def _apply(self) -> None:
        if sys.platform == "linux" and self._core is not None:
            _keep_on({self._core}, os.SCHED_OTHER if self._is_prompt else os.SCHED_BATCH)


#: The one that is at work in this process.
_at_work: OneCore | None = None


def be_prompt(*, is_wanted: bool) -> None:
    """Let a thread that wakes up push the running one aside, for as long as answers in time count more than throughput.

    Where the threads of the process are not kept together they do so anyway.
    """
    if (one_core := _at_work) is not None:
        one_core.be_prompt(is_wanted=is_wanted)


if sys.platform == "linux":
    _STAT = Path("/proc/stat")
    _TASKS = Path("/proc/self/task")
    _ONE_CORE = re.compile(r"^Cpus_allowed_list:\s*(\d+)$", re.MULTILINE)
    _TICKS_PER_S = os.sysconf("SC_CLK_TCK")

    def _keep_on(cores: set[int], policy: int) -> None:
        """Let every thread of the process, those of libraries too, run on these cores only, under this policy."""
        for task in _TASKS.iterdir():
            with suppress(OSError):  # it has ended meanwhile
                os.sched_setaffinity(int(task.name), cores)
                os.sched_setscheduler(int(task.name), policy, os.sched_param(0))

    def processes_kept_on() -> Counter[int]:
        """How many processes may run on one core only, by that core: most likely others like this one."""
        kept = Counter[int]()
        for status in Path("/proc").glob("[0-9]*/status"):
            with suppress(OSError):  # it has ended meanwhile
                text = status.read_text(encoding="ascii", errors="replace")
                found = _ONE_CORE.search(text)
                if found is not None and "VmRSS" in text:  # not a thread of the kernel
                    kept[int(found[1])] += 1
        return kept

    def _busy_s() -> dict[int, float]:
        """How long each core has been at work since the machine's start, in seconds (proc_stat(5)); empty: unknown."""
        busy = {}
        with suppress(OSError):
            for line in _STAT.read_text(encoding="ascii").splitlines():
                name, *numbers = line.split()
                if name.startswith("cpu") and name != "cpu":
                    user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, numbers[:8])
                    busy[int(name[3:])] = (user + nice + system + irq + softirq + steal) / _TICKS_PER_S
        return busy
