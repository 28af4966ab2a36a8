"""LLM calls over `httpx` and `httpx2` by clients that nobody instruments, and HTTP client spans and metrics for both.

The latter are those of ``opentelemetry-instrumentation-httpx``: one span below that of the LLM call for each attempt.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Collection
from types import ModuleType
from typing import Any

from otel_llm.config import disabled_instrumentations
from otel_llm.instrumentor import Instrumentor
from otel_llm.patching import Patches
from otel_llm.telemetry import Telemetry
from otel_llm_httpx.contrib import INSTRUMENTORS, import_contrib
from otel_llm_httpx.guard import guarding

__all__ = ["HttpxInstrumentor"]

logger = logging.getLogger("otel_llm")

_WRAPPED = (("HTTPTransport", "handle_request"), ("AsyncHTTPTransport", "handle_async_request"))


class HttpxInstrumentor(Instrumentor):
    """Observe each library from when the application imports it, and switch contrib's instrumentor for it on."""

    modules = tuple(INSTRUMENTORS)

    _switched_on: tuple[tuple[Any, ModuleType, list[object]], ...] = ()

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return nothing: neither library has to be there."""
        return ()

    def patch(self, module: ModuleType, patches: Patches, telemetry: Telemetry) -> None:
        """Patch the clients of the library, and switch contrib's instrumentor for it on."""
        from otel_llm_httpx.patch import patch

        patch(module, patches, telemetry)
        contrib = import_contrib()
        off = disabled_instrumentations()
        for name, cls in INSTRUMENTORS.items():
            instrumentor: Any = getattr(contrib, cls, None)
            if sys.modules.get(name) is module and instrumentor is not None and name not in off:
                self._switch_on(instrumentor(), module, telemetry)

    def _switch_on(self, instrumentor: Any, library: ModuleType, telemetry: Telemetry) -> None:
        # One library may stand in for the other in sys.modules, as `httpx2.alias_httpx()` has it.
        if instrumentor.is_instrumented_by_opentelemetry or any(library is known for _, known, _ in self._switched_on):
            return
        if not all(hasattr(library, cls) for cls, _ in _WRAPPED):  # as in httpx 1.0
            return
        with guarding(instrumentor, silent=not telemetry.settings.http_spans):
            instrumentor.instrument(
                tracer_provider=telemetry.tracer_provider, meter_provider=telemetry.meter_provider, skip_dep_check=True
            )
        self._switched_on = (*self._switched_on, (instrumentor, library, _wrappers(library)))

    def _uninstrument(self, **kwargs: Any) -> None:
        super()._uninstrument(**kwargs)
        switched_on, self._switched_on = self._switched_on, ()
        for instrumentor, library, ours in switched_on:
            if not instrumentor.is_instrumented_by_opentelemetry:
                continue
            if all(now is then for now, then in zip(_wrappers(library), ours, strict=True)):
                instrumentor.uninstrument()
            else:
                # Contrib takes off whatever is outermost, which is not its own.
                logger.warning("otel_llm: %s stays instrumented: it was wrapped again since", library.__name__)


def _wrappers(library: ModuleType) -> list[object]:
    classes: dict[str, type] = vars(library)
    return [classes[cls].__dict__.get(name) for cls, name in _WRAPPED]
