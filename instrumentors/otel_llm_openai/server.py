"""Whom an `openai` client talks to, read once for each client."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from otel_llm.exchange import Server
from otel_llm.provider import provider_of
from otel_llm_semconv.providers import Provider

_known: WeakKeyDictionary[Any, tuple[Any, Server]] = WeakKeyDictionary()


def server_of(client: Any) -> Server:
    """Return provider, host and port of the client, by its class and its base URL."""
    url = client._base_url
    known = _known.get(client)
    if known is not None and known[0] is url:
        return known[1]
    host, port = url.host or None, url.port
    if port is None:
        port = {"https": 443, "http": 80}.get(url.scheme)
    server = Server(_provider(client, host, port), host, port)
    _known[client] = (url, server)
    return server


def _provider(client: Any, host: str | None, port: int | None) -> str:
    if any(cls.__name__ in ("AzureOpenAI", "AsyncAzureOpenAI") for cls in type(client).__mro__):
        return Provider.AZURE_AI_OPENAI
    return provider_of(host, port, Provider.OPENAI)
