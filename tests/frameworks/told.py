"""What is recorded beside other instrumentations, whoever records it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from otel_llm import runtime
from otel_llm.testing import Seen
from otel_llm_semconv import attributes as names
from otel_llm_semconv import metrics as known

HTTP = "opentelemetry.instrumentation.httpx"
DURATION = known.GEN_AI_CLIENT_OPERATION_DURATION.name
TOKENS = known.GEN_AI_CLIENT_TOKEN_USAGE.name
FIRST_CHUNK = known.GEN_AI_CLIENT_OPERATION_TIME_TO_FIRST_CHUNK.name
COUNTED = (DURATION, TOKENS, FIRST_CHUNK)


class Told:
    """What is recorded from now on, whoever records it."""

    def __init__(self, seen: Seen) -> None:
        self._seen = seen
        self._before = self._points()

    @property
    def spans(self) -> list[str]:
        """The scopes of the spans, but for those of HTTP."""
        return [span["scope"] for span in self._seen.all_spans if span["scope"] != HTTP]

    @property
    def names(self) -> list[str]:
        """The names of the spans, but for those of HTTP."""
        return [span["name"] for span in self._seen.all_spans if span["scope"] != HTTP]

    @property
    def points(self) -> Counter[tuple[str, str]]:
        """How many measurements there are by metric, and by kind of token."""
        found: Counter[tuple[str, str]] = Counter()
        for (_, name, kind), count in (self._points() - self._before).items():
            found[name, kind] += count
        return found

    @property
    def ours(self) -> Counter[str]:
        """How many measurements are ours by metric."""
        found: Counter[str] = Counter()
        for (scope, name, _), count in (self._points() - self._before).items():
            if scope == runtime.SCOPE:
                found[name] += count
        return found

    def _points(self) -> Counter[tuple[str, str, str]]:
        data = self._seen._reader.get_metrics_data()
        found: Counter[tuple[str, str, str]] = Counter()
        for resource in data.resource_metrics if data else ():
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    points: Any = metric.data.data_points if metric.name in COUNTED else ()
                    for point in points:
                        kind = point.attributes.get(names.GEN_AI_TOKEN_TYPE, "")
                        found[scope.scope.name, metric.name, kind] += point.count
        return found
