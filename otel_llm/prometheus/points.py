"""Labels of data points, named and spelled once for as long as the SDK hands out the same attributes.

Source: OpenTelemetry specification, "Prometheus and OpenMetrics Compatibility".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from operator import is_
from typing import Any, NamedTuple

from opentelemetry.exporter.prometheus._mapping import sanitize_attribute
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from otel_llm.prometheus.families import parsed, spelled

Labels = dict[str, str]
SeriesId = bytes
"""What identifies a series within its family; an empty label is no label (Prometheus data model)."""


class Rows:
    """The labels of the points of one stream, in the order of the points."""

    def __init__(self, around: tuple[Labels, Labels], attributes: Sequence[object], rows: Sequence[_Row]) -> None:
        self._around = around
        self._attributes = attributes
        self.ids = [row.id for row in rows]
        self.distinct = set(self.ids)
        self.names = [row.names for row in rows]
        self.all_names: frozenset[str] = frozenset().union(*self.names)
        self._texts = [row.text for row in rows]
        self._spelled_with = [row.spelled_with for row in rows]
        self._shown_with: frozenset[str] | None = None

    def is_of(self, around: tuple[Labels, Labels], attributes: Sequence[object]) -> bool:
        """Return whether these are the labels of these very attributes."""
        return (
            len(attributes) == len(self._attributes)
            and all(map(is_, attributes, self._attributes))
            and around == self._around
        )

    def known(self, around: tuple[Labels, Labels]) -> dict[int, _Row]:
        """Return what is known by the identity of the attributes."""
        if around != self._around:
            return {}
        rows = map(_Row, self.ids, self.names, self._texts, self._spelled_with)
        return dict(zip(map(id, self._attributes), rows, strict=True))

    def shown(self, names: frozenset[str]) -> list[str]:
        """Return the labels as printed, each with all *names*.

        Prometheus takes an empty label for an absent one; upstream fills up like this too.
        """
        if names != self._shown_with:
            self._texts = [
                text if own == names else filled(text, names)
                for text, own in zip(self._texts, self._spelled_with, strict=True)
            ]
            self._spelled_with = [names] * len(self._texts)
            self._shown_with = names
        return self._texts


class _Row(NamedTuple):
    id: SeriesId
    names: frozenset[str]
    text: str
    spelled_with: frozenset[str]
    """The names that the text has."""


class LabelCache:
    """The labels of one reader's data points."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], Rows] = {}
        self._asked: dict[tuple[object, ...], Rows] = {}

    def rows(self, stream: tuple[object, ...], shared: Labels, scope: Labels, attributes: Sequence[object]) -> Rows:
        """Return the labels of a stream's points.

        Args:
            stream: type and whatever names it; streams that have this in common are told apart by their order.
            shared: what every series has, where no attribute says otherwise.
            scope: what every series has, whatever the attributes say.
            attributes: those of each point of the stream; the same object each time, or they are spelled anew.
        """
        while stream in self._asked:
            stream = (*stream, "again")
        around = shared, scope
        rows = self._known.get(stream)
        if rows is None or not rows.is_of(around, attributes):
            rows = _spelled(around, attributes, rows.known(around) if rows else {}, stream[0])
        self._asked[stream] = rows
        return rows

    def forget(self) -> None:
        """Forget what was not asked for since the last time."""
        self._known, self._asked = self._asked, {}


def _spelled(around: tuple[Labels, Labels], attributes: Sequence[Any], known: dict[int, _Row], kind: object) -> Rows:
    shared, scope = around
    rows: list[_Row] = []
    # The same few sets of names, over and over.
    shapes = {row.names: row.names for row in known.values()}
    for one in attributes:
        row = known.get(id(one))
        if row is None:
            labels = {**shared, **labelled(one or {}), **scope}
            if kind == "histogram" and "le" in labels:
                # As Prometheus names a scraped label that it needs itself.
                labels["exported_le"] = labels.pop("le")
            names = frozenset(labels)
            names = shapes.setdefault(names, names)
            row = _Row(series_id(labels), names, spelled(labels), names)
        rows.append(row)
    return Rows(around, attributes, rows)


def filled(text: str, names: frozenset[str]) -> str:
    """Return spelled labels with all *names*, and without other empty ones."""
    own = {name: value for name, value in parsed(text).items() if value or name in names}
    return spelled({**dict.fromkeys(names, ""), **own})


def series_id(labels: Labels) -> SeriesId:
    """Return what identifies the series: short, since there is one for each, and as good as never the same."""
    text = spelled({name: value for name, value in labels.items() if value})
    return blake2b(text.encode(), digest_size=16).digest()


def scope_labels(scope: InstrumentationScope) -> Labels:
    """Return the labels that tell the scope."""
    labels = labelled({f"otel_scope_{key}": value for key, value in (scope.attributes or {}).items()})
    labels["otel_scope_name"] = _text(scope.name or "")
    labels["otel_scope_version"] = _text(scope.version or "")
    labels["otel_scope_schema_url"] = _text(scope.schema_url or "")
    return labels


def labelled(attributes: Mapping[str, Any]) -> Labels:
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


def _text(value: object) -> str:
    """Spell a label value: a string enum as its value, as OTLP sends it, and JSON for what is no string."""
    return encodable(str.__str__(value) if isinstance(value, str) else json.dumps(value, default=str))


def encodable(text: str) -> str:
    """Replace what UTF-8 cannot carry: one lone surrogate would cost the whole page."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "replace").decode()
    return text
