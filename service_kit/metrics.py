"""Metrics that are read when somebody asks: nothing is counted twice, and hardly anything while a request runs.

A component keeps its numbers anyway; here each gets a name and a way to read it. No label names an order: the labels of
a metric are a short, fixed list.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, TypeAlias

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from service_kit.cleanup import Cleanup
from service_kit.errors import ServiceError
from service_kit.health import Health
from service_kit.logs import get_logger, lost_lines
from service_kit.measures import Histogram, LabelValues, Tally
from service_kit.storage.contract import Store
from service_kit.times import now_ms
from service_kit.version import VERSION

log = get_logger(__name__)

#: One number, or one for each value of the metric's labels; None when there is none yet.
Reading: TypeAlias = float | Mapping[str, float] | Mapping[LabelValues, float] | None


class Series(NamedTuple):
    """One metric as the documentation shows it. A histogram has three names that begin with its own."""

    name: str
    kind: str
    labels: tuple[str, ...]
    help: str


class _Source(NamedTuple):
    series: Series
    read: Callable[[], Reading]


class Metrics(Collector):
    """The metrics of one process, in a registry of their own. A name begins with the service's, such as ``requestor_``.

    A reading that fails leaves its metric out, so that one broken part does not blind the operator to all others.
    """

    def __init__(self, prefix: str) -> None:
        self.registry = CollectorRegistry()
        self._prefix = prefix
        self._sources: list[_Source] = []
        self._histograms: list[tuple[Series, Histogram]] = []
        ProcessCollector(registry=self.registry)
        self.registry.register(self)

    def gauge(self, name: str, help: str, read: Callable[[], Reading], *, labels: Sequence[str] = ()) -> None:
        """A number that goes up and down, or one for each value of the labels."""
        self._sources.append(_Source(Series(f"{self._prefix}_{name}", "gauge", tuple(labels), help), read))

    def counter(
        self, name: str, help: str, source: Tally | Callable[[], Reading], *, labels: Sequence[str] = ()
    ) -> None:
        """A number that only grows while the process lives; its name is given its ending ``_total``."""
        read: Callable[[], Reading]
        if isinstance(source, Tally):
            labels, read = source.labels, source.read
        else:
            read = source
        name = f"{self._prefix}_{name}_total"
        self._sources.append(_Source(Series(name, "counter", tuple(labels), help), read))

    def histogram(self, name: str, help: str, source: Histogram) -> None:
        """How a number is distributed; its name ends with its unit."""
        self._histograms.append((Series(f"{self._prefix}_{name}", "histogram", source.labels, help), source))

    def catalogue(self) -> list[Series]:
        """Every metric of our own, by name; nothing is read."""
        sources = [source.series for source in self._sources]
        return sorted([*sources, *(series for series, _ in self._histograms)])

    def collect(self) -> Iterable[Metric]:
        """Read every source; the registry calls this."""
        for source in self._sources:
            try:
                reading = source.read()
            except ServiceError as error:
                name = source.series.name
                log.warning("A metric cannot be read", action="metrics.read_failed", metric=name, why=error.code)
                continue
            if reading is not None:
                yield _family(source.series, reading)
        for series, histogram in self._histograms:
            yield _distribution(series, histogram)

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not read the sources, which have not started yet."""
        return ()


def _family(series: Series, reading: float | Mapping[str, float] | Mapping[LabelValues, float]) -> Metric:
    kind = CounterMetricFamily if series.kind == "counter" else GaugeMetricFamily
    if not isinstance(reading, Mapping):
        return kind(series.name, series.help, value=reading)
    family = kind(series.name, series.help, labels=series.labels)
    for values, number in sorted((_values(key), number) for key, number in reading.items()):
        family.add_metric(values, number)
    return family


def _values(key: str | LabelValues) -> LabelValues:
    return (str(key),) if isinstance(key, str) else key


def _distribution(series: Series, histogram: Histogram) -> Metric:
    family = HistogramMetricFamily(series.name, series.help, labels=series.labels)
    edges = [*map(str, map(float, histogram.bounds)), "+Inf"]
    for values, distribution in sorted(histogram.read().items()):
        buckets = list(zip(edges, distribution.cumulative, strict=True))
        family.add_metric(values, buckets=buckets, sum_value=distribution.total)
    return family


def add_common_metrics(
    metrics: Metrics, *, store: Store, cleanup: Cleanup, health: Health, queue_depth: Callable[[], int]
) -> None:
    """What every service has: its checks, threads, requests that wait, cleanup, and its store's commits and size."""
    metrics.gauge("build_info", "The version that runs; always 1.", lambda: {VERSION: 1}, labels=["version"])
    metrics.gauge(
        "check_ok",
        "1 while the check of /readyz is fine, else 0.",
        lambda: {name: float(check["ok"]) for name, check in health.report()["checks"].items()},
        labels=["check"],
    )
    metrics.gauge("threads", "Threads of Python in the process.", threading.active_count)
    metrics.gauge("web_queue_depth", "Requests that wait for a thread.", queue_depth)
    metrics.counter("log_lines_lost", "Log lines that could not be written.", lost_lines)
    metrics.gauge("cleanup_last_run_timestamp_seconds", "When the cleanup last ran.", lambda: cleanup.last_run_s)
    metrics.counter("cleanup_removed", "Orders that the cleanup has removed.", lambda: cleanup.removed)
    metrics.histogram("store_commit_duration_seconds", "Time of each transaction of the store.", store.commits.times)
    metrics.histogram("store_commit_steps", "Steps that each transaction of the store carried.", store.commits.sizes)
    metrics.gauge("store_size_bytes", "Room that the store takes up.", lambda: store.measure().size_bytes)


def add_gate_metrics(
    metrics: Metrics, refused_peers: Tally, shed: Tally, cut: Tally, limited: Callable[[], Mapping[str, float]]
) -> None:
    """What was refused or cut at the door: strangers, and who takes more than his share."""
    metrics.counter("web_peers_refused", "Connections that did not come from a trusted proxy.", refused_peers)
    metrics.counter("requests_shed", "Requests refused by 503 or 429 before any work was done on them.", shed)
    metrics.counter("requests_limited", "Requests of keys and addresses that asked too often.", limited, labels=["by"])
    metrics.counter("connections_cut", "Connections cut because their client is slow.", cut)


def add_order_metrics(metrics: Metrics, store: Store, *, states: Iterable[str]) -> None:
    """How many orders stand in each state."""
    names = [str(state) for state in states]

    def counts() -> Mapping[str, float]:
        found = store.counts(None)  # a store may hold other records than orders
        return {name: found.get(name, 0) for name in names}

    metrics.gauge("orders", "Orders by state.", counts, labels=["state"])


def add_outbox_metrics(metrics: Metrics, store: Store, *, states: Iterable[str], to_be_sent: Iterable[str]) -> None:
    """How many messages of all outboxes stand in each state, and for how long those have waited that are to be sent."""
    zeros = dict.fromkeys(map(str, states), 0)
    waiting = [str(state) for state in to_be_sent]

    def ages() -> Mapping[str, float]:
        at_ms, oldest_ms = now_ms(), store.measure().oldest_ms
        return {state: max(0, at_ms - oldest_ms.get(state, at_ms)) / 1000 for state in waiting}

    metrics.gauge(
        "outbox_messages", "Messages of all outboxes by state.", lambda: zeros | store.outbox_counts(), labels=["state"]
    )
    metrics.gauge(
        "outbox_oldest_age_seconds", "Age of the oldest message that waits, 0 without one.", ages, labels=["state"]
    )
