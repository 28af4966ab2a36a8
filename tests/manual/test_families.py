"""Calls and what is told by hand fill every family of the five dialects but those of money."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from openai import APIStatusError, OpenAI

import otel_llm
from otel_llm.prometheus.dialects import load, shipped
from otel_llm.testing import capture
from otel_llm.testing.server import ScriptedServer, error
from tests.manual.pages import rows

MONEY = {
    "llm_cost_usd",
    "llm_cost_usd_total",
    "monthly_budget_remaining_usd",
    "monthly_spend_usd",
    "llm_estimated_cost_usd",
    "llm_backend_budget_usd",
}
"""Families that nothing feeds yet."""
FIVE = [name for name in shipped() if name != "genai"]


def scenario(client: OpenAI, server: ScriptedServer) -> None:
    """Do everything once: calls that succeed and fail, and all that is told by hand."""
    asked = {"model": "gpt-5", "messages": [{"role": "user", "content": "Who wrote Emma?"}]}

    def ask() -> None:
        client.chat.completions.create(**asked)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]

    with otel_llm.track_workflow("triage"), otel_llm.track_step("ask"), otel_llm.track_agent("clerk"):
        ask()
        with otel_llm.track_tool("search"):
            pass
    server.script(error(429))
    with otel_llm.labels(client_id="c1"), pytest.raises(APIStatusError):
        ask()
    with pytest.raises(LookupError), otel_llm.track_step("fail"):
        raise LookupError
    otel_llm.set_model_info("gpt-5", version="1", base_url="http://gpu", size="4GB", family="gpt")
    with otel_llm.track_model_load("gpt-5"):
        pass
    otel_llm.set_memory_usage("gpt-5", 2**30, memory_type="vram")
    otel_llm.set_circuit_breaker_state("open", model="gpt-5")
    otel_llm.record_circuit_breaker_failure(model="gpt-5")
    otel_llm.record_cache_hit()
    otel_llm.record_cache_miss()
    otel_llm.record_rate_limit_wait(0.2, model="gpt-5")
    otel_llm.record_memory_operation("add")
    otel_llm.set_backend_health("openai", True)
    let_go = threading.Event()
    slots = otel_llm.instrument_queue(threading.Semaphore(1), model="gpt-5", priority="high")
    assert slots.acquire()
    assert not slots.acquire(blocking=False)
    with otel_llm.instrument_queue(ThreadPoolExecutor(1), model="gpt-5", priority="low") as pool:
        pool.submit(let_go.wait, 10)
        pool.submit(let_go.wait, 10)
        let_go.set()


def test_every_family(server: ScriptedServer) -> None:
    """Each family has rows, and each counter and histogram has counted something."""
    with capture(), OpenAI(base_url=server.base_url, api_key="x", max_retries=0) as client:
        scenario(client, server)
        empty: set[str] = set()
        for dialect in FIVE:
            found: dict[str, float] = {}
            for labelled, value in rows(dialect, "").items():
                name = labelled.partition("{")[0].removesuffix("_count")
                found[name] = found.get(name, 0) + value
            for family in load(dialect).families:
                grows = family.kind in ("counter", "histogram")
                empty.update([name for name in family.spellings if name not in found or (grows and not found[name])])

    assert MONEY == empty
