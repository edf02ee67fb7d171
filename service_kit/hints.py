"""Hints between the instances of a service that share a store: "there is something to look at".

A hint may be lost, come late or come twice. It saves the wait for the next look at the store, which finds everything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

#: Is told what another instance has sent on a topic; called on a thread of its own, one call at a time.
Hear: TypeAlias = Callable[[Sequence[Any]], object]


class Hints(Protocol):
    """Sends hints to the other instances of the service, as a component; sending never waits."""

    @property
    def name(self) -> str:
        """A short name for logs and health reports."""

    def start(self) -> None:
        """Begin to send and to listen."""

    def stop(self, timeout_s: float) -> None:
        """Send what waits, and end. Safe to call twice."""

    def check(self) -> str | None:
        """None while it runs."""

    def send(self, topic: str, items: Sequence[Any]) -> None:
        """Tell the other instances; the items must be JSON."""

    def listen(self, topic: str, hear: Hear) -> None:
        """Be told of what they send; before the start."""


class NoHints:
    """The hints of an instance that has its store for itself: there is nobody to tell."""

    name = "hints"

    def start(self) -> None:
        """Nothing runs."""

    def stop(self, timeout_s: float) -> None:
        """Nothing runs."""

    def check(self) -> str | None:
        """None always."""
        return None

    def send(self, topic: str, items: Sequence[Any]) -> None:
        """Nobody is told."""

    def listen(self, topic: str, hear: Hear) -> None:
        """Nothing will come."""
