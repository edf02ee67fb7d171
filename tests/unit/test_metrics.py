from __future__ import annotations

from service_kit.errors import StoreUnavailable
from service_kit.health import Health
from service_kit.measures import Histogram, Tally
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


def test_what_is_counted_as_it_happens_is_shown_too():
    metrics = Metrics("requestor")
    tally, histogram = Tally("kind", known=[("order",)]), Histogram("route", bounds=(0.1, 1))
    metrics.counter("inputs", "Inputs.", tally)
    metrics.histogram("call_seconds", "Calls.", histogram)
    assert 'requestor_inputs_total{kind="order"} 0.0' in text_of(metrics)
    tally.add("order")
    histogram.observe(0.5, "/a")
    lines = text_of(metrics).splitlines()
    assert 'requestor_inputs_total{kind="order"} 1.0' in lines
    assert 'requestor_call_seconds_bucket{le="0.1",route="/a"} 0.0' in lines
    assert 'requestor_call_seconds_bucket{le="1.0",route="/a"} 1.0' in lines
    assert 'requestor_call_seconds_bucket{le="+Inf",route="/a"} 1.0' in lines
    assert 'requestor_call_seconds_sum{route="/a"} 0.5' in lines


def test_requests_are_counted_by_the_template_of_their_route():
    metrics = Metrics("requestor")
    app = create_base_app(__name__, health=Health(), metrics=metrics)

    @app.get("/orders/<order_id>")
    def show(order_id: str) -> dict[str, str]:
        if order_id == "broken":
            raise ValueError
        return {"order_id": order_id}

    client = app.test_client()
    for path in ("/orders/A1", "/orders/A2", "/orders/broken", "/made-up/1", "/made-up/2"):
        client.get(path)
    client.post("/orders/A1")
    client.open("/orders/A1", method="MADEUP")
    lines = [line for line in client.get("/metrics").text.splitlines() if "duration_seconds_count" in line]
    counted = {line.partition("{")[2].partition("}")[0]: float(line.rpartition(" ")[2]) for line in lines}
    assert counted == {
        'method="GET",route="/orders/<order_id>",status="2xx"': 2,
        'method="GET",route="/orders/<order_id>",status="5xx"': 1,
        'method="none",route="none",status="4xx"': 4,
        'method="none",route="none",status="5xx"': 0,
    }


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
