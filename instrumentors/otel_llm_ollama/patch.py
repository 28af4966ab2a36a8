"""Where the `ollama` client is patched: ``_request``, which is looked up anew by every call."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any

from otel_llm.exchange import Exchange, Server
from otel_llm.faults import guarded
from otel_llm.patching import Make, Patches
from otel_llm.telemetry import Telemetry
from otel_llm.wire.ollama import FORMATS
from otel_llm_semconv.providers import Provider


def patch(module: ModuleType, patches: Patches, telemetry: Telemetry) -> None:
    """Patch the sync and the async client class."""
    patches.replace(module.Client, "_request", _request(patches, telemetry))
    patches.replace(module.AsyncClient, "_request", _arequest(patches, telemetry))


@guarded
def _begin(exchange: Exchange, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    if kwargs.get("stream"):
        return
    path = args[2] if len(args) > 2 else kwargs.get("url")
    format = FORMATS.get(str(path))
    if format is not None:
        url = client._client.base_url
        port = url.port or {"https": 443, "http": 80}.get(url.scheme)
        exchange.begin(format, Server(Provider.OLLAMA, url.host or None, port), kwargs.get("json"), raw=False)


def _request(patches: Patches, telemetry: Telemetry) -> Make:
    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def request(self: Any, *args: Any, **kwargs: Any) -> Any:
            if not patches.active:
                return original(self, *args, **kwargs)
            exchange = Exchange(telemetry)
            _begin(exchange, self, args, kwargs)
            try:
                result = original(self, *args, **kwargs)
            except BaseException as error:
                exchange.failed(error)
                raise
            exchange.returned(result)
            return result

        return request

    return make


def _arequest(patches: Patches, telemetry: Telemetry) -> Make:
    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        async def request(self: Any, *args: Any, **kwargs: Any) -> Any:
            if not patches.active:
                return await original(self, *args, **kwargs)
            exchange = Exchange(telemetry)
            _begin(exchange, self, args, kwargs)
            try:
                result = await original(self, *args, **kwargs)
            except BaseException as error:
                exchange.failed(error)
                raise
            exchange.returned(result)
            return result

        return request

    return make
