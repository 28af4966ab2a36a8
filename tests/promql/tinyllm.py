"""The expressions of seed 003."""

from __future__ import annotations

from tests.promql.calls import Made
from tests.promql.expected import MINUTE, Increments, plus, ratio, summed
from tests.promql.tables import Query, Table

BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
FIVE = 5 * MINUTE
CACHE = ("tinyllm_cache_hits_total", "tinyllm_cache_misses_total")
NODE_SECONDS = ("tinyllm_node_execution_duration_seconds",)
QUEUE_WAIT = ("tinyllm_queue_wait_time_seconds",)
NO_BY = "unexpected <by>"


def graph(made: Made) -> dict[str, str]:
    """Return the labels of most families."""
    return {"model": made.model, "graph": made.labels.get("graph", "unknown")}


def requests(made: Made) -> Increments:
    """tinyllm_requests_total: every call."""
    yield {**graph(made), "request_type": "generate"}, 1


def latency(made: Made) -> Increments:
    """tinyllm_request_latency_seconds, and tinyllm_active_requests: every call."""
    yield graph(made), 1


def errors(made: Made) -> Increments:
    """tinyllm_errors_total, by the class of the exception."""
    if made.error_class:
        yield {**graph(made), "error_type": made.error_name}, 1


def input_tokens(made: Made) -> Increments:
    """tinyllm_tokens_input_total: calls that succeeded."""
    if not made.error_class:
        yield graph(made), made.input_tokens


def output_tokens(made: Made) -> Increments:
    """tinyllm_tokens_output_total: calls that succeeded, 0 of those that have no output."""
    if not made.error_class:
        yield graph(made), made.output_tokens or 0


TABLE = Table(
    "tinyllm",
    "003",
    "tinyllm",
    "tinyllm_requests_total",
    [
        Query("rate(tinyllm_requests_total[5m])", lambda scene: scene.rate(requests, FIVE)),
        Query(
            "sum(rate(tinyllm_requests_total[5m])) by (graph)",
            lambda scene: summed(scene.rate(requests, FIVE), "graph"),
        ),
        Query(
            "histogram_quantile(0.95, rate(tinyllm_request_latency_seconds_bucket[5m]))",
            lambda scene: scene.quantile(0.95, latency, BUCKETS),
        ),
        Query(
            "histogram_quantile(0.99, rate(tinyllm_request_latency_seconds_bucket[5m])) by (model)",
            lambda scene: scene.quantile(0.99, latency, BUCKETS, "model"),
            broken=NO_BY,
            fixes=("histogram_quantile(0.99, sum by (model, le) (rate(tinyllm_request_latency_seconds_bucket[5m])))",),
        ),
        Query(
            "sum(rate(tinyllm_errors_total[5m])) / sum(rate(tinyllm_requests_total[5m])) * 100",
            lambda scene: ratio(summed(scene.increase(errors)), summed(scene.increase(requests)), 100),
        ),
        Query(
            "sum(rate(tinyllm_errors_total[5m])) by (error_type)",
            lambda scene: summed(scene.rate(errors, FIVE), "error_type"),
        ),
        Query(
            "sum(rate(tinyllm_tokens_input_total[5m]) + rate(tinyllm_tokens_output_total[5m]))",
            lambda scene: summed(plus(scene.rate(input_tokens, FIVE), scene.rate(output_tokens, FIVE))),
        ),
        Query(
            "sum(rate(tinyllm_tokens_output_total[5m])) by (model)",
            lambda scene: summed(scene.rate(output_tokens, FIVE), "model"),
        ),
        Query("tinyllm_circuit_breaker_state == 2", by_hand=("tinyllm_circuit_breaker_state",)),
        Query(
            "rate(tinyllm_circuit_breaker_failures_total[5m])",
            by_hand=("tinyllm_circuit_breaker_failures_total",),
        ),
        Query(
            "sum(rate(tinyllm_cache_hits_total[5m])) /\n"
            "(sum(rate(tinyllm_cache_hits_total[5m])) + sum(rate(tinyllm_cache_misses_total[5m])))",
            by_hand=CACHE,
        ),
        Query(
            "sum(rate(tinyllm_cache_hits_total[5m])) by (cache_type)\n"
            "sum(rate(tinyllm_cache_misses_total[5m])) by (cache_type)",
            by_hand=CACHE,
            broken="unexpected <aggr:sum>",
            fixes=(
                "sum(rate(tinyllm_cache_hits_total[5m])) by (cache_type)",
                "sum(rate(tinyllm_cache_misses_total[5m])) by (cache_type)",
            ),
        ),
        Query(
            "sum(rate(tinyllm_node_executions_total[5m])) by (node)",
            by_hand=("tinyllm_node_executions_total",),
        ),
        Query(
            "histogram_quantile(0.95, rate(tinyllm_node_execution_duration_seconds_bucket[5m])) by (node)",
            by_hand=NODE_SECONDS,
            broken=NO_BY,
            fixes=(
                (
                    "histogram_quantile(0.95, "
                    "sum by (node, le) (rate(tinyllm_node_execution_duration_seconds_bucket[5m])))"
                ),
            ),
        ),
        Query(
            "sum(rate(tinyllm_node_errors_total[5m])) by (node, error_type)",
            by_hand=("tinyllm_node_errors_total",),
        ),
        Query("tinyllm_queue_size", by_hand=("tinyllm_queue_size",)),
        Query(
            "rate(tinyllm_queue_wait_time_seconds_sum[5m]) / rate(tinyllm_queue_wait_time_seconds_count[5m])",
            by_hand=QUEUE_WAIT,
        ),
        Query(
            "rate(tinyllm_queue_requests_rejected_total[5m])",
            by_hand=("tinyllm_queue_requests_rejected_total",),
        ),
    ],
)
