"""Every figure that a workload can give: what it is called, its unit, and which way is better."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Metric:
    """One kind of figure."""

    title: str
    unit: str = ""
    digits: int = 0
    more_is_better: bool = False

    @property
    def heading(self) -> str:
        """The title with its unit."""
        return f"{self.title}, {self.unit}" if self.unit else self.title

    def show(self, value: float) -> str:
        """The value as people read it."""
        return f"{value:,.{self.digits}f}"


METRICS = {
    "per_s": Metric("answered", "1/s", more_is_better=True),
    "p50_ms": Metric("p50", "ms", 1),
    "p99_ms": Metric("p99", "ms", 1),
    "done_per_s": Metric("done", "1/s", more_is_better=True),
    "open_p50_ms": Metric("open p50", "ms", 1),
    "open_p99_ms": Metric("open p99", "ms", 1),
    "drain_s": Metric("drain", "s", 2),
    "cpu_requestor_us": Metric("CPU of requestor per request", "µs"),
    "cpu_processor_us": Metric("CPU of processor per request", "µs"),
    "cpu_redis_us": Metric("CPU of Redis per request", "µs"),
    "errors": Metric("errors"),
    "id_per_s": Metric("tracking/{id}", "1/s", more_is_better=True),
    "id_p99_ms": Metric("p99", "ms", 1),
    "status_per_s": Metric("tracking/status", "1/s", more_is_better=True),
    "status_p99_ms": Metric("p99", "ms", 1),
    "idle_requestor_percent": Metric("requestor", "% of a core", 1),
    "idle_processor_percent": Metric("processor", "% of a core", 1),
    "idle_redis_percent": Metric("Redis", "% of a core", 1),
    "idle_percent": Metric("the busier one", "% of a core", 1),
    "threads": Metric("most threads of a process"),
    "back_s": Metric("all back after first health", "s", 2),
    "health_s": Metric("health after the kill", "s", 2),
    "slope_percent": Metric("change of cost over sizes", "%"),
    "kb_per_order": Metric("memory per order", "KB", 1),
    "kept_kb_per_order": Metric("kept per order", "KB", 1),
    "us_per_order": Metric("time per order", "µs"),
}


def metric_of(name: str) -> Metric:
    """The metric of a figure; ``name@size`` is the figure at a size."""
    return METRICS[name.partition("@")[0]]


def size_of(name: str) -> int | None:
    """The size at which a figure was taken; None when it has none."""
    _, _, size = name.partition("@")
    return int(size) if size else None
