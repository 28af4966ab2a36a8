"""Whom a client talks to, worked out once for each base URL, and by which paths."""

from __future__ import annotations

import sys
from collections.abc import Callable, Hashable, Mapping
from functools import cache
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from otel_llm.exchange import Server
from otel_llm.provider import DEFAULT_PORTS, base_url_of, provider_of
from otel_llm.wire import Format
from otel_llm.wire.fields import field, text
from otel_llm.wire.openai_paths import ID
from otel_llm_openai.family import CLIENTS, Client
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
_Found: TypeAlias = tuple[Server, str | None, Mapping[str, tuple[Format, str]], Mapping[str, Format]]
_known: dict[int, tuple[Any, type, _Found]] = {}
"""What was found by the identity of the URL object, which is kept so that the identity stays its own."""


def server_of(client: Any, kind: Client = CLIENTS["openai"]) -> _Found:
    """Return whom the client talks to, by its class and its base URL, the path of that, and what is spoken there.

    The path is None where the client does not ask for what stands below it: see `endpoint_of`. What is spoken are the
    two fields of `Spoken`.

    Args:
        client: a client of `openai` or of one of its kin.
        kind: which of these.
    """
    url = client._base_url
    known = _known.get(id(url))
    if known is not None and known[0] is url and known[1] is type(client):
        return known[2]
    host, port = url.host or None, url.port or DEFAULT_PORTS.get(url.scheme)
    above = _path(url)
    provider = _provider(client, host, port, kind.provider)
    server = Server(provider, host, port, base_url_of(url.scheme, host, port, above))
    spoken = kind.kin.get(provider, kind.spoken)
    found = server, above if _rewriting(client.__class__) is None else None, spoken.usual, spoken.endpoints
    if len(_known) >= _MOST:
        _known.clear()
    _known[id(url)] = (url, type(client), found)
    return found


def is_absolute(url: str) -> bool:
    """Whether what a client is asked for is a URL of its own, not a path below the client's."""
    return "://" in url.partition("?")[0]


def server_of_url(client: Any, url: str, default: str = Provider.OPENAI) -> Server:
    """Return whom an absolute URL leads to, which may be one below the client's base URL, or a path without a host."""
    parts = urlsplit(url)
    port = parts.port or DEFAULT_PORTS.get(parts.scheme)
    above = _path(client._base_url) if url.startswith(str(client._base_url)) else ""
    base_url = base_url_of(parts.scheme, parts.hostname, port, above)
    return Server(provider_of(parts.hostname, port, default), parts.hostname, port, base_url)


def _provider(client: Any, host: str | None, port: int | None, default: str) -> str:
    runtime = getattr(client, "_provider_runtime", None)  # where openai 3.x keeps what ``provider=`` configured
    name = _PROVIDERS.get(getattr(runtime, "name", None))
    if name is not None:
        return name
    for cls in type(client).__mro__:
        if cls.__name__ in _CLASSES:
            return _CLASSES[cls.__name__]
    return provider_of(host, port, default)


# paths of clients that do not ask for what their resources name


def endpoint_of(client: Any, path: str, body: object, above: str | None = None) -> str:
    """Return the whole path that a request goes to.

    Args:
        client: who sends it.
        path: what one of the client's resources posts to, or its template.
        body: what it posts.
        above: what comes before the path where that is not the path of the client's base URL.
    """
    rewriting = _rewriting(client.__class__)
    rewritten = None if rewriting is None else rewriting(client, path, body)
    return (_path(client._base_url) if above is None else above) + path if rewritten is None else rewritten


def _path(url: Any) -> str:
    path: str = url.path
    return path.rstrip("/")


def _azure(client: Any, path: str, body: object) -> str | None:
    """Source: ``_build_request`` and ``_prepare_url`` of `openai.lib.azure`, 1.26 to 3.52."""
    above = _path(client._base_url)
    if path in getattr(sys.modules.get("openai.lib.azure"), "_deployments_endpoints", ()):
        model = text(field(body, "model"))
        return None if model is None or "/deployments" in above else f"{above}/deployments/{model}{path}"
    azure = getattr(client, "_azure_endpoint", None)
    deployed = azure is not None and getattr(client, "_azure_deployment", None)
    return f"{_path(azure)}/openai{path}" if deployed else None


def _bedrock(client: Any, path: str, body: object) -> str | None:
    """Source: ``_prepare_options`` of `anthropic.lib.bedrock`, 0.25 to 2.12."""
    if path not in ("/v1/messages", "/v1/complete"):
        return None
    streamed = "-with-response-stream" if field(body, "stream") else ""
    return f"{_path(client._base_url)}/model/{text(field(body, 'model'))}/invoke{streamed}"


def _vertex(client: Any, path: str, body: object) -> str | None:
    """Source: ``_prepare_options`` of `anthropic.lib.vertex`, 0.25 to 2.12."""
    if path not in ("/v1/messages", "/v1/messages/count_tokens"):
        return None
    project = getattr(client, "_project_id", None) or getattr(client, "project_id", None) or ID
    place = f"/projects/{project}/locations/{getattr(client, 'region', None)}"
    verb = "streamRawPredict" if field(body, "stream") else "rawPredict"
    model = text(field(body, "model")) if path == "/v1/messages" else "count-tokens"
    return f"{_path(client._base_url)}{place}/publishers/anthropic/models/{model}:{verb}"


_Rewriting: TypeAlias = Callable[[Any, str, object], str | None]
"""Returns the whole path that a client asks for in place of one that its resource posts to, or None."""
_REWRITINGS: dict[str, _Rewriting] = {
    "AzureOpenAI": _azure,
    "AsyncAzureOpenAI": _azure,
    "BaseBedrockClient": _bedrock,
    "BaseVertexClient": _vertex,
}


@cache
def _rewriting(kind: Hashable) -> _Rewriting | None:
    return next(
        (_REWRITINGS[cls.__name__] for cls in getattr(kind, "__mro__", ()) if cls.__name__ in _REWRITINGS), None
    )
