"""Spans for a tracing system, by OpenTelemetry; an optional extra, of which nothing is imported without its setting."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from service_kit.errors import StartRefused
from service_kit.tracing import Span
from service_kit.version import VERSION

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Tracer

#: Spans that wait to be sent; more are dropped, since no order waits for a tracing system.
_MAX_WAITING = 8_192


def open_spans(endpoint: str, *, service: str, instance_id: str, variable: str) -> OtelSpans | None:
    """Where spans go, not started; None without an endpoint. Raises `StartRefused` when OpenTelemetry is missing."""
    if not endpoint:
        return None
    try:
        import opentelemetry.exporter.otlp.proto.http  # noqa: PLC0415 # only who asks for it pays for it
        import opentelemetry.sdk  # noqa: F401, PLC0415
    except ImportError:
        raise StartRefused(
            f"{variable} needs OpenTelemetry: python -m pip install -r requirements-otel.txt, or unset it."
        ) from None
    return OtelSpans(endpoint, service=service, instance_id=instance_id)


class OtelSpans:
    """A `SpanSink` that sends spans by OTLP over HTTP, in batches, from a thread of its own."""

    name = "spans"

    def __init__(self, endpoint: str, *, service: str, instance_id: str) -> None:
        self._endpoint = endpoint
        self._resource = {
            "service.name": f"order-{service}",
            "service.version": VERSION,
            "service.instance.id": instance_id,
        }
        self._provider: TracerProvider | None = None
        self._tracer: Tracer | None = None
        #: The ids of the span that this thread is telling of.
        self._ids = threading.local()

    def start(self) -> None:
        """Begin to send."""
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
        from opentelemetry.sdk.trace.id_generator import IdGenerator  # noqa: PLC0415

        ids = self._ids

        class GivenIds(IdGenerator):
            def generate_trace_id(self) -> int:
                return int(ids.origin.trace_id, 16)

            def generate_span_id(self) -> int:
                return int(ids.origin.span_id, 16)

        self._provider = TracerProvider(
            resource=Resource.create(self._resource), id_generator=GivenIds(), shutdown_on_exit=False
        )
        self._provider.add_span_processor(
            BatchSpanProcessor(OTLPSpanExporter(endpoint=self._endpoint), max_queue_size=_MAX_WAITING)
        )
        self._tracer = self._provider.get_tracer("order_communicator", VERSION)

    def stop(self, timeout_s: float) -> None:
        """Send what waits, and stop. Safe to call twice."""
        provider, self._provider, self._tracer = self._provider, None, None
        if provider is not None:
            # It waits for a call that runs, however long that takes; the process does not.
            closing = threading.Thread(target=provider.shutdown, name="spans-closing", daemon=True)
            closing.start()
            closing.join(timeout_s)

    def check(self) -> str | None:
        """None: a tracing system that is away stops nobody; the log says that it is."""
        return None

    def record(self, span: Span) -> None:
        """Take one span, to be sent soon. One of a trace that its beginner does not sample is not sent."""
        tracer = self._tracer
        if tracer is None or not span.origin.traceparent:
            return
        from opentelemetry import trace  # noqa: PLC0415 # in memory by now

        self._ids.origin = span.origin
        flags = trace.TraceFlags(int(span.origin.flags, 16))
        parent = None
        if span.parent_id:
            context = trace.SpanContext(int(span.origin.trace_id, 16), int(span.parent_id, 16), True, flags)
            parent = trace.set_span_in_context(trace.NonRecordingSpan(context))
        told = tracer.start_span(
            span.name, parent, trace.SpanKind[span.kind], span.attributes, start_time=span.begun_ns
        )
        if span.failure is not None:
            told.set_status(trace.Status(trace.StatusCode.ERROR, span.failure))
        told.end(span.ended_ns)
