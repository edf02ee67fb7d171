"""What an examination of a service finds: each finding says what is so, and how to mend it."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class Verdict(StrEnum):
    """How bad a finding is."""

    FINE = "fine"
    #: Works, but somebody should know.
    NOTE = "note"
    #: Does not work as it is.
    FAULT = "fault"


class Finding(NamedTuple):
    """One thing that was looked at."""

    subject: str
    verdict: Verdict
    text: str
    #: What to do about it; nothing when all is fine.
    mend: str = ""


def fine(subject: str, text: str) -> Finding:
    """All is well."""
    return Finding(subject, Verdict.FINE, text)


def note(subject: str, text: str, mend: str) -> Finding:
    """Works, but somebody should know."""
    return Finding(subject, Verdict.NOTE, text, mend)


def fault(subject: str, text: str, mend: str) -> Finding:
    """Does not work as it is."""
    return Finding(subject, Verdict.FAULT, text, mend)
