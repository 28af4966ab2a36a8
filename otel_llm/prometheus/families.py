"""Families of series as every page of ours is written from: labels spelled once, values as they are.

Source: Prometheus "Exposition formats", text format 0.0.4; OpenMetrics 1.0.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from operator import add
from typing import NamedTuple

from prometheus_client import Metric
from prometheus_client.core import Exemplar as ClientExemplar
from prometheus_client.core import Sample
from prometheus_client.utils import floatToGoString  # pyright: ignore[reportUnknownVariableType]

INFINITY = float("inf")

Labels = Mapping[str, str]


class Exemplar(NamedTuple):
    """A measurement that stands for those of its bucket."""

    labels: str
    """As those of a series."""
    value: float
    timestamp: float
    """Seconds since the epoch."""


NO_EXEMPLARS: Mapping[float, Exemplar] = {}


class Histogram(NamedTuple):
    """What one series of a histogram counted."""

    bounds: tuple[float, ...]
    """Upper bounds, rising; the last one is infinite."""
    counts: Sequence[int]
    """Cumulative, by bound."""
    sum: float | None
    """Nothing where values can be below zero: there is no count either then."""
    exemplars: Mapping[float, Exemplar] = NO_EXEMPLARS
    """By upper bound."""

    def up_to(self, bound: float) -> int:
        """Return how many were counted up to the nearest of its own bounds that is not above this one."""
        position = bisect_right(self.bounds, bound)
        return self.counts[position - 1] if position else 0

    def plus(self, other: Histogram) -> Histogram:
        """Add another; where bounds differ, each counts at a bound of the other what it has at its own below."""
        total = None if self.sum is None or other.sum is None else self.sum + other.sum
        if self.bounds == other.bounds:
            bounds = self.bounds
            counts = list(map(add, self.counts, other.counts))
        else:
            bounds = tuple(sorted({*self.bounds, *other.bounds}))
            counts = [self.up_to(bound) + other.up_to(bound) for bound in bounds]
        exemplars = self.exemplars
        if other.exemplars:
            exemplars = dict(exemplars)
            for bound, exemplar in other.exemplars.items():
                known = exemplars.get(bound)
                if known is None or known.timestamp <= exemplar.timestamp:
                    exemplars[bound] = exemplar
        return Histogram(bounds, counts, total, exemplars)


class Series(NamedTuple):
    """One set of labels and its value."""

    labels: str
    """As printed, without braces and without ``le``: see `spelled`."""
    value: float | Histogram


class Family(NamedTuple):
    """Series of one name."""

    name: str
    """As HELP and TYPE of the text format 0.0.4 have it: with ``_total`` of a counter, with ``_info`` of an info."""
    help: str
    kind: str
    """``counter``, ``gauge``, ``histogram``, ``info`` or ``unknown``."""
    unit: str = ""
    series: Sequence[Series] = ()
    samples: frozenset[str] | None = None
    """Full names of the samples that are shown; nothing for all of them."""
    last: bool = False
    """Whether a gauge shows the value that came last, of several processes the newest; else theirs are added up."""

    def shows(self, name: str) -> bool:
        """Return whether samples of this full name are shown."""
        return self.samples is None or name in self.samples


def spelled(labels: Labels) -> str:
    """Return labels as a page prints them, sorted by name: ``model="m",provider="p"``; names are taken as they are."""
    return ",".join([f'{name}="{escaped(labels[name])}"' for name in sorted(labels)])


def escaped(value: str) -> str:
    """Return a label value as a page prints it between quotes."""
    if "\\" in value or "\n" in value or '"' in value:
        return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return value


_LABEL = re.compile(r'([^="]*)="([^"\\]*(?:\\.[^"\\]*)*)",?', re.DOTALL)
_ESCAPE = re.compile(r"\\(.)")


def parsed(labels: str) -> dict[str, str]:
    """Return the labels that were spelled."""
    return {name: _ESCAPE.sub(_unescaped, value) if "\\" in value else value for name, value in _LABEL.findall(labels)}


def _unescaped(match: re.Match[str]) -> str:
    return "\n" if match[1] == "n" else match[1]


@lru_cache(maxsize=256)
def spelled_bounds(bounds: tuple[float, ...]) -> tuple[str, ...]:
    """Return bounds as ``le`` has them."""
    return tuple(map(floatToGoString, bounds))  # pyright: ignore[reportUnknownArgumentType]


def restrict(families: Iterable[Family | Metric], names: Iterable[str]) -> list[Family | Metric]:
    """Return the families that have samples of these full names, with those samples only."""
    wanted = frozenset(names)
    restricted: list[Family | Metric] = []
    for family in families:
        if isinstance(family, Metric):
            samples = [sample for sample in family.samples if sample.name in wanted]
            if samples:
                left = Metric(family.name, family.documentation, family.type, family.unit)
                left.samples = samples
                restricted.append(left)
        elif family.series and not wanted.isdisjoint(sample_names(family)):
            restricted.append(family._replace(samples=wanted))
    return restricted


def sample_names(family: Family) -> set[str]:
    """Return the full names of the samples that a family has."""
    name = family.name
    if family.kind != "histogram":
        return {name}
    summed = any(isinstance(series.value, Histogram) and series.value.sum is not None for series in family.series)
    return {f"{name}_bucket", f"{name}_count", f"{name}_sum"} if summed else {f"{name}_bucket"}


def open_form(family: Family) -> tuple[str, str, str]:
    """Return name, type and unit in OpenMetrics, where a counter needs its suffix, as do an info and a unit."""
    name, kind = open_name(family)
    unit = family.unit if kind != "unknown" and name.endswith(f"_{family.unit}") else ""
    return name, kind, unit


def open_name(family: Family) -> tuple[str, str]:
    """Return name and type in OpenMetrics."""
    name, kind = family.name, family.kind
    if kind == "counter":
        base = name.removesuffix("_total")
        return (base, kind) if base not in ("", name) else (name, "unknown")
    if kind == "info":
        return (name.removesuffix("_info"), kind) if name.endswith("_info") else (name, "gauge")
    return name, kind


def to_metric(family: Family) -> Metric:
    """Return the family as a collector of `prometheus_client` hands it out.

    Raises:
        ValueError: the name or the type is not valid.
    """
    name, kind, unit = open_form(family)
    metric = Metric(name, family.help, kind, unit)
    samples = metric.samples
    for series in family.series:
        labels = parsed(series.labels)
        value = series.value
        if not isinstance(value, Histogram):
            samples.append(Sample(family.name, labels, value))
            continue
        for bound, le, count in zip(value.bounds, spelled_bounds(value.bounds), value.counts, strict=True):
            exemplar = value.exemplars.get(bound)
            samples.append(
                Sample(f"{name}_bucket", {**labels, "le": le}, count, None, exemplar and _client_exemplar(exemplar))
            )
        if value.sum is not None:
            samples.append(Sample(f"{name}_count", labels, value.counts[-1]))
            samples.append(Sample(f"{name}_sum", labels, value.sum))
    if family.samples is not None:
        metric.samples = [sample for sample in samples if sample.name in family.samples]
    return metric


def _client_exemplar(exemplar: Exemplar) -> ClientExemplar:
    return ClientExemplar(parsed(exemplar.labels), exemplar.value, exemplar.timestamp)
