from __future__ import annotations

from service_kit.errors import StoreUnavailable
from service_kit.health import Health
from service_kit.metrics import Metrics
from service_kit.web.app import create_base_app


def text_of(metrics: Metrics) -> str:
    return create_base_app(__name__, health=Health(), metrics=metrics).test_client().get("/metrics").text


def test_every_reading_is_shown_under_the_services_name():
    metrics = Metrics("requestor")
    metrics.gauge("streams", "Streams by state.", lambda: {"open": 3, "connecting": 0}, labels=["state"])
    metrics.counter("duplicates_refused", "Duplicates.", lambda: 7)
    text = text_of(metrics)
    assert 'requestor_streams{state="open"} 3.0' in text
    assert 'requestor_streams{state="connecting"} 0.0' in text
    assert "# TYPE requestor_duplicates_refused_total counter" in text
    assert "requestor_duplicates_refused_total 7.0" in text


def test_a_reading_that_fails_leaves_the_others():
    def fail() -> float:
        raise StoreUnavailable

    metrics = Metrics("requestor")
    metrics.gauge("orders", "Orders.", fail)
    metrics.gauge("not_yet", "Not yet.", lambda: None)
    metrics.gauge("streams", "Streams.", lambda: 2)
    text = text_of(metrics)
    assert "requestor_orders" not in text
    assert "requestor_not_yet" not in text
    assert "requestor_streams 2.0" in text


def test_two_services_in_one_process_keep_their_metrics_apart():
    first, second = Metrics("requestor"), Metrics("processor")
    first.gauge("streams", "Streams.", lambda: 1)
    second.gauge("streams", "Streams.", lambda: 2)
    assert "processor_streams" not in text_of(first)
    assert "requestor_streams" not in text_of(second)
