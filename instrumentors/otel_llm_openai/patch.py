"""Where `openai` and its kin are patched: a few choke points through which every call of every version passes.

``request`` runs once per logical call, ``_process_response`` once per answer, ``_should_retry`` and
``_calculate_retry_timeout`` once per failed attempt, and the iteration methods of the stream classes once per stream.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Collection, Mapping
from functools import partial
from types import ModuleType
from typing import Any

from otel_llm.exchange import Exchange, current_exchange, retry_reason
from otel_llm.faults import guarded
from otel_llm.patching import Patches, subclasses
from otel_llm.shells import Begin, aaround, around
from otel_llm.streams import aobserve, aobserve_next, observe, observe_next, tap_of
from otel_llm.telemetry import Telemetry
from otel_llm.wire import Format
from otel_llm.wire.fields import field
from otel_llm.wire.openai import EMBEDDINGS
from otel_llm.wire.openai_endpoints import endpoint
from otel_llm.wire.openai_paths import template_of
from otel_llm_openai.family import CLIENTS, Client
from otel_llm_openai.own_spans import fold
from otel_llm_openai.server import endpoint_of, is_absolute, server_of, server_of_url
from otel_llm_openai.usage import ask, hide

_RAW_HEADER = "X-Stainless-Raw-Response"
_UNKNOWN: tuple[Format | None, str] = (None, "")
_SIMPLE_LOOP = ("_iterator",)
"""Names in the code of an ``__iter__`` that only hands on what ``_iterator`` gives; such a loop can be replaced."""
_OBSERVED_LOOP = ("_iterator", "_observer", "item")
"""The same of `anthropic` 2, whose loop also tells the observer that stands for a span of its own, if there is one."""


def patch(module: ModuleType, patches: Patches, telemetry: Telemetry) -> None:
    """Patch the base classes of a client in its ``_base_client``, and its stream classes."""
    sync_client, async_client = module.SyncAPIClient, module.AsyncAPIClient
    begin = _begins(CLIENTS[module.__name__.removesuffix("._base_client")])
    shells = around(patches, telemetry, begin), aaround(patches, telemetry, begin)
    for base, make in zip((sync_client, async_client), shells, strict=True):
        original = base.__dict__["request"]
        patches.replace(base, "request", make)
        # A wrapper that somebody put on a subclass before us, such as openinference's, goes past the base.
        for cls in subclasses(base):
            wrapper = cls.__dict__.get("request")
            wraps = wrapper is not None and inspect.unwrap(wrapper) is original
            if wraps and not patches.replace_beneath(wrapper, make):
                patches.replace(cls, "request", make)
    patches.replace(sync_client, "_process_response", _process_response)
    patches.replace(async_client, "_process_response", _aprocess_response)
    patches.replace(module.BaseClient, "_should_retry", _should_retry)
    patches.replace(module.BaseClient, "_calculate_retry_timeout", _calculate_retry_timeout)
    patches.replace(module.Stream, "__iter__", _iter)
    patches.replace(module.Stream, "__next__", _next)
    patches.replace(module.AsyncStream, "__aiter__", _aiter)
    patches.replace(module.AsyncStream, "__anext__", _anext)
    fold(module, patches)


def _begins(client: Client) -> Begin:
    """Return what begins a call of a client by the format of its path."""
    counted_on_request = client.counted_on_request

    def begin(exchange: Exchange, own: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        options = args[1] if len(args) > 1 else kwargs["options"]
        url: str = options.url
        server, above, usual, endpoints = server_of(own, client)
        format, path = usual.get(url, _UNKNOWN)
        body: dict[str, Any] | None = options.json_data
        if format is None or options.method.lower() != "post":
            url = str(url)
            if is_absolute(url):
                server = server_of_url(own, url, client.provider)
                endpoints = client.kin.get(server.provider, client.spoken).endpoints
            format, endpoint, body = _format_of(own, options, url, endpoints, client.words)
        elif above is None:
            endpoint = endpoint_of(own, path, body)
        else:
            endpoint = above + path
        if options.extra_json and isinstance(body, dict):
            body = {**body, **options.extra_json}
        if format is EMBEDDINGS and isinstance(body, dict):
            body = _without_default_encoding(options, body)
        headers: dict[str, Any] | None = options.headers
        raw = isinstance(headers, dict) and bool(headers.get(_RAW_HEADER))
        exchange.begin(format, server, endpoint, body, raw=raw)
        if exchange.telemetry.injects_usage and exchange.recording and not raw and format in counted_on_request:
            exchange.asked = ask(options)

    return begin


def _format_of(
    own: Any, options: Any, url: str, endpoints: Mapping[str, Format], words: Collection[str]
) -> tuple[Format, str, dict[str, Any]]:
    """Return the format of any endpoint, its whole path, and what the request says: in its body, its query and path."""
    template, ids, above = template_of(url, str(own._base_url), words)
    format, is_known = endpoint(options.method, template, endpoints)
    whole = above + template if is_absolute(url) else endpoint_of(own, template, options.json_data, above)
    body: dict[str, Any] | None = options.json_data
    if not isinstance(body, dict):
        body = {}
    if is_known and ids:
        return format, whole, {**options.params, **ids, **body}
    return format, whole, body


def _without_default_encoding(options: Any, body: dict[str, Any]) -> dict[str, Any]:
    """Leave out the encoding that the client asks for on its own account.

    What the caller gave is bound to the parser that the client hangs on the request: as a keyword of a partial (3.x) or
    as a variable of a closure; what is no string there was not given.
    """
    parser = options.post_parser
    given = field(getattr(parser, "keywords", None), "encoding_format")
    code = getattr(parser, "__code__", None)
    if code is not None and "encoding_format" in code.co_freevars:
        given = parser.__closure__[code.co_freevars.index("encoding_format")].cell_contents
    if given is None or isinstance(given, str):
        return body
    return {key: value for key, value in body.items() if key != "encoding_format"}


def _process_response(original: Callable[..., Any]) -> Callable[..., Any]:
    def process(self: Any, *args: Any, **kwargs: Any) -> Any:
        exchange = current_exchange.get()
        if exchange is not None:
            exchange.answered(kwargs.get("response"), stream=bool(kwargs.get("stream")))
        return original(self, *args, **kwargs)

    return process


def _aprocess_response(original: Callable[..., Any]) -> Callable[..., Any]:
    async def process(self: Any, *args: Any, **kwargs: Any) -> Any:
        exchange = current_exchange.get()
        if exchange is not None:
            exchange.answered(kwargs.get("response"), stream=bool(kwargs.get("stream")))
        return await original(self, *args, **kwargs)

    return process


def _should_retry(original: Callable[..., bool]) -> Callable[..., bool]:
    def should_retry(self: Any, response: Any) -> bool:
        exchange = current_exchange.get()
        if exchange is not None:
            exchange.attempted(response)
        return original(self, response)

    return should_retry


def _calculate_retry_timeout(original: Callable[..., float]) -> Callable[..., float]:
    def calculate(self: Any, remaining_retries: int, options: Any, response_headers: Any = None) -> float:
        exchange = current_exchange.get()
        if exchange is not None:
            _note_retry(exchange, response_headers)
        return original(self, remaining_retries, options, response_headers)

    return calculate


@guarded
def _note_retry(exchange: Exchange, response_headers: object) -> None:
    """Without an answer the client calculates inside the ``except`` block of what it met."""
    error = sys.exc_info()[1] if response_headers is None else None
    exchange.retried(retry_reason(exchange.last_status, error))


def _chunks(original: Callable[..., Any]) -> Callable[[Any], Any]:
    """Return how to get at a stream's chunks without another layer of iteration, if that can be had."""
    used = original.__code__.co_names
    if used == _SIMPLE_LOOP:
        return lambda stream: stream._iterator
    if used == _OBSERVED_LOOP:
        return lambda stream: stream._iterator if stream._observer is None else original(stream)
    return original


def _iter(original: Callable[..., Any]) -> Callable[..., Any]:
    chunks = _chunks(original)

    def __iter__(self: Any) -> Any:
        tap = tap_of(getattr(self, "response", None))
        if tap is None:
            return original(self)
        hide(self, tap)
        return observe(tap, chunks(self))

    return __iter__


def _next(original: Callable[..., Any]) -> Callable[..., Any]:
    def __next__(self: Any) -> Any:
        tap = tap_of(getattr(self, "response", None))
        if tap is None:
            return original(self)
        hide(self, tap)
        return observe_next(tap, partial(original, self))

    return __next__


def _aiter(original: Callable[..., Any]) -> Callable[..., Any]:
    chunks = _chunks(original)

    def __aiter__(self: Any) -> Any:
        tap = tap_of(getattr(self, "response", None))
        if tap is None:
            return original(self)
        hide(self, tap)
        return aobserve(tap, chunks(self))

    return __aiter__


def _anext(original: Callable[..., Any]) -> Callable[..., Any]:
    async def __anext__(self: Any) -> Any:
        tap = tap_of(getattr(self, "response", None))
        if tap is None:
            return await original(self)
        hide(self, tap)
        return await aobserve_next(tap, partial(original, self))

    return __anext__
