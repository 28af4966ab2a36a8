"""Other GenAI instrumentations around us: their spans and ``gen_ai.client.*`` points are not made a second time."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

from opentelemetry import trace
from opentelemetry.context import Context

from otel_llm_semconv import attributes as names
from otel_llm_semconv.values import INFERENCE_OPERATIONS, Operation


class Covered(NamedTuple):
    """What of a call another instrumentation makes already: its span, and which of its ``gen_ai.client.*`` points."""

    span: bool = False
    duration: bool = False
    tokens: bool = False
    first_chunk: bool = False


NOTHING = Covered()
_ALL = Covered(span=True, duration=True, tokens=True, first_chunk=True)
_SPAN = Covered(span=True)
_DURATION = Covered(duration=True)
_SPAN_DURATION = Covered(span=True, duration=True)
_SPAN_DURATION_TOKENS = Covered(span=True, duration=True, tokens=True)

_CONTEXT_KEYS = {
    **dict.fromkeys(INFERENCE_OPERATIONS, "opentelemetry.genai.client.inference.context"),
    Operation.EMBEDDINGS: "opentelemetry.genai.client.embedding.context",
    Operation.RETRIEVAL: "opentelemetry.genai.client.retrieval.context",
    Operation.FETCH_RESPONSE: "opentelemetry.genai.client.fetch_response.context",
}
"""Context keys that ``opentelemetry-util-genai`` 1.x sets around an operation of any vendor."""

_OPENLLMETRY_KEY = "suppress_language_model_instrumentation"
"""Context key that OpenLLMetry's instrumentations of frameworks set around the calls of models they make spans of."""
_OPENINFERENCE_KINDS = ("LLM", "EMBEDDING", "RERANKER")
_OPENLLMETRY_LANGCHAIN = "opentelemetry.instrumentation.langchain"
"""The one of them that counts these calls too."""

_SCOPES = {
    "opentelemetry.util.genai.handler": _ALL,
    "openinference.instrumentation.openai": _SPAN,
}
"""Scopes of the spans of ``opentelemetry-util-genai`` 0.x, which sets no key, and of openinference, which has
spans of its own kind and no metrics."""

_PYDANTIC_AI = "pydantic-ai"
"""Scope of pydantic-ai's own spans: of calls, and of the agents and tools around them."""
_PYDANTIC_AI_MODULE = "pydantic_ai._instrumentation"
_PYDANTIC_AI_CHAT = Covered(span=True, tokens=True, first_chunk=True)
_PYDANTIC_AI_OTHER = Covered(span=True, tokens=True)
_PYDANTIC_AI_OPERATIONS = {
    ("chat", Operation.CHAT): _PYDANTIC_AI_CHAT,
    ("embeddings", Operation.EMBEDDINGS): _PYDANTIC_AI_OTHER,
    ("image_generation", Operation.GENERATE_CONTENT): _PYDANTIC_AI_OTHER,
}
"""What it makes of a call, by what it calls the operation and what we do."""

_OPENLLMETRY = "opentelemetry.instrumentation.openai"
_OPENAI_V2 = "opentelemetry.instrumentation.openai_v2"
_OPENLIT = "openlit.instrumentation.openai"
_OPENLIT_ANTHROPIC = "openlit.instrumentation.anthropic"
_OPENLLMETRY_ANTHROPIC = "opentelemetry.instrumentation.anthropic"
_OPENINFERENCE_ANTHROPIC = "openinference.instrumentation.anthropic"
_OPENINFERENCE_LANGCHAIN = "openinference.instrumentation.langchain"
_ANY = ""
_OPENLIT_CALLS = {Operation.CHAT: _ALL, Operation.EMBEDDINGS: _ALL, _ANY: _SPAN_DURATION}
_LANGCHAIN_CALLS = {Operation.CHAT: _SPAN, Operation.TEXT_COMPLETION: _SPAN}
_OPENLLMETRY_ANTHROPIC_CALLS = {Operation.CHAT: _SPAN_DURATION_TOKENS, Operation.TEXT_COMPLETION: _SPAN_DURATION_TOKENS}
_WRAPPERS: dict[str, Mapping[str, Covered]] = {
    f"{_OPENAI_V2}.patch": {_ANY: _ALL},
    f"{_OPENLLMETRY}.shared.chat_wrappers": {_ANY: _SPAN_DURATION_TOKENS},
    f"{_OPENLLMETRY}.shared.embeddings_wrappers": {_ANY: _SPAN_DURATION_TOKENS},
    f"{_OPENLLMETRY}.shared.completion_wrappers": {_ANY: _SPAN},
    f"{_OPENLLMETRY}.shared.image_gen_wrappers": {_ANY: _DURATION},
    f"{_OPENLLMETRY}.v1.responses_wrappers": {_ANY: _SPAN},
    f"{_OPENLLMETRY}.v1.assistant_wrappers": {Operation.INVOKE_AGENT: _SPAN},
    f"{_OPENLLMETRY}.v1.realtime_wrappers": {Operation.CHAT: _SPAN},
    f"{_OPENLIT}.openai": _OPENLIT_CALLS,
    f"{_OPENLIT}.async_openai": _OPENLIT_CALLS,
    f"{_OPENLIT_ANTHROPIC}.anthropic": {Operation.CHAT: _ALL},
    f"{_OPENLIT_ANTHROPIC}.async_anthropic": {Operation.CHAT: _ALL},
    _OPENLLMETRY_ANTHROPIC: _OPENLLMETRY_ANTHROPIC_CALLS,
    f"{_OPENLLMETRY_ANTHROPIC}.streaming": _OPENLLMETRY_ANTHROPIC_CALLS,
    f"{_OPENINFERENCE_ANTHROPIC}._wrappers": {Operation.CHAT: _SPAN, Operation.COUNT_TOKENS: _SPAN},
    "pydantic_ai.embeddings.instrumented": {Operation.EMBEDDINGS: _PYDANTIC_AI_OTHER},
    "pydantic_ai.images.instrumented": {Operation.GENERATE_CONTENT: _PYDANTIC_AI_OTHER},
}
"""Modules of the wrappers that leave nothing in the context by which to know them when their span is sampled out, or is
made afterwards, and what they make of an operation."""
_LANGCHAIN = {
    "langchain_core.language_models.chat_models": _LANGCHAIN_CALLS,
    "langchain_core.language_models.llms": _LANGCHAIN_CALLS,
}
"""Modules of LangChain that call openinference's handler before and after a model, which leaves nothing at all."""
_WITH_LANGCHAIN = {**_WRAPPERS, **_LANGCHAIN}
_WITHOUT_TRACE = (
    _OPENLLMETRY,
    _OPENLLMETRY_ANTHROPIC,
    _OPENLIT,
    _OPENLIT_ANTHROPIC,
    _OPENAI_V2,
    _OPENINFERENCE_ANTHROPIC,
    _OPENINFERENCE_LANGCHAIN,
)
_NEAR = 24
"""How many frames a wrapper of the client's method can be away from the client's request."""

_seen = (0, False)
"""How many modules were loaded when we last looked, and what we found."""


def covered(operation: str, context: Context) -> Covered:
    """Return what another instrumentation makes of this operation, as seen from inside the client's request."""
    if _CONTEXT_KEYS.get(operation) in context:
        return _ALL
    if operation in INFERENCE_OPERATIONS and context.get(_OPENLLMETRY_KEY):
        return _SPAN_DURATION_TOKENS if _OPENLLMETRY_LANGCHAIN in sys.modules else _SPAN
    span = trace.get_current_span(context)
    scope = getattr(span, "instrumentation_scope", None)
    if scope is None:
        if _PYDANTIC_AI_MODULE in sys.modules and _is_sampled_out(span):
            return _by_pydantic_ai(operation, span) or _by_caller(operation)
    elif scope.name == _PYDANTIC_AI:
        theirs = getattr(span, "attributes", {}).get(names.GEN_AI_OPERATION_NAME)
        if found := _PYDANTIC_AI_OPERATIONS.get((str(theirs), operation)):
            return found
    elif scope.name in _SCOPES:
        return _SCOPES[scope.name]
    return _by_caller(operation) if may_be_near() else NOTHING


def covered_by_any(operation: str, context: Context) -> Covered:
    """Return what `covered` does; and the span alone where the current one is of a model call, whoever made it.

    For requests of clients that are not instrumented here: whose instrumentations there are is not known either.
    """
    found = covered(operation, context)
    if found is not NOTHING:
        return found
    span = trace.get_current_span(context)
    if getattr(span, "end_time", None) is not None:  # a task may outlive the call in which it was made
        return NOTHING
    attributes: Mapping[str, Any] = getattr(span, "attributes", None) or {}
    theirs = attributes.get(names.GEN_AI_OPERATION_NAME)
    same = theirs == operation or (theirs in INFERENCE_OPERATIONS and operation in INFERENCE_OPERATIONS)
    others = attributes.get("openinference.span.kind") in _OPENINFERENCE_KINDS or "llm.request.type" in attributes
    return _SPAN if same or others else NOTHING


def may_be_near() -> bool:
    """Whether an instrumentation is loaded that leaves no trace of itself in the context."""
    count, near = _seen
    return near if len(sys.modules) == count else _look()


def _look() -> bool:
    """Look again, since modules were loaded: this is asked before every call, so it must cost next to nothing."""
    global _seen
    loaded = sys.modules
    count = len(loaded)
    near = any(name in loaded for name in _WITHOUT_TRACE)
    _seen = (count, near)
    return near


def _is_sampled_out(span: trace.Span) -> bool:
    own = span.get_span_context()
    return own.is_valid and not own.trace_flags.sampled


def _by_pydantic_ai(operation: str, span: trace.Span) -> Covered | None:
    """Ask pydantic-ai whether a span that tells nothing is its own of a model: what is sampled out it counts still."""
    policy: Any = getattr(sys.modules[_PYDANTIC_AI_MODULE], "include_content_ctx", None)
    if operation != Operation.CHAT or policy is None or getattr(policy.get(), "span", None) is not span:
        return None
    return _PYDANTIC_AI_CHAT


def _by_caller(operation: str) -> Covered:
    """Look who called: a wrapper waits on the stack for as long as the request is under way, in a coroutine too."""
    wrappers = _WITH_LANGCHAIN if _handles_langchain() else _WRAPPERS
    frame = sys._getframe(2)
    for _ in range(_NEAR):
        calls = wrappers.get(frame.f_globals.get("__name__", ""))
        if calls is not None:
            return calls.get(operation) or calls.get(_ANY, NOTHING)
        if frame.f_back is None:
            break
        frame = frame.f_back
    return NOTHING


def _handles_langchain() -> bool:
    """Whether openinference instruments LangChain just now."""
    instrumentor: Any = getattr(sys.modules.get(_OPENINFERENCE_LANGCHAIN), "LangChainInstrumentor", None)
    return instrumentor is not None and bool(instrumentor().is_instrumented_by_opentelemetry)
