"""What `promtool` would say of an expression, and more: whether everything that it asks for is really there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import promql_parser
from prometheus_client.parser import text_string_to_metric_families
from promql_parser import AggModifierType, AggregateExpr, Call, MatchOp, MatrixSelector, VectorSelector

#: What Prometheus adds to every series that it scrapes.
ADDED_LABELS = frozenset({"job", "instance"})
#: What Grafana puts in the place of its variables.
VARIABLES = {"$__rate_interval": "5m", "$instance": ".*"}
_OF_COUNTERS = frozenset({"rate", "increase", "irate"})


@dataclass(slots=True)
class Exposition:
    """Every series of some `/metrics`: its labels, and the kind of its metric."""

    series: dict[str, list[Mapping[str, str]]] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, *texts: str) -> Exposition:
        """Read what Prometheus would scrape."""
        found = cls(series={"up": [{}]}, kinds={"up": "gauge"})
        for text in texts:
            for family in text_string_to_metric_families(text):
                for sample in family.samples:
                    found.series.setdefault(sample.name, []).append(sample.labels)
                    found.kinds[sample.name] = family.type
        return found

    def faults(self, expression: str) -> list[str]:
        """Everything that is wrong with an expression."""
        for variable, value in VARIABLES.items():
            expression = expression.replace(variable, value)
        try:
            parsed = promql_parser.parse(expression)
        except ValueError as error:
            return [f"cannot be parsed: {error}"]
        return [fault for node in _nodes(parsed) for fault in self._faults_of(node)]

    def _faults_of(self, node: object) -> Iterator[str]:
        if isinstance(node, VectorSelector):
            yield from self._faults_of_selector(node)
        elif isinstance(node, Call):
            yield from self._faults_of_call(node)
        elif isinstance(node, AggregateExpr) and node.modifier and node.modifier.type == AggModifierType.By:
            known = ADDED_LABELS | {label for name in _names(node.expr) for label in self._labels(name)}
            yield from (f"no series has the label {label}" for label in set(node.modifier.labels) - known)

    def _labels(self, name: str) -> set[str]:
        return {label for labels in self.series.get(name, ()) for label in labels}

    def _faults_of_selector(self, selector: VectorSelector) -> Iterator[str]:
        rows = self.series.get(selector.name or "")
        if rows is None:
            yield f"there is no series {selector.name}"
            return
        for matcher in selector.matchers.matchers:
            values = {labels[matcher.name] for labels in rows if matcher.name in labels}
            if matcher.name in ADDED_LABELS:
                continue
            if not values:
                yield f"{selector.name} has no label {matcher.name}"
            elif matcher.op == MatchOp.Re:
                parts = matcher.value.split("|")
                if missing := [part for part in parts if not any(re.fullmatch(part, value) for value in values)]:
                    yield f"{matcher.name} of {selector.name} is never {missing}"
            elif matcher.op == MatchOp.Equal and matcher.value not in values:
                yield f"{matcher.name} of {selector.name} is never {matcher.value}"

    def _faults_of_call(self, call: Call) -> Iterator[str]:
        name = call.func.name
        for argument in call.args:
            if name in _OF_COUNTERS and isinstance(argument, MatrixSelector):
                series = argument.vector_selector.name or ""
                kind = self.kinds.get(series, "counter")
                if kind not in ("counter", "histogram"):
                    yield f"{name}() of the {kind} {series}"
        if name == "histogram_quantile":
            for series in _names(call.args[1]):
                if not series.endswith("_bucket"):
                    yield f"a quantile of {series}, which are no buckets"
            if not any(
                isinstance(node, AggregateExpr) and node.modifier is not None and "le" in node.modifier.labels
                for node in _nodes(call.args[1])
            ):
                yield "a quantile without le"


def _nodes(expression: object) -> list[object]:
    """The expression and everything within it."""
    found: list[object] = []

    def visit(node: object) -> bool:
        found.append(node)
        if isinstance(node, MatrixSelector):
            found.append(node.vector_selector)
        return True

    promql_parser.walk(expression, visit)  # type: ignore[arg-type] # an expression is what it takes
    return found


def _names(expression: object) -> Iterable[str]:
    return {node.name or "" for node in _nodes(expression) if isinstance(node, VectorSelector)}
