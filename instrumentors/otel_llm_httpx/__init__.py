"""HTTP client spans and metrics for `httpx` and `httpx2`, by ``opentelemetry-instrumentation-httpx``.

They stand below the span of the LLM call, one for each attempt. LLM calls of clients that nobody instruments are not
recognised here yet.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Collection
from types import ModuleType
from typing import Any

from otel_llm.instrumentor import Instrumentor
from otel_llm.patching import Patches
from otel_llm.telemetry import Telemetry
from otel_llm_httpx.guard import guarding
from otel_llm_httpx.whole import import_whole
from otel_llm_semconv import environment as variables

__all__ = ["HttpxInstrumentor"]

logger = logging.getLogger("otel_llm")

_CONTRIB = {"httpx": "HTTPXClientInstrumentor", "httpx2": "HTTPX2ClientInstrumentor"}
"""Contrib's instrumentors by the library that they are for, which is also the name of their entry points."""
_WRAPPED = (("HTTPTransport", "handle_request"), ("AsyncHTTPTransport", "handle_async_request"))


class HttpxInstrumentor(Instrumentor):
    """Switch contrib's instrumentors on when the application imports a library that they are for."""

    modules = tuple(_CONTRIB)

    _switched_on: tuple[tuple[Any, ModuleType, list[object]], ...] = ()

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return nothing: neither library has to be there."""
        return ()

    def patch(self, module: ModuleType, patches: Patches, telemetry: Telemetry) -> None:
        """Switch on contrib's instrumentors for the libraries that are imported."""
        for name in _CONTRIB:
            import_whole(name)
        from opentelemetry.instrumentation import httpx as contrib

        written = os.environ.get(variables.OTEL_PYTHON_DISABLED_INSTRUMENTATIONS, "")
        off = {name.strip() for name in written.split(",")}
        # Contrib imports both libraries, so that we may be inside its own import here, for the one, with the other one
        # still to come: the last one to come switches on both.
        for name, cls in _CONTRIB.items():
            library = sys.modules.get(name)
            instrumentor: Any = getattr(contrib, cls, None)
            if library is not None and instrumentor is not None and name not in off:
                self._switch_on(instrumentor(), library, telemetry)

    def _switch_on(self, instrumentor: Any, library: ModuleType, telemetry: Telemetry) -> None:
        # One library may stand in for the other in sys.modules, as `httpx2.alias_httpx()` has it.
        if instrumentor.is_instrumented_by_opentelemetry or any(library is known for _, known, _ in self._switched_on):
            return
        with guarding(instrumentor):
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
