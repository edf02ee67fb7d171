"""Named places where a fault test can make a service die, fail or wait. They do nothing unless the environment says so.

A module names its places once and passes through them where the fault would hurt most::

    _CLAIMED = failpoint("requestor.initiate.claimed")
    ...
    _CLAIMED()

``ORDER_COMMUNICATOR_FAILPOINTS`` arms them: a list with commas of ``name=action``, for every time that somebody passes,
or ``name=action@3`` for the third time alone, or ``name=action@3+`` from the third time on. The actions: ``kill`` ends
the process as SIGKILL does, ``raise`` raises `FailpointError`, ``delay:0.5`` waits so many seconds.
"""

from __future__ import annotations

import itertools
import os
import re
import signal
import sys
import time
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from service_kit.errors import StartRefused

VARIABLE = "ORDER_COMMUNICATOR_FAILPOINTS"

Failpoint: TypeAlias = Callable[[], None]

_PLAN = re.compile(r"(kill|raise|delay:[0-9.]{1,8})(?:@([1-9][0-9]{0,8})(\+?))?")
_names: set[str] = set()


class FailpointError(RuntimeError):
    """What an armed failpoint raises: an error that no code expects."""


class _Plan(NamedTuple):
    action: str
    hit: int
    and_later: bool


def failpoint(name: str) -> Failpoint:
    """Name a place; the result is to be called there."""
    _names.add(name)
    plan = _plans.get(name)
    return _nothing if plan is None else _armed(name, plan)


def failpoint_names() -> tuple[str, ...]:
    """The names of all places in the modules that are imported."""
    return tuple(sorted(_names))


def check_failpoints() -> None:
    """Refuse a start whose environment arms wrongly, or arms what does not exist. Raises `StartRefused`."""
    if _faulty:
        raise StartRefused(f"{VARIABLE} must be a list of name=action, such as requestor.initiate.claimed=kill@3")
    unknown = sorted(_plans.keys() - _names)
    if unknown:
        raise StartRefused(f"{VARIABLE} names no failpoint of this service: {', '.join(unknown)}")


def _nothing() -> None:
    pass


def _armed(name: str, plan: _Plan) -> Failpoint:
    hits = itertools.count(1)

    def strike() -> None:
        number = next(hits)
        if number != plan.hit and not (plan.and_later and number > plan.hit):
            return
        # Not through the log: it may be this very place's caller.
        sys.stderr.write(f"failpoint {name} {plan.action} hit {number}\n")
        sys.stderr.flush()
        if plan.action == "kill":
            _die()
        if plan.action == "raise":
            raise FailpointError(f"the failpoint {name} is armed")
        time.sleep(float(plan.action.removeprefix("delay:")))

    return strike


def _die() -> None:
    if sys.platform != "win32":
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(137)


def _read_plans(text: str) -> tuple[dict[str, _Plan], list[str]]:
    """The plans by the names of their places, and the items that cannot be read."""
    plans = {}
    faulty = []
    for item in filter(None, (part.strip() for part in text.split(","))):
        name, _, plan = item.partition("=")
        match = _PLAN.fullmatch(plan)
        if match is None:
            faulty.append(item)
        else:
            action, hit, later = match.groups()
            plans[name] = _Plan(action, int(hit or 1), and_later=hit is None or later == "+")
    return plans, faulty


_plans, _faulty = _read_plans(os.environ.get(VARIABLE, ""))
