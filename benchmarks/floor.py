"""The floor: what the OTel SDK costs by itself for the very telemetry that ours makes.

One call of ours is recorded, and its span and metric points are then made around the bare client as one writes it by
hand: ``start_as_current_span``, a dict of attributes for the span and for each point, one ``set_attributes``. The same
names, values and boundaries. No reading of requests and answers, no counting, no guard.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

from opentelemetry.metrics import Meter
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer

from otel_llm.testing import capture

_AT_START = (
    *("gen_ai.operation.name", "gen_ai.provider.name", "gen_ai.request.model"),
    *("server.address", "server.port"),
)
"""Attributes that a span starts with, because samplers may want to see them."""


class Recorded(NamedTuple):
    """What ours made of one call."""

    span: dict[str, Any]
    points: list[dict[str, Any]]

    @classmethod
    def by(cls, call: Callable[[], object]) -> Recorded:
        """Make the call and keep what was recorded."""
        with capture() as seen:
            call()
            (span,) = seen.spans
            return cls(span, [point for point in seen.metrics if point["kind"] == "histogram"])


class Floor:
    """The telemetry of one kind of call, by hand."""

    def __init__(self, recorded: Recorded, tracer: Tracer, meter: Meter) -> None:
        span = recorded.span
        attributes = dict(span["attributes"])
        self._name: str = span["name"]
        self._first = {name: attributes.pop(name) for name in _AT_START if name in attributes}
        self._rest: dict[str, Any] = attributes
        self._error: str | None = span["description"] if span["status"] == "error" else None
        self._start_span = tracer.start_as_current_span
        self._points: list[tuple[Callable[..., None], float, dict[str, Any]]] = []
        histograms: dict[str, Callable[..., None]] = {}
        for point in recorded.points:
            name = point["name"]
            if name not in histograms:
                histograms[name] = meter.create_histogram(
                    name, point["unit"], explicit_bucket_boundaries_advisory=point["bounds"]
                ).record
            self._points.append((histograms[name], point["sum"] / point["count"], point["attributes"]))

    def around(self, call: Callable[[], object]) -> Callable[[], None]:
        """Return the call with its telemetry."""

        def measured() -> None:
            with self._span() as span:
                call()
                self._record(span)

        return measured

    def aaround(self, call: Callable[[], Awaitable[object]]) -> Callable[[], Awaitable[None]]:
        """Return the call with its telemetry; `around` for asyncio."""

        async def measured() -> None:
            with self._span() as span:
                await call()
                self._record(span)

        return measured

    def _span(self) -> AbstractContextManager[Span]:
        return self._start_span(self._name, kind=SpanKind.CLIENT, attributes=dict(self._first))

    def _record(self, span: Span) -> None:
        for record, value, attributes in self._points:
            record(value, dict(attributes))
        if span.is_recording():
            span.set_attributes(dict(self._rest))
            if self._error is not None:
                span.set_status(Status(StatusCode.ERROR, self._error))
