"""Instrument the `ollama` client, 0.3.3 and later, sync and async."""

from __future__ import annotations

from collections.abc import Collection
from types import ModuleType

from otel_llm.instrumentor import Instrumentor
from otel_llm.patching import Patches
from otel_llm.telemetry import Telemetry

__all__ = ["OllamaInstrumentor"]


class OllamaInstrumentor(Instrumentor):
    """Every call of every `ollama` client, seen where all of them pass: its ``_request`` and ``_request_raw``."""

    modules = ("ollama._client",)

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return the versions of the client that are known to work."""
        return ("ollama >= 0.3.3",)

    def patch(self, module: ModuleType, patches: Patches, telemetry: Telemetry) -> None:
        """Patch the client classes."""
        from otel_llm_ollama.patch import patch

        patch(module, patches, telemetry)
