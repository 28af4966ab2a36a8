"""Who listens: a call whose telemetry nobody would get costs next to nothing."""

from __future__ import annotations

from typing import Any

from opentelemetry import metrics, trace
from opentelemetry.metrics import MeterProvider, NoOpMeterProvider
from opentelemetry.metrics import _internal as metrics_internal
from opentelemetry.trace import NoOpTracerProvider, ProxyTracerProvider, TracerProvider

_traces: dict[str, Any] = trace.__dict__
_metrics: dict[str, Any] = metrics_internal.__dict__


def nothing_set() -> bool:
    """Whether surely neither of the global providers is set.

    The API's own functions look into the environment every time that they are asked, which takes a microsecond.
    """
    return _traces.get("_TRACER_PROVIDER", ...) is None and _metrics.get("_METER_PROVIDER", ...) is None


def no_spans(provider: TracerProvider | None) -> bool:
    """Whether spans of this provider go nowhere, be it only until the application sets the global one."""
    if isinstance(provider, ProxyTracerProvider):
        provider = trace.get_tracer_provider()
    return isinstance(provider, (ProxyTracerProvider, NoOpTracerProvider))


def no_points(provider: MeterProvider | None) -> bool:
    """Whether metric points of this provider go nowhere, be it only until the application sets the global one."""
    if is_proxy(provider):
        provider = metrics.get_meter_provider()
    return is_proxy(provider) or isinstance(provider, NoOpMeterProvider)


def is_proxy(meter_provider: object) -> bool:
    """Whether this is what stands for the global meter provider until the application sets it."""
    return type(meter_provider).__name__ == "_ProxyMeterProvider"
