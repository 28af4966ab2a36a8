"""See every LLM call: OpenTelemetry traces and metrics, and the Prometheus page that dashboards already read.

import otel_llm

otel_llm.instrument()
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from otel_llm.call import Call
from otel_llm.config import Content
from otel_llm.context import attributes, labels
from otel_llm.runtime import Handle, instrument, uninstrument
from otel_llm.serving import generate_latest

if TYPE_CHECKING:
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
    "generate_latest",
    "instrument",
    "labels",
    "make_asgi_app",
    "make_wsgi_app",
    "serve_metrics",
    "uninstrument",
]

_LATE = {
    "DialectCollector": "otel_llm.prometheus.collector",
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
