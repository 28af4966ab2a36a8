"""Instrument the `openai` client, 1.26 and later, and its kin: `anthropic`, `groq`, `together` and `cerebras`."""

from __future__ import annotations

from collections.abc import Collection
from types import ModuleType

from otel_llm.instrumentor import Instrumentor
from otel_llm.patching import Patches
from otel_llm.telemetry import Telemetry

__all__ = [
    "AnthropicInstrumentor",
    "CerebrasInstrumentor",
    "GroqInstrumentor",
    "OpenAIInstrumentor",
    "TogetherInstrumentor",
]


_BASE = "._base_client"


class _Stainless(Instrumentor):
    """Every call of every client of one library, seen where all of them pass: its `request`."""

    requirement: str

    def instrumentation_dependencies(self) -> Collection[str]:
        """Return the versions of the client that are known to work."""
        return (self.requirement,)

    def patch(self, module: ModuleType, patches: Patches, telemetry: Telemetry) -> None:
        """Patch the client's base classes, or a module of its websockets."""
        if module.__name__.endswith(_BASE):
            from otel_llm_openai.patch import patch
        else:
            from otel_llm_openai.websockets import patch

        patch(module, patches, telemetry)


class OpenAIInstrumentor(_Stainless):
    """Every call of every `openai` client, and its websockets."""

    modules = (
        f"openai{_BASE}",
        "openai._websocket_connection",
        "openai.resources.realtime.realtime",
        "openai.resources.responses.responses",
        "openai.resources.beta.realtime.realtime",
        "openai.resources.beta.responses.responses",
        "openai.lib.responses_websocket._session",
    )
    requirement = "openai >= 1.26"


class AnthropicInstrumentor(_Stainless):
    """Every call of every `anthropic` client, those for Bedrock and Vertex AI included."""

    modules = (f"anthropic{_BASE}",)
    requirement = "anthropic >= 0.25"


class GroqInstrumentor(_Stainless):
    """Every call of every `groq` client."""

    modules = (f"groq{_BASE}",)
    requirement = "groq >= 0.4"


class TogetherInstrumentor(_Stainless):
    """Every call of every `together` client."""

    modules = (f"together{_BASE}",)
    requirement = "together >= 2.0"


class CerebrasInstrumentor(_Stainless):
    """Every call of every `cerebras-cloud-sdk` client."""

    modules = (f"cerebras.cloud.sdk{_BASE}",)
    requirement = "cerebras-cloud-sdk >= 1.0"
