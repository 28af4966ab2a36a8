"""The functions of Genesis' ``local_llm_metrics``, by which the families of the dialect ``local_llm`` are fed.

Signatures, defaults and effects are those of the original (seed 000), but that each model has an info of its own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager

from otel_llm import compat
from otel_llm.prometheus.by_hand import fed_by_functions

__all__ = [
    "LocalLLMMetricsCollector",
    "get_metrics_collector",
    "record_error",
    "record_rate_limit",
    "record_tokens",
    "start_metrics_server",
    "track_inference",
]

logger = logging.getLogger("otel_llm")

compat.show("local_llm")

llm_inference_requests_total = fed_by_functions("llm_inference_requests_total", "local_llm")
llm_inference_latency_seconds = fed_by_functions("llm_inference_latency_seconds", "local_llm")
llm_rate_limit_hits_total = fed_by_functions("llm_rate_limit_hits_total", "local_llm")
llm_active_connections = fed_by_functions("llm_active_connections", "local_llm")
llm_queue_size = fed_by_functions("llm_queue_size", "local_llm")
llm_error_total = fed_by_functions("llm_error_total", "local_llm")
llm_tokens_total = fed_by_functions("llm_tokens_total", "local_llm")
llm_model_info = fed_by_functions("llm_model_info", "local_llm")


class LocalLLMMetricsCollector:
    """Feeds the families, and serves the default registry of `prometheus_client`.

    Args:
        port: where it is served.
        host: the address of that, ``0.0.0.0`` for all.
        enable_metrics: False has all methods do nothing but run their blocks.
    """

    def __init__(self, port: int = 9090, host: str = "0.0.0.0", enable_metrics: bool = True) -> None:
        self.port = port
        self.host = host
        self.enable_metrics = enable_metrics
        self._server_started = False

    def start(self) -> None:
        """Serve the registry; a second time, and where the port is taken, that is only told in the log.

        Raises:
            OSError: the address cannot be bound for another reason.
        """
        if not self.enable_metrics:
            return
        if self._server_started:
            logger.warning("otel_llm: the metrics server is started already")
            return
        compat.serve(self.port, self.host)
        self._server_started = True

    @contextmanager
    def track_inference(self, model: str) -> Generator[None]:
        """Count a request, its duration in seconds, its failure, and that it is under way."""
        if not self.enable_metrics:
            yield
            return
        status = "success"
        start = time.perf_counter()
        try:
            with compat.under_way(llm_active_connections.labels(model=model)):
                yield
        except Exception as error:
            status = "error"
            llm_error_total.labels(error_type=type(error).__name__).inc()
            raise
        finally:
            llm_inference_latency_seconds.labels(model=model).observe(time.perf_counter() - start)
            llm_inference_requests_total.labels(model=model, status=status).inc()

    def record_rate_limit(self, client_id: str) -> None:
        """Count a request that was refused for the sake of a rate limit."""
        if self.enable_metrics:
            llm_rate_limit_hits_total.labels(client_id=client_id).inc()

    def record_error(self, error_type: str) -> None:
        """Count an error."""
        if self.enable_metrics:
            llm_error_total.labels(error_type=error_type).inc()

    def record_tokens(self, model: str, prompt_tokens: int, completion_tokens: int) -> None:
        """Count tokens."""
        if self.enable_metrics:
            llm_tokens_total.labels(model=model, type="prompt").inc(prompt_tokens)
            llm_tokens_total.labels(model=model, type="completion").inc(completion_tokens)

    def set_queue_size(self, model: str, size: int) -> None:
        """Tell how many requests wait."""
        if self.enable_metrics:
            llm_queue_size.labels(model=model).set(size)

    def set_model_info(self, model_name: str, version: str, base_url: str) -> None:
        """Tell what is known of a model."""
        if self.enable_metrics:
            llm_model_info.labels(model=model_name).info({"version": version, "base_url": base_url})


_collector: LocalLLMMetricsCollector | None = None


def get_metrics_collector(port: int = 9090, enable_metrics: bool = True) -> LocalLLMMetricsCollector:
    """Return the collector of this process, made by the first call as that one says."""
    global _collector
    if _collector is None:
        _collector = LocalLLMMetricsCollector(port, enable_metrics=enable_metrics)
    return _collector


def start_metrics_server(port: int = 9090, enable_metrics: bool = True, host: str | None = None) -> None:
    """Serve the registry by the collector of this process; see `LocalLLMMetricsCollector.start`.

    Args:
        port: where it is served, if the collector is not there yet.
        enable_metrics: whether it does anything, if it is not there yet.
        host: the address; None for the one that the collector has.

    Raises:
        OSError: the address cannot be bound, and not because it is taken.
    """
    collector = get_metrics_collector(port, enable_metrics)
    if host is not None and not collector._server_started:
        collector.host = host
    collector.start()


def track_inference(model: str) -> AbstractContextManager[None]:
    """Count a request, its duration in seconds, its failure, and that it is under way."""
    return get_metrics_collector().track_inference(model)


def record_rate_limit(client_id: str) -> None:
    """Count a request that was refused for the sake of a rate limit."""
    get_metrics_collector().record_rate_limit(client_id)


def record_error(error_type: str) -> None:
    """Count an error."""
    get_metrics_collector().record_error(error_type)


def record_tokens(model: str, prompt_tokens: int, completion_tokens: int) -> None:
    """Count tokens."""
    get_metrics_collector().record_tokens(model, prompt_tokens, completion_tokens)
