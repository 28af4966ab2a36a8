"""The expressions of seed 001."""

from __future__ import annotations

from tests.promql.calls import Made
from tests.promql.expected import Increments, summed
from tests.promql.tables import Query, Table

BUCKETS = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)


def provider(made: Made) -> str:
    """Return what this system calls the provider."""
    return "local_ollama" if made.provider == "ollama" else made.provider


def task_type(made: Made) -> str:
    """Return what the program says of the task, else what the operation tells."""
    return made.labels.get("task_type") or ("embedding" if made.operation == "embeddings" else "generation")


def requests(made: Made) -> Increments:
    """llm_requests_total: calls that succeeded."""
    if not made.error_class:
        yield {"provider": provider(made), "task_type": task_type(made), "model": made.model}, 1


def latency(made: Made) -> Increments:
    """llm_latency_seconds: calls that succeeded."""
    if not made.error_class:
        yield {"provider": provider(made), "task_type": task_type(made)}, 1


def tokens(made: Made) -> Increments:
    """llm_tokens_used, in either spelling: what the answers told, and the sum."""
    if not made.error_class:
        yield {"provider": provider(made), "token_type": "input"}, made.input_tokens
        if made.output_tokens is not None:
            yield {"provider": provider(made), "token_type": "output"}, made.output_tokens
        yield {"provider": provider(made), "token_type": "total"}, made.input_tokens + (made.output_tokens or 0)


def errors(made: Made) -> Increments:
    """llm_errors_total: calls that failed."""
    if made.error_class:
        known = made.error_class if made.error_class in ("timeout", "rate_limit") else "api_error"
        yield {"provider": provider(made), "task_type": task_type(made), "error_type": known}, 1


TABLE = Table(
    "aegis",
    "001",
    "aegis",
    "llm_requests_total",
    [
        Query(
            "sum(increase(llm_requests_total[24h]))",
            lambda scene: summed(scene.increase(requests)),
        ),
        Query(
            "sum(increase(llm_cost_usd[1h])) / sum(increase(llm_requests_total[1h]))",
            by_hand=("llm_cost_usd",),
        ),
        Query(
            "histogram_quantile(0.95, sum(rate(llm_latency_seconds_bucket[5m])) by (provider, le))",
            lambda scene: scene.quantile(0.95, latency, BUCKETS, "provider"),
        ),
    ],
    successes=True,
    extra=[
        Query("llm_tokens_used", lambda scene: scene.total(tokens)),
        Query("llm_tokens_used_total", lambda scene: scene.total(tokens)),
        Query("llm_errors_total", lambda scene: scene.total(errors)),
        Query("sum by (model) (llm_requests_total)", lambda scene: summed(scene.total(requests), "model")),
    ],
)
