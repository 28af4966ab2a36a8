"""What applications tell by hand of other things than calls: the metric of each, and what tells its series apart.

The name of a measure is also the name of a column that dialects can show. `LABELS` says which fact of a measurement an
attribute is made from.
"""

from collections.abc import Mapping
from typing import Final

from otel_llm_semconv import attributes as attr
from otel_llm_semconv import metrics
from otel_llm_semconv.metrics import SERVER_DURATION_BOUNDARIES, Kind, Metric

_SOURCE: Final = "otel-llm, manual API"
"""Source of these metrics."""


def _metric(
    name: str,
    kind: Kind,
    unit: str,
    description: str,
    *attributes: str,
    value_type: type[int] | type[float] = int,
    boundaries: tuple[float, ...] = (),
) -> Metric:
    return Metric(name, kind, value_type, unit, description, attributes, boundaries, ("otel_llm",), _SOURCE)


def _seconds(name: str, description: str, *attributes: str) -> Metric:
    return _metric(
        name, "histogram", "s", description, *attributes, value_type=float, boundaries=SERVER_DURATION_BOUNDARIES
    )


_MODEL: Final = attr.GEN_AI_REQUEST_MODEL
"""What most of them are of."""
_PRIORITY: Final = attr.OTEL_LLM_QUEUE_PRIORITY
"""What else tells queues apart."""

MEASURES: Final[Mapping[str, Metric]] = {
    "errors": _metric(
        "otel_llm.errors",
        "counter",
        "{error}",
        "Number of errors that the application told, beside those of calls.",
        *(attr.ERROR_TYPE, attr.GEN_AI_PROVIDER_NAME, _MODEL),
    ),
    "rate_limits": _metric(
        "otel_llm.rate_limits",
        "counter",
        "{request}",
        "Number of requests that the application refused for the sake of a rate limit.",
        attr.OTEL_LLM_CLIENT_ID,
    ),
    "queue_size": _metric(
        "otel_llm.queue.size",
        "updowncounter",
        "{request}",
        "Number of requests that wait in a queue.",
        *(_MODEL, _PRIORITY),
    ),
    "queue_wait": _seconds("otel_llm.queue.wait.duration", "Time that a request waited in a queue.", _MODEL, _PRIORITY),
    "queue_requests": _metric(
        "otel_llm.queue.requests",
        "counter",
        "{request}",
        "Number of requests that came to a queue.",
        *(_MODEL, _PRIORITY),
    ),
    "queue_rejected": _metric(
        "otel_llm.queue.rejected",
        "counter",
        "{request}",
        "Number of requests that a queue did not take.",
        *(_MODEL, _PRIORITY),
    ),
    "queue_workers": _metric(
        "otel_llm.queue.workers",
        "updowncounter",
        "{worker}",
        "Number of workers that are at a request of a queue.",
        _MODEL,
    ),
    "model_info": _metric(
        "otel_llm.model.info",
        "gauge",
        "1",
        "A model that is there, and what is known of it.",
        *(_MODEL, attr.OTEL_LLM_MODEL_VERSION, attr.OTEL_LLM_MODEL_BASE_URL),
    ),
    "model_load": _seconds("otel_llm.model.load.duration", "Time in which the application loaded a model.", _MODEL),
    "memory_usage": _metric(
        "otel_llm.memory.usage",
        "gauge",
        "By",
        "Memory that a model or its server uses.",
        *(_MODEL, attr.OTEL_LLM_MEMORY_TYPE),
    ),
    "circuit_breaker_state": _metric(
        "otel_llm.circuit_breaker.state",
        "gauge",
        "1",
        "State of a circuit breaker: 0 closed, 1 half-open, 2 open.",
        _MODEL,
    ),
    "circuit_breaker_failures": _metric(
        "otel_llm.circuit_breaker.failures",
        "counter",
        "{failure}",
        "Number of failures that a circuit breaker saw.",
        _MODEL,
    ),
    "cache_hits": _metric(
        "otel_llm.cache.hits",
        "counter",
        "{request}",
        "Number of requests that a cache answered.",
        attr.OTEL_LLM_CACHE_TYPE,
    ),
    "cache_misses": _metric(
        "otel_llm.cache.misses",
        "counter",
        "{request}",
        "Number of requests that a cache could not answer.",
        attr.OTEL_LLM_CACHE_TYPE,
    ),
    "rate_limit_wait": _seconds(
        "otel_llm.rate_limit.wait.duration", "Time that a request waited for a rate limiter of the application.", _MODEL
    ),
    "memory_operations": _metric(
        "otel_llm.memory.operations",
        "counter",
        "{operation}",
        "Number of operations on the memory of a conversation or an agent.",
        attr.OTEL_LLM_MEMORY_OPERATION,
    ),
    "backend_health": _metric(
        "otel_llm.backend.health",
        "gauge",
        "1",
        "Whether a backend is well: 1 if it is, 0 if it is not.",
        attr.OTEL_LLM_BACKEND_NAME,
    ),
    "steps": _seconds(
        "otel_llm.step.duration",
        "Duration of a step of a workflow.",
        *(attr.OTEL_LLM_STEP_NAME, attr.GEN_AI_WORKFLOW_NAME, attr.ERROR_TYPE),
    ),
    "workflows": metrics.GEN_AI_INVOKE_WORKFLOW_DURATION,
    "tools": metrics.GEN_AI_EXECUTE_TOOL_DURATION,
    "agents": metrics.GEN_AI_INVOKE_AGENT_DURATION,
}
"""The metric of each measure."""

TOKENS: Final = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")
"""Columns of calls to which tokens that are told beside calls are added."""

OWN: Final = tuple([metric for metric in MEASURES.values() if metric not in metrics.AGENT])
"""Those metrics that are no metrics of the conventions."""

LABELS: Final[Mapping[str, str]] = {
    attr.OTEL_LLM_CLIENT_ID: "client_id",
    attr.OTEL_LLM_QUEUE_PRIORITY: "priority",
    attr.OTEL_LLM_MODEL_VERSION: "version",
    attr.OTEL_LLM_MEMORY_TYPE: "memory_type",
    attr.OTEL_LLM_CACHE_TYPE: "cache_type",
    attr.OTEL_LLM_MEMORY_OPERATION: "operation_type",
    attr.OTEL_LLM_BACKEND_NAME: "backend",
    attr.OTEL_LLM_STEP_NAME: "node",
    attr.GEN_AI_WORKFLOW_NAME: "graph",
    attr.GEN_AI_TOOL_NAME: "tool",
    attr.GEN_AI_TOOL_TYPE: "tool_type",
    attr.GEN_AI_AGENT_NAME: "agent",
}
"""By attribute, the label from which it is made; others are facts as calls have them."""
