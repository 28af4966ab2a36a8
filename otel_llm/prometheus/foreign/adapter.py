"""Calls of clients that we do not patch, as other instrumentations count them in ``gen_ai.client.*``.

A point is taken as it is recorded, before the views and the aggregations of the SDK: what views rename, cut or bucket
otherwise is exact here, a call is judged once and for all, the labels of its context are still there, and instruments
that are none of ours cost a look into a dict. Decided in ``docs/decisions/2026-11-21-foreign-points-as-recorded.md``.
"""

from __future__ import annotations

import logging
import weakref
from bisect import bisect_left
from collections.abc import Callable, Iterator, Mapping
from itertools import islice
from threading import RLock
from typing import Any

from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, MetricsData
from opentelemetry.sdk.version import __version__ as sdk_version
from opentelemetry.util.types import AttributeValue

from otel_llm import faults, forked
from otel_llm.audience import is_proxy
from otel_llm.context import BLOCK_KEY, labels_of
from otel_llm.instrumentor import Instrumentor
from otel_llm.ledger import OVERFLOW, Cell, Ledger
from otel_llm.prometheus.foreign.points import (
    SUMS,
    UNKNOWN,
    Feed,
    Models,
    Point,
    column_of,
    failure_of,
    feed_of,
    point_of,
)
from otel_llm.state import Facts, Totals, beyond
from otel_llm_semconv import others

logger = logging.getLogger("otel_llm")


class ForeignReader(MetricReader):
    """Read ``gen_ai.client.*`` of others, less the calls that the ledger has.

    Args:
        ledger: where the calls of patched clients are; it also says what the dialects want to be kept, and the cap.
        patched: whether we patch a client, by the name of its package; else those whose instrumentors are on.
    """

    def __init__(self, ledger: Ledger, patched: Callable[[str], bool] | None = None) -> None:
        super().__init__()
        self._ledger = ledger
        self._patched = patched or is_patched
        self._provider: Callable[[], Any] = lambda: None
        self._lock = RLock()
        self._is_strange = False
        """Whether the SDK is not built as we know it."""
        self._attaching = RLock()
        """Another one, since locks of the SDK are taken under it."""
        self._feeds: dict[Any, Feed | None] = {}
        self._columns = ledger.columns
        self._own = Models()
        """What the ledger has, of so many lanes, series and calls that are counted under another model."""
        self._own_sizes = (0, 0, 0)
        self._told = Models()
        self._frameworks: dict[Any, str] = {}
        """The framework that tells of a model."""
        self._clients: dict[Any, str] = {}
        """The instrumentation of a provider's client, where there are two."""
        self._sources: dict[Any, str] = {}
        """The instrument of a scope that feeds a column, where it has two for the same calls."""
        self._told_dropped: set[tuple[str, str]] = set()
        self._cells: dict[Point, Cell] = {}
        self._folded_cells: dict[Facts, Cell] = {}
        self.folded = 0
        """Calls that are counted beyond the cap."""
        _readers.add(self)

    def attach(self, provider: object) -> bool:
        """Read what is recorded with a provider from now on, and with the global one behind a proxy.

        Returns:
            Whether it is attached: an SDK has to be there, and to be built as we know it.
        """
        if is_proxy(provider):
            provider = metrics.get_meter_provider()
        if self._is_strange or not isinstance(provider, MeterProvider):
            return False
        with self._attaching:
            return self._provider() is provider or self._attach(provider)

    def _attach(self, provider: MeterProvider) -> bool:
        self.detach()
        provider.add_metric_reader(self)
        self._provider = weakref.ref(provider)
        # Nobody has this reader run the callbacks of observable instruments, which a scrape may run already.
        self._set_collect_callback(_collect_nothing)
        try:
            consumer: Any = provider._measurement_consumer
            storage: Any = consumer._reader_storages[self]
            storage.consume_measurement = self._consumer(storage._sdk_config.views)
        except (AttributeError, KeyError):
            self.detach()
            self._is_strange = True
            logger.warning(
                "otel_llm: opentelemetry-sdk %s is not built as we know it; metrics of clients that otel_llm does not "
                "patch are missing on the pages of the dialects",
                sdk_version,
            )
            return False
        return True

    def detach(self) -> None:
        """Read no more; what was read stays."""
        with self._attaching:
            provider, self._provider = self._provider(), lambda: None
            if provider is not None:
                provider.remove_metric_reader(self)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Do nothing: what was read stays, so that no counter falls."""

    def _receive_metrics(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> None:
        """Do nothing: there is nothing to collect."""

    def cells(self) -> list[tuple[Facts, Totals]]:
        """Return the totals, in the order in which they came; counts are on the bounds that the ledger has now."""
        with self._lock:
            self._keep_columns()
            cells = [*self._cells.values(), *self._folded_cells.values()]
            return [(cell.facts, cell.totals()) for cell in cells if cell.facts is not None]

    def _consumer(self, views: Any) -> Callable[..., None]:
        """Return what takes each measurement of the provider: of most there is nothing to do, so it is quick."""
        feeds = self._feeds
        feeds.clear()
        find = feeds.get
        unseen: Any = object()

        def consume_measurement(measurement: Any, *_: object) -> None:
            feed = find(measurement.instrument, unseen)
            if feed is None:
                return
            if feed is unseen:
                self._admit(measurement.instrument, views)
                feed = find(measurement.instrument)
            if feed is not None:
                self._take(feed, measurement)

        return consume_measurement

    @faults.guarded
    def _admit(self, instrument: Any, views: Any) -> None:
        """Find out once how an instrument is read."""
        feed = None
        try:
            feed = feed_of(instrument, views)
        finally:
            self._feeds[instrument] = feed

    @faults.guarded
    def _take(self, feed: Feed, measurement: Any) -> None:
        """Count a point, unless its call is counted elsewhere."""
        attributes: Mapping[str, AttributeValue] = measurement.attributes or {}
        column = column_of(feed, attributes)
        if column is None or (feed.client is not None and self._patched(feed.client)):
            return
        with self._lock:
            self._keep_columns()
            point = point_of(feed, attributes)
            labels = self._labels(measurement.context, failed=point.error_type is not None)
            if labels:
                point = point._replace(labels=labels)
            if point.operation in others.NOT_CALLS:
                return
            model = self._model_of_block(measurement.context)
            if model is None or self._is_elsewhere(feed, point, inside=bool(model)):
                return
            if model:
                point = point._replace(request_model=model)
            if feed.is_dropped:
                self._tell_dropped(feed)
                return
            value = measurement.value * feed.scale
            if self._is_first(self._sources, (feed.scope, point.operation, column), feed.name):
                cell = self._cell(point, column == "duration")
                if column == "duration":
                    cell.seconds += value
                    cell.counts[bisect_left(self._columns.bounds["duration"], value)] += 1
                elif column in SUMS:
                    total = SUMS[column]
                    setattr(cell, total, int(value) + (getattr(cell, total) or 0))
            if not feed.is_distribution or column == "duration" or column not in self._columns.bounds:
                return
            if self._is_first(self._sources, (feed.scope, point.operation, column, "distribution"), feed.name):
                self._cell(point, False).distribute(column, value, self._columns.bounds)

    def _tell_dropped(self, feed: Feed) -> None:
        if (feed.scope, feed.name) not in self._told_dropped:
            self._told_dropped.add((feed.scope, feed.name))
            logger.warning(
                "otel_llm: a View drops %s of %s, so the pages of the dialects do not have it either",
                feed.name,
                feed.scope,
            )

    def _labels(self, context: Any, *, failed: bool) -> tuple[tuple[str, str], ...]:
        """Return the labels of the context by which the dialects tell calls apart."""
        labels = labels_of(context)
        if not labels:
            return ()
        known = labels.among(self._columns.labels)
        wanted = self._columns.failure_labels
        if failed and wanted:
            known = tuple(sorted({*known, *(label for label in labels.items() if label[0] in wanted)}))
        return known

    def _model_of_block(self, context: Any) -> str | None:
        """Return the model of the block in which it happens, empty without one; None where we see the call inside."""
        block: Any = context.get(BLOCK_KEY) if context else None
        return "" if block is None else block.take_point()

    def _is_elsewhere(self, feed: Feed, point: Point, *, inside: bool) -> bool:
        """Whether the call is in the ledger, or is counted here by the instrumentation of the client it went by."""
        any_model = OVERFLOW in self._ledger.lanes
        if not inside and self._models_of_ledger().have(point, loosely=feed.is_framework, any_model=any_model):
            return True
        models = point.models
        if feed.is_framework:
            # Of two frameworks the inner one tells of a call first.
            return (
                not models
                or point.provider in self._clients
                or self._told.have(point, loosely=True)
                or not all(self._is_first(self._frameworks, model, feed.scope) for model in models)
            )
        if feed.provider != UNKNOWN and not self._is_first(self._clients, feed.provider, feed.scope):
            return True
        if len(self._told) < self._ledger.max_series:
            for model in models:
                self._told.add(point.provider, model)
        return False

    def _is_first(self, known: dict[Any, str], key: object, who: str) -> bool:
        """Whether nobody else was the first to tell of something."""
        first = known.get(key)
        if first is None and len(known) < self._ledger.max_series:
            known[key] = who
        return first is None or first == who

    def _models_of_ledger(self) -> Models:
        """Return what the ledger has begun or counted; what is new is added as it grows."""
        lanes, series, renamed = self._ledger.lanes, self._ledger._series, self._ledger.renamed
        begun, ended, told = self._own_sizes
        if len(lanes) > begun or len(series) > ended or len(renamed) > told:
            new_lanes, new_series = list(islice(lanes, begun, None)), list(islice(series, ended, None))
            new_names = list(islice(renamed, told, None))
            self._own_sizes = begun + len(new_lanes), ended + len(new_series), told + len(new_names)
            for key in new_names:
                self._own.add(*_texts(key))
            for key in new_lanes:
                if key != OVERFLOW:
                    self._own.add(*_texts(key[1:3]))
            for key in new_series:
                self._own.add(*_texts(key[1:3]))
                self._own.add(*_texts((key[1], key[3])))
        return self._own

    def _cell(self, point: Point, is_call: bool) -> Cell:
        cell = self._cells.get(point)
        if cell is not None:
            return cell
        failed = None if point.error_type is None else failure_of(point.error_type)
        if len(self._cells) < self._ledger.max_series:
            facts = Facts(*point[:6], labels=point.labels, failure=failed)
            cell = self._cells[point] = Cell((), facts, self._columns.bounds)
            return cell
        self.folded += is_call
        self._ledger.folded += is_call
        extra = tuple([label for label in point.labels if label[0] in self._columns.failure_labels]) if failed else ()
        facts = beyond(failed, extra)
        return self._folded_cells.setdefault(facts, Cell((), facts, self._columns.bounds))

    def _keep_columns(self) -> None:
        """Follow the ledger to other buckets, as it goes there itself."""
        old, new = self._columns.bounds, self._ledger.columns.bounds
        self._columns = self._ledger.columns
        if old is new:
            return
        for cell in (*self._cells.values(), *self._folded_cells.values()):
            cell.go_over(old, new)


def _collect_nothing(*_: object, **__: object) -> Any:
    return None


def is_patched(client: str) -> bool:
    """Whether an instrumentor of ours that is on has patched a client, by the name of its package."""
    for kind in _subclasses(Instrumentor):
        instrumentor = kind._instance
        if (
            isinstance(instrumentor, Instrumentor)
            and instrumentor._telemetry is not None
            and any(module.__name__.partition(".")[0] == client for module in instrumentor._patched)
        ):
            return True
    return False


def _subclasses(kind: type[Any]) -> Iterator[type[Any]]:
    for subclass in kind.__subclasses__():
        yield subclass
        yield from _subclasses(subclass)


def _texts(key: tuple[object, ...]) -> tuple[str, str | None]:
    provider, model = key
    return str(provider), None if model is None else str(model)


_readers: weakref.WeakSet[ForeignReader] = weakref.WeakSet()


def _renew_locks() -> None:
    """Forget who held the locks: in a forked child, that thread is not there to let go of them."""
    for reader in list(_readers):
        reader._lock, reader._attaching = RLock(), RLock()


forked.in_child(renew=_renew_locks)
