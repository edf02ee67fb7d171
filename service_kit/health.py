"""Readiness: a list of named checks and what they say now."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, TypedDict

#: Answers None when all is well, else the reason why not. It must be quick: it reads state, it does no I/O.
Check: TypeAlias = Callable[[], str | None]


class CheckReport(TypedDict):
    """What one check says."""

    ok: bool
    detail: str | None


#: Answers what an operator wants to know beside the checks, such as when a job last ran; as quick as a check.
Facts: TypeAlias = Callable[[], Mapping[str, Any]]


class HealthReport(TypedDict):
    """What all checks say together: ``ready`` only when each of them is fine. Facts change nothing in that."""

    status: str
    checks: dict[str, CheckReport]
    facts: dict[str, Mapping[str, Any]]


class Health:
    """The named checks of a process."""

    def __init__(self, checks: Mapping[str, Check] | None = None, *, facts: Mapping[str, Facts] | None = None) -> None:
        self._checks: dict[str, Check] = dict(checks or {})
        self._facts: dict[str, Facts] = dict(facts or {})

    def add(self, name: str, check: Check) -> None:
        """Add a check under a name that is not taken."""
        if name in self._checks:
            raise ValueError(f"there is a check named {name} already")
        self._checks[name] = check

    def report(self) -> HealthReport:
        """Run every check."""
        checks = {name: _run(check) for name, check in self._checks.items()}
        ready = all(check["ok"] for check in checks.values())
        facts = {name: read() for name, read in self._facts.items()}
        return {"status": "ready" if ready else "not ready", "checks": checks, "facts": facts}


def _run(check: Check) -> CheckReport:
    try:
        reason = check()
    except Exception as error:  # noqa: BLE001 - a broken check is a failed check, whatever broke it
        # Only the class: the text of an unexpected error may hold addresses or paths, and anybody can read a report.
        reason = type(error).__name__
    return {"ok": reason is None, "detail": reason}
