"""The expressions of seed 004."""

from __future__ import annotations

from tests.promql.calls import Made
from tests.promql.expected import MINUTE, Increments, Rows, Scene, above, ratio, summed, where
from tests.promql.tables import Query, Table

BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0)
FIVE = 5 * MINUTE
BUDGET = ("llm_backend_budget_usd",)
COST = ("llm_estimated_cost_usd",)
UNPAIRED = "limit_type differs on the two sides, so that they never match"
SPENT = 'llm_backend_budget_usd{limit_type="current"}'
GRANTED = 'llm_backend_budget_usd{limit_type="max"}'


def backend(made: Made) -> str:
    """Return what the program calls the backend, else the provider."""
    return made.labels.get("backend", made.provider)


def requests(made: Made) -> Increments:
    """llm_requests_total: every call."""
    status = {"": "success", "timeout": "timeout", "cancelled": "cancelled"}.get(made.error_class, "failure")
    yield {"backend": backend(made), "model": made.model, "status": status}, 1


def duration(made: Made) -> Increments:
    """llm_request_duration_seconds: every call."""
    yield {"backend": backend(made), "model": made.model}, 1


def active(made: Made) -> Increments:
    """llm_active_requests: every call."""
    yield {"backend": backend(made)}, 1


def tokens(made: Made) -> Increments:
    """llm_tokens_total: what the answers told, and the sum."""
    if not made.error_class:
        shared = {"backend": backend(made), "model": made.model}
        yield {**shared, "token_type": "prompt"}, made.input_tokens
        yield {**shared, "token_type": "completion"}, made.output_tokens or 0
        yield {**shared, "token_type": "total"}, made.input_tokens + (made.output_tokens or 0)


def errors(made: Made) -> Increments:
    """llm_errors_total: calls that failed."""
    if made.error_class:
        known = "unknown" if made.error_class == "cancelled" else made.error_class
        yield {"backend": backend(made), "error_type": known}, 1


def succeeded(scene: Scene, factor: float = 1) -> Rows:
    """Return the share of calls that succeeded."""
    made = scene.increase(requests)
    return ratio(summed(where(made, status="success")), summed(made), factor)


P95 = "histogram_quantile(0.95, rate(llm_request_duration_seconds_bucket[5m]))"

TABLE = Table(
    "llmbackend",
    "004",
    "llm-backend",
    "llm_requests_total",
    [
        Query(
            'rate(llm_requests_total{status="success"}[5m])',
            lambda scene: where(scene.rate(requests, FIVE), status="success"),
        ),
        Query(
            'sum(rate(llm_requests_total{status="success"}[5m]))\n/\nsum(rate(llm_requests_total[5m])) * 100',
            lambda scene: succeeded(scene, 100),
        ),
        Query(
            "rate(llm_request_duration_seconds_sum[5m])\n/\nrate(llm_request_duration_seconds_count[5m])",
            lambda scene: scene.mean(duration),
        ),
        Query(
            "histogram_quantile(0.95,\n  rate(llm_request_duration_seconds_bucket[5m])\n)",
            lambda scene: scene.quantile(0.95, duration, BUCKETS),
        ),
        Query("rate(llm_tokens_total[5m])", lambda scene: scene.rate(tokens, FIVE)),
        Query("increase(llm_estimated_cost_usd[1h])", by_hand=COST),
        Query("increase(llm_estimated_cost_usd[1h]) * 24", by_hand=COST),
        Query("sum by (backend) (llm_estimated_cost_usd)", by_hand=COST),
        Query("rate(llm_errors_total[5m])", lambda scene: scene.rate(errors, FIVE)),
        Query("sum(llm_backend_health)", by_hand=("llm_backend_health",)),
        Query("sum(llm_active_requests)", lambda scene: summed(scene.active(active))),
        Query(
            "max_over_time(sum(llm_active_requests)[1h])",
            lambda scene: summed(scene.peak(active)),
            broken="ranges only allowed for vector selectors",
            fixes=("max_over_time(sum(llm_active_requests)[1h:])",),
        ),
        Query(
            f"({SPENT}\n/\n{GRANTED}) * 100",
            by_hand=BUDGET,
            broken=UNPAIRED,
            fixes=(f"({SPENT}\n/ ignoring (limit_type)\n{GRANTED}) * 100",),
        ),
        Query(
            f"{SPENT}\n/\n{GRANTED} > 0.8",
            by_hand=BUDGET,
            broken=UNPAIRED,
            fixes=(f"{SPENT}\n/ ignoring (limit_type)\n{GRANTED} > 0.8",),
        ),
        Query(
            f"{GRANTED}\n-\n{SPENT}",
            by_hand=BUDGET,
            broken=UNPAIRED,
            fixes=(f"{GRANTED}\n- ignoring (limit_type)\n{SPENT}",),
        ),
        Query(
            'rate(llm_requests_total{status="success"}[5m])',
            lambda scene: where(scene.rate(requests, FIVE), status="success"),
        ),
        Query("sum(increase(llm_estimated_cost_usd[24h]))", by_hand=COST),
        Query(
            "sum by (token_type) (rate(llm_tokens_total[5m]))",
            lambda scene: summed(scene.rate(tokens, FIVE), "token_type"),
        ),
        Query(P95, lambda scene: scene.quantile(0.95, duration, BUCKETS)),
        Query(
            "rate(llm_errors_total[5m]) > 0.05",
            lambda scene: above(scene.rate(errors, FIVE), 0.05),
            broken="called an error rate, is errors per second: how many that is of all depends on the traffic",
            fixes=(
                (
                    "sum by (backend) (rate(llm_errors_total[5m]))\n"
                    "/ sum by (backend) (rate(llm_requests_total[5m])) > 0.05"
                ),
            ),
            fixed_rows=lambda scene: above(
                ratio(summed(scene.increase(errors), "backend"), summed(scene.increase(requests), "backend")),
                0.05,
            ),
            alert="HighLLMErrorRate",
            lasts="5m",
        ),
        Query("increase(llm_estimated_cost_usd[1h]) > 10", by_hand=COST, alert="LLMCostExceeded"),
        Query(
            f"({SPENT}\n/\n{GRANTED}) > 0.9",
            by_hand=BUDGET,
            broken=UNPAIRED,
            fixes=(f"({SPENT}\n/ ignoring (limit_type)\n{GRANTED}) > 0.9",),
            alert="LLMBudgetNearLimit",
            lasts="5m",
        ),
        Query(
            f"{SPENT}\n>=\n{GRANTED}",
            by_hand=BUDGET,
            broken=UNPAIRED,
            fixes=(f"{SPENT}\n>= ignoring (limit_type)\n{GRANTED}",),
            alert="LLMBudgetExceeded",
            lasts="1m",
        ),
        Query(
            f"{P95} > 30",
            lambda scene: scene.quantile(0.95, duration, BUCKETS),
            unreached=" > 30",
            alert="HighLLMLatency",
            lasts="10m",
        ),
        Query(
            "rate(llm_requests_total[5m])",
            lambda scene: scene.rate(requests, FIVE),
            record="job:llm_request_rate:5m",
        ),
        Query(
            'sum(rate(llm_requests_total{status="success"}[5m]))\n/\nsum(rate(llm_requests_total[5m]))',
            succeeded,
            record="job:llm_success_rate:5m",
        ),
    ],
)
