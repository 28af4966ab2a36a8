"""Fold the span that a client makes of its own calls into ours, so that there is one span for each call.

`anthropic` 2 traces itself: inside its ``request``, and so inside our span, it starts one of its own by
``start_api_call_span``. Here it gets a tracer of ours, which hands on what the client says at the start and gives it a
span that does not record but stands for ours. The client treats it as it treats a span that was sampled out, and still
sends its context with the request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

from opentelemetry.trace import NonRecordingSpan, Span, get_current_span

from otel_llm.exchange import Exchange, current_exchange
from otel_llm.faults import fault
from otel_llm.patching import Patches
from otel_llm_semconv import attributes as names

_KEPT = "anthropic."
"""How the attributes begin that the conventions do not know and only the client can tell."""


class _Tracer:
    """Stands in for a client's tracer, for one span."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange

    def start_span(self, name: str, *, attributes: Mapping[str, Any], **rest: Any) -> Span:
        """Take note of the attributes and return what stands for the span that the call has already."""
        try:
            told = {
                key: value
                for key, value in attributes.items()
                if key.startswith(_KEPT) or key == names.GEN_AI_CONVERSATION_ID
            }
            self._exchange.told(told)
        except Exception:
            fault("own_spans")
        return NonRecordingSpan(get_current_span().get_span_context())


def fold(module: ModuleType, patches: Patches) -> None:
    """Patch the one function by which a client starts a span of a call, where it has such a function."""
    patches.replace(module, "start_api_call_span", _start)


def _start(original: Callable[..., Any]) -> Callable[..., Any]:
    def start_api_call_span(tracer: Any, *args: Any, **kwargs: Any) -> Any:
        exchange = current_exchange.get()
        if exchange is not None and exchange.traced:
            tracer = _Tracer(exchange)
        return original(tracer, *args, **kwargs)

    return start_api_call_span
