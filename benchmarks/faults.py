"""What can go wrong in a benchmark and is told in one line."""

from __future__ import annotations


class BenchFault(Exception):
    """A contender did not do what is measured; the text says what."""


class NotOffered(BenchFault):
    """The contender has nothing of the kind that is measured."""
