"""What is counted of deliveries as they happen: attempts, what became of them, and how long everything took."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product

from processor_app.delivery.channel import AttemptResult, Parcel, Verdict
from processor_app.delivery.delivery import CHANNELS, Delivery, DeliveryState
from service_kit.measures import LONG_SECONDS, Histogram, Tally
from service_kit.tracing import Span, SpanKind, SpanSink

_NO_RESULT = AttemptResult(Verdict.FAILED, "The attempt ended without a result.")


@dataclass(slots=True)
class Attempt:
    """An attempt that runs; without a result in the end, the channel has failed."""

    result: AttemptResult = _NO_RESULT


class DeliveryMeasures:
    """Counts attempts and their ends, and tells of each attempt as a span if somebody takes them."""

    def __init__(self, spans: SpanSink | None = None) -> None:
        channels = [(channel,) for channel in CHANNELS]
        self.attempts = Tally("channel", "outcome", known=product(CHANNELS, map(str, Verdict)))
        self.attempt_times = Histogram("channel", known=channels)
        self.delivery_times = Histogram("channel", bounds=LONG_SECONDS, known=channels)
        self.ended = Tally("kind", "state", known=product(("order", "follow_up"), ("delivered", "dead")))
        self._spans = spans

    @contextmanager
    def attempt(self, channel: str, parcel: Parcel) -> Iterator[Attempt]:
        """Surround one attempt."""
        attempt = Attempt()
        begun_ns, begun_s = time.time_ns(), time.perf_counter()
        try:
            yield attempt
        finally:
            took_s = time.perf_counter() - begun_s
            self.attempts.add(channel, str(attempt.result.verdict))
            self.attempt_times.observe(took_s, channel)
            if self._spans is not None:
                self._spans.record(_span_of(channel, parcel, attempt.result, begun_ns, took_s))

    def note(self, delivery: Delivery) -> None:
        """Count a delivery that has ended."""
        if delivery.state in (DeliveryState.DELIVERED, DeliveryState.DEAD):
            self.ended.add("follow_up" if delivery.follow_up_id else "order", str(delivery.state))
        if delivery.state is DeliveryState.DELIVERED:
            self.delivery_times.observe((delivery.updated_ms - delivery.created_ms) / 1000, delivery.channel)


def _span_of(channel: str, parcel: Parcel, result: AttemptResult, begun_ns: int, took_s: float) -> Span:
    return Span(
        name=f"deliver by {channel}",
        kind=SpanKind.CLIENT,
        origin=parcel.origin,
        parent_id=parcel.parent_span_id,
        begun_ns=begun_ns,
        ended_ns=begun_ns + int(took_s * 1e9),
        attributes={
            "order_req_id": parcel.order_req_id,
            "delivery_id": parcel.delivery_id,
            "seller_id": parcel.seller.seller_id,
            "attempt": parcel.attempt,
            "outcome": str(result.verdict),
        },
        failure=None if result.verdict is Verdict.DELIVERED else result.detail,
    )
