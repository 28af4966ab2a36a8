"""Other GenAI instrumentations around us: their spans and ``gen_ai.client.*`` points are not made a second time."""

from __future__ import annotations

import sys
from typing import NamedTuple

from opentelemetry import trace
from opentelemetry.context import Context

from otel_llm_semconv.values import INFERENCE_OPERATIONS, Operation


class Covered(NamedTuple):
    """What of a call another instrumentation makes already."""

    span: bool = False
    metrics: bool = False


NOTHING = Covered()
_ALL = Covered(span=True, metrics=True)
_SPAN_ONLY = Covered(span=True)

_CONTEXT_KEYS = {
    **dict.fromkeys(INFERENCE_OPERATIONS, "opentelemetry.genai.client.inference.context"),
    Operation.EMBEDDINGS: "opentelemetry.genai.client.embedding.context",
    Operation.RETRIEVAL: "opentelemetry.genai.client.retrieval.context",
    Operation.FETCH_RESPONSE: "opentelemetry.genai.client.fetch_response.context",
}
"""Context keys that ``opentelemetry-util-genai`` 1.x sets around an operation of any vendor."""

_SCOPES = {
    "opentelemetry.util.genai.handler": _ALL,
    "openinference.instrumentation.openai": _SPAN_ONLY,
}
"""Scopes of the spans of ``opentelemetry-util-genai`` 0.x, which sets no key, and of openinference, which has
spans of its own kind and no metrics."""

_OPENLLMETRY = "opentelemetry.instrumentation.openai"
_OPENAI_V2 = "opentelemetry.instrumentation.openai_v2"
_OPENLIT = "openlit.instrumentation.openai"
_WRAPPERS = {
    f"{_OPENAI_V2}.patch": _ALL,
    f"{_OPENLLMETRY}.shared.chat_wrappers": _ALL,
    f"{_OPENLLMETRY}.shared.embeddings_wrappers": _ALL,
    f"{_OPENLLMETRY}.shared.completion_wrappers": _SPAN_ONLY,
    f"{_OPENLLMETRY}.v1.responses_wrappers": _SPAN_ONLY,
    f"{_OPENLIT}.openai": _ALL,
    f"{_OPENLIT}.async_openai": _ALL,
}
"""Modules of the wrappers that leave nothing in the context by which to know them when their span is sampled out, or is
made afterwards."""
_NEAR = 24
"""How many frames a wrapper of the client's method can be away from the client's request."""


def covered(operation: str, context: Context) -> Covered:
    """Return what another instrumentation makes of this operation, as seen from inside the client's request."""
    if _CONTEXT_KEYS.get(operation) in context:
        return _ALL
    span = trace.get_current_span(context)
    scope = getattr(span, "instrumentation_scope", None)
    if scope is not None and scope.name in _SCOPES:
        return _SCOPES[scope.name]
    return _by_caller() if may_be_near() else NOTHING


def may_be_near() -> bool:
    """Whether an instrumentation is loaded that leaves no trace of itself in the context."""
    loaded = sys.modules
    return _OPENLLMETRY in loaded or _OPENLIT in loaded or _OPENAI_V2 in loaded


def _by_caller() -> Covered:
    """Look who called: a wrapper waits on the stack for as long as the request is under way, in a coroutine too."""
    frame = sys._getframe(2)
    for _ in range(_NEAR):
        found = _WRAPPERS.get(frame.f_globals.get("__name__", ""))
        if found is not None:
            return found
        if frame.f_back is None:
            break
        frame = frame.f_back
    return NOTHING
