"""Spans as a tracing system gets them from both services, by OTLP over HTTP."""

from __future__ import annotations

import gzip
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
import requests
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1 import trace_pb2

from processor_app.bootstrap import build_processor
from processor_app.settings import ProcessorSettings
from requestor_app.bootstrap import build_requestor
from requestor_app.settings import RequestorSettings
from service_kit.errors import StartRefused
from service_kit.otel import open_spans
from tests.e2e.conftest import eventually
from tests.sinks.webhook import WebhookSink

ROOT = Path(__file__).resolve().parents[2]
TRACE, CALLERS_SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector:
    """Takes spans as a tracing system does."""

    def __init__(self) -> None:
        self.spans: list[tuple[str, trace_pb2.Span]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                collector.take(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/v1/traces"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def take(self, request: ExportTraceServiceRequest) -> None:
        for resource in request.resource_spans:
            names = {a.key: a.value.string_value for a in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [(names["service.name"], span) for span in scope.spans]

    def of_trace(self, trace_id: str) -> dict[str, trace_pb2.Span]:
        return {f"{service} {span.name}": span for service, span in self.spans if span.trace_id.hex() == trace_id}


@pytest.fixture
def collector() -> Iterator[Collector]:
    made = Collector()
    yield made
    made.server.shutdown()
    made.server.server_close()


def run_an_order(collector: Collector, folder: Path, headers: dict[str, str]) -> WebhookSink:
    """Both services take an order and bring it to a seller; then they stop."""
    sink = WebhookSink()
    sink.start()
    processor = build_processor(
        ProcessorSettings(
            store=f"sqlite:///{folder / 'p.db'}",
            port=0,
            grpc_port=0,
            otlp_endpoint=collector.url,
            webhook_allow_networks=(ip_network("127.0.0.0/8"),),
        )
    )
    processor.lifecycle.start()
    requestor = build_requestor(
        RequestorSettings(
            store=f"sqlite:///{folder / 'r.db'}",
            port=0,
            processors=(f"127.0.0.1:{processor.grpc_server.port}",),
            otlp_endpoint=collector.url,
        )
    )
    requestor.lifecycle.start()
    with requests.Session() as http:
        http.trust_env = False
        seller = {"webhook_url": sink.url()}
        assert http.put(f"http://127.0.0.1:{processor.web.port}/api/v1/sellers/seller1", json=seller).status_code == 200
        order = {"order_req_id": "A1", "session_id": "s1", "notification_type": "webhook", "audience": ["seller1"]}
        url = f"http://127.0.0.1:{requestor.web.port}/api/v1/orders/initiate"
        assert http.post(url, json=order, headers=headers).status_code == 200
    eventually(lambda: processor.deliveries.counts().get("delivered") == 1, what="the delivery")
    requestor.lifecycle.stop()
    processor.lifecycle.stop()
    sink.stop()
    return sink


def test_an_order_is_one_trace_from_the_call_to_the_seller(collector: Collector, tmp_path: Path) -> None:
    sink = run_an_order(collector, tmp_path, {"traceparent": f"00-{TRACE}-{CALLERS_SPAN}-01", "X-Request-ID": "r1"})
    spans = collector.of_trace(TRACE)
    call = spans["order-requestor POST /api/v1/orders/initiate"]
    taken = spans["order-processor take open"]
    attempt = spans["order-processor deliver by webhook"]
    assert len(spans) == 3
    assert call.kind == trace_pb2.Span.SPAN_KIND_SERVER
    assert call.parent_span_id.hex() == CALLERS_SPAN
    assert taken.kind == trace_pb2.Span.SPAN_KIND_CONSUMER
    assert taken.parent_span_id == attempt.parent_span_id == call.span_id
    (hook,) = sink.recorder.taken
    assert hook["headers"]["traceparent"] == f"00-{TRACE}-{attempt.span_id.hex()}-01"
    told = {a.key: a.value.string_value or a.value.int_value for a in attempt.attributes}
    assert told["order_req_id"] == "A1"
    assert told["attempt"] == 1
    assert told["outcome"] == "delivered"
    for span in spans.values():
        assert 0 < span.end_time_unix_nano - span.start_time_unix_nano < 20e9
        assert span.status.code != trace_pb2.Status.STATUS_CODE_ERROR


def test_a_trace_that_its_beginner_does_not_sample_is_not_told(collector: Collector, tmp_path: Path) -> None:
    run_an_order(collector, tmp_path, {"traceparent": f"00-{TRACE}-{CALLERS_SPAN}-00"})
    assert collector.of_trace(TRACE) == {}
    assert "order-processor PUT /api/v1/sellers/<seller_id>" in {
        f"{service} {s.name}" for service, s in collector.spans
    }


#: In a process of its own: the exporter goes on trying for a while after the stop.
_AWAY = """
import time
from service_kit.otel import open_spans
from service_kit.tracing import Span, SpanKind, begin_trace

spans = open_spans("http://127.0.0.1:1/v1/traces", service="requestor", instance_id="i1", variable="X")
spans.start()
origin = begin_trace(None, "r1", "01")
begun_s = time.monotonic()
for number in range(20_000):
    spans.record(Span(f"work {number}", SpanKind.SERVER, origin, "", 1, 2, {}))
print(time.monotonic() - begun_s < 10, spans.check())
begun_s = time.monotonic()
spans.stop(1)
spans.stop(1)
print(time.monotonic() - begun_s < 2, flush=True)
__import__("os")._exit(0)
"""


def test_a_tracing_system_that_is_away_holds_nobody_up() -> None:
    done = subprocess.run([sys.executable, "-c", _AWAY], cwd=ROOT, capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.split() == ["True", "None", "True"]


def test_nothing_of_opentelemetry_is_imported_when_it_is_off() -> None:
    script = (
        "import sys; from requestor_app import bootstrap as r; from processor_app import bootstrap as p;"
        "r.create_app(); p.create_app(); print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.strip() == "[]"


def test_without_the_packages_the_start_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http", None)
    with pytest.raises(StartRefused, match=r"REQUESTOR_OTLP_ENDPOINT needs OpenTelemetry: .*requirements-otel\.txt"):
        open_spans("http://x/", service="requestor", instance_id="i1", variable="REQUESTOR_OTLP_ENDPOINT")
