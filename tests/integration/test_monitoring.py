"""The dashboard, the alert rules and the list of metrics, against what both services really tell Prometheus."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import requests
import yaml
from prometheus_client.parser import text_string_to_metric_families

from processor_app.bootstrap import create_app as create_processor_app
from requestor_app.bootstrap import create_app as create_requestor_app
from tests.conftest import Pair
from tests.e2e.conftest import eventually
from tests.promql import ADDED_LABELS, Exposition

DOCS = Path(__file__).resolve().parents[2] / "docs"
COMPLETE = "/api/v1/orders/<order_req_id>/complete"
APPS = {"Requestor": create_requestor_app(), "Processor": create_processor_app()}
DASHBOARD: dict[str, Any] = json.loads((DOCS / "monitoring" / "grafana-dashboard.json").read_text(encoding="utf-8"))
RULES: list[dict[str, Any]] = [
    rule
    for group in yaml.safe_load((DOCS / "monitoring" / "alert-rules.yml").read_text(encoding="utf-8"))["groups"]
    for rule in group["rules"]
]


def live_through_a_day(pair: Pair) -> tuple[str, str]:
    """Let both services do a little of everything; what their /metrics say then."""
    requestor, processor = pair.requestor_url, pair.processor_url
    with requests.Session() as http:
        http.trust_env = False

        def post(url: str, body: Any, status: int = 200) -> None:
            answer = http.post(url, json=body, timeout=10)
            assert answer.status_code == status, answer.text

        seller = {"email": "one@example.com"}
        assert http.put(f"{processor}/sellers/seller1", json=seller, timeout=10).status_code == 200
        order = {"order_req_id": "A1", "session_id": "s1", "notification_type": "email", "audience": ["seller1"]}
        for _ in range(2):
            post(f"{requestor}/orders/initiate", order)
        note = {"order_req_id": "A1", "audience": ["seller1"], "message": {"message": "Any news?", "urls": []}}
        post(f"{requestor}/orders/followup", note)
        eventually(lambda: pair.processor.deliveries.counts().get("delivered") == 2, what="both deliveries")
        post(f"{requestor}/orders/A1/complete", {})
        post(f"{requestor}/orders/unknown/complete", {}, 404)
        eventually(lambda: pair.requestor.store.counts(None).get("completed") == 1, what="the end")
        texts = [http.get(url.replace("/api/v1", "/metrics"), timeout=10).text for url in (requestor, processor)]
    return texts[0], texts[1]


@pytest.fixture
def told(running_pair: Pair) -> tuple[str, str]:
    return live_through_a_day(running_pair)


def expressions() -> Iterator[tuple[str, str]]:
    """Every expression of the dashboard and of the rules, with the place where it stands."""
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            yield f"panel {panel['title']}", target["expr"]
    for rule in RULES:
        yield f"alert {rule['alert']}", rule["expr"]


# ---- what the services tell


def test_what_a_day_leaves_in_the_metrics(told: tuple[str, str]) -> None:
    requestor, processor = told
    expected = {
        requestor: [
            'requestor_inputs_accepted_total{kind="order"} 1.0',
            'requestor_inputs_accepted_total{kind="follow_up"} 1.0',
            'requestor_inputs_relayed_total{kind="follow_up"} 1.0',
            'requestor_inputs_relayed_total{kind="close"} 1.0',
            "requestor_duplicates_refused_total 1.0",
            "requestor_processor_connected 1.0",
            'requestor_orders{state="completed"} 1.0',
            'requestor_outbox_oldest_age_seconds{state="pending"} 0.0',
            "requestor_stream_open_duration_seconds_count 1.0",
            'requestor_check_ok{check="store"} 1.0',
            f'requestor_http_request_duration_seconds_count{{method="POST",route="{COMPLETE}",status="4xx"}} 1.0',
        ],
        processor: [
            'processor_inputs_taken_total{kind="open"} 1.0',
            'processor_inputs_taken_total{kind="follow_up"} 1.0',
            'processor_inputs_taken_total{kind="close"} 1.0',
            'processor_inputs_refused_total{code="fenced",kind="open"} 0.0',
            'processor_delivery_attempts_total{channel="email",outcome="delivered"} 2.0',
            'processor_deliveries_ended_total{kind="follow_up",state="delivered"} 1.0',
            'processor_delivery_duration_seconds_count{channel="email"} 2.0',
            'processor_outbox_messages{state="delivered"} 2.0',
            'processor_orders{state="completed"} 1.0',
        ],
    }
    for text, lines in expected.items():
        assert [line for line in lines if line not in text.splitlines()] == []
        (size,) = re.findall(r"^\w+_store_size_bytes (\S+)$", text, re.MULTILINE)
        assert float(size) > 4096
        (steps,) = re.findall(r"^\w+_store_commit_steps_sum (\S+)$", text, re.MULTILINE)
        assert float(steps) >= 3


def test_names_say_their_unit_and_every_series_is_bounded(told: tuple[str, str]) -> None:
    allowed = r"(requestor|processor|process)_[a-z_]+"
    for family in (family for text in told for family in text_string_to_metric_families(text)):
        assert re.fullmatch(allowed, family.name), family.name
        assert family.documentation.endswith(".") or family.name.startswith("process_")
        assert (family.type == "counter") == any(s.name.endswith("_total") for s in family.samples), family.name
        assert not re.search(r"_(ms|milliseconds|minutes|kb|mb|percent)(_|$)", family.name)
        if re.search(r"Time of|From .* until|Age of|Time spent", family.documentation):
            assert "_seconds" in family.name
        for sample in family.samples:
            assert not set(sample.labels.values()) & {"A1", "s1", "seller1"}, sample
            assert not set(sample.labels) & {"order_req_id", "session_id", "seller_id", "follow_up_id", "tenant"}
        assert len(family.samples) < 400, family.name


@pytest.mark.parametrize("service", APPS)
def test_the_list_of_metrics_is_complete_and_as_they_are(service: str) -> None:
    rows = [
        f"| `{s.name}` | {s.kind} | {', '.join(f'`{label}`' for label in s.labels)} | {s.help} |"
        for s in APPS[service].extensions["metrics"].catalogue()
    ]
    (part,) = [
        part
        for part in re.split(
            r"^## ", (DOCS / "reference" / "metrics.md").read_text(encoding="utf-8"), flags=re.MULTILINE
        )
        if part.startswith(service)
    ]
    assert [line for line in part.splitlines() if line.startswith("| `")] == rows


def test_every_metric_of_the_list_is_told(told: tuple[str, str]) -> None:
    families = {family.name: family for text in told for family in text_string_to_metric_families(text)}
    for app in APPS.values():
        for series in app.extensions["metrics"].catalogue():
            family = families[series.name.removesuffix("_total")]
            labels = {label for sample in family.samples for label in sample.labels} - {"le"}
            assert (family.type, labels or set(series.labels)) == (series.kind, set(series.labels)), series.name


# ---- the dashboard and the rules


def test_everything_that_the_dashboard_and_the_rules_ask_for_is_there(told: tuple[str, str]) -> None:
    exposition = Exposition.of(*told)
    found = {place: faults for place, expression in expressions() if (faults := exposition.faults(expression))}
    assert found == {}


@pytest.mark.parametrize(
    ("expression", "fault"),
    [
        ("sum(", "cannot be parsed"),
        ("requestor_made_up", "no series requestor_made_up"),
        ("rate(requestor_orders[5m])", "rate() of the gauge"),
        ('requestor_orders{colour="red"}', "has no label colour"),
        ('requestor_orders{state="lost"}', "is never lost"),
        ('requestor_orders{state=~"live|lost"}', "is never ['lost']"),
        ("sum by (colour) (requestor_orders)", "no series has the label colour"),
        ("histogram_quantile(0.9, rate(requestor_store_commit_steps_bucket[5m]))", "without le"),
        ("histogram_quantile(0.9, sum by (le) (rate(requestor_store_commit_steps_sum[5m])))", "no buckets"),
    ],
)
def test_what_is_wrong_with_an_expression_is_found(told: tuple[str, str], expression: str, fault: str) -> None:
    assert any(fault in found for found in Exposition.of(*told).faults(expression))


def test_the_rules_are_what_prometheus_takes() -> None:
    assert max(Counter(rule["alert"] for rule in RULES).values()) == 1
    for rule in RULES:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}, rule["alert"]
        assert rule["labels"]["severity"] in ("info", "warning", "critical")
        promql_parser.parse_duration(rule.get("for", "1m"))
        # Each placeholder is one that Prometheus fills in.
        names = re.findall(r"\{\{\s*(.*?)\s*\}\}", rule["annotations"]["summary"])
        allowed = r"\$labels\.\w+|\$value( \| humanize(Duration|Percentage))?"
        assert [name for name in names if not re.fullmatch(allowed, name)] == [], rule["alert"]
        used = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"])) - ADDED_LABELS
        assert all(label in rule["expr"] or label == "check" for label in used), rule["alert"]


def test_every_alert_is_explained() -> None:
    text = (DOCS / "monitoring" / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == [rule["alert"] for rule in RULES]


def test_the_dashboard_is_what_grafana_takes() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        assert panel["type"] == "row" or panel["datasource"]["uid"] == "${datasource}"
        assert panel["gridPos"]["x"] + panel["gridPos"]["w"] <= 24
    for one, other in combinations(panels, 2):
        assert not _overlap(one["gridPos"], other["gridPos"]), (one["title"], other["title"])
    (names,) = [{variable["name"] for variable in DASHBOARD["templating"]["list"]}]
    used = set(re.findall(r"\$\{?([a-z]\w*)\}?", json.dumps(DASHBOARD))) - {"__all"}
    assert used == names


def _overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    apart = (
        one["x"] + one["w"] <= other["x"]
        or other["x"] + other["w"] <= one["x"]
        or one["y"] + one["h"] <= other["y"]
        or other["y"] + other["h"] <= one["y"]
    )
    return not apart
