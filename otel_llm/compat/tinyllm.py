"""The functions of TinyLLM's ``metrics``, by which the families of the dialect ``tinyllm`` are fed.

Signatures, defaults and effects are those of the original (seed 003), but that an unknown state of a circuit breaker is
a `ValueError`, and that `MetricsCollector.reset_metrics` resets.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import prometheus_client

from otel_llm import compat
from otel_llm.labelling import labels
from otel_llm.prometheus.by_hand import fed_by_functions
from otel_llm.prometheus.verbs import calls_first

__all__ = ["MetricsCollector", "get_metrics_collector", "start_metrics_server"]

logger = logging.getLogger("otel_llm")

compat.show("tinyllm")

MAX_CARDINALITY = 1000
"""Most label sets of the requests, if ``max_series`` is no less; beyond them, model and graph are ``other``."""

_STATES = {"closed": 0, "half-open": 1, "open": 2}


def _family(name: str) -> Any:
    return fed_by_functions(f"tinyllm_{name}", "tinyllm")


def _within(graph: str) -> AbstractContextManager[object]:
    """Have calls made inside know the graph in the second step, where it is theirs to tell."""
    return nullcontext() if graph == "unknown" or not calls_first() else labels(graph=str(graph))


def _other(values: tuple[str, ...]) -> tuple[str, ...]:
    return "other", "other", *values[2:]


class MetricsCollector:
    """Feeds the families; there is one in a process. Times are in seconds."""

    _instance: MetricsCollector | None = None

    request_total = _family("requests_total")
    request_total.max_rows = MAX_CARDINALITY
    request_total.beyond = _other
    request_latency = _family("request_latency_seconds")
    active_requests = _family("active_requests")
    tokens_input = _family("tokens_input_total")
    tokens_output = _family("tokens_output_total")
    errors_total = _family("errors_total")
    circuit_breaker_state = _family("circuit_breaker_state")
    circuit_breaker_failures = _family("circuit_breaker_failures_total")
    model_load_duration = _family("model_load_duration_seconds")
    node_executions_total = _family("node_executions_total")
    node_execution_duration = _family("node_execution_duration_seconds")
    node_errors_total = _family("node_errors_total")
    graph_executions_total = _family("graph_executions_total")
    graph_execution_duration = _family("graph_execution_duration_seconds")
    cache_hits = _family("cache_hits_total")
    cache_misses = _family("cache_misses_total")
    rate_limit_wait_seconds = _family("rate_limit_wait_seconds")
    memory_operations_total = _family("memory_operations_total")
    queue_size = _family("queue_size")
    queue_wait_time = _family("queue_wait_time_seconds")
    queue_requests_total = _family("queue_requests_total")
    queue_requests_rejected = _family("queue_requests_rejected_total")
    queue_active_workers = _family("queue_active_workers")

    def __new__(cls) -> MetricsCollector:
        """Return the one that is there already."""
        if cls._instance is None:
            cls._instance = super().__new__(cls)
        return cls._instance

    # Requests

    def increment_request_count(
        self, model: str = "unknown", graph: str = "unknown", request_type: str = "generate"
    ) -> None:
        """Count a request."""
        self.request_total.labels(model=model, graph=graph, request_type=request_type).inc()

    @contextmanager
    def track_request_latency(self, model: str = "unknown", graph: str = "unknown") -> Generator[None]:
        """Time a request, and tell that it is under way; it is not counted."""
        start = time.perf_counter()
        try:
            with compat.under_way(self.active_requests.labels(model=model, graph=graph)), _within(graph):
                yield
        finally:
            self.request_latency.labels(model=model, graph=graph).observe(time.perf_counter() - start)

    def record_tokens(
        self, input_tokens: int, output_tokens: int, model: str = "unknown", graph: str = "unknown"
    ) -> None:
        """Count tokens."""
        self.tokens_input.labels(model=model, graph=graph).inc(input_tokens)
        self.tokens_output.labels(model=model, graph=graph).inc(output_tokens)

    def increment_error_count(self, error_type: str, model: str = "unknown", graph: str = "unknown") -> None:
        """Count an error."""
        self.errors_total.labels(error_type=error_type, model=model, graph=graph).inc()

    # Models

    def update_circuit_breaker_state(self, state: str, model: str = "unknown") -> None:
        """Tell the state of a circuit breaker.

        Raises:
            ValueError: it is none of ``closed``, ``half-open`` and ``open``.
        """
        if state not in _STATES:
            raise ValueError(f"update_circuit_breaker_state(): state={state!r}: expected one of {', '.join(_STATES)}")
        self.circuit_breaker_state.labels(model=model).set(_STATES[state])

    def increment_circuit_breaker_failures(self, model: str = "unknown") -> None:
        """Count a failure that a circuit breaker saw."""
        self.circuit_breaker_failures.labels(model=model).inc()

    @contextmanager
    def track_model_load(self, model: str = "unknown") -> Generator[None]:
        """Time the loading of a model."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.model_load_duration.labels(model=model).observe(time.perf_counter() - start)

    # Nodes and graphs

    def increment_node_execution_count(self, node: str, graph: str = "unknown") -> None:
        """Count an execution of a node."""
        self.node_executions_total.labels(node=node, graph=graph).inc()

    @contextmanager
    def track_node_execution(self, node: str, graph: str = "unknown") -> Generator[None]:
        """Count an execution of a node, and time it."""
        self.increment_node_execution_count(node, graph)
        start = time.perf_counter()
        try:
            with _within(graph):
                yield
        finally:
            self.node_execution_duration.labels(node=node, graph=graph).observe(time.perf_counter() - start)

    def increment_node_error_count(self, node: str, error_type: str, graph: str = "unknown") -> None:
        """Count an error of a node."""
        self.node_errors_total.labels(node=node, graph=graph, error_type=error_type).inc()

    def increment_graph_execution_count(self, graph: str = "unknown") -> None:
        """Count an execution of a graph."""
        self.graph_executions_total.labels(graph=graph).inc()

    @contextmanager
    def track_graph_execution(self, graph: str = "unknown") -> Generator[None]:
        """Count an execution of a graph, and time it."""
        self.increment_graph_execution_count(graph)
        start = time.perf_counter()
        try:
            with _within(graph):
                yield
        finally:
            self.graph_execution_duration.labels(graph=graph).observe(time.perf_counter() - start)

    # Cache, rate limiter, memory

    def increment_cache_hit(self, cache_type: str = "general") -> None:
        """Count a request that a cache answered."""
        self.cache_hits.labels(cache_type=cache_type).inc()

    def increment_cache_miss(self, cache_type: str = "general") -> None:
        """Count a request that a cache could not answer."""
        self.cache_misses.labels(cache_type=cache_type).inc()

    def record_rate_limit_wait(self, wait_time: float, model: str = "unknown") -> None:
        """Tell how long a request waited for a rate limiter."""
        self.rate_limit_wait_seconds.labels(model=model).observe(wait_time)

    def increment_memory_operation(self, operation_type: str) -> None:
        """Count an operation on a memory."""
        self.memory_operations_total.labels(operation_type=operation_type).inc()

    # Queue

    def update_queue_size(self, size: int, priority: str = "all") -> None:
        """Tell how many requests wait."""
        self.queue_size.labels(priority=priority).set(size)

    def record_queue_wait_time(self, wait_time: float, priority: str = "normal") -> None:
        """Tell how long a request waited."""
        self.queue_wait_time.labels(priority=priority).observe(wait_time)

    def increment_queue_request(self, priority: str = "normal") -> None:
        """Count a request that came to the queue."""
        self.queue_requests_total.labels(priority=priority).inc()

    def increment_queue_rejected(self) -> None:
        """Count a request that the queue did not take."""
        self.queue_requests_rejected.inc()

    def update_active_workers(self, count: int) -> None:
        """Tell how many workers are busy."""
        self.queue_active_workers.set(count)

    # Read-outs

    def get_cardinality_stats(self) -> dict[str, Any]:
        """Return how many label sets the requests have, how many they may have, and what was beyond."""
        most = self.request_total.most()
        used = min(self.request_total.size(), most)
        counted = {"requests_total": {"cardinality": used, "dropped": self.request_total.folded}} if used else {}
        return {"metrics": counted, "total_label_combinations": used, "max_cardinality": most}

    def get_metrics_summary(self) -> dict[str, Any]:
        """Return how many families the default registry of `prometheus_client` has, and `get_cardinality_stats`."""
        return {
            "collector": "prometheus",
            "registry": "default",
            "metrics_count": len(list(prometheus_client.REGISTRY.collect())),
            "cardinality_stats": self.get_cardinality_stats(),
        }

    def reset_metrics(self) -> None:
        """Forget what the functions were told, and nothing else: for tests, since counters are not to fall."""
        logger.warning("otel_llm: the metrics of TinyLLM's functions are reset")
        for name in vars(MetricsCollector):
            forget = getattr(getattr(self, name), "forget", None)
            if forget is not None:
                forget()


def get_metrics_collector() -> MetricsCollector:
    """Return the collector of this process."""
    return MetricsCollector()


def start_metrics_server(port: int = 9090, addr: str = "0.0.0.0") -> None:
    """Serve the default registry of `prometheus_client`; where the port is taken, that is only told in the log.

    Raises:
        OSError: the address cannot be bound for another reason.
    """
    compat.serve(port, addr)
