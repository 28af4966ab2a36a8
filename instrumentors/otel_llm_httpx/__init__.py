"""HTTP client spans and metrics for `httpx` and `httpx2`, by ``opentelemetry-instrumentation-httpx``.

They stand below the span of the LLM call, one for each attempt. LLM calls of clients that nobody instruments are not
recognised here yet.
"""

from __future__ import annotations

from collections.abc import Collection
from types import ModuleType
from typing import Any

from otel_llm.instrumentor import Instrumentor
from otel_llm.patching import Patches
from otel_llm.telemetry import Telemetry

__all__ = ["HttpxInstrumentor"]


class HttpxInstrumentor(Instrumentor):
    """Switch contrib's instrumentors on when the application imports a library that they are for."""

    modules = ("httpx", "httpx2")

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return nothing: neither library has to be there."""
        return ()

    def patch(self, module: ModuleType, patches: Patches, telemetry: Telemetry) -> None:
        """Switch on the instrumentor for the module that was imported."""
        from opentelemetry.instrumentation import httpx as contrib

        names = {"httpx": "HTTPXClientInstrumentor", "httpx2": "HTTPX2ClientInstrumentor"}
        instrumentor: Any = getattr(contrib, names[module.__name__], None)
        if instrumentor is None or instrumentor().is_instrumented_by_opentelemetry:
            return
        instrumentor().instrument(
            tracer_provider=telemetry.tracer_provider, meter_provider=telemetry.meter_provider, skip_dep_check=True
        )
        self._switched_on.append(instrumentor())

    def _instrument(self, **kwargs: Any) -> None:
        self._switched_on: list[Any] = []
        super()._instrument(**kwargs)

    def _uninstrument(self, **kwargs: Any) -> None:
        super()._uninstrument(**kwargs)
        for instrumentor in self._switched_on:
            instrumentor.uninstrument()
        self._switched_on.clear()
