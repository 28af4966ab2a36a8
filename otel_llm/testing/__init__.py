"""See in a test what the calls inside a block recorded, as plain dicts.

For example::

    with otel_llm.testing.capture() as seen:
        client.chat.completions.create(...)

    assert seen.spans[0]["attributes"]["gen_ai.usage.input_tokens"] == 7
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from otel_llm import config, runtime, sdk
from otel_llm_semconv.environment import OTEL_SDK_DISABLED

__all__ = ["Seen", "capture"]


class Seen:
    """What was recorded so far; each property reads anew."""

    def __init__(self) -> None:
        self._spans = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self._logs = InMemoryLogRecordExporter()  # type: ignore[no-untyped-call]
        self.tracer_provider = TracerProvider()
        self.tracer_provider.add_span_processor(SimpleSpanProcessor(self._spans))
        self.meter_provider = MeterProvider(metric_readers=[self._reader])
        self.logger_provider = LoggerProvider()
        self.logger_provider.add_log_record_processor(SimpleLogRecordProcessor(self._logs))

    @property
    def all_spans(self) -> list[dict[str, Any]]:
        """Every finished span, of other instrumentations too, in the order in which they ended."""
        return [_span(span) for span in self._spans.get_finished_spans()]

    @property
    def spans(self) -> list[dict[str, Any]]:
        """The finished spans of calls."""
        return [span for span in self.all_spans if span["scope"] == runtime.SCOPE]

    @property
    def metrics(self) -> list[dict[str, Any]]:
        """Every metric point of ours; histograms have ``count``, ``sum``, ``bounds`` and ``bucket_counts``."""
        data = self._reader.get_metrics_data()
        if data is None:
            return []
        return [
            {"name": metric.name, "unit": metric.unit, "kind": type(metric.data).__name__.lower(), **_point(point)}
            for resource_metrics in data.resource_metrics
            for scope_metrics in resource_metrics.scope_metrics
            if scope_metrics.scope.name == runtime.SCOPE
            for metric in scope_metrics.metrics
            for point in metric.data.data_points
        ]

    def points(self, name: str) -> list[dict[str, Any]]:
        """Return the points of one metric."""
        return [point for point in self.metrics if point["name"] == name]

    @property
    def events(self) -> list[dict[str, Any]]:
        """The emitted events."""
        return [
            {
                "name": record.log_record.event_name,
                "severity": record.log_record.severity_text,
                "trace_id": record.log_record.trace_id,
                "span_id": record.log_record.span_id,
                "attributes": dict(record.log_record.attributes or {}),
            }
            for record in self._logs.get_finished_logs()
        ]

    def clear(self) -> None:
        """Forget spans and events; metrics are cumulative and stay."""
        self._spans.clear()
        self._logs.clear()


@contextmanager
def capture(**settings: Any) -> Generator[Seen]:
    """Instrument for the length of a block and keep everything in memory.

    Args:
        settings: keywords of `otel_llm.instrument`.

    Raises:
        RuntimeError: the process is instrumented already, or ``OTEL_SDK_DISABLED`` is set, and nothing could be seen.
    """
    if config.disabled():
        raise RuntimeError(f"otel_llm.testing.capture: {OTEL_SDK_DISABLED} is set, so nothing would be recorded")
    if runtime.instrumented():
        raise RuntimeError("otel_llm.testing.capture: already instrumented; call otel_llm.uninstrument() first")
    seen = Seen()
    keywords: dict[str, Any] = {
        "tracer_provider": seen.tracer_provider,
        "meter_provider": seen.meter_provider,
        "logger_provider": seen.logger_provider,
        "serve": False,
        **settings,
    }
    runtime.instrument(**keywords)
    try:
        yield seen
    finally:
        runtime.uninstrument()
        for reader in sdk.prometheus_readers(seen.meter_provider):
            reader.shutdown()
        seen.tracer_provider.shutdown()
        seen.meter_provider.shutdown()
        seen.logger_provider.shutdown()


def _span(span: ReadableSpan) -> dict[str, Any]:
    context = span.get_span_context()
    return {
        "name": span.name,
        "kind": span.kind.name.lower(),
        "scope": span.instrumentation_scope.name if span.instrumentation_scope else None,
        "trace_id": context.trace_id if context else None,
        "span_id": context.span_id if context else None,
        "parent_id": span.parent.span_id if span.parent else None,
        "status": span.status.status_code.name.lower(),
        "description": span.status.description,
        "start_ns": span.start_time,
        "end_ns": span.end_time,
        "attributes": dict(span.attributes or {}),
    }


def _point(point: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"attributes": dict(point.attributes or {})}
    if hasattr(point, "bucket_counts"):
        found |= {
            "count": point.count,
            "sum": point.sum,
            "min": point.min,
            "max": point.max,
            "bounds": list(point.explicit_bounds),
            "bucket_counts": list(point.bucket_counts),
        }
    else:
        found["value"] = point.value
    found["exemplars"] = [
        {"value": exemplar.value, "trace_id": exemplar.trace_id, "span_id": exemplar.span_id}
        for exemplar in point.exemplars or ()
    ]
    return found
