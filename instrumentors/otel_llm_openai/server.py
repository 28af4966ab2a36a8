"""Whom a client talks to, worked out once for each base URL."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from otel_llm.exchange import Server
from otel_llm.provider import DEFAULT_PORTS, provider_of
from otel_llm_semconv.providers import Provider

_PROVIDERS: dict[object, str] = {"bedrock": Provider.AWS_BEDROCK, "vertex": Provider.GCP_VERTEX_AI}
"""Providers by the names that `openai` has for them."""
_CLASSES = {
    "AzureOpenAI": Provider.AZURE_AI_OPENAI,
    "AsyncAzureOpenAI": Provider.AZURE_AI_OPENAI,
    "BaseBedrockClient": Provider.AWS_BEDROCK,
    "BaseFoundryClient": Provider.AZURE_AI_INFERENCE,
    "BaseMantleClient": Provider.AWS_BEDROCK,
    "BaseVertexClient": Provider.GCP_VERTEX_AI,
}
"""Providers by the class of a client of theirs: two of `openai`, and the bases of those of `anthropic`."""
_MOST = 1024
_known: dict[int, tuple[Any, type, Server]] = {}
"""Servers by the identity of the URL object, which is kept so that the identity stays its own."""


def server_of(client: Any, default: str = Provider.OPENAI) -> Server:
    """Return provider, host and port of the client, by its class and its base URL.

    Args:
        client: a client of `openai` or of one of its kin.
        default: the provider where neither tells it.
    """
    url = client._base_url
    known = _known.get(id(url))
    if known is not None and known[0] is url and known[1] is type(client):
        return known[2]
    host, port = url.host or None, url.port or DEFAULT_PORTS.get(url.scheme)
    server = Server(_provider(client, host, port, default), host, port)
    if len(_known) >= _MOST:
        _known.clear()
    _known[id(url)] = (url, type(client), server)
    return server


def server_of_url(url: str, default: str = Provider.OPENAI) -> Server:
    """Return provider, host and port of an absolute URL or of a path without a host."""
    parts = urlsplit(url)
    port = parts.port or DEFAULT_PORTS.get(parts.scheme)
    return Server(provider_of(parts.hostname, port, default), parts.hostname, port)


def _provider(client: Any, host: str | None, port: int | None, default: str) -> str:
    runtime = getattr(client, "_provider_runtime", None)  # where openai 3.x keeps what ``provider=`` configured
    name = _PROVIDERS.get(getattr(runtime, "name", None))
    if name is not None:
        return name
    for cls in type(client).__mro__:
        if cls.__name__ in _CLASSES:
            return _CLASSES[cls.__name__]
    return provider_of(host, port, default)
