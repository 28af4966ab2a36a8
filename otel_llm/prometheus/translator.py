"""Translate OpenTelemetry metric data into Prometheus families; pure functions.

Names and units are mapped by ``opentelemetry-exporter-prometheus``. What differs from its collector is listed in
``docs/prometheus.md``: one family for one name whichever scopes feed it, labels that stay with their values, exponential
histograms, exemplars, float-style ``le``, a cap on label sets.
Source: OpenTelemetry specification, "Prometheus and OpenMetrics Compatibility".
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from opentelemetry.exporter.prometheus._mapping import map_unit, sanitize_attribute, sanitize_full_name
from opentelemetry.sdk.metrics import Exemplar as OTelExemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    ExponentialHistogram,
    ExponentialHistogramDataPoint,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    Sum,
)
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client.core import Exemplar
from prometheus_client.core import Metric as Family
from prometheus_client.utils import floatToGoString

from otel_llm_semconv.attributes import OTEL_METRIC_OVERFLOW_LABEL

logger = logging.getLogger("otel_llm")

Labels = dict[str, str]
Series = tuple[tuple[str, str], ...]
Memory = dict[tuple[str, Series, str], Exemplar]
"""The last exemplar of each bucket, by family, series and ``le``."""

OVERFLOW: Labels = {OTEL_METRIC_OVERFLOW_LABEL: "true"}

_warned: set[str] = set()


class Options(NamedTuple):
    """How one reader wants its metrics shown."""

    prefix: str = ""
    target_info: bool = True
    scope_labels: bool = True
    resource_labels: Callable[[str], bool] | None = None
    max_series: int = 2000


class Buckets(NamedTuple):
    """One series of a histogram: cumulative counts by upper bound, the last one infinite."""

    counts: list[tuple[str, int]]
    sum: float | None
    exemplars: dict[str, Exemplar]


Value = float | Buckets


class _Draft:
    """A family while its series are collected from every scope that feeds it."""

    def __init__(self, name: str, kind: str, documentation: str, unit: str, max_series: int) -> None:
        self.family = Family(name, documentation, kind, unit)
        self.kind = kind
        self.max_series = max_series
        self.keys: set[str] = set()
        self.series: dict[Series, tuple[Labels, Value]] = {}
        self.overflow: Value | None = None

    def add(self, labels: Labels, value: Value) -> None:
        """Add a series; one that is there already is left as it was."""
        series = tuple(sorted(item for item in labels.items() if item[1]))
        if series in self.series:
            _warn_once(f"series {self.family.name}", "%s: two instruments feed one series; the first is shown", self)
        elif len(self.series) < self.max_series or labels == OVERFLOW:
            self.keys.update(labels)
            self.series[series] = (labels, value)
        elif self.kind != "gauge":
            self.overflow = value if self.overflow is None else _sum(self.overflow, value)
        else:
            _warn_once(f"cap {self.family.name}", "%s: label sets beyond the cap are not shown", self)

    def finish(self, memory: Memory, seen: set[tuple[str, Series, str]]) -> Family:
        """Return the family with all its samples."""
        keys = sorted(self.keys)
        rows = list(self.series.items())
        if self.overflow is not None:
            rows.append((tuple(OVERFLOW.items()), (OVERFLOW, self.overflow)))
        for series, (labels, value) in rows:
            # Prometheus takes an empty label for an absent one; upstream fills up like this too.
            filled = {key: labels.get(key, "") for key in keys} | ({} if labels is not OVERFLOW else OVERFLOW)
            if isinstance(value, Buckets):
                self._add_buckets(series, filled, value, memory, seen)
            else:
                suffix = "_total" if self.kind == "counter" else ""
                self.family.add_sample(self.family.name + suffix, filled, value)
        return self.family

    def _add_buckets(
        self, series: Series, labels: Labels, value: Buckets, memory: Memory, seen: set[tuple[str, Series, str]]
    ) -> None:
        name = self.family.name
        for bound, count in value.counts:
            key = (name, series, bound)
            seen.add(key)
            fresh = value.exemplars.get(bound)
            if fresh is not None:
                memory[key] = fresh
            self.family.add_sample(f"{name}_bucket", {**labels, "le": bound}, count, exemplar=memory.get(key))
        # A histogram with negative buckets has neither (OpenMetrics 1.0, "Histogram").
        if value.sum is not None and float(value.counts[0][0]) >= 0:
            self.family.add_sample(f"{name}_count", labels, value.counts[-1][1])
            self.family.add_sample(f"{name}_sum", labels, value.sum)

    def __str__(self) -> str:
        return self.family.name


def translate(sources: Iterable[tuple[MetricsData, Options]], memory: Memory) -> list[Family]:
    """Return the families of all sources, each name once.

    Args:
        sources: what each reader collected, and how it wants it shown.
        memory: exemplars of earlier collections; updated in place and freed of series that are gone.
    """
    drafts: dict[str, _Draft] = {}
    targets: list[Labels] = []
    for data, options in sources:
        for resource_metrics in data.resource_metrics:
            attributes = resource_metrics.resource.attributes
            if options.target_info:
                target = _labels([attributes])
                if target not in targets:
                    targets.append(target)
            wanted = options.resource_labels
            shared = {} if wanted is None else {key: value for key, value in attributes.items() if wanted(key)}
            for scope_metrics in resource_metrics.scope_metrics:
                scope = _scope_labels(scope_metrics.scope) if options.scope_labels else {}
                for metric in scope_metrics.metrics:
                    _add_metric(drafts, metric, shared, scope, options)
    seen: set[tuple[str, Series, str]] = set()
    families = [draft.finish(memory, seen) for draft in drafts.values()]
    for gone in memory.keys() - seen:
        del memory[gone]
    if targets:
        info = Family("target", "Target metadata", "info")
        for target in targets:
            info.add_sample("target_info", target, 1.0)
        families.insert(0, info)
    return families


def _add_metric(
    drafts: dict[str, _Draft], metric: Metric, shared: Mapping[str, Any], scope: Labels, options: Options
) -> None:
    kind = _kind(metric)
    if kind is None:
        _warn_once(f"data {metric.name}", "%s: %s cannot be shown", metric.name, type(metric.data).__name__)
        return
    name = sanitize_full_name(f"{options.prefix}_{metric.name}" if options.prefix else metric.name)
    unit = map_unit(metric.unit or "")
    if kind == "counter":
        name = name.removesuffix("_total")
    if unit and not name.endswith(f"_{unit}"):
        name = f"{name}_{unit}"
    draft = drafts.get(name)
    if draft is None:
        draft = drafts[name] = _Draft(name, kind, metric.description or "", unit, options.max_series)
    elif draft.kind != kind:
        # One name has one type (specification, "Metric metadata"); the first one stays.
        _warn_once(f"kind {name}", "%s is a %s already; a %s of that name is not shown", name, draft.kind, kind)
        return
    for point in metric.data.data_points:
        attributes: Mapping[str, Any] = point.attributes or {}
        draft.add({**_labels([shared, attributes]), **scope}, _value(point))


def _kind(metric: Metric) -> str | None:
    data = metric.data
    if isinstance(data, Sum):
        cumulative = data.aggregation_temporality == AggregationTemporality.CUMULATIVE
        return "gauge" if cumulative and not data.is_monotonic else "counter"
    if isinstance(data, Gauge):
        return "gauge"
    if isinstance(data, (Histogram, ExponentialHistogram)):
        return "histogram"
    return None


def _value(point: NumberDataPoint | HistogramDataPoint | ExponentialHistogramDataPoint) -> Value:
    if isinstance(point, NumberDataPoint):
        return point.value
    if isinstance(point, HistogramDataPoint):
        bounds = [*point.explicit_bounds, float("inf")]
        counts = list(point.bucket_counts)
    else:
        bounds, counts = _explicit(point)
    cumulative: list[tuple[str, int]] = []
    total = 0
    for bound, count in zip(bounds, counts, strict=True):
        total += count
        cumulative.append((floatToGoString(bound), total))
    exemplars = {le: exemplar for le, exemplar in _exemplars(point.exemplars or (), bounds)}
    return Buckets(cumulative, point.sum, exemplars)


def _explicit(point: ExponentialHistogramDataPoint) -> tuple[list[float], list[int]]:
    """Turn exponential buckets into ones at powers of two, whose bounds stay where they are from scrape to scrape."""
    by_bound: dict[float, int] = {0.0: point.zero_count}
    for buckets, sign in ((point.positive, 1.0), (point.negative, -1.0)):
        for position, count in enumerate(buckets.bucket_counts):
            index = buckets.offset + position
            if point.scale >= 0:
                exponent = (index >> point.scale) + (1 if sign > 0 else 0)
            else:
                exponent = (index + (1 if sign > 0 else 0)) << -point.scale
            try:
                bound = sign * 2.0**exponent
            except OverflowError:
                bound = float("inf")
            by_bound[bound] = by_bound.get(bound, 0) + count
    by_bound.setdefault(float("inf"), 0)
    bounds = sorted(by_bound)
    return bounds, [by_bound[bound] for bound in bounds]


def _exemplars(exemplars: Iterable[OTelExemplar], bounds: list[float]) -> Iterator[tuple[str, Exemplar]]:
    for exemplar in sorted(exemplars, key=lambda exemplar: exemplar.time_unix_nano):
        if exemplar.trace_id is None or exemplar.span_id is None:
            continue
        labels = {"trace_id": f"{exemplar.trace_id:032x}", "span_id": f"{exemplar.span_id:016x}"}
        bound = next(bound for bound in bounds if exemplar.value <= bound)
        yield floatToGoString(bound), Exemplar(labels, exemplar.value, exemplar.time_unix_nano / 1e9)


def _sum(one: Value, other: Value) -> Value:
    if isinstance(one, Buckets) and isinstance(other, Buckets):
        totals = dict(one.counts)
        if [le for le, _ in one.counts] != [le for le, _ in other.counts]:
            return one
        counts = [(le, totals[le] + count) for le, count in other.counts]
        total = None if one.sum is None or other.sum is None else one.sum + other.sum
        return Buckets(counts, total, {**one.exemplars, **other.exemplars})
    if isinstance(one, Buckets) or isinstance(other, Buckets):
        return one
    return one + other


def _scope_labels(scope: InstrumentationScope) -> Labels:
    labels = _labels([{f"otel_scope_{key}": value for key, value in (scope.attributes or {}).items()}])
    labels["otel_scope_name"] = _text(scope.name or "")
    labels["otel_scope_version"] = _text(scope.version or "")
    labels["otel_scope_schema_url"] = _text(scope.schema_url or "")
    return labels


def _labels(sources: Iterable[Mapping[str, Any]]) -> Labels:
    """Name and spell attributes as labels; later sources win, and keys of one source that fall together are joined.

    Source: specification, "Metric attributes": values of colliding keys are joined by ``;`` in the order of the keys.
    """
    labels: Labels = {}
    for attributes in sources:
        own: Labels = {}
        names = {key: sanitize_attribute(key) for key in attributes}
        collide = len(set(names.values())) < len(names)
        for key in sorted(attributes) if collide else attributes:
            name, value = names[key], _text(attributes[key])
            own[name] = f"{own[name]};{value}" if name in own else value
        labels.update(own)
    return labels


def _text(value: object) -> str:
    """Spell a label value; JSON for what is no string, and never a character that UTF-8 cannot carry."""
    if not isinstance(value, str):
        value = json.dumps(value, default=str)
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-8", "replace").decode()
    return value


def _warn_once(what: str, message: str, *arguments: object) -> None:
    if what not in _warned and len(_warned) < 1000:
        _warned.add(what)
        logger.warning("otel_llm: " + message, *arguments)
