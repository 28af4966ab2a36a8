"""Seed 002 has no expressions; it names the panels of its dashboard in words, and these are the queries for them."""

from __future__ import annotations

from collections.abc import Callable

from tests.promql.calls import LOAD_SECONDS, Made
from tests.promql.expected import MINUTE, Increments, Range, Rows, Scene, exactly, key, summed
from tests.promql.tables import Query, Table

BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
FIVE = 5 * MINUTE


def labels(made: Made) -> dict[str, str]:
    """Return the labels of most families."""
    return {"model": made.model, "container": made.labels.get("container", "unknown"), "endpoint": made.path}


def latency(made: Made) -> Increments:
    """llm_inference_latency_seconds: calls that succeeded."""
    if not made.error_class:
        yield labels(made), 1


def active(made: Made) -> Increments:
    """llm_active_requests: every call."""
    yield labels(made), 1


def prompt(made: Made) -> Increments:
    """llm_prompt_tokens_total: calls that succeeded."""
    if not made.error_class:
        yield labels(made), made.input_tokens


def response(made: Made) -> Increments:
    """llm_response_tokens_total: calls that succeeded and have an output."""
    if not made.error_class and made.output_tokens is not None:
        yield labels(made), made.output_tokens


def generated(made: Made) -> Increments:
    """llm_tokens_generated_total: both, whatever its name says."""
    yield from prompt(made)
    yield from response(made)


def errors(made: Made) -> Increments:
    """llm_inference_errors_total, by the class of the exception."""
    if made.error_class:
        container = made.labels.get("container", "unknown")
        yield {"model": made.model, "container": container, "error_type": made.error_name}, 1


def speeds(scene: Scene) -> Rows:
    """Return between what the tokens per second lie: no answer takes a millisecond, and none half a minute."""
    return {row: Range(0.2, 8 / 0.0001) for row in scene.total(response)}


def loads(scene: Scene) -> Rows:
    """Return what the server said of its models, which only Ollama does."""
    answered = [each.made for each in scene.calls if each.made.client == "ollama" and not each.made.error_class]
    return {
        key({"model": made.model, "container": made.labels.get("container", "unknown")}): exactly(LOAD_SECONDS)
        for made in answered
    }


def _quantile(quantile: float) -> Callable[[Scene], Rows]:
    return lambda scene: scene.quantile(quantile, latency, BUCKETS, "model")


TABLE = Table(
    "ollama_exporter",
    "002",
    "llm-wrapper",
    "llm_inference_latency_seconds_count",
    [],
    successes=True,
    extra=[
        Query("llm_tokens_per_second", speeds, panel="Tokens/sec visualization"),
        *(
            Query(
                f"histogram_quantile({quantile}, sum by (model, le) (rate(llm_inference_latency_seconds_bucket[5m])))",
                _quantile(quantile),
                panel="Latency percentiles (p50, p90, p99)",
            )
            for quantile in (0.5, 0.9, 0.99)
        ),
        Query(
            "sum by (model) (llm_active_requests)",
            lambda scene: summed(scene.active(active), "model"),
            panel="Active requests and queue monitoring",
        ),
        Query(
            "sum by (model) (llm_queue_size)",
            by_hand=("llm_queue_size",),
            panel="Active requests and queue monitoring",
        ),
        Query(
            "sum by (model) (llm_tokens_generated_total)",
            lambda scene: summed(scene.total(generated), "model"),
            panel="Token distribution by model",
        ),
        Query(
            "sum by (model) (increase(llm_prompt_tokens_total[5m]))",
            lambda scene: summed(scene.increase(prompt), "model"),
            panel="Token distribution by model",
        ),
        Query(
            "sum by (model) (increase(llm_response_tokens_total[5m]))",
            lambda scene: summed(scene.increase(response), "model"),
            panel="Token distribution by model",
        ),
        Query(
            "sum by (model, container, error_type) (rate(llm_inference_errors_total[5m]))",
            lambda scene: scene.rate(errors, FIVE),
            panel="Error rate tracking",
        ),
        Query("llm_model_load_time_seconds", loads, panel="Model load times table"),
        Query("llm_memory_usage_bytes", by_hand=("llm_memory_usage_bytes",), panel="Memory usage tracking"),
    ],
)
