"""Reads what a sampling profiler has seen: folded stacks, one a line, with how often each was seen."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_LINE = re.compile(r"(?P<stack>.+) (?P<count>\d+)")
_NUMBERED = re.compile(r"[-_ ]?\d+$")
_THREAD = re.compile(r"thread \(\S+\)(?:: (?P<name>.*))?")


class Stack(NamedTuple):
    """One stack, from the outermost frame to the innermost, and how often it was seen."""

    thread: str
    frames: tuple[str, ...]
    times: int


def read(text: str) -> Iterator[Stack]:
    """The stacks of a profile with a thread as the first frame of each."""
    for line in text.splitlines():
        found = _LINE.fullmatch(line)
        if found is not None:
            thread, *frames = found["stack"].split(";")
            yield Stack(thread_name(thread), tuple(frames), int(found["count"]))


def thread_name(frame: str) -> str:
    """What the thread is for: "web" is the name of each of "web-0", "web-1" and so on."""
    found = _THREAD.fullmatch(frame)
    name = frame if found is None else found["name"] or "unnamed"
    return _NUMBERED.sub("", name) or "unnamed"


class Shares(NamedTuple):
    """How much of all samples something had, from 0 to 1."""

    what: str
    #: In it, and not in what it called.
    own: float
    #: In it and in what it called.
    total: float


def by_function(stacks: Iterable[Stack]) -> list[Shares]:
    """Each function's shares, the largest own share first."""
    own: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for stack in stacks:
        if stack.frames:
            own[stack.frames[-1]] += stack.times
        for frame in set(stack.frames):
            total[frame] += stack.times
    samples = own.total() or 1
    shares = [Shares(frame, own[frame] / samples, count / samples) for frame, count in total.items()]
    return sorted(shares, key=lambda share: (-share.own, -share.total, share.what))


def by_thread(stacks: Iterable[Stack]) -> list[tuple[str, float]]:
    """Each kind of thread's share, the largest first."""
    seen: Counter[str] = Counter()
    for stack in stacks:
        seen[stack.thread] += stack.times
    samples = seen.total() or 1
    return [(thread, count / samples) for thread, count in seen.most_common()]
