"""A shorter way for what is observed: from our callbacks to our readers, past the SDK, which takes long for each point.

While a reader of ours collects, a callback leaves its observations with the reader and gives the SDK only the first of
them. With that the metric has its place on the page, its scope and its type, as if the SDK had carried them all.
Whatever the SDK may do to observations on their way, now or in a later version, sends all of them by way of it.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from threading import local
from typing import Any, NamedTuple

from opentelemetry.util.types import AttributeValue

_LIMIT = 2000
"""Most points of an observed metric, where the reader does not say: from 1.45.2 on the SDK folds what is beyond."""


class Observations(NamedTuple):
    """What a callback observed."""

    attributes: Sequence[Mapping[str, AttributeValue]]
    """The same mapping each time for the same series."""
    values: Sequence[int | float]


class Shortcut:
    """What callbacks leave with a reader in one collection."""

    def __init__(self, reader: object) -> None:
        self.reader = reader
        self._left: dict[tuple[object, str], Observations] = {}

    def leave(self, instrument: object, observations: Observations) -> bool:
        """Leave what an instrument observed; False where all of it has to go by way of the SDK."""
        points = len(observations.values)
        metric = _passing(self.reader, instrument, points) if points > 1 else None
        return metric is not None and self._left.setdefault(metric, observations) is observations

    def take(self, scope: object, name: str, points: Sequence[Any]) -> Observations | None:
        """Return what was left for a metric of which the SDK returns these points."""
        left = self._left.get((scope, name))
        if left is None or len(points) != 1:
            return None
        point = points[0]
        if point.value != left.values[0] or point.attributes != left.attributes[0]:
            return None
        return self._left.pop((scope, name))


class _Here(local):
    """What this thread is at: the SDK calls back in the thread that collects."""

    shortcut: Shortcut | None = None


_here = _Here()


@contextmanager
def opened(reader: object) -> Generator[None]:
    """Have callbacks leave with the reader what this thread is about to collect for it."""
    before, _here.shortcut = _here.shortcut, Shortcut(reader)
    try:
        yield
    finally:
        _here.shortcut = before


def current() -> Shortcut | None:
    """Return the shortcut of the collection that this thread is at."""
    return _here.shortcut


def _passing(reader: Any, instrument: Any, points: int) -> tuple[object, str] | None:
    """Return scope and name under which the SDK would hand the reader these points as they are; None if unknown."""
    try:
        from opentelemetry.sdk.metrics.export import AggregationTemporality
        from opentelemetry.sdk.metrics.view import DefaultAggregation

        own: Any = getattr(instrument, "_real_instrument", instrument)  # of a proxy
        kind: Any = own.__class__
        consumer = own._measurement_consumer
        if (
            # Somebody's callback may have another provider collect in the midst of this collection.
            reader._collect.__self__ is consumer
            and reader._instrument_class_temporality[kind] is AggregationTemporality.CUMULATIVE
            and type(reader._instrument_class_aggregation[kind]) is DefaultAggregation
            and getattr(reader, "_instrument_class_cardinality_limit", {}).get(kind, _LIMIT) >= points
            and not any(view._match(own) for view in consumer._sdk_config.views)
        ):
            return own.instrumentation_scope, own.name
    except (AttributeError, ImportError, LookupError, TypeError):
        pass
    return None
