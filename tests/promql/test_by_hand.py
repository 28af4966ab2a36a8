"""With calls and what is told by hand, every family of every dialect is there, and every expression has an answer."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack

import pytest

from otel_llm.prometheus.dialects import load
from tests.promql.by_hand import COST, LIMIT, SPENT
from tests.promql.conftest import APART, scraped
from tests.promql.expected import Labels, key
from tests.promql.servers import Binaries, Refused, Watcher, scenario, scraping
from tests.promql.tables import Query, Table
from tests.promql.test_documents import TABLES

TIMES = 3
"""How often everything is told: before the first scrape, and after it."""

VALUES: Mapping[str, Mapping[Labels, float]] = {
    "llm_queue_size": {key({"model": "gpt-5"}): 12},
    "llm_queue_size > 10": {key({"model": "gpt-5"}): 12},
    "avg_over_time(llm_queue_size[5m])": {key({"model": "gpt-5"}): 12},
    "sum(llm_backend_health)": {(): 1},
    "sum by (backend) (llm_estimated_cost_usd)": {key({"backend": "openai"}): TIMES * COST},
    "tinyllm_queue_size": {key({"priority": "high"}): 12},
    "tinyllm_circuit_breaker_state == 2": {key({"model": "gpt-5"}): 2},
    "llm_memory_usage_bytes": {key({"container": "unknown", "memory_type": "vram", "model": "gpt-5"}): 4096},
    "rate(tinyllm_queue_wait_time_seconds_sum[5m]) / rate(tinyllm_queue_wait_time_seconds_count[5m])": {
        key({"priority": "high"}): 0.11
    },
    "sum(rate(tinyllm_cache_hits_total[5m])) /\n"
    "(sum(rate(tinyllm_cache_hits_total[5m])) + sum(rate(tinyllm_cache_misses_total[5m])))": {(): 0.75},
}
"""What expressions give that depend on no time."""


class Watched:
    """The servers that scraped, by dialect, and when everything was done."""

    def __init__(self, by_dialect: Mapping[str, Watcher], at: float) -> None:
        self.by_dialect = by_dialect
        self.at = at


@pytest.fixture(scope="module")
def told(binaries: Binaries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """A process that makes calls and tells the rest by hand, and the servers that scrape it."""
    with scenario() as process, ExitStack() as stack:
        process.do("round")
        process.do("told")
        watchers: list[Watcher] = []
        for tables, _ in APART:
            folder = tmp_path_factory.mktemp("prometheus")
            jobs = {table.job: f"/metrics/{table.dialect}" for table in tables}
            watchers.append(stack.enter_context(scraping(folder, binaries.prometheus, process.page, jobs)))
        pages = sum(len(tables) for tables, _ in APART)
        scraped(watchers, pages, time.time())
        for _ in range(TIMES - 1):
            process.do("told")
            scraped(watchers, pages, time.time())
        by_dialect = {
            table.dialect: watcher for watcher, (tables, _) in zip(watchers, APART, strict=True) for table in tables
        }
        yield Watched(by_dialect, time.time())


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.dialect)
def test_every_family_is_there(table: Table, told: Watched) -> None:
    """Prometheus has samples of every family of the dialect, in every spelling."""
    watcher = told.by_dialect[table.dialect]
    missing = [
        name
        for family in load(table.dialect).families
        for name in family.spellings
        if not watcher.rows(f'count({{__name__=~"{name}(_bucket)?"}})', told.at)
    ]
    assert [] == missing


@pytest.mark.parametrize(
    ("table", "query"),
    [
        pytest.param(table, query, id=f"{table.dialect}-{number}")
        for table in TABLES
        for number, query in enumerate((*table.queries, *table.extra))
        if query.by_hand
    ],
)
def test_every_expression_has_an_answer(table: Table, query: Query, told: Watched) -> None:
    """What is told by hand gives rows, and the right ones; what is broken as written gives none, and its fix does."""
    watcher = told.by_dialect[table.dialect]
    if query.refused:
        with pytest.raises(Refused, match=query.broken):
            watcher.rows(query.text, told.at)
    elif query.broken:
        assert {} == watcher.rows(query.text, told.at)
    for text in query.fixes if query.broken else (query.text,):
        rows = watcher.rows(text, told.at)
        assert rows
        assert all(value >= 0 for value in rows.values())
        if text in VALUES:
            assert VALUES[text] == pytest.approx(rows)


def test_money(told: Watched) -> None:
    """What was spent and what may be is on the page as it was told."""
    aegis, llmbackend = told.by_dialect["aegis"], told.by_dialect["llmbackend"]
    assert {key({"provider": "openai"}): TIMES * COST} == aegis.rows("llm_cost_usd", told.at)
    assert {key({"provider": "openai"}): TIMES * COST} == aegis.rows("llm_cost_usd_total", told.at)
    assert {key({"provider": "openai"}): LIMIT - SPENT} == aegis.rows("monthly_budget_remaining_usd", told.at)
    assert {
        key({"backend": "openai", "limit_type": "current"}): SPENT,
        key({"backend": "openai", "limit_type": "max"}): LIMIT,
    } == llmbackend.rows("llm_backend_budget_usd", told.at)
