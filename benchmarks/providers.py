"""Providers that take everything in and give nothing out, so that no exporter is measured."""

from __future__ import annotations

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider

import otel_llm


def recording() -> tuple[TracerProvider, MeterProvider]:
    """Return providers that record all, with a processor that drops each span and a reader that nobody reads."""
    tracer_provider = TracerProvider()
    tracer_provider.add_span_processor(SpanProcessor())
    return tracer_provider, MeterProvider(metric_readers=[InMemoryMetricReader()])


def instrument() -> otel_llm.Handle:
    """Turn ours on, with such providers."""
    tracer_provider, meter_provider = recording()
    return otel_llm.instrument(tracer_provider=tracer_provider, meter_provider=meter_provider, serve=False)
