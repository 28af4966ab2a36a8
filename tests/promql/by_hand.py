"""What an application tells by hand: one round of everything that calls do not feed."""

from __future__ import annotations

import otel_llm

COST, SPENT, LIMIT = 25.0, 100.0, 100.0
"""Dollars."""


def tell_all() -> None:
    """Tell everything once; counters grow by this much each time."""
    otel_llm.set_queue_size("gpt-5", 12, priority="high")
    for seconds in (0.02, 0.2):
        otel_llm.record_queue_wait(seconds, model="gpt-5", priority="high")
    otel_llm.record_queue_request(model="gpt-5", priority="high")
    otel_llm.record_queue_rejection(model="gpt-5", priority="high")
    otel_llm.set_queue_workers(3)
    otel_llm.set_model_info("gpt-5", version="2026", base_url="http://gpu", size="7B", modified="today", family="gpt")
    otel_llm.record_model_load("gpt-5", 2.5)
    otel_llm.set_memory_usage("gpt-5", 4096, memory_type="vram")
    otel_llm.set_circuit_breaker_state("open", model="gpt-5")
    otel_llm.record_circuit_breaker_failure(model="gpt-5")
    for _ in range(3):
        otel_llm.record_cache_hit("semantic")
    otel_llm.record_cache_miss("semantic")
    otel_llm.record_rate_limit_wait(0.03, model="gpt-5")
    otel_llm.record_memory_operation("store")
    otel_llm.set_backend_health("openai", True)
    otel_llm.record_rate_limit("client-1")
    with otel_llm.track_workflow("support"):
        for failing in (False, True):
            try:
                with otel_llm.track_step("router"):
                    if failing:
                        raise ValueError
            except ValueError:
                pass
    otel_llm.family("llm_cost_usd", dialect="aegis").labels(provider="openai").inc(COST)
    otel_llm.family("monthly_spend_usd", dialect="aegis").labels(provider="openai").set(SPENT)
    otel_llm.family("monthly_budget_remaining_usd", dialect="aegis").labels(provider="openai").set(LIMIT - SPENT)
    otel_llm.family("llm_estimated_cost_usd", dialect="llmbackend").labels(backend="openai", model="gpt-5").inc(COST)
    budget = otel_llm.family("llm_backend_budget_usd", dialect="llmbackend")
    budget.labels(backend="openai", limit_type="current").set(SPENT)
    budget.labels(backend="openai", limit_type="max").set(LIMIT)
