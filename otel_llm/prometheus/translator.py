"""Translate OpenTelemetry metric data into Prometheus families, in two steps: `read` per reader, `translate` per page.

Names and units are mapped by ``opentelemetry-exporter-prometheus``. What differs from its collector is listed in
``docs/prometheus.md``: one family for one name whichever scopes feed it, labels that stay with their values,
exponential histograms, exemplars, float-style ``le``, a cap on label sets.
Source: OpenTelemetry specification, "Prometheus and OpenMetrics Compatibility".
"""

from __future__ import annotations

import json
import logging
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import lru_cache
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
from prometheus_client import Metric as Family
from prometheus_client.core import Exemplar, Sample
from prometheus_client.utils import floatToGoString  # pyright: ignore[reportUnknownVariableType]

from otel_llm_semconv.attributes import OTEL_METRIC_OVERFLOW_LABEL

logger = logging.getLogger("otel_llm")

Labels = dict[str, str]
Series = frozenset[tuple[str, str]]
"""What identifies a series within its family; an empty label is no label (Prometheus data model)."""

INFINITY = float("inf")

_OWN_NAMES = {
    "counter": ("", "_total", "_created"),
    "gauge": ("",),
    "histogram": ("", "_bucket", "_count", "_sum", "_created"),
    "info": ("", "_info"),
    "unknown": ("",),
}
"""The suffixes with which a family of each type owns a name (OpenMetrics 1.0, "MetricFamily")."""

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

    bounds: tuple[float, ...]
    counts: list[int]
    sum: float | None


Value = float | Buckets


class Stream(NamedTuple):
    """The metric of one instrument, with everything that the page says of it."""

    name: str
    kind: str
    unit: str
    documentation: str
    additive: bool
    max_series: int
    base: Labels
    points: list[tuple[Labels, Series, Value]]


class Reading(NamedTuple):
    """What one reader collected."""

    targets: list[Labels]
    streams: list[Stream]


class Memory:
    """What a page remembers from one collection to the next."""

    def __init__(self) -> None:
        self.exemplars: dict[tuple[str, Series], dict[float, Exemplar]] = {}
        """The newest exemplar of each bucket, by family and series."""
        self.admitted: dict[tuple[str, str], set[Series]] = {}
        """The series that have a line of their own, by family and type."""
        self.full: set[tuple[str, str]] = set()
        """The families that exceeded their cap: who is in stays in, or the overflow could fall."""


class LabelCache:
    """The labels of data points; the SDK hands out the same attributes at every collection."""

    def __init__(self) -> None:
        self.shared: Labels = {}
        self.known: dict[int, tuple[object, Labels, Series]] = {}


def read(data: MetricsData, options: Options, cache: LabelCache, memory: Memory) -> Reading:
    """Name and label what a reader collected, and keep its exemplars, which the SDK forgets at every collection.

    Args:
        data: what was collected.
        options: how the reader wants it shown.
        cache: the reader's own.
        memory: the page's; exemplars are added to it.
    """
    targets: list[Labels] = []
    streams: list[Stream] = []
    known: dict[int, tuple[object, Labels, Series]] = {}
    for resource_metrics in data.resource_metrics:
        attributes = resource_metrics.resource.attributes
        if options.target_info:
            targets.append(_labels(attributes))
        wanted = options.resource_labels
        shared = _labels({key: value for key, value in attributes.items() if wanted(key)}) if wanted else {}
        if shared != cache.shared:
            cache.shared, cache.known = shared, {}
        for scope_metrics in resource_metrics.scope_metrics:
            scope = _scope_labels(scope_metrics.scope) if options.scope_labels else {}
            for metric in scope_metrics.metrics:
                kind = _kind(metric)
                if kind is None:
                    _warn_once(metric.name, "%s cannot be shown", type(metric.data).__name__)
                    continue
                name, unit = _name(metric, kind, options.prefix)
                points: list[tuple[Labels, Series, Value]] = []
                for point in metric.data.data_points:
                    entry = cache.known.get(id(point.attributes))
                    if entry is None or entry[0] is not point.attributes:
                        labels = {**shared, **_labels(point.attributes or {}), **scope}
                        if kind == "histogram" and "le" in labels:
                            # As Prometheus names a scraped label that it needs itself.
                            labels["exported_le"] = labels.pop("le")
                        entry = point.attributes, labels, _series(labels)
                    known[id(point.attributes)] = entry
                    _, labels, series = entry
                    value = _value(point)
                    if isinstance(value, Buckets) and point.exemplars:
                        _keep(memory.exemplars.setdefault((name, series), {}), value.bounds, point.exemplars)
                    points.append((labels, series, value))
                streams.append(
                    Stream(
                        name,
                        kind,
                        unit,
                        _encodable(metric.description or ""),
                        not isinstance(metric.data, Gauge),
                        options.max_series,
                        {**shared, **scope},
                        points,
                    )
                )
    cache.known = known
    return Reading(targets, streams)


def translate(readings: Iterable[Reading], memory: Memory, taken: Collection[str] = ()) -> list[Family]:
    """Return the families of all readers, each name once.

    Args:
        readings: what each reader collected.
        memory: the page's; freed here of series that are gone.
        taken: names that others show on the same page.
    """
    drafts: dict[tuple[str, str], _Draft] = {}
    targets: list[Labels] = []
    for reader, reading in enumerate(readings):
        targets += [target for target in reading.targets if target not in targets]
        for stream in reading.streams:
            key = stream.name, stream.kind
            draft = drafts.get(key)
            if draft is None:
                draft = drafts[key] = _Draft(stream)
            draft.streams.append((reader, stream))
    for draft in drafts.values():
        draft.gather(memory)
    families = _with_own_names(drafts.values(), targets, set(taken), memory)
    if memory.exemplars:
        live = {(draft.name, series) for draft in drafts.values() for series in draft.live()}
        for gone in memory.exemplars.keys() - live:
            del memory.exemplars[gone]
    for key in memory.admitted.keys() - memory.full - drafts.keys():
        del memory.admitted[key]
    return families


class _Draft:
    """A family while its series are gathered from every stream that feeds it."""

    def __init__(self, stream: Stream) -> None:
        self.name = stream.name
        self.kind = stream.kind
        self.unit = stream.unit
        self.documentation = stream.documentation
        self.streams: list[tuple[int, Stream]] = []
        self.rows: dict[Series, tuple[Labels, Value]] = {}
        self._keys: set[str] = set()
        self._fed_by: dict[Series, tuple[int, int]] = {}

    def gather(self, memory: Memory) -> None:
        """Gather the series of all streams, each on a line of its own while there is room, else in the overflow."""
        key = self.name, self.kind
        admitted = memory.admitted.setdefault(key, set())
        if key not in memory.full:
            admitted &= {series for _, stream in self.streams for _, series, _ in stream.points}
        for number, (reader, stream) in enumerate(self.streams):
            if stream.documentation != self.documentation:
                _warn_once(self.name, "it is described in two ways; the first is shown")
            overflow = {**stream.base, OTEL_METRIC_OVERFLOW_LABEL: "true"}
            beyond = _series(overflow)
            this = reader, number
            exceeded = False
            for labels, series, value in stream.points:
                first = self._fed_by.setdefault(series, this)
                if first[0] != reader:
                    # Most likely the same measurements again.
                    _warn_once(self.name, "two readers feed one series; the first is shown")
                    continue
                if first != this:
                    how = "their sum" if stream.additive else "the last"
                    _warn_once(self.name, "two instruments feed one series; %s is shown", how)
                # The overflow of the SDK itself, from 1.45.2 on, is ours too.
                if series not in admitted and series != beyond:
                    if key not in memory.full and len(admitted) < stream.max_series:
                        admitted.add(series)
                    else:
                        exceeded = True
                        if self.kind != "gauge":
                            memory.full.add(key)
                        if isinstance(value, Buckets):
                            _merge_exemplars(memory.exemplars, (self.name, series), (self.name, beyond))
                        labels, series = overflow, beyond
                row = self.rows.get(series)
                if row is None:
                    self._keys.update(labels)
                # Values that differ in type only, as 1 and "1", are two sets of attributes and one of labels.
                elif stream.additive:
                    value = _sum(row[1], value)
                self.rows[series] = labels, value
            if exceeded:
                _warn_once(self.name, "more than %d label sets; the rest is one series", stream.max_series)

    def live(self) -> set[Series]:
        """Return the series that are on the page or in the overflow."""
        return self._fed_by.keys() | self.rows.keys()

    def shown_as(self, kind: str, name: str, memory: Memory) -> Family:
        """Return the family with all its samples."""
        # A family of unknown type is named like its only sample, and that does not end in a unit.
        family = Family(name, self.documentation, kind, "" if kind == "unknown" else self.unit)
        samples = family.samples
        # Prometheus takes an empty label for an absent one; upstream fills up like this too.
        empty = dict.fromkeys(self._keys, "")
        suffix = "_total" if kind == "counter" else ""
        for series, (labels, value) in self.rows.items():
            if len(labels) != len(empty):
                labels = {**empty, **labels}
            if isinstance(value, Buckets):
                _add_buckets(samples, name, labels, value, memory.exemplars.get((name, series), {}))
            elif value < 0 and self.kind == "counter":
                _warn_once(self.name, "a counter below zero is not shown")
            else:
                samples.append(Sample(name + suffix, labels, value))
        return family


def _with_own_names(drafts: Collection[_Draft], targets: list[Labels], taken: set[str], memory: Memory) -> list[Family]:
    """Return the families, none of which owns a name of another.

    The page stays valid whatever the instruments are called. A counter whose names clash is shown without its type,
    for which OpenMetrics would need the names; what cannot be shown without a clash is left out.
    """
    chosen: dict[tuple[str, str], tuple[str, str]] = {}
    for draft in sorted(drafts, key=lambda draft: draft.kind == "counter"):
        forms = [(draft.kind, draft.name)]
        if draft.kind == "counter":
            forms.append(("unknown", f"{draft.name}_total"))
        form = _take(forms, taken)
        if form is None:
            _warn_once(draft.name, "its names are taken; this %s is not shown", draft.kind)
            continue
        if form != forms[0]:
            _warn_once(draft.name, "its names are taken; this %s is shown without its type", draft.kind)
        chosen[draft.name, draft.kind] = form
    families: list[Family] = []
    form = _take([("info", "target"), ("gauge", "target_info")], taken) if targets else None
    if form is not None:
        kind, name = form
        family = Family(name, "Target metadata", kind)
        family.samples = [Sample("target_info", target, 1.0) for target in targets]
        families.append(family)
    for draft in drafts:
        form = chosen.get((draft.name, draft.kind))
        if form is not None:
            families.append(draft.shown_as(*form, memory))
    return [family for family in families if family.samples]


def _take(forms: Iterable[tuple[str, str]], taken: set[str]) -> tuple[str, str] | None:
    """Return the first type and name that are free, and take all that belongs to them."""
    for kind, name in forms:
        names = {name + suffix for suffix in _OWN_NAMES[kind]}
        if taken.isdisjoint(names):
            taken |= names
            return kind, name
    return None


def _add_buckets(
    samples: list[Sample], name: str, labels: Labels, value: Buckets, exemplars: Mapping[float, Exemplar]
) -> None:
    bucket = f"{name}_bucket"
    for bound, le, count in zip(value.bounds, _spelled(value.bounds), value.counts, strict=True):
        samples.append(Sample(bucket, {**labels, "le": le}, count, None, exemplars.get(bound)))
    if value.sum is not None:
        samples.append(Sample(f"{name}_count", labels, value.counts[-1]))
        samples.append(Sample(f"{name}_sum", labels, value.sum))


def _name(metric: Metric, kind: str, prefix: str) -> tuple[str, str]:
    name = sanitize_full_name(f"{prefix}_{metric.name}" if prefix else metric.name)
    unit = map_unit(metric.unit or "")
    if kind == "counter":
        name = name.removesuffix("_total") or name
    if unit and not name.endswith(f"_{unit}"):
        name = f"{name}_{unit}"
    return name, unit


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
        bounds, counts = (*point.explicit_bounds, INFINITY), point.bucket_counts
    else:
        bounds, counts = _explicit(point)
    cumulative: list[int] = []
    total = 0
    for count in counts:
        total += count
        cumulative.append(total)
    # With values below zero the sum can fall: no sum then, and so no count (OpenMetrics 1.0, "Histogram").
    return Buckets(bounds, cumulative, None if bounds[0] < 0 or point.min < 0 else point.sum)


def _explicit(point: ExponentialHistogramDataPoint) -> tuple[tuple[float, ...], list[int]]:
    """Turn exponential buckets into ones at powers of two, whose bounds stay where they are from scrape to scrape.

    The scale of the SDK falls as values spread, so any finer bounds would be gone at the next scrape.
    """
    by_bound = {0.0: point.zero_count, INFINITY: 0}
    scale = point.scale
    for buckets, above_zero in ((point.positive, True), (point.negative, False)):
        used = [index for index, count in enumerate(buckets.bucket_counts) if count]
        # Buckets at the ends that nothing fell into come and go with the room that the SDK sets aside.
        for position in range(used[0], used[-1] + 1) if used else ():
            index = buckets.offset + position
            # The upper bound is the end of the bucket above zero, and its beginning below, where it is mirrored.
            exponent = (index >> scale) + above_zero if scale >= 0 else (index + above_zero) << -scale
            bound = 2.0**exponent if exponent < 1024 else INFINITY
            if not above_zero:
                bound = -bound
            by_bound[bound] = by_bound.get(bound, 0) + buckets.bucket_counts[position]
    bounds = tuple(sorted(by_bound))
    return bounds, [by_bound[bound] for bound in bounds]


def _sum(one: Value, other: Value) -> Value:
    """Add two values; where bounds differ, a histogram counts at a bound of the other what it has at its own below."""
    if not isinstance(one, Buckets) or not isinstance(other, Buckets):
        assert not isinstance(one, Buckets)
        assert not isinstance(other, Buckets)
        return one + other
    total = None if one.sum is None or other.sum is None else one.sum + other.sum
    if one.bounds == other.bounds:
        return Buckets(one.bounds, [a + b for a, b in zip(one.counts, other.counts, strict=True)], total)
    bounds = tuple(sorted({*one.bounds, *other.bounds}))
    return Buckets(bounds, [_up_to(bound, one) + _up_to(bound, other) for bound in bounds], total)


def _up_to(bound: float, value: Buckets) -> int:
    position = bisect_right(value.bounds, bound)
    return value.counts[position - 1] if position else 0


def _keep(kept: dict[float, Exemplar], bounds: tuple[float, ...], exemplars: Sequence[OTelExemplar]) -> None:
    """Put exemplars into the buckets they fall into, in the place of older ones."""
    for exemplar in exemplars:
        if exemplar.trace_id is None or exemplar.span_id is None:
            continue
        labels = {"trace_id": f"{exemplar.trace_id:032x}", "span_id": f"{exemplar.span_id:016x}"}
        fresh = Exemplar(labels, exemplar.value, exemplar.time_unix_nano / 1e9)
        _keep_newer(kept, bounds[bisect_left(bounds, exemplar.value)], fresh)


def _keep_newer(kept: dict[float, Exemplar], bound: float, fresh: Exemplar) -> None:
    old = kept.get(bound)
    if old is None or float(old.timestamp or 0) <= float(fresh.timestamp or 0):
        kept[bound] = fresh


def _merge_exemplars(
    kept: dict[tuple[str, Series], dict[float, Exemplar]], source: tuple[str, Series], target: tuple[str, Series]
) -> None:
    for bound, exemplar in kept.get(source, {}).items():
        _keep_newer(kept.setdefault(target, {}), bound, exemplar)


@lru_cache(maxsize=256)
def _spelled(bounds: tuple[float, ...]) -> tuple[str, ...]:
    return tuple(map(floatToGoString, bounds))  # pyright: ignore[reportUnknownArgumentType]


def _scope_labels(scope: InstrumentationScope) -> Labels:
    labels = _labels({f"otel_scope_{key}": value for key, value in (scope.attributes or {}).items()})
    labels["otel_scope_name"] = _text(scope.name or "")
    labels["otel_scope_version"] = _text(scope.version or "")
    labels["otel_scope_schema_url"] = _text(scope.schema_url or "")
    return labels


def _labels(attributes: Mapping[str, Any]) -> Labels:
    """Name and spell attributes as labels; where two keys become one name, values are joined in the order of the keys.

    Source: specification, "Metric Attributes".
    """
    labels = {sanitize_attribute(key): _text(value) for key, value in attributes.items()}
    if len(labels) == len(attributes):
        return labels
    labels.clear()
    for key in sorted(attributes):
        name, value = sanitize_attribute(key), _text(attributes[key])
        labels[name] = f"{labels[name]};{value}" if name in labels else value
    return labels


def _series(labels: Labels) -> Series:
    return frozenset(item for item in labels.items() if item[1])


def _text(value: object) -> str:
    """Spell a label value: a string enum as its value, as OTLP sends it, and JSON for what is no string."""
    return _encodable(str.__str__(value) if isinstance(value, str) else json.dumps(value, default=str))


def _encodable(text: str) -> str:
    """Replace what UTF-8 cannot carry: one lone surrogate would cost the whole page."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text


def _warn_once(name: str, message: str, *arguments: object) -> None:
    what = f"{name}: {message % arguments}"
    if what not in _warned and len(_warned) < 1000:
        _warned.add(what)
        logger.warning("otel_llm: %s", what)
