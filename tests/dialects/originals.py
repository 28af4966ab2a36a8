"""The five systems as they were: their metrics in `prometheus_client`, counted as their own code did.

Sources: the repositories that `dialects/*.toml` names. What they never did by themselves is done as issue 6 decides it:
the statuses of 000 and 004, the task types and providers of 001, rate-limit hits.
"""

from __future__ import annotations

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info

from otel_llm.call import Call
from otel_llm_semconv.values import Operation
from tests.dialects.calls import SERVICE, STATIC, Made


def _model(call: Call) -> str:
    return call.request_model or call.response_model or "unknown"


def _model_at_start(call: Call) -> str:
    return call.request_model or "unknown"


def _label(call: Call, key: str, default: str) -> str:
    return {**STATIC, **(call.labels or {})}.get(key, default)


class Original:
    """A system: a registry with its metrics."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

    def _counter(self, name: str, help: str, *labels: str) -> Counter:
        return Counter(name, help, labels, registry=self.registry)

    def _gauge(self, name: str, help: str, *labels: str) -> Gauge:
        return Gauge(name, help, labels, registry=self.registry)

    def _histogram(self, name: str, help: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(name, help, labels, buckets=buckets, registry=self.registry)

    def _info(self, name: str, help: str, *labels: str) -> Info:
        return Info(name, help, labels, registry=self.registry)

    def begin(self, call: Call) -> None:
        """Count a call in flight."""

    def end(self, made: Made) -> None:
        """Count a call that ended."""


class LocalLLM(Original):
    """000, Genesis."""

    def __init__(self) -> None:
        super().__init__()
        self.requests = self._counter("llm_inference_requests_total", "Total LLM inference requests", "model", "status")
        buckets = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0)
        self.latency = self._histogram(
            "llm_inference_latency_seconds", "LLM inference latency in seconds", buckets, "model"
        )
        self.hits = self._counter("llm_rate_limit_hits_total", "Total rate limit hits", "client_id")
        self.active = self._gauge("llm_active_connections", "Current number of active LLM connections", "model")
        self._gauge("llm_queue_size", "Current LLM request queue size", "model")
        self.errors = self._counter("llm_error_total", "Total LLM errors", "error_type")
        self.tokens = self._counter("llm_tokens_total", "Total tokens processed", "model", "type")
        # One model there, which had no labels but only info; here several.
        self.info = self._info("llm_model_info", "LLM model metadata", "model", "version", "base_url")

    def begin(self, call: Call) -> None:
        self.active.labels(_model_at_start(call)).inc()

    def end(self, made: Made) -> None:
        call, case = made
        self.active.labels(_model_at_start(call)).dec()
        model = _model(call)
        if case is not None:
            self.errors.labels(case.name).inc()
            if case.status_000 == "rate_limited" and call.labels and "client_id" in call.labels:
                self.hits.labels(call.labels["client_id"]).inc()
        self.latency.labels(model).observe(call.duration)
        self.requests.labels(model, case.status_000 if case else "success").inc()
        if call.input_tokens is not None or call.output_tokens is not None:
            self.tokens.labels(model, "prompt").inc(call.input_tokens or 0)
            self.tokens.labels(model, "completion").inc(call.output_tokens or 0)
        self.info.labels(model, _label(call, "version", "unknown"), call.base_url or "unknown").info({})


class Aegis(Original):
    """001, AEGIS."""

    def __init__(self) -> None:
        super().__init__()
        labels = ("provider", "task_type")
        self.requests = self._counter("llm_requests_total", "Total number of LLM requests", *labels, "model")
        buckets = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
        self.latency = self._histogram("llm_latency_seconds", "LLM request latency in seconds", buckets, *labels)
        self._counter("llm_cost_usd", "Total LLM cost in USD (cumulative)", "provider")
        self.tokens = self._counter("llm_tokens_used", "Total tokens processed", "provider", "token_type")
        self.errors = self._counter("llm_errors_total", "Total number of LLM errors", *labels, "error_type")
        self._gauge("monthly_budget_remaining_usd", "Monthly budget remaining in USD", "provider")
        self._gauge("monthly_spend_usd", "Total spend for current month in USD", "provider")

    def end(self, made: Made) -> None:
        call, case = made
        provider = {"ollama": "local_ollama"}.get(call.provider, call.provider)
        if "dashscope" in (call.server_address or ""):
            provider = "alibaba_cloud"
        task = "vision" if call.image else "generation"
        if call.operation == Operation.EMBEDDINGS:
            task = "embedding"
        task = _label(call, "task_type", task)
        if case is not None:
            self.errors.labels(provider, task, case.error_001).inc()
            return
        self.requests.labels(provider, task, _model(call)).inc()
        self.latency.labels(provider, task).observe(call.duration)
        if call.input_tokens is not None or call.output_tokens is not None:
            self.tokens.labels(provider, "total").inc((call.input_tokens or 0) + (call.output_tokens or 0))
        if call.input_tokens is not None:
            self.tokens.labels(provider, "input").inc(call.input_tokens)
        if call.output_tokens is not None:
            self.tokens.labels(provider, "output").inc(call.output_tokens)


class OllamaExporter(Original):
    """002, AURA."""

    def __init__(self) -> None:
        super().__init__()
        labels = ("model", "container", "endpoint")
        self.generated = self._counter("llm_tokens_generated_total", "Total number of tokens generated", *labels)
        self.prompt = self._counter("llm_prompt_tokens_total", "Total number of prompt tokens processed", *labels)
        self.response = self._counter("llm_response_tokens_total", "Total number of response tokens generated", *labels)
        buckets = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
        help = "Time taken to complete inference request"
        self.latency = self._histogram("llm_inference_latency_seconds", help, buckets, *labels)
        self.rate = self._gauge("llm_tokens_per_second", "Current tokens per second generation rate", *labels)
        self.active = self._gauge("llm_active_requests", "Number of currently active inference requests", *labels)
        self.load = self._gauge("llm_model_load_time_seconds", "Time taken to load the model", *labels[:2])
        help = "Total number of inference errors"
        self.errors = self._counter("llm_inference_errors_total", help, *labels[:2], "error_type")
        self._info("llm_model", "Information about loaded models", *labels[:2])
        self._gauge("llm_queue_size", "Number of requests waiting in queue", *labels)
        self._gauge("llm_memory_usage_bytes", "Memory usage of the LLM process", *labels[:2], "memory_type")

    def begin(self, call: Call) -> None:
        self.active.labels(_model_at_start(call), *self._where(call)).inc()

    def end(self, made: Made) -> None:
        call, case = made
        container, endpoint = self._where(call)
        self.active.labels(_model_at_start(call), container, endpoint).dec()
        labels = (_model(call), container, endpoint)
        if call.output_tokens:
            self.rate.labels(*labels).set(call.output_tokens / (call.generation_seconds or call.duration))
        if call.load_seconds is not None:
            self.load.labels(*labels[:2]).set(call.load_seconds)
        if case is not None:
            self.errors.labels(*labels[:2], case.name).inc()
            return
        self.latency.labels(*labels).observe(call.duration)
        if call.input_tokens is not None or call.output_tokens is not None:
            self.generated.labels(*labels).inc((call.input_tokens or 0) + (call.output_tokens or 0))
        if call.input_tokens is not None:
            self.prompt.labels(*labels).inc(call.input_tokens)
        if call.output_tokens is not None:
            self.response.labels(*labels).inc(call.output_tokens)

    def _where(self, call: Call) -> tuple[str, str]:
        return _label(call, "container", "unknown"), call.endpoint or "unknown"


class TinyLLM(Original):
    """003, TinyLLM."""

    def __init__(self) -> None:
        super().__init__()
        self._info("tinyllm_system", "TinyLLM system information").info({"version": STATIC["version"], "app": SERVICE})
        labels = ("model", "graph")
        self.requests = self._counter(
            "tinyllm_requests_total", "Total number of requests processed", *labels, "request_type"
        )
        buckets: tuple[float, ...] = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
        self.latency = self._histogram(
            "tinyllm_request_latency_seconds", "Request latency in seconds", buckets, *labels
        )
        self.input = self._counter("tinyllm_tokens_input_total", "Total number of input tokens processed", *labels)
        self.output = self._counter("tinyllm_tokens_output_total", "Total number of output tokens generated", *labels)
        self.errors = self._counter("tinyllm_errors_total", "Total number of errors by type", "error_type", *labels)
        help = "Circuit breaker state (0=closed, 1=half-open, 2=open)"
        self._gauge("tinyllm_circuit_breaker_state", help, "model")
        self._counter("tinyllm_circuit_breaker_failures_total", "Total circuit breaker failures", "model")
        self.active = self._gauge("tinyllm_active_requests", "Number of requests currently being processed", *labels)
        buckets = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
        self.load = self._histogram(
            "tinyllm_model_load_duration_seconds", "Time taken to load a model", buckets, "model"
        )
        self._fed_by_hand()

    def _fed_by_hand(self) -> None:
        self._counter("tinyllm_node_executions_total", "Total number of node executions", "node", "graph")
        buckets: tuple[float, ...] = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
        name = "tinyllm_node_execution_duration_seconds"
        self._histogram(name, "Node execution duration in seconds", buckets, "node", "graph")
        help = "Total number of node execution errors"
        self._counter("tinyllm_node_errors_total", help, "node", "graph", "error_type")
        self._counter("tinyllm_graph_executions_total", "Total number of graph executions", "graph")
        name = "tinyllm_graph_execution_duration_seconds"
        self._histogram(name, "Graph execution duration in seconds", (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120), "graph")
        self._counter("tinyllm_cache_hits_total", "Total number of cache hits", "cache_type")
        self._counter("tinyllm_cache_misses_total", "Total number of cache misses", "cache_type")
        buckets = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0)
        self._histogram("tinyllm_rate_limit_wait_seconds", "Time spent waiting for rate limiter", buckets, "model")
        self._counter("tinyllm_memory_operations_total", "Total number of memory operations", "operation_type")
        self._gauge("tinyllm_queue_size", "Current queue size", "priority")
        buckets = (0.001, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0)
        self._histogram("tinyllm_queue_wait_time_seconds", "Time spent waiting in queue", buckets, "priority")
        self._counter("tinyllm_queue_requests_total", "Total requests submitted to queue", "priority")
        self._counter("tinyllm_queue_requests_rejected_total", "Total requests rejected due to full queue")
        self._gauge("tinyllm_queue_active_workers", "Number of active worker threads")

    def begin(self, call: Call) -> None:
        self.active.labels(_model_at_start(call), _label(call, "graph", "unknown")).inc()

    def end(self, made: Made) -> None:
        call, case = made
        graph = _label(call, "graph", "unknown")
        self.active.labels(_model_at_start(call), graph).dec()
        labels = (_model(call), graph)
        self.requests.labels(*labels, _label(call, "request_type", "generate")).inc()
        self.latency.labels(*labels).observe(call.duration)
        if call.load_seconds is not None:
            self.load.labels(labels[0]).observe(call.load_seconds)
        if case is not None:
            self.errors.labels(case.name, *labels).inc()
            return
        if call.input_tokens is not None or call.output_tokens is not None:
            self.input.labels(*labels).inc(call.input_tokens or 0)
            self.output.labels(*labels).inc(call.output_tokens or 0)


class LLMBackend(Original):
    """004, mostlylucid's LLM backend, which used prometheus-net."""

    def __init__(self) -> None:
        super().__init__()
        labels = ("backend", "model")
        self.requests = self._counter("llm_requests_total", "Total number of LLM requests", *labels, "status")
        buckets = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60)
        help = "Duration of LLM requests in seconds"
        self.latency = self._histogram("llm_request_duration_seconds", help, buckets, *labels)
        self.tokens = self._counter("llm_tokens_total", "Total number of tokens used", *labels, "token_type")
        help = "Estimated cost in USD (based on token usage and configured pricing)"
        self._counter("llm_estimated_cost_usd", help, *labels)
        self.errors = self._counter("llm_errors_total", "Total number of errors", "backend", "error_type")
        self._gauge("llm_backend_health", "Backend health status (1=healthy, 0=unhealthy)", "backend")
        self.active = self._gauge("llm_active_requests", "Number of requests currently in flight", "backend")
        self._gauge("llm_backend_budget_usd", "Current spend and budget limit in USD", "backend", "limit_type")

    def begin(self, call: Call) -> None:
        self.active.labels(_label(call, "backend", call.provider)).inc()

    def end(self, made: Made) -> None:
        call, case = made
        backend = _label(call, "backend", call.provider)
        labels = (backend, _model(call))
        self.active.labels(backend).dec()
        self.requests.labels(*labels, case.status_004 if case else "success").inc()
        self.latency.labels(*labels).observe(call.duration)
        if case is not None:
            self.errors.labels(backend, case.error_004).inc()
            return
        if call.input_tokens is not None or call.output_tokens is not None:
            self.tokens.labels(*labels, "prompt").inc(call.input_tokens or 0)
            self.tokens.labels(*labels, "completion").inc(call.output_tokens or 0)
            self.tokens.labels(*labels, "total").inc((call.input_tokens or 0) + (call.output_tokens or 0))


ORIGINALS: Mapping[str, type[Original]] = {
    "local_llm": LocalLLM,
    "aegis": Aegis,
    "ollama_exporter": OllamaExporter,
    "tinyllm": TinyLLM,
    "llmbackend": LLMBackend,
}

SPELLINGS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "local_llm": {"llm_model_info_info": ("llm_model_info",)},
    "aegis": {
        "llm_cost_usd_total": ("llm_cost_usd", "llm_cost_usd_total"),
        "llm_tokens_used_total": ("llm_tokens_used", "llm_tokens_used_total"),
    },
    "ollama_exporter": {},
    "tinyllm": {},
    "llmbackend": {"llm_estimated_cost_usd_total": ("llm_estimated_cost_usd",)},
}
"""What `prometheus_client` writes otherwise than the systems' documents and dashboards have it, and how we write it.

Its ``_created`` series are on no page of ours.
"""
