"""Where something comes from: the request that asked for it, and that request's place in a W3C trace.

An order and a note keep their origin in the store and take it along to the processor, so that one id finds in the logs
of both services what became of a call.
"""

from __future__ import annotations

import re
from typing import NamedTuple

#: What a caller may call its request; anything else is replaced.
REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.{0,200})?")
_NO_TRACE = "0" * 32
_NO_SPAN = "0" * 16


class Origin(NamedTuple):
    """A request's id and its ``traceparent`` of version 00; both are empty when nobody knows.

    A request that brings neither gets one id for both.
    """

    traceparent: str = ""
    request_id: str = ""

    @property
    def trace_id(self) -> str:
        """The id that all lines and spans of one trace share."""
        return self.traceparent[3:35]

    @property
    def span_id(self) -> str:
        """The id of the request's own span."""
        return self.traceparent[36:52]

    @property
    def flags(self) -> str:
        """The trace's flags, two hexadecimal digits."""
        return self.traceparent[53:55]

    @property
    def names(self) -> dict[str, str]:
        """What a log line says of it; nothing when nobody knows."""
        return {"request_id": self.request_id, "trace_id": self.trace_id} if self.traceparent else {}

    @property
    def text(self) -> str:
        """What a store keeps of it, as short as may be, since every order has one; `origin_of` reads it."""
        return self.traceparent if self.request_id == self.trace_id else f"{self.traceparent} {self.request_id}"


#: What was made before there were traces, or by nobody's request.
UNKNOWN = Origin()


def origin_of(text: str) -> Origin:
    """The origin that a store has kept."""
    if not text:
        return UNKNOWN
    traceparent, _, request_id = text.partition(" ")
    return Origin(traceparent, request_id or traceparent[3:35])


def origin_from_peer(traceparent: str, request_id: str) -> Origin:
    """The origin that a peer tells of; what is not valid in it is dropped."""
    trace = read_traceparent(traceparent) if traceparent else None
    if trace is None:
        return UNKNOWN
    return Origin(trace, request_id if REQUEST_ID.fullmatch(request_id) else "")


def read_traceparent(text: str) -> str | None:
    """A ``traceparent`` header as one of version 00; None when it is not valid and must be ignored.

    A later version may carry more behind the fields of version 00, which is passed over (W3C Trace Context, 4.3).
    """
    match = _TRACEPARENT.fullmatch(text)
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if version == "ff" or trace_id == _NO_TRACE or span_id == _NO_SPAN or (more and version == "00"):
        return None
    return f"00-{trace_id}-{span_id}-{flags}"
