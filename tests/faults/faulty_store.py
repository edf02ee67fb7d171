"""Runs a service whose store fails on command: ``python -m tests.faults.faulty_store requestor FOLDER``.

The store is the real one. While a plan stands in the folder, the methods that it names raise before they have done
their work, raise though they have done it, or do it late. A journal in the folder tells which methods the service has
called and how often a fault has struck.
"""

from __future__ import annotations

import inspect
import itertools
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, cast

from service_kit.errors import StoreUnavailable
from service_kit.storage import opening
from service_kit.storage.contract import Store

#: What the fault tests leave alone, and why.
SPARED = {
    "name": "a constant",
    "start": "a service whose store does not open does not start, and the next start finds what the last one left",
    "stop": "what follows it is the end of the process; ending without it is what a kill does",
    "is_shared": "says what kind of store it is",
    "facts": "reads state",
    "commits": "reads state",
    "raise_token_floor": "is for a copy of a store",
}


def contract_names() -> frozenset[str]:
    """Everything that the contract asks of a store."""
    members = inspect.getmembers(Store, lambda member: inspect.isfunction(member) or isinstance(member, property))
    return frozenset(name for name, _ in members if not name.startswith("_"))


METHODS = contract_names() - SPARED.keys()


class Fault(StrEnum):
    """What becomes of a call."""

    BEFORE = "error-before"
    AFTER = "error-after"
    DELAY = "delay"


@dataclass(frozen=True)
class Plan:
    """Which calls go wrong, and how: of each method that is named every n-th.

    What ``provoked_by`` names fails after its work, as often, so that the service has a reason to call the others.
    """

    methods: tuple[str, ...]
    fault: Fault
    every: int
    delay_s: float
    provoked_by: tuple[str, ...] = ()

    def fault_of(self, method: str) -> Fault | None:
        """What becomes of the calls of the method."""
        if method in self.methods:
            return self.fault
        return Fault.AFTER if method in self.provoked_by else None


class Control:
    """The folder through which a test speaks with a running service's store."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self._plan = folder / "plan.json"
        self._journal = folder / "journal.txt"
        self._journal.touch()

    def command(self, service_name: str) -> list[str]:
        """What runs the service with such a store."""
        return [sys.executable, "-m", __name__, service_name, str(self.folder)]

    # ---- the test's side

    def arm(self, plan: Plan) -> None:
        """Let calls go wrong from now on."""
        new = self.folder / "plan.new"
        new.write_text(json.dumps(asdict(plan)), encoding="utf-8")
        new.replace(self._plan)

    def heal(self) -> None:
        """Let every call go well from now on."""
        self._plan.unlink(missing_ok=True)

    def strikes(self) -> Counter[str]:
        """How often each method was struck so far."""
        return Counter(name for what, name in self._lines() if what == "struck")

    def called(self) -> set[str]:
        """The methods that were called so far, in any life of the service."""
        return {name for what, name in self._lines() if what == "called"}

    def _lines(self) -> Iterator[list[str]]:
        for line in self._journal.read_text(encoding="utf-8").splitlines():
            yield line.split()

    # ---- the service's side

    def plan(self) -> Plan | None:
        """What is to go wrong now."""
        try:
            written = json.loads(self._plan.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        return Plan(**{**written, "fault": Fault(written["fault"])})

    def note(self, what: str, name: str) -> None:
        """Add a line to the journal."""
        with self._journal.open("a", encoding="utf-8") as journal:
            journal.write(f"{what} {name}\n")


class FaultyStore:
    """Passes every call on to the real store, but for those that the plan names."""

    def __init__(self, store: Store, control: Control) -> None:
        self._store = store
        self._control = control
        self._calls = {name: itertools.count(1) for name in METHODS}

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._store, name)
        return partial(self._call, name, member) if name in METHODS else member

    def _call(self, name: str, method: Callable[..., Any], *args: Any, **options: Any) -> Any:
        number = next(self._calls[name])
        if number == 1:
            self._control.note("called", name)
        plan = self._control.plan()
        fault = None if plan is None or number % plan.every else plan.fault_of(name)
        if plan is None or fault is None:
            return method(*args, **options)
        self._control.note("struck", name)
        match fault:
            case Fault.BEFORE:
                raise StoreUnavailable("This call is to fail.", retry_after_s=1)
            case Fault.AFTER:
                method(*args, **options)
                raise StoreUnavailable("This call is to fail though it is done.", retry_after_s=1)
            case Fault.DELAY:
                time.sleep(plan.delay_s)
                return method(*args, **options)


def main() -> int:
    """Put the faulty store in the real one's place and run the service."""
    service_name, folder = sys.argv[1:]
    open_real, control = opening.open_store, Control(Path(folder))

    def open_faulty(url: str, *, base_folder: Path, prefix: str) -> Store:
        return cast("Store", FaultyStore(open_real(url, base_folder=base_folder, prefix=prefix), control))

    # Before the service is imported, which takes the function by its name.
    opening.open_store = open_faulty
    exit_code: int = import_module(f"wsgi_{service_name}").main()
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
