"""Instrument the `openai` client, 1.26 and later, sync and async."""

from __future__ import annotations

from collections.abc import Collection
from types import ModuleType

from otel_llm.instrumentor import Instrumentor
from otel_llm.patching import Patches
from otel_llm.telemetry import Telemetry

__all__ = ["OpenAIInstrumentor"]


_BASE = "openai._base_client"


class OpenAIInstrumentor(Instrumentor):
    """Every call of every `openai` client, seen where all of them pass: its `request`, and its websockets."""

    modules = (
        _BASE,
        "openai._websocket_connection",
        "openai.resources.realtime.realtime",
        "openai.resources.responses.responses",
        "openai.resources.beta.realtime.realtime",
        "openai.resources.beta.responses.responses",
        "openai.lib.responses_websocket._session",
    )

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return the versions of the client that are known to work."""
        return ("openai >= 1.26",)

    def patch(self, module: ModuleType, patches: Patches, telemetry: Telemetry) -> None:
        """Patch the client's base classes, or a module of its websockets."""
        if module.__name__ == _BASE:
            from otel_llm_openai.patch import patch
        else:
            from otel_llm_openai.websockets import patch

        patch(module, patches, telemetry)
