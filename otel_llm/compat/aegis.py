"""The functions and metrics of AEGIS' ``metrics``, by which the families of the dialect ``aegis`` are fed.

Signatures, defaults and effects are those of the original (seed 001); the metrics have the verbs of
`prometheus_client`.
"""

from __future__ import annotations

from otel_llm import compat
from otel_llm.prometheus.by_hand import fed_by_functions

__all__ = [
    "llm_cost_usd",
    "llm_errors_total",
    "llm_latency_seconds",
    "llm_requests_total",
    "llm_tokens_used",
    "monthly_budget_remaining_usd",
    "monthly_spend_usd",
    "track_llm_error",
    "track_llm_request",
    "update_budget_metrics",
]

compat.show("aegis")

llm_requests_total = fed_by_functions("llm_requests_total", "aegis")
llm_latency_seconds = fed_by_functions("llm_latency_seconds", "aegis")
llm_cost_usd = fed_by_functions("llm_cost_usd", "aegis")
llm_tokens_used = fed_by_functions("llm_tokens_used", "aegis")
llm_errors_total = fed_by_functions("llm_errors_total", "aegis")
monthly_budget_remaining_usd = fed_by_functions("monthly_budget_remaining_usd", "aegis")
monthly_spend_usd = fed_by_functions("monthly_spend_usd", "aegis")

_UNLIMITED = -1.0


def track_llm_request(
    provider: str,
    model: str,
    task_type: str,
    tokens_used: int,
    cost_usd: float,
    latency_seconds: float,
    tokens_input: int | None = None,
    tokens_output: int | None = None,
) -> None:
    """Count a request that succeeded, its duration in seconds, its cost in US dollars, and its tokens.

    Raises:
        ValueError: a number that is counted is below zero.
    """
    llm_requests_total.labels(provider=provider, task_type=task_type, model=model).inc()
    llm_latency_seconds.labels(provider=provider, task_type=task_type).observe(latency_seconds)
    llm_cost_usd.labels(provider=provider).inc(cost_usd)
    llm_tokens_used.labels(provider=provider, token_type="total").inc(tokens_used)
    for token_type, tokens in (("input", tokens_input), ("output", tokens_output)):
        if tokens is not None:
            llm_tokens_used.labels(provider=provider, token_type=token_type).inc(tokens)


def track_llm_error(provider: str, task_type: str, error_type: str) -> None:
    """Count an error."""
    llm_errors_total.labels(provider=provider, task_type=task_type, error_type=error_type).inc()


def update_budget_metrics(provider: str, monthly_spending: float, budget_limit: float) -> None:
    """Tell what was spent this month, and what is left of the budget, in US dollars: -1 where there is no limit."""
    monthly_spend_usd.labels(provider=provider).set(monthly_spending)
    left = max(0.0, budget_limit - monthly_spending) if budget_limit > 0 else _UNLIMITED
    monthly_budget_remaining_usd.labels(provider=provider).set(left)
