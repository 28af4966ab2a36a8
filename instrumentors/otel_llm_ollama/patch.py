"""Where the `ollama` client is patched: the methods that its own methods look up anew for every request.

``_request`` makes plain calls and streams; ``_request_raw`` is below it, and on its own where no body is wanted. In
`ollama` 0.3 they are called ``_request_stream`` and ``_request``, and the lower one makes plain calls on its own, too.
`Client.chat` and the like would be too high: ``from ollama import chat`` holds the very method of one client.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any
from urllib.parse import SplitResult, urlsplit

from otel_llm.exchange import Exchange, Server, current_exchange, owner
from otel_llm.generators import aopening, opening
from otel_llm.patching import Make, Patches
from otel_llm.provider import DEFAULT_PORTS, base_url_of
from otel_llm.shells import aaround, around
from otel_llm.telemetry import Telemetry
from otel_llm.wire.ollama import FORMATS, endpoint, template_of
from otel_llm_semconv.providers import Provider

_MOST = 1024
_known: dict[int, tuple[Any, tuple[Server, str]]] = {}
"""Servers and base paths by the identity of the URL object, which is kept so that the identity stays its own."""


def patch(module: ModuleType, patches: Patches, telemetry: Telemetry) -> None:
    """Patch the sync and the async client class."""
    is_old = hasattr(module.Client, "_request_stream")
    upper, lower = ("_request_stream", "_request") if is_old else ("_request", "_request_raw")
    patches.replace(module.Client, upper, _upper(patches, telemetry))
    patches.replace(module.AsyncClient, upper, _aupper(patches, telemetry))
    patches.replace(module.Client, lower, _lower(patches, telemetry))
    patches.replace(module.AsyncClient, lower, _alower(patches, telemetry))


def _begin(
    exchange: Exchange, client: Any, args: tuple[Any, ...], kwargs: dict[str, Any], *, raw: bool = False
) -> None:
    """Begin a call by the format of its path; method and path come last of what is given by position."""
    method, path = args[-2:]
    format = FORMATS.get(path)
    body: dict[str, Any] | None = kwargs.get("json")
    server, above = _server_of(client)
    if format is None or method != "POST":
        path = str(path)
        format = endpoint(method, path)
        if "://" in path:
            server, above = _server(urlsplit(path), ""), ""
        path = template_of(path)
        if not isinstance(body, dict):
            body = {}
        elif "model" not in body:  # ollama 0.3 calls it the name
            body = {**body, "model": body.get("name")}
    exchange.begin(format, server, above + path, body, raw=raw)


def _server_of(client: Any) -> tuple[Server, str]:
    """Return whom a client talks to, and the path of its base URL."""
    url = client._client.base_url
    known = _known.get(id(url))
    if known is not None and known[0] is url:
        return known[1]
    parts = urlsplit(str(url))
    above = parts.path.rstrip("/")
    server = _server(parts, above), above
    if len(_known) >= _MOST:
        _known.clear()
    _known[id(url)] = (url, server)
    return server


def _server(url: SplitResult, path: str) -> Server:
    port = url.port or DEFAULT_PORTS.get(url.scheme)
    return Server(Provider.OLLAMA, url.hostname, port, base_url_of(url.scheme, url.hostname, port, path))


def _upper(patches: Patches, telemetry: Telemetry) -> Make:
    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        plain = around(patches, telemetry, _begin)(original)

        def request(self: Any, *args: Any, **kwargs: Any) -> Any:
            if not kwargs.get("stream"):
                return plain(self, *args, **kwargs)
            chunks = original(self, *args, **kwargs)
            begin = partial(_begin, client=self, args=args, kwargs=kwargs)
            return opening(patches, telemetry, begin, chunks, runs_model=args[-1] in FORMATS)

        return request

    return make


def _aupper(patches: Patches, telemetry: Telemetry) -> Make:
    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        plain = aaround(patches, telemetry, _begin)(original)

        async def request(self: Any, *args: Any, **kwargs: Any) -> Any:
            if not kwargs.get("stream"):
                return await plain(self, *args, **kwargs)
            chunks = await original(self, *args, **kwargs)
            begin = partial(_begin, client=self, args=args, kwargs=kwargs)
            return aopening(patches, telemetry, begin, chunks, runs_model=args[-1] in FORMATS)

        return request

    return make


def _lower(patches: Patches, telemetry: Telemetry) -> Make:
    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        def noted(self: Any, *args: Any, **kwargs: Any) -> Any:
            response = original(self, *args, **kwargs)
            _note(response)
            return response

        alone = around(patches, telemetry, _begin_raw)(noted)

        def request(self: Any, *args: Any, **kwargs: Any) -> Any:
            return (alone if owner() is None else original)(self, *args, **kwargs)

        return request

    return make


def _alower(patches: Patches, telemetry: Telemetry) -> Make:
    def make(original: Callable[..., Any]) -> Callable[..., Any]:
        async def noted(self: Any, *args: Any, **kwargs: Any) -> Any:
            response = await original(self, *args, **kwargs)
            _note(response)
            return response

        alone = aaround(patches, telemetry, _begin_raw)(noted)

        async def request(self: Any, *args: Any, **kwargs: Any) -> Any:
            return await (alone if owner() is None else original)(self, *args, **kwargs)

        return request

    return make


_begin_raw = partial(_begin, raw=True)


def _note(response: Any) -> None:
    """Take note of a response that the client gets as it is."""
    exchange = current_exchange.get()
    if exchange is not None:
        exchange.answered(response)
