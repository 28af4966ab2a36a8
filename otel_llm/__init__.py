"""See every LLM call: OpenTelemetry traces and metrics, and the Prometheus page that dashboards already read.

import otel_llm

otel_llm.instrument()
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from otel_llm.call import Call
from otel_llm.config import Content
from otel_llm.labelling import attributes, labels
from otel_llm.manual.functions import (
    record_cache_hit,
    record_cache_miss,
    record_circuit_breaker_failure,
    record_error,
    record_memory_operation,
    record_model_load,
    record_queue_rejection,
    record_queue_request,
    record_queue_wait,
    record_rate_limit,
    record_rate_limit_wait,
    record_tokens,
    set_backend_health,
    set_circuit_breaker_state,
    set_memory_usage,
    set_model_info,
    set_queue_size,
    set_queue_workers,
)
from otel_llm.manual.inference import track_inference
from otel_llm.manual.queues import instrument_queue
from otel_llm.manual.tracking import track_agent, track_model_load, track_step, track_tool, track_workflow
from otel_llm.runtime import Handle, instrument, uninstrument
from otel_llm.serving import generate_latest

if TYPE_CHECKING:
    from otel_llm.prometheus.by_hand import family
    from otel_llm.prometheus.collector import DialectCollector
    from otel_llm.prometheus.web.asgi import make_asgi_app
    from otel_llm.prometheus.web.server import serve_metrics
    from otel_llm.prometheus.web.wsgi import make_wsgi_app

__all__ = [
    "Call",
    "Content",
    "DialectCollector",
    "Handle",
    "attributes",
    "family",
    "generate_latest",
    "instrument",
    "instrument_queue",
    "labels",
    "make_asgi_app",
    "make_wsgi_app",
    "record_cache_hit",
    "record_cache_miss",
    "record_circuit_breaker_failure",
    "record_error",
    "record_memory_operation",
    "record_model_load",
    "record_queue_rejection",
    "record_queue_request",
    "record_queue_wait",
    "record_rate_limit",
    "record_rate_limit_wait",
    "record_tokens",
    "serve_metrics",
    "set_backend_health",
    "set_circuit_breaker_state",
    "set_memory_usage",
    "set_model_info",
    "set_queue_size",
    "set_queue_workers",
    "track_agent",
    "track_inference",
    "track_model_load",
    "track_step",
    "track_tool",
    "track_workflow",
    "uninstrument",
]

_LATE = {
    "DialectCollector": "otel_llm.prometheus.collector",
    "family": "otel_llm.prometheus.by_hand",
    "make_asgi_app": "otel_llm.prometheus.web.asgi",
    "make_wsgi_app": "otel_llm.prometheus.web.wsgi",
    "serve_metrics": "otel_llm.prometheus.web.server",
}
"""Names whose modules import `prometheus_client` or a server, which not everybody needs."""


def __getattr__(name: str) -> Any:
    """Import what is not needed to instrument when somebody asks for it."""
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LATE[name]), name)
