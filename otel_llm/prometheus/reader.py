"""A metric reader for Prometheus: upstream's, with a collector that is right where upstream's is not."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from threading import Lock
from typing import Any
from weakref import WeakKeyDictionary

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics.export import MetricsData
from prometheus_client import REGISTRY, CollectorRegistry
from prometheus_client.core import Metric

from otel_llm import config
from otel_llm.prometheus.server import Page, address, start
from otel_llm.prometheus.translator import Memory, Options, translate

logger = logging.getLogger("otel_llm")


class Source:
    """One reader as the collector sees it; takes the place of upstream's collector inside the reader."""

    def __init__(self, collect: Callable[[], None], options: Options) -> None:
        self.collect = collect
        self.options = options
        self.data: MetricsData | None = None

    def add_metrics_data(self, data: MetricsData) -> None:
        """Take what the reader was given; a reader calls this in the middle of `collect`."""
        self.data = data


class PageCollector:
    """The one collector of a registry, for all readers that show their metrics there."""

    def __init__(self) -> None:
        self.sources: list[Source] = []
        self._memory: Memory = {}
        self._lock = Lock()

    def describe(self) -> Iterable[Metric]:
        """Name no families in advance: which there are is known when they are collected."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Collect from every reader and translate; one scrape at a time."""
        with self._lock:
            collected: list[tuple[MetricsData, Options]] = []
            for source in self.sources:
                source.data = None
                source.collect()
                if source.data is not None:
                    collected.append((source.data, source.options))
            return translate(collected, self._memory)

    def renew_lock(self) -> None:
        """Forget who held the lock; for a forked child."""
        self._lock = Lock()


_collectors: WeakKeyDictionary[CollectorRegistry, PageCollector] = WeakKeyDictionary()


def _show(registry: CollectorRegistry, source: Source) -> None:
    collector = _collectors.get(registry)
    if collector is None:
        collector = _collectors[registry] = PageCollector()
    if not collector.sources:
        registry.register(collector)
    collector.sources.append(source)


def _hide(registry: CollectorRegistry, source: Source) -> None:
    collector = _collectors.get(registry)
    if collector is not None and source in collector.sources:
        collector.sources.remove(source)
        if not collector.sources:
            registry.unregister(collector)


def shown_registry() -> CollectorRegistry | None:
    """Return the registry whose page the process shows: the default one if a reader is in it, else any other."""
    showing = [registry for registry, collector in _collectors.items() if collector.sources]
    return REGISTRY if REGISTRY in showing else next(iter(showing), None)


class PrometheusReader(PrometheusMetricReader):
    """Show the metrics of a ``MeterProvider`` in a ``prometheus_client`` registry.

    A drop-in for ``PrometheusMetricReader``, with the same arguments and one more.

    Args:
        disable_target_info: whether to leave out ``target_info``.
        prefix: put before every metric name, with an underscore.
        scope_info_enabled: whether series carry ``otel_scope_*`` labels.
        resource_attribute_filter: says of each resource attribute whether it becomes a label of every series.
        registry: where the metrics are shown.
        max_series: most label sets of one family; beyond it one series with ``otel_metric_overflow="true"``.

    Raises:
        ValueError: *max_series* is less than 1.
    """

    def __init__(
        self,
        disable_target_info: bool = False,
        prefix: str = "",
        scope_info_enabled: bool = True,
        *,
        resource_attribute_filter: Callable[[str], bool] | None = None,
        registry: CollectorRegistry = REGISTRY,
        max_series: int = 2000,
    ) -> None:
        if max_series < 1:
            raise ValueError(f"max_series={max_series}: expected a whole number from 1")
        super().__init__(registry=CollectorRegistry())
        options = Options(prefix, not disable_target_info, scope_info_enabled, resource_attribute_filter, max_series)
        source = Source(self.collect, options)
        self._registry = registry
        self._collector: Any = source
        _show(registry, source)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Take the metrics off the page."""
        _hide(self._registry, self._collector)


class AutoPrometheusReader(PrometheusReader):
    """Our reader as ``OTEL_METRICS_EXPORTER=otel_llm`` gets it: without arguments, and serving its page.

    A port that is taken is one line in the log: the process goes on, with everything but the page.
    """

    def __init__(self) -> None:
        from otel_llm import runtime

        super().__init__(max_series=config.resolve_or_default().max_series)
        self._page: Page | None = None
        try:
            bind = address(None)
        except ValueError as error:
            logger.error("otel_llm: no Prometheus page: %s", error)
            return
        self._page = start(bind, self._registry, explicit=False)
        if self._page is not None:
            runtime.shown(self._page)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Take the metrics off the page and stop serving it."""
        super().shutdown(timeout_millis, **kwargs)
        if self._page is not None:
            self._page.close()
            self._page = None


def adopt(reader: PrometheusMetricReader, max_series: int) -> None:
    """Put our collector in place of upstream's, in a reader and a registry that somebody else set up."""
    theirs = reader._collector  # pyright: ignore[reportPrivateUsage]
    if isinstance(theirs, Source):
        return
    options = Options(
        theirs._prefix,  # pyright: ignore[reportPrivateUsage]
        not theirs._disable_target_info,  # pyright: ignore[reportPrivateUsage]
        theirs._scope_info_enabled,  # pyright: ignore[reportPrivateUsage]
        theirs._resource_attribute_filter,  # pyright: ignore[reportPrivateUsage]
        max_series,
    )
    registry = reader._registry  # pyright: ignore[reportPrivateUsage]
    registry.unregister(theirs)
    source: Any = Source(reader.collect, options)
    reader._collector = source  # pyright: ignore[reportPrivateUsage]
    _show(registry, source)


def _renew_locks() -> None:
    for collector in _collectors.values():
        collector.renew_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)
