"""What is counted of the requestors' inputs as they are taken or refused."""

from __future__ import annotations

import time
from collections.abc import Mapping

from processor_app.domain import Close, FollowUp, OpenStream
from service_kit.change import Change
from service_kit.errors import Fenced, ServiceError
from service_kit.measures import Histogram, Tally
from service_kit.tracing import Span, SpanKind, SpanSink, next_span

_KINDS: Mapping[type[object], str] = {OpenStream: "open", FollowUp: "follow_up", Close: "close"}


class InputMeasures:
    """Counts openings, follow-ups and closes: what changed something, and what was refused and why."""

    def __init__(self, spans: SpanSink | None = None) -> None:
        kinds = _KINDS.values()
        self.taken = Tally("kind", known=[(kind,) for kind in kinds])
        # A caller whose claim was taken over: the one refusal that must be seen although it is right.
        self.refused = Tally("kind", "code", known=[(kind, Fenced.code) for kind in kinds])
        #: From the arrival of a trunk's message until what it carries is on disk and answered.
        self.trunk_times = Histogram()
        self._spans = spans

    def note(self, item: OpenStream | FollowUp | Close, result: Change | Exception | None, begun_ms: int) -> None:
        """Count one input; what was there already is not counted."""
        kind = _KINDS[type(item)]
        if isinstance(result, Change):
            self.taken.add(kind)
            if self._spans is not None:
                self._spans.record(_span_of(kind, item, begun_ms))
        elif isinstance(result, Exception):
            self.refused.add(kind, result.code if isinstance(result, ServiceError) else ServiceError.code)


def _span_of(kind: str, item: OpenStream | FollowUp | Close, begun_ms: int) -> Span:
    return Span(
        name=f"take {kind}",
        kind=SpanKind.CONSUMER,
        origin=next_span(item.origin),
        parent_id=item.origin.span_id,
        begun_ns=begun_ms * 1_000_000,
        ended_ns=time.time_ns(),
        attributes={"order_req_id": item.ref.key},
    )
