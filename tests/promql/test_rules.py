"""The rules of the documents as written and as we ship them, by `promtool` and with series of its own making.

The series stand for a page over an hour, which no test has; and for budgets, queues and nodes, which calls do not feed.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.backends.servers import written
from tests.documentation import ROOT, Block, blocks
from tests.promql import llmbackend, local_llm, tinyllm
from tests.promql.documents import document, rules, shipped
from tests.promql.servers import Binaries
from tests.promql.tables import Table
from tests.promql.test_documents import TABLES

EXAMPLES = ROOT / "examples" / "prometheus"
GROWS = "0+{}x100"
"""A counter that grows by so much in half a minute."""
WARNING = {"severity": "warning"}


class Due(NamedTuple):
    """Series, and the alert that they must raise."""

    table: Table
    alert: str
    series: Mapping[str, str]
    early: str
    """A time before the alert may fire; nothing where it does not wait."""
    labels: Mapping[str, str]
    more: Mapping[str, str]
    """Labels that the rule adds."""
    annotations: Mapping[str, str]
    as_written: bool = True
    """Whether it fires as it is written."""


DUE = [
    Due(
        local_llm.TABLE,
        "HighLLMErrorRate",
        {
            'llm_inference_requests_total{model="m",status="error"}': GROWS.format(25),
            'llm_inference_requests_total{model="m",status="success"}': GROWS.format(75),
        },
        "5m",
        {},
        WARNING,
        {"summary": "High LLM error rate (25%)", "description": "Error rate is above 10% for 5 minutes"},
    ),
    Due(
        local_llm.TABLE,
        "HighLLMLatency",
        {
            'llm_inference_latency_seconds_bucket{model="m",le="5.0"}': GROWS.format(0),
            'llm_inference_latency_seconds_bucket{model="m",le="10.0"}': GROWS.format(20),
            'llm_inference_latency_seconds_bucket{model="m",le="+Inf"}': GROWS.format(20),
        },
        "5m",
        {"model": "m"},
        WARNING,
        {"summary": "High LLM latency for m", "description": "P95 latency is 9.75s (threshold: 5s)"},
    ),
    Due(
        local_llm.TABLE,
        "LLMServiceDown",
        {'up{job="local-llm",instance="a:9464"}': "0x100"},
        "1m30s",
        {"job": "local-llm", "instance": "a:9464"},
        {"severity": "critical"},
        {"summary": "LLM metrics endpoint unreachable", "description": "Cannot scrape metrics from a:9464"},
    ),
    Due(
        local_llm.TABLE,
        "HighLLMQueueSize",
        {'llm_queue_size{model="m"}': "11x100"},
        "4m30s",
        {"model": "m"},
        WARNING,
        {"summary": "High LLM queue size for m", "description": "Queue size is 11 (threshold: 10)"},
    ),
    Due(
        local_llm.TABLE,
        "HighRateLimitHits",
        {'llm_rate_limit_hits_total{client_id="c1"}': GROWS.format(60)},
        "5m",
        {"client_id": "c1"},
        {"severity": "info"},
        {"summary": "High rate limit hits for c1", "description": "Rate limit hits: 120/min"},
    ),
    Due(
        llmbackend.TABLE,
        "HighLLMErrorRate",
        {
            'llm_errors_total{backend="b",error_type="timeout"}': GROWS.format(1),
            'llm_requests_total{backend="b",model="m",status="timeout"}': GROWS.format(1),
            'llm_requests_total{backend="b",model="m",status="success"}': GROWS.format(3),
        },
        "5m",
        {"backend": "b"},
        {},
        {"summary": "High LLM error rate detected", "description": "25% of the requests to b fail"},
        as_written=False,
    ),
    Due(
        llmbackend.TABLE,
        "LLMCostExceeded",
        {'llm_estimated_cost_usd{backend="b",model="m"}': GROWS.format(1)},
        "",
        {"backend": "b", "model": "m"},
        {},
        {"summary": "LLM costs exceeded $10/hour"},
    ),
    Due(
        llmbackend.TABLE,
        "LLMBudgetNearLimit",
        {
            'llm_backend_budget_usd{backend="b",limit_type="current"}': "15x100",
            'llm_backend_budget_usd{backend="b",limit_type="max"}': "16x100",
        },
        "4m30s",
        {"backend": "b"},
        {},
        {"summary": "Backend b has used 90% of budget", "description": "Current spend: 93.75%"},
        as_written=False,
    ),
    Due(
        llmbackend.TABLE,
        "LLMBudgetExceeded",
        {
            'llm_backend_budget_usd{backend="b",limit_type="current"}': "11x100",
            'llm_backend_budget_usd{backend="b",limit_type="max"}': "10x100",
        },
        "30s",
        {"backend": "b"},
        {},
        {
            "summary": "Backend b budget exceeded - auto-disabled",
            "description": "Backend will be re-enabled at next reset period",
        },
        as_written=False,
    ),
    Due(
        llmbackend.TABLE,
        "HighLLMLatency",
        {
            'llm_request_duration_seconds_bucket{backend="b",model="m",le="30.0"}': GROWS.format(0),
            'llm_request_duration_seconds_bucket{backend="b",model="m",le="60.0"}': GROWS.format(20),
            'llm_request_duration_seconds_bucket{backend="b",model="m",le="+Inf"}': GROWS.format(20),
        },
        "10m",
        {"backend": "b", "model": "m"},
        {},
        {"summary": "P95 latency above 30s"},
    ),
]

BUDGETS = {
    'llm_backend_budget_usd{backend="b",limit_type="current"}': "15x100",
    'llm_backend_budget_usd{backend="b",limit_type="max"}': "16x100",
}
NODES = {
    'tinyllm_node_execution_duration_seconds_bucket{graph="g",node="n",le="1.0"}': GROWS.format(0),
    'tinyllm_node_execution_duration_seconds_bucket{graph="g",node="n",le="2.5"}': GROWS.format(20),
    'tinyllm_node_execution_duration_seconds_bucket{graph="g",node="n",le="+Inf"}': GROWS.format(20),
}
CACHES = {
    'tinyllm_cache_hits_total{cache_type="memory"}': GROWS.format(15),
    'tinyllm_cache_misses_total{cache_type="memory"}': GROWS.format(30),
}
MADE_RIGHT = [
    pytest.param(table, number, series, values, id=f"{table.dialect}-{number}")
    for table, number, series, values in (
        (tinyllm.TABLE, 11, CACHES, [{'{cache_type="memory"}': 0.5}, {'{cache_type="memory"}': 1}]),
        (tinyllm.TABLE, 13, NODES, [{'{node="n"}': 1 + 1.5 * 0.95}]),
        (llmbackend.TABLE, 12, BUDGETS, [{'{backend="b"}': 93.75}]),
        (llmbackend.TABLE, 13, BUDGETS, [{'{backend="b"}': 0.9375}]),
        (llmbackend.TABLE, 14, BUDGETS, [{'{backend="b"}': 1}]),
    )
]
"""The broken queries that calls do not feed: series that would feed them, and what each fix gives."""


def _said(binaries: Binaries, *arguments: str | Path) -> str:
    """Return what promtool has to say against something."""
    done = subprocess.run([binaries.promtool, *arguments], capture_output=True, text=True, check=False)
    return done.stdout + done.stderr if done.returncode else ""


def _promtool(binaries: Binaries, *arguments: str | Path) -> None:
    assert "" == _said(binaries, *arguments)


def _holds(binaries: Binaries, folder: Path, rule_file: Path, series: Mapping[str, str], **tests: Any) -> None:
    """Have promtool test rules against series."""
    case = {
        "interval": "30s",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        **tests,
    }
    config = {"rule_files": [str(rule_file)], "evaluation_interval": "30s", "tests": [case]}
    _promtool(binaries, "test", "rules", written(folder / "test.yml", config))


@pytest.mark.parametrize("due", DUE, ids=lambda due: f"{due.table.dialect}-{due.alert}")
@pytest.mark.parametrize("ours", [False, True], ids=["as written", "as shipped"])
def test_alerts_fire(due: Due, ours: bool, binaries: Binaries, tmp_path: Path) -> None:
    """An alert fires when it is due and not before, with the right text; one that was broken does not, as written."""
    (query,) = [query for query in due.table.queries if query.alert == due.alert]
    rule = {"alert": due.alert, "expr": query.text, "for": query.lasts or "0s"}
    group = {"name": "as_written", "rules": [rule]}
    rule_file = shipped(due.table.dialect) if ours else written(tmp_path / "rules.yml", {"groups": [group]})
    own = {"exp_labels": {**due.labels, **due.more}, "exp_annotations": due.annotations}
    fires = ours or due.as_written
    expected = [own if ours else {"exp_labels": due.labels}] if fires else []

    tests = [{"eval_time": "30m", "alertname": due.alert, "exp_alerts": expected}]
    if due.early:
        tests.append({"eval_time": due.early, "alertname": due.alert, "exp_alerts": []})
    _holds(binaries, tmp_path, rule_file, due.series, alert_rule_test=tests)


def test_an_error_rate_is_no_ratio(binaries: Binaries, tmp_path: Path) -> None:
    """As written, 004's alert fires where one request in three hundred fails, if there are many; ours does not."""
    series = {
        'llm_errors_total{backend="b",error_type="timeout"}': GROWS.format(10),
        'llm_requests_total{backend="b",model="m",status="timeout"}': GROWS.format(10),
        'llm_requests_total{backend="b",model="m",status="success"}': GROWS.format(2990),
    }
    (query,) = [query for query in llmbackend.TABLE.queries if query.alert == "HighLLMErrorRate"]
    group = {"name": "as_written", "rules": [{"alert": query.alert, "expr": query.text, "for": query.lasts}]}
    labels = {"backend": "b", "error_type": "timeout"}

    fired = [{"eval_time": "30m", "alertname": query.alert, "exp_alerts": [{"exp_labels": labels}]}]
    as_written = written(tmp_path / "rules.yml", {"groups": [group]})
    _holds(binaries, tmp_path, as_written, series, alert_rule_test=fired)
    quiet: list[dict[str, Any]] = [{"eval_time": "30m", "alertname": query.alert, "exp_alerts": []}]
    _holds(binaries, tmp_path, shipped("llmbackend"), series, alert_rule_test=quiet)


@pytest.mark.parametrize(("table", "number", "series", "values"), MADE_RIGHT)
def test_queries_made_right(
    table: Table,
    number: int,
    series: Mapping[str, str],
    values: list[dict[str, float]],
    binaries: Binaries,
    tmp_path: Path,
) -> None:
    """A broken query gives nothing as written, if it can be read at all, and the right value as shipped."""
    query = table.queries[number]
    assert query.by_hand
    tests = [
        {
            "expr": fix,
            "eval_time": "30m",
            "exp_samples": [{"labels": labels, "value": value} for labels, value in rows.items()],
        }
        for fix, rows in zip(query.fixes, values, strict=True)
    ]
    if not query.refused:
        tests.append({"expr": query.text, "eval_time": "30m", "exp_samples": []})

    _holds(binaries, tmp_path, shipped(table.dialect), series, promql_expr_test=tests)


def test_every_broken_query_is_made_right() -> None:
    """Of the broken queries that calls do not feed, none is left out above."""
    missing = [
        query.text
        for table in TABLES
        for number, query in enumerate(table.queries)
        if query.broken
        and query.by_hand
        and f"{table.dialect}-{number}" not in {str(case.id) for case in MADE_RIGHT}
        and (table.dialect, query.alert) not in {(due.table.dialect, due.alert) for due in DUE}
    ]

    assert [] == missing


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.dialect)
def test_what_is_shipped(table: Table) -> None:
    """The file of a dialect has every alert and rule of its document, and the fix of whatever was broken."""
    found = list(rules(shipped(table.dialect).read_text("utf-8")))
    texts = {rule.text for rule in found}

    assert set() == {fix for query in table.queries for fix in query.fixes} - texts
    for query in table.queries:
        if query.alert:
            (rule,) = [rule for rule in found if rule.alert == query.alert]
            assert ((query.fixes or (query.text,))[0], query.lasts) == (rule.text, rule.lasts)
        if query.record:
            (rule,) = [rule for rule in found if rule.record == query.record]
            assert query.text == rule.text
    known = {text for query in (*table.queries, *table.extra) for text in (query.text, *query.fixes)}
    assert set() == texts - known


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.dialect)
def test_shipped_rules_are_accepted(table: Table, binaries: Binaries) -> None:
    """`promtool` accepts the rules that we ship."""
    _promtool(binaries, "check", "rules", shipped(table.dialect))


def test_the_configuration_is_accepted(binaries: Binaries) -> None:
    """`promtool` accepts the scrape configuration that we ship, with the rules that it names."""
    _promtool(binaries, "check", "config", EXAMPLES / "prometheus.yml")


@pytest.mark.parametrize("block", [block for block in blocks("yaml") if "scrape_configs" in block.text], ids=repr)
def test_configurations_of_the_documentation(block: Block, binaries: Binaries, tmp_path: Path) -> None:
    """`promtool` accepts each scrape configuration that the documentation shows."""
    (tmp_path / "prometheus.yml").write_text(block.text, "utf-8")

    _promtool(binaries, "check", "config", tmp_path / "prometheus.yml")


def test_retention_as_written_is_refused(binaries: Binaries, tmp_path: Path) -> None:
    """004's way to say how long to keep what is scraped is none that Prometheus knows."""
    retention = {"retention.time": "30d", "retention.size": "10GB"}
    text = document("004")
    assert text is None or all(f"    {name}: {value}\n" in text for name, value in retention.items())

    said = _said(binaries, "check", "config", written(tmp_path / "prometheus.yml", {"storage": {"tsdb": retention}}))

    assert "field retention.time not found" in said
