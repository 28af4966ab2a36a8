"""See every LLM call: OpenTelemetry traces and metrics, and the Prometheus page that dashboards already read.

import otel_llm

otel_llm.instrument()
"""

from otel_llm.call import Call
from otel_llm.config import Content
from otel_llm.context import attributes, labels
from otel_llm.runtime import Handle, generate_latest, instrument, uninstrument

__all__ = ["Call", "Content", "Handle", "attributes", "generate_latest", "instrument", "labels", "uninstrument"]
