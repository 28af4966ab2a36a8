"""The OpenTelemetry providers: the caller's, else the global ones, else built from the standard variables.

Source: OpenTelemetry specification, "SDK environment variables" and "OTLP exporter".
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Mapping, MutableMapping
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urlsplit

from opentelemetry import metrics, trace

from otel_llm_semconv import environment as variables

if TYPE_CHECKING:
    from opentelemetry._logs import LoggerProvider
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import MetricReader
    from opentelemetry.trace import TracerProvider

logger = logging.getLogger("otel_llm")

Signal = Literal["traces", "metrics", "logs"]

OUR_READER = "otel_llm"
"""Name of our reader among the metric exporters."""
_PAGES = frozenset({OUR_READER, "prometheus"})
_EXPORTER = {
    "traces": variables.OTEL_TRACES_EXPORTER,
    "metrics": variables.OTEL_METRICS_EXPORTER,
    "logs": variables.OTEL_LOGS_EXPORTER,
}
_ENDPOINT = {
    "traces": variables.OTEL_EXPORTER_OTLP_TRACES_ENDPOINT,
    "metrics": variables.OTEL_EXPORTER_OTLP_METRICS_ENDPOINT,
    "logs": variables.OTEL_EXPORTER_OTLP_LOGS_ENDPOINT,
}
_PROTOCOL = {
    "traces": variables.OTEL_EXPORTER_OTLP_TRACES_PROTOCOL,
    "metrics": variables.OTEL_EXPORTER_OTLP_METRICS_PROTOCOL,
    "logs": variables.OTEL_EXPORTER_OTLP_LOGS_PROTOCOL,
}
_OTLP = {"grpc": "otlp_proto_grpc", "http/protobuf": "otlp_proto_http"}


def disabled(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the environment switches OpenTelemetry off."""
    return environ.get(variables.OTEL_SDK_DISABLED, "").strip().lower() == "true"


def global_tracer_provider() -> TracerProvider | None:
    """Return the tracer provider that the application set, if it did."""
    provider = trace.get_tracer_provider()
    return None if isinstance(provider, trace.ProxyTracerProvider) else provider


def global_meter_provider() -> MeterProvider | None:
    """Return the meter provider that the application set, if it did."""
    provider = metrics.get_meter_provider()
    return None if type(provider).__name__ == "_ProxyMeterProvider" else provider


def global_logger_provider() -> LoggerProvider | None:
    """Return the logger provider that the application set, if it did."""
    from opentelemetry import _logs

    provider = _logs.get_logger_provider()
    return None if type(provider).__name__ == "ProxyLoggerProvider" else provider


def exporters(signal: Signal, environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return the exporters of a signal by entry point name, as the standard variables ask for them.

    Where nothing is named, an endpoint means OTLP, and metrics have our page. Nothing is sent to a collector that nobody
    mentioned.
    """
    written = environ.get(_EXPORTER[signal], "").strip()
    if written:
        names = [name.strip() for name in written.split(",") if name.strip() not in ("", "none")]
    else:
        names = [OUR_READER] if signal == "metrics" else []
        if _endpoint(signal, environ):
            names.append("otlp")
    return [_otlp(signal, environ) if name == "otlp" else name for name in names]


def _endpoint(signal: Signal, environ: Mapping[str, str]) -> str:
    return environ.get(_ENDPOINT[signal], "") or environ.get(variables.OTEL_EXPORTER_OTLP_ENDPOINT, "")


def protocol(signal: Signal, environ: Mapping[str, str] = os.environ) -> str:
    """Return the OTLP protocol: as set, else by the port of the endpoint, where 4318 is HTTP's.

    Raises:
        ValueError: the protocol is not known; the message names the variable.
    """
    for source in (_PROTOCOL[signal], variables.OTEL_EXPORTER_OTLP_PROTOCOL):
        written = environ.get(source, "").strip().lower()
        if written:
            if written not in _OTLP:
                raise ValueError(f"{source}={written!r}: expected one of {', '.join(_OTLP)}")
            return written
    try:
        port = urlsplit(_endpoint(signal, environ)).port
    except ValueError:
        port = None
    return "http/protobuf" if port == 4318 else "grpc"


def _otlp(signal: Signal, environ: Mapping[str, str]) -> str:
    return _OTLP[protocol(signal, environ)]


def _load(signal: Signal, name: str) -> Any:
    """Load an exporter class.

    Raises:
        ValueError: there is no such exporter; the message names the variable and those that are installed.
    """
    group = entry_points(group=f"opentelemetry_{signal}_exporter")
    found = [entry for entry in group if entry.name == name]
    if found:
        return found[0].load()
    if name in _OTLP.values():
        raise ValueError(
            f"OTLP {signal} are asked for, but the exporter is not installed: pip install 'otel-llm[otlp]'"
        )
    installed = ", ".join(sorted({entry.name for entry in group} | {"none", "otlp"}))
    raise ValueError(f"{_EXPORTER[signal]}={name!r}: expected one of {installed}")


def build_tracer_provider() -> TracerProvider:
    """Build a tracer provider from the environment and make it the global one."""
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    classes = [_load("traces", name) for name in exporters("traces")]
    provider = TracerProvider()
    for exporter in classes:
        provider.add_span_processor(BatchSpanProcessor(exporter()))
    trace.set_tracer_provider(provider)
    return provider


def build_meter_provider(*, page: bool | None, max_series: int) -> MeterProvider:
    """Build a meter provider from the environment and make it the global one.

    Args:
        page: whether it has our Prometheus reader; None leaves that to the environment.
        max_series: most label sets of one family on the page.
    """
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader

    names = exporters("metrics")
    classes = [_load("metrics", name) for name in names if name not in _PAGES]
    readers: list[MetricReader] = []
    if page or (page is None and not _PAGES.isdisjoint(names)):
        from otel_llm.prometheus.reader import PrometheusReader

        readers.append(PrometheusReader(max_series=max_series))
    for cls in classes:
        readers.append(cls() if issubclass(cls, MetricReader) else PeriodicExportingMetricReader(cls()))
    provider = MeterProvider(metric_readers=readers)
    metrics.set_meter_provider(provider)
    return provider


def build_logger_provider() -> LoggerProvider:
    """Build a logger provider from the environment and make it the global one."""
    from opentelemetry import _logs
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor

    classes = [_load("logs", name) for name in exporters("logs")]
    provider = LoggerProvider()
    for exporter in classes:
        provider.add_log_record_processor(BatchLogRecordProcessor(exporter()))
    _logs.set_logger_provider(provider)
    return provider


def prometheus_readers(provider: object) -> list[Any]:
    """Return the Prometheus readers of a meter provider, ours and upstream's."""
    exporter = sys.modules.get("opentelemetry.exporter.prometheus")
    if exporter is None:
        return []
    readers = getattr(provider, "_metric_readers", ())
    return [reader for reader in readers if isinstance(reader, exporter.PrometheusMetricReader)]


def default_to_stable_http(environ: MutableMapping[str, str] = os.environ) -> None:
    """Have HTTP spans and metrics carry the stable names, unless the user chose.

    Source: semantic conventions 1.44, "HTTP", ``OTEL_SEMCONV_STABILITY_OPT_IN``; read once by contrib, at its import.
    """
    environ.setdefault(variables.OTEL_SEMCONV_STABILITY_OPT_IN, "http")


def default_environment(environ: MutableMapping[str, str] = os.environ) -> None:
    """Write what `exporters` decides into the variables that upstream's configurator reads; names it cannot load go.

    A wrong name is one clear error in the log, and costs nothing but the exporter it names.
    """
    default_to_stable_http(environ)
    for signal in ("traces", "metrics", "logs"):
        kept: list[str] = []
        try:
            names = exporters(signal, environ)
        except ValueError as error:
            logger.error("otel_llm: %s", error)
            names = [OUR_READER] if signal == "metrics" else []
        for name in names:
            # Ours takes the place of the upstream reader, whose page can be wrong.
            name = OUR_READER if signal == "metrics" and name in _PAGES else name
            try:
                _load(signal, name)
            except (ValueError, ImportError) as error:
                logger.error("otel_llm: %s", error)
                continue
            if name not in kept:
                kept.append(name)
        environ[_EXPORTER[signal]] = ",".join(kept) or "none"
