"""The Prometheus side: readers, dialects, and the pages that show them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from otel_llm.prometheus.reader import PrometheusReader

__all__ = ["PrometheusReader"]


def __getattr__(name: str) -> Any:
    """Import the reader, and with it `prometheus_client`, for those who ask for it."""
    if name != "PrometheusReader":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from otel_llm.prometheus.reader import PrometheusReader

    return PrometheusReader
