"""Other GenAI instrumentations around us: their spans and ``gen_ai.client.*`` points are not made a second time."""

from __future__ import annotations

from opentelemetry import context as context_api
from opentelemetry import trace

from otel_llm_semconv.values import Operation

_CONTEXT_KEYS = {
    Operation.EMBEDDINGS: "opentelemetry.genai.client.embedding.context",
    Operation.RETRIEVAL: "opentelemetry.genai.client.retrieval.context",
    Operation.FETCH_RESPONSE: "opentelemetry.genai.client.fetch_response.context",
}
_INFERENCE_KEY = "opentelemetry.genai.client.inference.context"
"""Context keys that ``opentelemetry-util-genai`` 1.x sets around an operation of any vendor."""

_SCOPES = frozenset(
    {
        "opentelemetry.instrumentation.openai_v2",
        "opentelemetry.util.genai.handler",
        "opentelemetry.instrumentation.openai.v1",
        "openinference.instrumentation.openai",
        "openlit.otel.tracing",
    }
)
"""Scopes of instrumentations that leave no key, but a span of their own around the client's request."""


def is_instrumented(operation: str) -> bool:
    """Whether another instrumentation already covers this operation here."""
    context = context_api.get_current()
    if _CONTEXT_KEYS.get(operation, _INFERENCE_KEY) in context:
        return True
    span = trace.get_current_span(context)
    if span is trace.INVALID_SPAN:
        return False
    scope = getattr(span, "instrumentation_scope", None)
    return scope is not None and scope.name in _SCOPES
