"""Where the `ollama` client is patched: ``_request``, which is looked up anew by every call."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from otel_llm.exchange import Exchange, Server
from otel_llm.patching import Patches
from otel_llm.shells import aaround, around
from otel_llm.telemetry import Telemetry
from otel_llm.wire.ollama import FORMATS
from otel_llm_semconv.providers import Provider


def patch(module: ModuleType, patches: Patches, telemetry: Telemetry) -> None:
    """Patch the sync and the async client class."""
    patches.replace(module.Client, "_request", around(patches, telemetry, _begin))
    patches.replace(module.AsyncClient, "_request", aaround(patches, telemetry, _begin))


def _begin(exchange: Exchange, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if kwargs.get("stream"):
        return
    path = args[2] if len(args) > 2 else kwargs.get("url")
    format = FORMATS.get(str(path))
    if format is not None:
        url = client._client.base_url
        port = url.port or {"https": 443, "http": 80}.get(url.scheme)
        exchange.begin(format, Server(Provider.OLLAMA, url.host or None, port), kwargs.get("json"), raw=False)
