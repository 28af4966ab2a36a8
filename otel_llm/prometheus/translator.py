"""Translate OpenTelemetry metric data into Prometheus families, in two steps: `read` per reader, `translate` per page.

Names and units are mapped by ``opentelemetry-exporter-prometheus``. What differs from its collector is listed in
``docs/prometheus.md``: one family for one name whichever scopes feed it, labels that stay with their values,
exponential histograms, exemplars, float-style ``le``, a cap on label sets.
Source: OpenTelemetry specification, "Prometheus and OpenMetrics Compatibility".
"""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

from opentelemetry.exporter.prometheus._mapping import map_unit, sanitize_full_name
from opentelemetry.sdk.metrics import Exemplar as OTelExemplar
from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    DataT,
    ExponentialHistogram,
    ExponentialHistogramDataPoint,
    Gauge,
    HistogramDataPoint,
    Metric,
    MetricsData,
    Sum,
)
from opentelemetry.sdk.metrics.export import Histogram as OTelHistogram

from otel_llm.prometheus.families import INFINITY, Exemplar, Family, Histogram, Series, spelled
from otel_llm.prometheus.points import (
    LabelCache,
    Labels,
    Rows,
    SeriesId,
    encodable,
    filled,
    labelled,
    scope_labels,
    series_id,
)
from otel_llm.prometheus.shortcut import Shortcut
from otel_llm_semconv.attributes import OTEL_METRIC_OVERFLOW_LABEL

logger = logging.getLogger("otel_llm")

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


Value = float | Histogram


class Stream(NamedTuple):
    """The metric of one instrument, with everything that the page says of it."""

    name: str
    kind: str
    unit: str
    documentation: str
    additive: bool
    max_series: int
    base: Labels
    """The labels of its overflow, but for the one that says so."""
    rows: Rows
    values: Sequence[Value]
    """In the order of the rows."""


class Reading(NamedTuple):
    """What one reader collected."""

    targets: list[Labels]
    streams: list[Stream]


class Memory:
    """What a page remembers from one collection to the next."""

    def __init__(self) -> None:
        self.exemplars: dict[tuple[str, SeriesId], dict[float, Exemplar]] = {}
        """The newest exemplar of each bucket, by family and series."""
        self.admitted: dict[tuple[str, str], set[SeriesId]] = {}
        """The series that have a line of their own, by family and type."""
        self.full: set[tuple[str, str]] = set()
        """The families that exceeded their cap: who is in stays in, or the overflow could fall."""


def read(
    data: MetricsData, options: Options, cache: LabelCache, memory: Memory, shortcut: Shortcut | None = None
) -> Reading:
    """Name and label what a reader collected, and keep its exemplars, which the SDK forgets at every collection.

    Args:
        data: what was collected.
        options: how the reader wants it shown.
        cache: the reader's own.
        memory: the page's; exemplars are added to it.
        shortcut: what did not come by way of the SDK.
    """
    targets: list[Labels] = []
    streams: list[Stream] = []
    for resource_metrics in data.resource_metrics:
        attributes = resource_metrics.resource.attributes
        if options.target_info:
            targets.append(labelled(attributes))
        wanted = options.resource_labels
        shared = labelled({key: value for key, value in attributes.items() if wanted(key)}) if wanted else {}
        for scope_metrics in resource_metrics.scope_metrics:
            scope = scope_metrics.scope
            own = scope_labels(scope) if options.scope_labels else {}
            for metric in scope_metrics.metrics:
                kind = _kind(metric)
                if kind is None:
                    _warn_once(metric.name, "%s cannot be shown", type(metric.data).__name__)
                    continue
                name, unit = _name(metric, kind, options.prefix)
                place = kind, metric.name, scope.name, scope.version, scope.schema_url
                points = metric.data.data_points
                left = shortcut.take(scope, metric.name, points) if shortcut else None
                series = left.attributes if left else [point.attributes for point in points]
                rows = cache.rows(place, shared, own, series)
                streams.append(
                    Stream(
                        name,
                        kind,
                        unit,
                        encodable(metric.description or ""),
                        not isinstance(metric.data, Gauge),
                        options.max_series,
                        {**shared, **own},
                        rows,
                        left.values if left else _values(metric.data, name, rows, memory),
                    )
                )
    cache.forget()
    return Reading(targets, streams)


def _values(data: DataT, name: str, rows: Rows, memory: Memory) -> Sequence[Value]:
    """Return the values of the points, and keep their exemplars."""
    if isinstance(data, (Sum, Gauge)):
        return [point.value for point in data.data_points]
    values: list[Histogram] = []
    points: Sequence[HistogramDataPoint | ExponentialHistogramDataPoint] = data.data_points
    for point, series in zip(points, rows.ids, strict=True):
        value = _histogram(point)
        if point.exemplars:
            _keep(memory.exemplars.setdefault((name, series), {}), value.bounds, point.exemplars)
        values.append(value)
    return values


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
        histograms = [draft for draft in drafts.values() if draft.kind == "histogram"]
        live = {(draft.name, series) for draft in histograms for series in draft.live()}
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
        self._whole: Stream | None = None
        """The only stream, of which each point is a line."""
        self._lines: dict[SeriesId, tuple[int, int | None, Value]] = {}
        """Stream and position of the labels, no position for the overflow of the stream; and the value."""
        self._shapes: set[frozenset[str]] = set()
        self._fed_by: dict[SeriesId, tuple[int, int]] = {}

    def gather(self, memory: Memory) -> None:
        """Gather the series of all streams, each on a line of its own while there is room, else in the overflow."""
        key = self.name, self.kind
        (_, stream), *others = self.streams
        rows = stream.rows
        if not others and len(rows.ids) == len(rows.distinct) <= stream.max_series and key not in memory.full:
            self._whole = stream
            memory.admitted[key] = rows.distinct
        else:
            self._gather(key, memory)

    def _gather(self, key: tuple[str, str], memory: Memory) -> None:
        admitted = memory.admitted.setdefault(key, set())
        if key not in memory.full:
            present = {series for _, stream in self.streams for series in stream.rows.ids}
            admitted = memory.admitted[key] = admitted & present
        for number, (reader, stream) in enumerate(self.streams):
            if stream.documentation != self.documentation:
                _warn_once(self.name, "it is described in two ways; the first is shown")
            overflow = _overflow(stream)
            beyond = series_id(overflow)
            this = reader, number
            exceeded = False
            for position, (series, value) in enumerate(zip(stream.rows.ids, stream.values, strict=True)):
                first = self._fed_by.setdefault(series, this)
                if first[0] != reader:
                    # Most likely the same measurements again.
                    _warn_once(self.name, "two readers feed one series; the first is shown")
                    continue
                if first != this:
                    how = "their sum" if stream.additive else "the last"
                    _warn_once(self.name, "two instruments feed one series; %s is shown", how)
                # The overflow of the SDK itself, from 1.45.2 on, is ours too.
                place: int | None = position
                if series not in admitted and series != beyond:
                    if key not in memory.full and len(admitted) < stream.max_series:
                        admitted.add(series)
                    else:
                        exceeded = True
                        if self.kind != "gauge":
                            memory.full.add(key)
                        if isinstance(value, Histogram):
                            _merge_exemplars(memory.exemplars, (self.name, series), (self.name, beyond))
                        place, series = None, beyond
                line = self._lines.get(series)
                # Values that differ in type only, as 1 and "1", are two sets of attributes and one of labels.
                if line is not None and stream.additive:
                    value = _sum(line[2], value)
                self._shapes.add(frozenset(overflow) if place is None else stream.rows.names[position])
                self._lines[series] = number, place, value
            if exceeded:
                _warn_once(self.name, "more than %d label sets; the rest is one series", stream.max_series)

    def live(self) -> set[SeriesId]:
        """Return the series that are on the page or in the overflow."""
        return self._whole.rows.distinct if self._whole else self._fed_by.keys() | self._lines.keys()

    def shown_as(self, kind: str, name: str, memory: Memory) -> Family:
        """Return the family with all its series."""
        ids, texts, values = self._shown()
        if self.kind == "histogram" and memory.exemplars:
            values = [self._with_exemplars(series, value, memory) for series, value in zip(ids, values, strict=True)]
        series = list(map(Series, texts, values))
        if self.kind == "counter" and any(value < 0 for value in values if not isinstance(value, Histogram)):
            _warn_once(self.name, "a counter below zero is not shown")
            series = [one for one in series if isinstance(one.value, Histogram) or not one.value < 0]
        # A family of unknown type is named like its only sample, and that does not end in a unit.
        unit = "" if kind == "unknown" else self.unit
        last = kind == "gauge" and not self.streams[0][1].additive
        return Family(f"{name}_total" if kind == "counter" else name, self.documentation, kind, unit, series, last=last)

    def _shown(self) -> tuple[Iterable[SeriesId], Iterable[str], Sequence[Value]]:
        """Return the lines: what identifies each, its labels as printed, its value."""
        if self._whole:
            rows = self._whole.rows
            return rows.ids, rows.shown(rows.all_names), self._whole.values
        names = frozenset[str]().union(*self._shapes)
        shown = [stream.rows.shown(names) for _, stream in self.streams]
        beyond = [filled(spelled(_overflow(stream)), names) for _, stream in self.streams]
        lines = self._lines.values()
        texts = [beyond[number] if place is None else shown[number][place] for number, place, _ in lines]
        return self._lines.keys(), texts, [value for _, _, value in lines]

    def _with_exemplars(self, series: SeriesId, value: Value, memory: Memory) -> Value:
        exemplars = memory.exemplars.get((self.name, series))
        return value._replace(exemplars=exemplars) if exemplars and isinstance(value, Histogram) else value


def _overflow(stream: Stream) -> Labels:
    return {**stream.base, OTEL_METRIC_OVERFLOW_LABEL: "true"}


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
        kind, _ = form
        families.append(
            Family("target_info", "Target metadata", kind, series=[Series(spelled(target), 1.0) for target in targets])
        )
    for draft in drafts:
        form = chosen.get((draft.name, draft.kind))
        if form is not None:
            families.append(draft.shown_as(*form, memory))
    return [family for family in families if family.series]


def _take(forms: Iterable[tuple[str, str]], taken: set[str]) -> tuple[str, str] | None:
    """Return the first type and name that are free, and take all that belongs to them."""
    for kind, name in forms:
        names = {name + suffix for suffix in _OWN_NAMES[kind]}
        if taken.isdisjoint(names):
            taken |= names
            return kind, name
    return None


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
    if isinstance(data, (OTelHistogram, ExponentialHistogram)):
        return "histogram"
    return None


def _histogram(point: HistogramDataPoint | ExponentialHistogramDataPoint) -> Histogram:
    if isinstance(point, HistogramDataPoint):
        bounds, counts = _with_infinity(point.explicit_bounds), point.bucket_counts
    else:
        bounds, counts = _explicit(point)
    # With values below zero the sum can fall: no sum then, and so no count (OpenMetrics 1.0, "Histogram").
    return Histogram(bounds, list(accumulate(counts)), None if bounds[0] < 0 or point.min < 0 else point.sum)


@lru_cache(maxsize=256)
def _with_infinity(bounds: tuple[float, ...]) -> tuple[float, ...]:
    return (*bounds, INFINITY)


def _explicit(point: ExponentialHistogramDataPoint) -> tuple[tuple[float, ...], list[int]]:
    """Turn exponential buckets into ones at powers of two, whose bounds stay where they are from scrape to scrape.

    The scale of the SDK falls as values spread, so any finer bounds would be gone at the next scrape.
    """
    by_bound = {0.0: point.zero_count, INFINITY: 0}
    scale = point.scale
    for buckets, above_zero in ((point.positive, True), (point.negative, False)):
        used = [index for index, count in enumerate(buckets.bucket_counts) if count]
        # Histogram at the ends that nothing fell into come and go with the room that the SDK sets aside.
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
    """Add two values of one kind."""
    if not isinstance(one, Histogram) or not isinstance(other, Histogram):
        assert not isinstance(one, Histogram)
        assert not isinstance(other, Histogram)
        return one + other
    return one.plus(other)


def _keep(kept: dict[float, Exemplar], bounds: tuple[float, ...], exemplars: Sequence[OTelExemplar]) -> None:
    """Put exemplars into the buckets they fall into, in the place of older ones."""
    for exemplar in exemplars:
        if exemplar.trace_id is None or exemplar.span_id is None:
            continue
        labels = f'span_id="{exemplar.span_id:016x}",trace_id="{exemplar.trace_id:032x}"'
        fresh = Exemplar(labels, exemplar.value, exemplar.time_unix_nano / 1e9)
        _keep_newer(kept, bounds[bisect_left(bounds, exemplar.value)], fresh)


def _keep_newer(kept: dict[float, Exemplar], bound: float, fresh: Exemplar) -> None:
    old = kept.get(bound)
    if old is None or old.timestamp <= fresh.timestamp:
        kept[bound] = fresh


def _merge_exemplars(
    kept: dict[tuple[str, SeriesId], dict[float, Exemplar]], source: tuple[str, SeriesId], target: tuple[str, SeriesId]
) -> None:
    for bound, exemplar in kept.get(source, {}).items():
        _keep_newer(kept.setdefault(target, {}), bound, exemplar)


def _warn_once(name: str, message: str, *arguments: object) -> None:
    what = f"{name}: {message % arguments}"
    if what not in _warned and len(_warned) < 1000:
        _warned.add(what)
        logger.warning("otel_llm: %s", what)
