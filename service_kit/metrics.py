"""Metrics that are read when somebody asks: nothing is counted twice, and no request pays for them.

A component keeps its numbers anyway; here each gets a name and a way to read it. No label names an order: the labels of
a metric are a short, fixed list.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, TypeAlias

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service_kit.cleanup import Cleanup
from service_kit.errors import ServiceError
from service_kit.logs import get_logger
from service_kit.storage.contract import Store

log = get_logger(__name__)

#: One number, or one for each value of the metric's label; None when there is none yet.
Reading: TypeAlias = float | Mapping[str, float] | None


class _Source(NamedTuple):
    kind: type[CounterMetricFamily | GaugeMetricFamily]
    name: str
    help: str
    read: Callable[[], Reading]
    label: str


class Metrics(Collector):
    """The metrics of one process, in a registry of their own. A name begins with the service's, such as ``requestor_``.

    A reading that fails leaves its metric out, so that one broken part does not blind the operator to all others.
    """

    def __init__(self, prefix: str) -> None:
        self.registry = CollectorRegistry()
        self._prefix = prefix
        self._sources: list[_Source] = []
        ProcessCollector(registry=self.registry)
        self.registry.register(self)

    def gauge(self, name: str, help: str, read: Callable[[], Reading], *, label: str = "") -> None:
        """A number that goes up and down, or one for each value of a label."""
        self._sources.append(_Source(GaugeMetricFamily, f"{self._prefix}_{name}", help, read, label))

    def counter(self, name: str, help: str, read: Callable[[], Reading], *, label: str = "") -> None:
        """A number that only grows while the process lives; its name ends with ``_total``."""
        self._sources.append(_Source(CounterMetricFamily, f"{self._prefix}_{name}", help, read, label))

    def collect(self) -> Iterable[Metric]:
        """Read every source; the registry calls this."""
        for source in self._sources:
            try:
                reading = source.read()
            except ServiceError as error:
                log.warning("A metric cannot be read", action="metrics.read_failed", metric=source.name, why=error.code)
                continue
            if reading is not None:
                yield _family(source, reading)

    def describe(self) -> Iterable[Metric]:
        """Nothing: registering must not read the sources, which have not started yet."""
        return ()


def _family(source: _Source, reading: float | Mapping[str, float]) -> Metric:
    if isinstance(reading, Mapping):
        family = source.kind(source.name, source.help, labels=[source.label])
        for value, number in sorted(reading.items()):
            family.add_metric([value], number)
        return family
    return source.kind(source.name, source.help, value=reading)


def add_common_metrics(metrics: Metrics, *, store: Store, cleanup: Cleanup, queue_depth: Callable[[], int]) -> None:
    """What every service has: the store's commits, the cleanup's last run, and the requests that wait for a thread."""
    metrics.counter("store_commits", "Transactions of the store.", lambda: store.stats().commits)
    metrics.counter("store_steps", "Steps in these transactions.", lambda: store.stats().steps)
    metrics.counter("store_commit_seconds", "Time spent in these transactions.", lambda: store.stats().commit_seconds)
    metrics.gauge("outbox_messages", "Messages of all outboxes, by state.", store.outbox_counts, label="state")
    metrics.gauge("cleanup_last_run_timestamp_seconds", "When the cleanup last ran.", lambda: cleanup.last_run_s)
    metrics.counter("cleanup_removed", "Orders that the cleanup has removed.", lambda: cleanup.removed)
    metrics.gauge("web_queue_depth", "Requests that wait for a thread.", queue_depth)
