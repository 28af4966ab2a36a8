"""The Prometheus side: a metric reader whose page is right, and the server that shows it."""

from otel_llm.prometheus.reader import PrometheusReader

__all__ = ["PrometheusReader"]
