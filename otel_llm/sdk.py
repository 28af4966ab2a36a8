"""The OpenTelemetry providers: the caller's, else the global ones, else built from the standard variables."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator, MutableMapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary, WeakSet

from opentelemetry import metrics, trace

from otel_llm import config, exporters
from otel_llm.audience import is_proxy
from otel_llm.faults import guarded
from otel_llm_semconv import attributes as names
from otel_llm_semconv import environment as variables

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

_built: WeakSet[Any] = WeakSet()
"""The providers that were built here."""
_added: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
"""Our readers on providers of others, which do not list readers that came later."""
_adopted: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
"""Upstream's own collectors of the readers that have ours now."""

_AUTO_VERSION = "telemetry.auto.version"
"""Resource attribute that upstream's configurator sets for ``opentelemetry-instrument``."""


class Providers(NamedTuple):
    """Where the telemetry goes; *logger* only where content is to be sent as events."""

    tracer: TracerProvider
    meter: MeterProvider
    logger: LoggerProvider | None = None


def global_tracer_provider() -> TracerProvider | None:
    """Return the tracer provider that the application set, if it did."""
    provider = trace.get_tracer_provider()
    return None if isinstance(provider, trace.ProxyTracerProvider) else provider


def global_meter_provider() -> MeterProvider | None:
    """Return the meter provider that the application set, if it did."""
    provider = metrics.get_meter_provider()
    return None if is_proxy(provider) else provider


def global_logger_provider() -> LoggerProvider | None:
    """Return the logger provider that the application set, if it did."""
    from opentelemetry import _logs

    provider = _logs.get_logger_provider()
    return None if type(provider).__name__ == "ProxyLoggerProvider" else provider


def find(
    tracer: TracerProvider | None, meter: MeterProvider | None, logger: LoggerProvider | None, *, events: bool
) -> Providers:
    """Return the given providers, and the global ones for those not given, whether they are set yet or not."""
    if logger is None and events:
        from opentelemetry import _logs

        logger = _logs.get_logger_provider()
    return Providers(
        trace.get_tracer_provider() if tracer is None else tracer,
        metrics.get_meter_provider() if meter is None else meter,
        logger,
    )


def find_or_build(
    tracer: TracerProvider | None,
    meter: MeterProvider | None,
    logger: LoggerProvider | None,
    *,
    events: bool,
    page: bool,
    max_series: int,
) -> Providers:
    """Return the given providers, else the global ones that the application set, else new ones, made global.

    Args:
        tracer: used as given.
        meter: used as given.
        logger: used as given.
        events: whether a logger provider is needed.
        page: whether a meter provider that is built has our Prometheus reader, whatever the environment says.
        max_series: most label sets of one family on the page.

    Raises:
        ValueError: a variable is wrong, or names an exporter that is not there; nothing is built then.
    """
    tracer = global_tracer_provider() if tracer is None else tracer
    meter = global_meter_provider() if meter is None else meter
    if events and logger is None:
        logger = global_logger_provider()
    if tracer is None and meter is None and os.environ.get(variables.OTEL_CONFIG_FILE):
        _configure_from_file()
        return find(None, None, logger, events=events)
    made: list[tuple[Callable[[Any], None], Any]] = []
    try:
        if meter is None:
            meter = _build_meter_provider(page, max_series)
            made.append((metrics.set_meter_provider, meter))
        if tracer is None:
            tracer = _build_tracer_provider()
            made.append((trace.set_tracer_provider, tracer))
        if events and logger is None:
            from opentelemetry import _logs

            logger = _build_logger_provider()
            made.append((_logs.set_logger_provider, logger))
    except BaseException:
        for _, provider in made:
            provider.shutdown()
        raise
    # Only now, since what is global stays.
    for make_global, provider in made:
        make_global(provider)
        _built.add(provider)
    return Providers(tracer, meter, logger)


def _configure_from_file() -> None:
    """Do what ``OTEL_CONFIG_FILE`` says, which other variables do not count beside."""
    from opentelemetry.sdk._configuration import _OTelSDKConfigurator

    upstream: Any = _OTelSDKConfigurator
    upstream().configure()


def _build_tracer_provider() -> TracerProvider:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    processors = [BatchSpanProcessor(exporter()) for exporter in exporters.choose("traces").values()]
    provider = TracerProvider()
    for processor in processors:
        provider.add_span_processor(processor)
    return provider


def _build_meter_provider(page: bool, max_series: int) -> MeterProvider:
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader

    chosen = exporters.choose("metrics")
    made = [exporter() for exporter in chosen.values() if exporter is not None]
    readers = [each if isinstance(each, MetricReader) else PeriodicExportingMetricReader(each) for each in made]
    if page or exporters.PAGE in chosen:
        from otel_llm.prometheus.reader import PrometheusReader

        readers.append(PrometheusReader(max_series=max_series))
    return MeterProvider(metric_readers=readers)


def _build_logger_provider() -> LoggerProvider:
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

    processors = [BatchLogRecordProcessor(exporter()) for exporter in exporters.choose("logs").values()]
    provider = LoggerProvider()
    for processor in processors:
        provider.add_log_record_processor(processor)
    return provider


def built_here(provider: object) -> bool:
    """Whether we built the meter provider, by `instrument()` or with our reader from the environment."""
    if provider in _built:
        return True
    reader = sys.modules.get("otel_llm.prometheus.reader")
    return reader is not None and any(
        isinstance(each, reader.AutoPrometheusReader) for each in prometheus_readers(provider)
    )


def built_by_zero_code(providers: Providers) -> bool:
    """Whether ``opentelemetry-instrument`` built the providers, which it says in their resource."""
    resource = getattr(providers.tracer, "resource", None)
    return hasattr(providers.meter, "add_metric_reader") and _AUTO_VERSION in getattr(resource, "attributes", ())


def prometheus_readers(provider: object) -> list[Any]:
    """Return the Prometheus readers of a meter provider, ours and upstream's."""
    upstream = sys.modules.get("opentelemetry.exporter.prometheus")
    if upstream is None:
        return []
    readers = [*getattr(provider, "_metric_readers", ()), _added.get(provider)]
    return [reader for reader in readers if isinstance(reader, upstream.PrometheusMetricReader)]


@guarded
def adopt_readers(provider: object, max_series: int) -> None:
    """Have our collector show what upstream's readers of a provider collect."""
    for reader in prometheus_readers(provider):
        from otel_llm.prometheus.reader import adopt

        upstreams = reader._collector
        adopt(reader, max_series)
        if reader._collector is not upstreams:
            _adopted[reader] = upstreams


@guarded
def release_readers(provider: object) -> None:
    """Give upstream's readers of a provider their own collector back."""
    for reader in prometheus_readers(provider):
        upstreams = _adopted.pop(reader, None)
        if upstreams is not None:
            try:
                reader._registry.unregister(reader._collector)
            except KeyError:  # the reader is shut down
                continue
            reader._collector = upstreams
            reader._registry.register(upstreams)


def service_name(provider: object) -> str:
    """Return ``service.name`` of the resource of a meter provider, else what the environment says it is."""
    resource = getattr(getattr(provider, "_sdk_config", None), "resource", None)
    if resource is None:
        from opentelemetry.sdk.resources import Resource

        resource = Resource.create()
    return str(resource.attributes.get(names.SERVICE_NAME, ""))


def upstream_page(provider: object) -> str | None:
    """Return where upstream's reader from the environment serves the page of a provider."""
    for reader in prometheus_readers(provider):
        if type(reader).__name__ == "_AutoPrometheusMetricReader":
            from otel_llm.prometheus.web.server import address

            host, port = address(None)
            return f"http://{host}:{port}/metrics"
    return None


def add_reader(provider: Any, reader: Any) -> None:
    """Add a Prometheus reader to a provider; it stays there, so that what it shows goes on where it was."""
    provider.add_metric_reader(reader)
    _added[provider] = reader


@contextmanager
def stable_http_names(environ: MutableMapping[str, str] = os.environ) -> Generator[None]:
    """Have contrib's instrumentors choose the stable names of HTTP spans and metrics, unless the user chose.

    They read the variable once in a process, when the first of them is switched on.
    Source: semantic conventions 1.44, "HTTP", ``OTEL_SEMCONV_STABILITY_OPT_IN``.
    """
    unset = variables.OTEL_SEMCONV_STABILITY_OPT_IN not in environ
    if unset:
        environ[variables.OTEL_SEMCONV_STABILITY_OPT_IN] = "http"
    try:
        yield
    finally:
        if unset:
            environ.pop(variables.OTEL_SEMCONV_STABILITY_OPT_IN, None)


def default_environment(environ: MutableMapping[str, str] = os.environ) -> None:
    """Write what `instrument()` would choose into the variables that upstream's configurator reads.

    A wrong one is one clear error in the log, and costs nothing but what it names.
    """
    environ.setdefault(variables.OTEL_SEMCONV_STABILITY_OPT_IN, "http")
    for signal, variable in exporters.VARIABLES.items():
        environ[variable] = ",".join(exporters.choose(signal, environ, config.tell)) or "none"
