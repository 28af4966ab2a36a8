"""Fold the span that a client makes of its own calls into ours, so that there is one span for each call.

`anthropic` traces itself: inside its ``request``, and so inside our span, it starts one of its own by
``start_api_call_span``. Here it gets a tracer of ours, which hands on what the client says at the start and gives it a
span that does not record but stands for ours. The client treats it as it treats a span that was sampled out, and still
sends its context with the request.

That function is the client's own affair. A client that needs OpenTelemetry, but has no such function or another one, is
met where its spans must come from: at the tracers of the SDK, which know it by their scope.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from importlib.metadata import PackageNotFoundError, requires
from types import FunctionType, ModuleType
from typing import Any

from opentelemetry.trace import NonRecordingSpan, Span, get_current_span, use_span

from otel_llm.exchange import Exchange, current_exchange
from otel_llm.faults import fault
from otel_llm.patching import Patches, when_imported
from otel_llm_semconv import attributes as names

_START = "start_api_call_span"
_KEPT = "anthropic."
"""How the attributes begin that the conventions do not know and only the client can tell."""


def fold(module: ModuleType, patches: Patches) -> None:
    """Patch the function by which a client starts the span of a call, or what is below it; most clients have neither.

    Args:
        module: the ``_base_client`` of the client, whose ``request`` may be patched already.
        patches: where the patches go.
    """
    if _is_known(module):
        patches.replace(module, _START, _start)
        return
    package = module.__name__.removesuffix("._base_client")
    if not _needs_opentelemetry(package.replace(".", "-")):
        return
    word = package.partition(".")[0]

    def patch(sdk: ModuleType) -> None:
        if patches.active:
            patches.replace(sdk.Tracer, "start_span", lambda original: _start_span(original, word))

    when_imported("opentelemetry.sdk.trace", patch)


def _is_known(module: ModuleType) -> bool:
    """Whether the client's requests start their spans in the way that is known."""
    start = vars(module).get(_START)
    if type(start) is not FunctionType or "tracer" not in inspect.signature(start).parameters:
        return False
    clients = (module.SyncAPIClient, module.AsyncAPIClient)
    return all(_START in inspect.unwrap(client.request).__code__.co_names for client in clients)


def _needs_opentelemetry(distribution: str) -> bool:
    try:
        required = requires(distribution) or ()
    except PackageNotFoundError:
        return False
    return any(one.startswith("opentelemetry-") and "extra ==" not in one for one in required)


def _start(original: Callable[..., Any]) -> Callable[..., Any]:
    def start_api_call_span(*args: Any, **kwargs: Any) -> Any:
        exchange = current_exchange.get()
        if exchange is not None and exchange.traced:
            args = tuple([_Tracer(given, exchange) if hasattr(given, "start_span") else given for given in args])
            if "tracer" in kwargs:
                kwargs["tracer"] = _Tracer(kwargs["tracer"], exchange)
        return original(*args, **kwargs)

    return start_api_call_span


class _Tracer:
    """Stands in for a client's tracer, for one span."""

    def __init__(self, tracer: Any, exchange: Exchange) -> None:
        self._tracer = tracer
        self._exchange = exchange

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tracer, name)

    def start_span(
        self, name: str, context: Any = None, kind: Any = None, attributes: Any = None, *_: Any, **__: Any
    ) -> Span:
        """Take note of the attributes and return what stands for the span that the call has already."""
        return _stand_in(self._exchange, attributes)

    def start_as_current_span(self, *args: Any, **kwargs: Any) -> AbstractContextManager[Span]:
        """Do the same, and make it current, as the call's span is already."""
        return use_span(self.start_span(*args, **kwargs))


def _start_span(original: Callable[..., Any], word: str) -> Callable[..., Any]:
    """Return a tracer's method that starts no span inside a call for the client whose scope begins with that word."""

    def start_span(self: Any, *args: Any, **kwargs: Any) -> Any:
        exchange = current_exchange.get()
        if exchange is not None and exchange.traced and _is_own(self, word):
            return _stand_in(
                exchange, kwargs["attributes"] if "attributes" in kwargs else args[3] if args[3:] else None
            )
        return original(self, *args, **kwargs)

    return start_span


def _is_own(tracer: Any, word: str) -> bool:
    scope: str = getattr(getattr(tracer, "_instrumentation_scope", None), "name", None) or ""
    return scope == word or scope.startswith((f"{word}.", f"com.{word}."))


def _stand_in(exchange: Exchange, attributes: Mapping[str, Any] | None) -> Span:
    """Keep what only the client tells of the call; return what stands for the call's one span."""
    try:
        told = {
            key: value
            for key, value in (attributes or {}).items()
            if key.startswith(_KEPT) or key == names.GEN_AI_CONVERSATION_ID
        }
        exchange.told(told)
    except Exception:
        fault("own_spans")
    return NonRecordingSpan(get_current_span().get_span_context())
