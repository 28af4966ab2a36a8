"""The expressions of seed 000."""

from __future__ import annotations

from tests.promql.calls import Made
from tests.promql.expected import (
    MINUTE,
    Increments,
    Rows,
    Scene,
    above,
    exactly,
    plus,
    ratio,
    summed,
    times,
    top,
    where,
)
from tests.promql.tables import Query, Table

BUCKETS = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0)
FIVE = 5 * MINUTE
QUEUE = ("llm_queue_size",)


def requests(made: Made) -> Increments:
    """llm_inference_requests_total: every call."""
    status = {"": "success", "rate_limit": "rate_limited"}.get(made.error_class, "error")
    yield {"model": made.model, "status": status}, 1


def latency(made: Made) -> Increments:
    """llm_inference_latency_seconds, and llm_active_connections: every call."""
    yield {"model": made.model}, 1


def hits(made: Made) -> Increments:
    """llm_rate_limit_hits_total: where the client is known."""
    if made.error_class == "rate_limit" and "client_id" in made.labels:
        yield {"client_id": made.labels["client_id"]}, 1


def errors(made: Made) -> Increments:
    """llm_error_total, by the class of the exception."""
    if made.error_name:
        yield {"error_type": made.error_name}, 1


def tokens(made: Made) -> Increments:
    """llm_tokens_total: what the answers told."""
    if not made.error_class:
        yield {"model": made.model, "type": "prompt"}, made.input_tokens
        yield {"model": made.model, "type": "completion"}, made.output_tokens or 0


def share_of(scene: Scene, status: str, factor: float = 1) -> Rows:
    """Return the share of the calls with a status."""
    made = scene.increase(requests)
    return ratio(summed(where(made, status=status)), summed(made), factor)


def over_five(scene: Scene) -> Rows:
    """Return the rate of the calls that took more than five seconds."""
    return plus(summed(scene.rate(latency, FIVE)), times(scene.within(5.0, latency, FIVE), -1))


TABLE = Table(
    "local_llm",
    "000",
    "local-llm",
    "llm_inference_requests_total",
    [
        Query(
            "sum by (model) (llm_inference_requests_total)",
            lambda scene: summed(scene.total(requests), "model"),
        ),
        Query(
            'rate(llm_inference_requests_total{status="error"}[5m])',
            lambda scene: where(scene.rate(requests, FIVE), status="error"),
        ),
        Query(
            'sum(rate(llm_inference_requests_total{status="success"}[5m]))\n'
            "/ sum(rate(llm_inference_requests_total[5m])) * 100",
            lambda scene: share_of(scene, "success", 100),
        ),
        Query(
            "histogram_quantile(0.95, sum by (le, model)\n  (rate(llm_inference_latency_seconds_bucket[5m])))",
            lambda scene: scene.quantile(0.95, latency, BUCKETS),
        ),
        Query(
            "rate(llm_inference_latency_seconds_sum[5m])\n/ rate(llm_inference_latency_seconds_count[5m])",
            lambda scene: scene.mean(latency),
        ),
        Query(
            'sum(rate(llm_inference_latency_seconds_bucket{le="5.0"}[5m]))',
            lambda scene: scene.within(5.0, latency, FIVE),
            broken="called requests over 5 seconds, gives those of at most 5 seconds",
            fixes=(
                (
                    "sum(rate(llm_inference_latency_seconds_count[5m]))\n"
                    '- sum(rate(llm_inference_latency_seconds_bucket{le="5.0"}[5m]))'
                ),
            ),
            fixed_rows=over_five,
        ),
        Query(
            "rate(llm_rate_limit_hits_total[1m]) * 60",
            lambda scene: times(scene.rate(hits, MINUTE), 60),
        ),
        Query(
            "topk(10, sum by (client_id) (llm_rate_limit_hits_total))",
            lambda scene: scene.total(hits),
        ),
        Query("llm_active_connections", lambda scene: scene.active(latency)),
        Query("max_over_time(llm_active_connections[1h])", lambda scene: scene.peak(latency)),
        Query("llm_queue_size", by_hand=QUEUE),
        Query("avg_over_time(llm_queue_size[5m])", by_hand=QUEUE),
        Query("rate(llm_error_total[5m])", lambda scene: scene.rate(errors, FIVE)),
        Query("topk(5, sum by (error_type) (llm_error_total))", lambda scene: top(5, scene.total(errors))),
        Query("sum by (model) (llm_tokens_total)", lambda scene: summed(scene.total(tokens), "model")),
        Query("sum by (type) (llm_tokens_total)", lambda scene: summed(scene.total(tokens), "type")),
        Query("rate(llm_tokens_total[1m])", lambda scene: scene.rate(tokens, MINUTE)),
        Query(
            '(sum(rate(llm_inference_requests_total{status="error"}[5m]))\n'
            "/ sum(rate(llm_inference_requests_total[5m]))) > 0.1",
            lambda scene: above(share_of(scene, "error"), 0.1),
            alert="HighLLMErrorRate",
            lasts="5m",
        ),
        Query(
            "histogram_quantile(0.95, sum by (le, model)\n  (rate(llm_inference_latency_seconds_bucket[5m]))) > 5",
            lambda scene: above(scene.quantile(0.95, latency, BUCKETS), 5),
            alert="HighLLMLatency",
            lasts="5m",
        ),
        Query(
            'up{job="local-llm"} == 0',
            lambda scene: {(): exactly(0)},
            alert="LLMServiceDown",
            lasts="2m",
        ),
        Query("llm_queue_size > 10", by_hand=QUEUE, alert="HighLLMQueueSize", lasts="5m"),
        Query(
            "rate(llm_rate_limit_hits_total[1m]) > 1",
            lambda scene: above(scene.rate(hits, MINUTE), 1),
            broken="its text calls the value hits per minute, it is hits per second",
            fixes=("rate(llm_rate_limit_hits_total[1m]) * 60 > 60",),
            fixed_rows=lambda scene: above(times(scene.rate(hits, MINUTE), 60), 60),
            alert="HighRateLimitHits",
            lasts="5m",
        ),
        Query(
            "sum(rate(llm_inference_requests_total[5m])) by (model)",
            lambda scene: summed(scene.rate(requests, FIVE), "model"),
        ),
        Query(
            "sum(rate(llm_inference_latency_seconds_bucket[5m])) by (le)",
            lambda scene: scene.buckets(latency, BUCKETS, FIVE),
        ),
        Query(
            'sum(rate(llm_inference_requests_total{status="error"}[5m])) / sum(rate(llm_inference_requests_total[5m]))',
            lambda scene: share_of(scene, "error"),
        ),
        Query("llm_active_connections", lambda scene: scene.active(latency)),
    ],
)
