"""Every expression of the documents gives what the calls that were made make of it."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from tests.backends.servers import fetch, wait_until
from tests.promql import aegis, llmbackend, local_llm
from tests.promql.conftest import Watched
from tests.promql.expected import Labels, Rows, added, summed, times
from tests.promql.servers import Binaries, Refused, Watcher, scenario, scraping
from tests.promql.tables import Query, Table
from tests.promql.test_documents import TABLES


def _cases(wanted: str) -> list[object]:
    return [
        pytest.param(table, query, id=f"{table.dialect}-{number}")
        for table in TABLES
        for number, query in enumerate((*table.queries, *table.extra))
        if {"fed": query.rows is not None, "by hand": query.rows is None, "fixed": bool(query.fixes)}[wanted]
    ]


def _same(expected: Rows, rows: dict[Labels, float]) -> None:
    """Make sure of rows: that there are any, these, with these values."""
    assert rows
    assert set(expected) == set(rows)
    assert {} == {
        labels: (expected[labels], value) for labels, value in rows.items() if not expected[labels].holds(value)
    }


@pytest.mark.parametrize(("table", "query"), _cases("fed"))
def test_fed_by_calls(table: Table, query: Query, watched: Watched) -> None:
    """What calls feed gives the right rows as it is written; what Prometheus cannot read, it refuses."""
    watcher = watched.by_dialect[table.dialect]
    assert query.rows is not None

    if query.refused:
        with pytest.raises(Refused, match=query.broken):
            watcher.rows(query.text, watched.at)
        return

    if query.unreached:
        assert {} == watcher.rows(query.text, watched.at)
    _same(query.rows(watched.scene(table)), watcher.rows(query.text.removesuffix(query.unreached), watched.at))


@pytest.mark.parametrize(("table", "query"), _cases("fixed"))
def test_fixed(table: Table, query: Query, watched: Watched) -> None:
    """What was wrong is right as we ship it; what calls do not feed can be evaluated, at least."""
    watcher = watched.by_dialect[table.dialect]
    rows = query.fixed_rows or query.rows

    for fix in query.fixes:
        answer = watcher.rows(fix, watched.at)
        if rows is not None:
            _same(rows(watched.scene(table)), answer)


@pytest.mark.parametrize(("table", "query"), _cases("by hand"))
def test_fed_by_hand(table: Table, query: Query, watched: Watched) -> None:
    """What calls do not feed has its families on the page with HELP and TYPE, and nothing but zeros to show of them."""
    page = fetch(f"{watched.process.page}/{table.dialect}")

    for family in query.by_hand:
        assert f"\n# HELP {family} " in f"\n{page}"
        assert f"\n# TYPE {family} " in f"\n{page}"
    if query.refused:
        with pytest.raises(Refused, match=query.broken):
            watched.by_dialect[table.dialect].rows(query.text, watched.at)
    else:
        assert {0.0} >= set(watched.by_dialect[table.dialect].rows(query.text, watched.at).values())


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.dialect)
def test_rules_are_evaluated(table: Table, watched: Watched) -> None:
    """Prometheus evaluates the documents' rules and ours: recorded series appear, and the alerts that are due fire."""
    watcher = watched.by_dialect[table.dialect]
    scene = watched.scene(table)
    due: set[str] = set()
    for query in table.queries:
        if query.record:
            assert query.rows is not None
            assert query.rows(scene).keys() == watcher.rows(query.record, watched.at).keys()
        if query.alert and query.rows is not None and not query.unreached:
            due |= {query.alert, *(f"{query.alert}Shipped" for _ in query.fixes)}

    def firing() -> set[str]:
        groups = fetch(f"{watcher.url}/api/v1/rules?type=alert")["data"]["groups"]
        rules = [rule for group in groups if group["name"] == table.dialect for rule in group["rules"]]
        assert {"ok"} >= {rule["health"] for rule in rules if rule["health"] != "unknown"}, rules
        return {rule["name"] for rule in rules if rule["state"] == "firing"}

    wait_until(lambda: firing() >= due, 10, f"{due} to fire")
    assert due == firing()


def test_pages_are_scraped_without_a_fault(watched: Watched) -> None:
    """Every page is up, nothing is said against one, and no sample was dropped; the canonical page has every call."""
    for watcher in set(watched.by_dialect.values()):

        def said(watcher: Watcher = watcher) -> set[tuple[str, str]]:
            ours = [each for each in watcher.targets() if watched.process.page.startswith(_base(each["scrapeUrl"]))]
            return {(target["health"], target["lastError"]) for target in ours}

        # A machine that is busy may miss a scrape; a page that is wrong never gets better.
        wait_until(lambda said=said: {("up", "")} == said(), 10, "no fault")  # type: ignore[misc]
        own = fetch(f"{watcher.url}/metrics")
        dropped = re.findall(
            r"^prometheus_target_scrapes_sample_(?:duplicate_timestamp|out_of_order|out_of_bounds)_total (.*)",
            own,
            re.MULTILINE,
        )
        assert ["0"] * 3 == dropped
        assert [] == [line for line in watcher.log_text().splitlines() if "duplicate" in line.lower()]
    expected: Rows = {
        (("gen_ai_request_model", dict(labels)["model"]),): value
        for labels, value in watched.scene(local_llm.TABLE).total(local_llm.latency).items()
    }
    for dialect in ("ollama_exporter", "llmbackend"):
        counted = "sum by (gen_ai_request_model) (gen_ai_client_operation_duration_seconds_count)"
        _same(expected, watched.by_dialect[dialect].rows(counted, watched.at))


def _base(url: str) -> str:
    """Return a URL without its path."""
    return url[: url.index("/", len("http://"))]


def test_colliding_pages_add_up(watched: Watched, tmp_path: Path) -> None:
    """One Prometheus that scrapes dialects which collide adds them up, as the documentation warns."""
    jobs = {name: f"/metrics/{name}" for name in ("local_llm", "aegis", "llmbackend")}

    with scraping(tmp_path, watched.binaries.prometheus, watched.process.page, jobs) as watcher:
        wait_until(lambda: 3 == len(watcher.query("up == 1")), 30, "three pages to be scraped")
        now = time.time()

        calls = [summed(watched.scene(module.TABLE).total(module.requests), "model") for module in (aegis, llmbackend)]
        _same(added(*calls), watcher.rows("sum by (model) (llm_requests_total)", now))
        tokens = summed(watched.scene(local_llm.TABLE).total(local_llm.tokens), "model")
        _same(times(tokens, 3), watcher.rows("sum by (model) (llm_tokens_total)", now))


def test_nothing_but_the_target(binaries: Binaries, tmp_path: Path) -> None:
    """With `dialects`, a scrape of `/metrics` has the systems' families beside the canonical ones."""
    asked = "local_llm,aegis,tinyllm"
    with (
        scenario(OTEL_LLM_DIALECTS=asked) as process,
        scraping(tmp_path, binaries.prometheus, process.page, {local_llm.TABLE.job: "/metrics"}) as watcher,
    ):
        seconds = process.do("round")
        calls = sum(map(len, seconds))

        counters = (
            "llm_inference_requests_total",
            "tinyllm_requests_total",
            "gen_ai_client_operation_duration_seconds_count",
        )

        def totals() -> list[float]:
            return [value for counter in counters for _, value in watcher.query(f"sum({counter})")]

        wait_until(lambda: [calls] * len(counters) == totals(), 30, f"{calls} calls on the page")
        assert watcher.query('up{job="local-llm"} == 1')
        assert watcher.query("llm_tokens_used")
