"""Traces: a place in one for each request, and what it takes to tell a tracing system of the work that was done.

A trace costs a few random bits and a text. Spans are told to a `SpanSink`; without one none is made.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from contextvars import ContextVar
from typing import NamedTuple, Protocol

from service_kit.origin import UNKNOWN, Origin, read_traceparent

# An id has to be unlike all others, not hard to guess; seeded by the system. One of zeros, which is not valid, will not
# come up.
_bytes = random.Random().randbytes  # noqa: S311

#: The origin of what the current thread does for a request.
_current: ContextVar[Origin] = ContextVar("origin", default=UNKNOWN)
set_origin = _current.set
reset_origin = _current.reset
current_origin = _current.get


class SpanKind:
    """What a span is to others, in the words of OpenTelemetry."""

    SERVER = "SERVER"
    CONSUMER = "CONSUMER"
    CLIENT = "CLIENT"


class Span(NamedTuple):
    """A piece of work that is done; its own id is that of ``origin``."""

    name: str
    kind: str
    origin: Origin
    parent_id: str
    begun_ns: int
    ended_ns: int
    attributes: Mapping[str, str | int]
    #: Why it failed; None when it did not.
    failure: str | None = None


class SpanSink(Protocol):
    """Takes spans; it must be quick and raise nothing."""

    def record(self, span: Span) -> None:
        """Take one span."""


def begin_trace(header: str | None, request_id: str, flags: str = "00") -> Origin:
    """The origin of a request: in the trace of its ``traceparent`` header, or in a new one with the flags.

    A header that is not valid is ignored, as the standard asks. Without an id the request gets one.
    """
    ids = _bytes(24).hex()
    trace = None if header is None else read_traceparent(header)
    if trace is None:
        return Origin(f"00-{ids[:32]}-{ids[32:]}-{flags}", request_id or ids[:32])
    return Origin(f"{trace[:36]}{ids[32:]}{trace[52:]}", request_id or ids[:32])


def next_span(origin: Origin) -> Origin:
    """The same origin with a span id of its own, for work that the origin's request has caused."""
    trace = origin.traceparent
    return Origin(f"{trace[:36]}{_bytes(8).hex()}{trace[52:]}", origin.request_id) if trace else origin
