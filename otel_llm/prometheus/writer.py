"""Write a page: families as text, in the format that the scraper asks for.

Both formats are those of `prometheus_client`, byte by byte, but for two things: a counter may lack ``_total`` in the
text format, and a colon in a name stays one in OpenMetrics.
Source: Prometheus "Exposition formats", text format 0.0.4; OpenMetrics 1.0.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from io import BytesIO
from typing import Any, NamedTuple

from prometheus_client import Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.utils import floatToGoString  # pyright: ignore[reportUnknownVariableType]

from otel_llm.prometheus.families import (
    NO_EXEMPLARS,
    Exemplar,
    Family,
    Histogram,
    Series,
    open_form,
    spelled_bounds,
    to_metric,
)

Encoder = Callable[[Any], bytes]
_spell: Callable[[float], str] = floatToGoString  # pyright: ignore[reportUnknownVariableType]

_BLOCK = 1000
"""How many series are written at once: one after the other would be slow, and all of them would be there twice."""
_PLAIN = 1_000_000
"""Where Go goes over to exponents."""
_END = b"# EOF\n"

_BEFORE_LE = re.compile(
    r'(?:(?:[0-9A-Z_a-k]\w*|l(?:[0-9A-Z_a-d]\w*)?)?="[^"\\]*(?:\\.[^"\\]*)*"(?:,|$))*', re.ASCII | re.DOTALL
)


class Format(NamedTuple):
    """What a scraper gets."""

    content_type: str
    encode: Encoder
    """How `prometheus_client` writes what a collector hands out."""

    @property
    def is_openmetrics(self) -> bool:
        """Whether this is OpenMetrics."""
        return self.content_type.startswith("application/openmetrics-text")

    def write(self, families: Iterable[Family | Metric]) -> bytes:
        """Return the page."""
        # It hands out what was written without another copy.
        page = BytesIO()
        page.writelines(self.blocks(families))
        return page.getvalue()

    def blocks(self, families: Iterable[Family | Metric]) -> Iterator[bytes]:
        """Return the page in parts, for whoever sends or compresses it as it comes: most of the memory is the page."""
        if "escaping=dots" in self.content_type or "escaping=values" in self.content_type:
            # Every name is spelled in another way; nobody who scrapes pages of ours asks for it.
            yield self.encode(_Metrics([to_metric(one) if isinstance(one, Family) else one for one in families]))
            return
        for family in families:
            if isinstance(family, Metric):
                yield self.encode(_Metrics([family])).removesuffix(_END)
                continue
            yield _encoded(_open_head(family) if self.is_openmetrics else _text_head(family))
            yield from map(_encoded, _blocks(family, exemplars=self.is_openmetrics))
        if self.is_openmetrics:
            yield _END


def choose(accept: str) -> Format:
    """Return the format for an ``Accept`` header, as `prometheus_client` chooses it: the first one that it knows."""
    try:
        encode, content_type = choose_encoder(accept)
    except (ValueError, TypeError):  # of a version that is no number
        encode, content_type = choose_encoder("")
    return Format(content_type, encode)


TEXT = choose("")
OPENMETRICS = choose("application/openmetrics-text; version=1.0.0")


def text(families: Iterable[Family | Metric]) -> bytes:
    """Return the page in text format 0.0.4."""
    return TEXT.write(families)


def openmetrics(families: Iterable[Family | Metric]) -> bytes:
    """Return the page in OpenMetrics 1.0."""
    return OPENMETRICS.write(families)


class _Metrics:
    """A registry of metrics that are collected already."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterable[Metric]:
        """Return them."""
        return self._metrics


def _encoded(block: str) -> bytes:
    return block.encode("utf-8", "replace")


def _text_head(family: Family) -> str:
    kind = {"info": "gauge", "unknown": "untyped"}.get(family.kind, family.kind)
    described = family.help.replace("\\", "\\\\").replace("\n", "\\n")
    return f"# HELP {family.name} {described}\n# TYPE {family.name} {kind}\n"


def _open_head(family: Family) -> str:
    name, kind, unit = open_form(family)
    described = family.help.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
    return f"# HELP {name} {described}\n# TYPE {name} {kind}\n" + (f"# UNIT {name} {unit}\n" if unit else "")


def _blocks(family: Family, *, exemplars: bool) -> Iterator[str]:
    """Write the samples, many at once."""
    name, series = family.name, family.series
    if family.kind != "histogram":
        for start in range(0, len(series), _BLOCK):
            yield _numbers(name, series[start : start + _BLOCK])
        return
    for labels, value in series:
        assert isinstance(value, Histogram)
        parts = ""
        if family.shows(f"{name}_bucket"):
            parts = _buckets(name, labels, value, value.exemplars if exemplars else NO_EXEMPLARS)
        if value.sum is not None:
            braced = f"{{{labels}}}" if labels else ""
            if family.shows(f"{name}_count"):
                parts += f"{name}_count{braced} {number(value.counts[-1])}\n"
            if family.shows(f"{name}_sum"):
                parts += f"{name}_sum{braced} {number(value.sum)}\n"
        yield parts


def _numbers(name: str, series: Sequence[Series]) -> str:
    return "".join(
        [
            f"{name}{{{labels}}} {number(value)}\n" if labels else f"{name} {number(value)}\n"
            for labels, value in series
            if not isinstance(value, Histogram)
        ]
    )


def _buckets(name: str, labels: str, value: Histogram, exemplars: Mapping[float, Exemplar]) -> str:
    at = le_position(labels)
    before, after = labels[:at], labels[at:]
    head = f'{name}_bucket{{{before}{"" if after or not before else ","}le="'
    tail = f'",{after}}} ' if after else '"} '
    bounds = spelled_bounds(value.bounds)
    counts = value.counts
    if not exemplars and counts[-1] < _PLAIN:
        return "".join([f"{head}{le}{tail}{count}.0\n" for le, count in zip(bounds, counts, strict=True)])
    return "".join(
        [
            f"{head}{le}{tail}{number(count)}{_exemplar(exemplars.get(bound))}\n"
            for bound, le, count in zip(value.bounds, bounds, counts, strict=True)
        ]
    )


def _exemplar(exemplar: Exemplar | None) -> str:
    if exemplar is None:
        return ""
    return f" # {{{exemplar.labels}}} {number(exemplar.value)} {exemplar.timestamp}"


@lru_cache(maxsize=16_384)
def le_position(labels: str) -> int:
    """Return where among sorted labels ``le`` has its place."""
    found = _BEFORE_LE.match(labels)
    assert found
    return found.end()


def number(value: float) -> str:
    """Return a value as Go spells it."""
    if type(value) is int and -_PLAIN < value < _PLAIN:
        return f"{value}.0"
    if type(value) is float and -_PLAIN < value < _PLAIN:
        return repr(value)
    return _spell(value)
