"""A metric reader for Prometheus: upstream's, with a collector that is right where upstream's is not."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from threading import RLock, get_ident
from typing import Any
from weakref import WeakKeyDictionary

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics.export import MetricsData
from prometheus_client import REGISTRY, CollectorRegistry, Metric

from otel_llm import config, forked
from otel_llm.prometheus import shortcut
from otel_llm.prometheus.collector import DialectCollector
from otel_llm.prometheus.families import Family, restrict, to_metric
from otel_llm.prometheus.points import LabelCache
from otel_llm.prometheus.translator import Memory, Options, Reading, read, translate
from otel_llm.prometheus.web import server
from otel_llm.prometheus.web.server import Page, address, start

logger = logging.getLogger("otel_llm")

_PATIENCE = 2.0
"""Seconds that a fork waits for those who collect."""
_OF_PROCESS = ("process_", "python_")


class Shared:
    """What the readers of one registry have in common."""

    def __init__(self) -> None:
        self.lock = RLock()
        self.memory = Memory()


_shared: WeakKeyDictionary[CollectorRegistry, Shared] = WeakKeyDictionary()


class Source:
    """Our collector: one per reader, of which the first in a registry shows the metrics of all.

    Args:
        reader: has what it collects end in `add_metrics_data`.
        options: how the reader wants its metrics shown.
        registry: where it is shown.
    """

    def __init__(self, reader: PrometheusMetricReader, options: Options, registry: CollectorRegistry) -> None:
        self._reader = reader
        self._options = options
        self._registry = registry
        self._cache = LabelCache()
        self._reading: Reading | None = None
        self._shared = _shared.setdefault(registry, Shared())

    def add_metrics_data(self, data: MetricsData) -> None:
        """Take what the reader collected, for a scrape or for a flush: exemplars are kept either way."""
        short = shortcut.current()
        if short is not None and short.reader is not self._reader:
            short = None
        with self._shared.lock:
            self._reading = read(data, self._options, self._cache, self._shared.memory, short)

    def describe(self) -> Iterable[Metric]:
        """Name no families in advance: which there are is known when they are collected."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Return the families as `prometheus_client` knows them."""
        return [to_metric(family) for family in self.families()]

    def families(self) -> list[Family]:
        """Return the families of all readers of the registry, if this is the first one; one scrape at a time."""
        with self._shared.lock:
            sources = _sources(self._registry)
            if not sources or sources[0] is not self:
                return []
            readings = [reading for source in sources if (reading := source.read()) is not None]
            # Names that native metrics, or the target_info of the registry itself, have on the same page.
            taken = set(self._registry._names_to_collectors)
            return translate(readings, self._shared.memory, taken)

    def read(self) -> Reading | None:
        """Have the reader collect, and return what came of it."""
        self._reading = None
        with shortcut.opened(self._reader):
            self._reader.collect()
        reading, self._reading = self._reading, None
        return reading


def _sources(registry: CollectorRegistry) -> list[Source]:
    collectors = list(registry._collector_to_names)
    return [collector for collector in collectors if isinstance(collector, Source)]


def page(registry: CollectorRegistry, names: Iterable[str] | None = None) -> list[Family | Metric]:
    """Return all that a registry shows, in its order: ours as families, what others collect as they hand it out.

    Dialects of this process are left out: who makes the page puts them there, with those that it was asked for.

    Args:
        registry: what is shown.
        names: full names of the samples to show; nothing for all of them.
    """
    with registry._lock:
        collectors = list(registry._collector_to_names)
        of_registry: Any = registry
        shown: list[Family | Metric] = [of_registry._target_info_metric()] if registry._target_info else []
    for collector in collectors:
        if isinstance(collector, DialectCollector) and collector.of_process:
            continue
        shown += collector.families() if isinstance(collector, Source) else collector.collect()
    return shown if names is None else restrict(shown, names)


def families_of(registry: CollectorRegistry) -> list[Family]:
    """Return what readers of ours show in a registry, and nothing of what others do."""
    sources = _sources(registry)
    return sources[0].families() if sources else []


def natives_of(registry: CollectorRegistry) -> list[str]:
    """Return the names of what others show in a registry, without what `prometheus_client` tells of the process."""
    with registry._lock:
        collectors = {collector: list(names) for collector, names in registry._collector_to_names.items()}
    ours = "otel_llm."
    others = [names for collector, names in collectors.items() if not type(collector).__module__.startswith(ours)]
    return [names[0] for names in others if names and not all(name.startswith(_OF_PROCESS) for name in names)]


def shown_registry(first: Sequence[CollectorRegistry] = ()) -> CollectorRegistry | None:
    """Return the registry whose page the process shows: one of the *first*, the default one, or any with a reader."""
    showing = [registry for registry in list(_shared) if _sources(registry)]
    preferred = [registry for registry in (*first, REGISTRY) if registry in showing]
    return next(iter((*preferred, *showing)), None)


def adopt(reader: PrometheusMetricReader, max_series: int) -> None:
    """Put our collector in place of upstream's, in a reader and a registry that somebody else set up.

    Args:
        reader: upstream's; one that is ours already, or is shut down, stays as it is.
        max_series: most label sets of one family.
    """
    theirs = reader._collector
    registry = reader._registry
    if isinstance(theirs, Source):
        return
    try:
        registry.unregister(theirs)
    except KeyError:
        return
    options = Options(
        theirs._prefix,
        not theirs._disable_target_info,
        theirs._scope_info_enabled,
        theirs._resource_attribute_filter,
        max_series,
    )
    source: Any = Source(reader, options, registry)
    # The reader hands it what it collects, and takes it out of the registry at shutdown.
    reader._collector = source
    registry.register(source)


class PrometheusReader(PrometheusMetricReader):
    """Show the metrics of a ``MeterProvider`` in a ``prometheus_client`` registry.

    A drop-in for ``PrometheusMetricReader`` of ``opentelemetry-exporter-prometheus``: the same arguments and one more.
    Source: OpenTelemetry specification, "Prometheus and OpenMetrics Compatibility".

    Args:
        disable_target_info: whether to leave out ``target_info``.
        prefix: put before every metric name, with an underscore.
        scope_info_enabled: whether series carry ``otel_scope_*`` labels.
        resource_attribute_filter: says of each resource attribute whether it becomes a label of every series.
        registry: where the metrics are shown.
        max_series: most label sets of one family; what is beyond is one series with ``otel_metric_overflow="true"``.
        upstream: what else upstream's takes, such as ``cardinality_limits`` from 0.66b2 on.

    Raises:
        ValueError: *max_series* is less than 1.
        TypeError: upstream's does not take an argument.
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
        **upstream: Any,
    ) -> None:
        if max_series < 1:
            raise ValueError(f"max_series={max_series}: expected a whole number from 1")
        super().__init__(
            disable_target_info,
            prefix,
            scope_info_enabled,
            resource_attribute_filter=resource_attribute_filter,
            registry=registry,
            **upstream,
        )
        adopt(self, max_series)

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Take the metrics off the page."""
        with suppress(KeyError):  # they are off it already
            super().shutdown(timeout_millis, **kwargs)  # pyright: ignore[reportUnknownMemberType]


class AutoPrometheusReader(PrometheusReader):
    """Our reader as ``OTEL_METRICS_EXPORTER=otel_llm`` gets it: without arguments, and serving its page.

    ``OTEL_EXPORTER_PROMETHEUS_HOST`` and ``_PORT`` say where, ``OTEL_LLM_MAX_SERIES`` how many label sets a family may
    have. Raises nothing: a port that is taken, or a wrong setting, is one line in the log, and the process goes on.
    Source: OpenTelemetry specification, "Environment Variable Specification", Prometheus exporter.
    """

    def __init__(self) -> None:
        super().__init__(max_series=config.resolve_or_default().max_series)
        self._page: Page | None = None
        if config.disabled():
            return
        try:
            bind = address(None)
        except ValueError as error:
            logger.error("otel_llm: no Prometheus page: %s", error)
            return
        self._page = start(bind, explicit=False)
        if self._page is not None:
            server.environment_page = self._page

    def shutdown(self, timeout_millis: float = 30_000, **kwargs: Any) -> None:
        """Take the metrics off the page and stop serving it."""
        super().shutdown(timeout_millis, **kwargs)
        if self._page is not None:
            self._page.close()
            self._page = None


_held: dict[int, list[Any]] = {}
"""Locks of those who are about to fork, by thread."""


def _hold_locks() -> None:
    """Let nobody collect while a thread forks: the child would find a lock of the SDK taken, and a call would hang."""
    locks = [shared.lock for shared in list(_shared.values())]
    _held[get_ident()] = [lock for lock in locks if lock.acquire(timeout=_PATIENCE)]


def _let_go() -> None:
    for lock in _held.pop(get_ident(), ()):
        lock.release()


def _renew_locks() -> None:
    """Forget who held the locks: in a forked child, that thread is not there to let go of them."""
    _held.clear()
    for shared in list(_shared.values()):
        shared.lock = RLock()


forked.around(before=_hold_locks, after_in_parent=_let_go)
forked.in_child(renew=_renew_locks)
