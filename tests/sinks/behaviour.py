"""What a sink does to what it gets, by chance and yet repeatable; and the file in which it says so."""

from __future__ import annotations

import argparse
import json
import random
import signal
import threading
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import FrameType
from typing import Any


class Action(StrEnum):
    """What a sink does with one attempt."""

    #: Takes it and says so.
    TAKE = "take"
    #: Does not take it; a later attempt may work (SMTP 451, HTTP 429).
    REFUSE = "refuse"
    #: Fails (SMTP 554, HTTP 500).
    ERROR = "error"
    #: Neither takes nor answers it.
    HANG = "hang"
    #: Takes it, and cuts the connection instead of answering.
    DROP = "drop"


@dataclass(frozen=True)
class Shares:
    """Which share of the attempts meets which end; the rest is taken."""

    refuse: float = 0.0
    error: float = 0.0
    hang: float = 0.0
    drop: float = 0.0
    #: How long a hanging attempt is held.
    hang_s: float = 60.0


class Behaviour:
    """Decides. The n-th attempt for a receiver meets the same end in every run with the same seed."""

    def __init__(self, shares: Shares = Shares(), *, seed: int = 0, only_for: str = "") -> None:
        self.shares = shares
        self._seed = seed
        self._only_for = only_for
        self._attempts: dict[str, int] = {}
        #: Guards the counts.
        self._lock = threading.Lock()

    def next_action(self, receiver: str) -> Action:
        """What happens to the receiver's next attempt."""
        if not receiver.startswith(self._only_for):
            return Action.TAKE
        with self._lock:
            attempt = self._attempts[receiver] = self._attempts.get(receiver, 0) + 1
        drawn = random.Random(f"{self._seed}:{receiver}:{attempt}").random()
        for action in (Action.REFUSE, Action.ERROR, Action.HANG, Action.DROP):
            drawn -= float(getattr(self.shares, action))
            if drawn < 0:
                return action
        return Action.TAKE


class Recorder:
    """Keeps what a sink did, in memory and, when there is a path, as JSON lines that outlive the sink."""

    def __init__(self, path: Path | None = None) -> None:
        self.records: list[dict[str, Any]] = []
        self._file = path.open("a", encoding="utf-8") if path else None
        #: Guards the order of the lines.
        self._lock = threading.Lock()

    def write(self, action: Action, **facts: Any) -> None:
        """Say what is done, before it is done: what a client hears is in the file."""
        is_taken = action in (Action.TAKE, Action.DROP)
        record = {"at_ms": time.time_ns() // 1_000_000, "action": str(action), "taken": is_taken, **facts}
        with self._lock:
            self.records.append(record)
            if self._file is not None:
                self._file.write(json.dumps(record) + "\n")
                self._file.flush()

    @property
    def taken(self) -> list[dict[str, Any]]:
        """The effects: what was taken, whether or not the sender heard of it."""
        return [record for record in self.records if record["taken"]]

    def close(self) -> None:
        """Write no more."""
        if self._file is not None:
            self._file.close()


def read_arguments(description: str) -> tuple[argparse.Namespace, Behaviour, Recorder]:
    """The command line that both sinks have."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--out", type=Path, help="the file that gets a JSON line for each attempt")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only-for", default="", help="receivers that begin otherwise are always served well")
    for action in (Action.REFUSE, Action.ERROR, Action.HANG, Action.DROP):
        parser.add_argument(f"--{action}", type=float, default=0.0, metavar="SHARE")
    parser.add_argument("--hang-s", type=float, default=60.0)
    options = parser.parse_args()
    shares = Shares(options.refuse, options.error, options.hang, options.drop, options.hang_s)
    return options, Behaviour(shares, seed=options.seed, only_for=options.only_for), Recorder(options.out)


def wait_for_signal() -> None:
    """Return when the process is asked to end."""
    asked = threading.Event()

    def ask(_number: int, _frame: FrameType | None) -> None:
        asked.set()

    for name in ("SIGTERM", "SIGINT", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), ask)
    while not asked.wait(0.5):
        pass
