"""The tables are the documents': every expression, as it stands there, in its order."""

from __future__ import annotations

from itertools import combinations

import pytest

from otel_llm.prometheus.dialects import load
from tests.documentation import quoted, table_rows
from tests.promql import aegis, llmbackend, local_llm, ollama_exporter, tinyllm
from tests.promql.documents import Found, document, expressions, shipped
from tests.promql.tables import Table

TABLES = [module.TABLE for module in (local_llm, aegis, ollama_exporter, tinyllm, llmbackend)]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.dialect)
def test_every_expression_is_in_the_table(table: Table) -> None:
    """A table has the expressions of its document, all of them and no other, with the names of alerts and rules."""
    text = document(table.seed)
    if text is None:
        pytest.skip("the documents of the five systems are not at hand")

    in_table = [Found(query.text, query.alert, query.record, query.lasts) for query in table.queries]

    assert list(expressions(text)) == in_table
    assert text.count("```promql") == 0 or in_table


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.dialect)
def test_panels_are_in_the_document(table: Table) -> None:
    """Where a query is ours, the panel that it is for stands in the document."""
    text = document(table.seed)
    if text is None:
        pytest.skip("the documents of the five systems are not at hand")

    assert [] == [query.panel for query in table.extra if query.panel not in text]


def test_a_query_is_fed_or_says_why_not() -> None:
    """Each query is fed by calls or names the families that are not, and whatever is broken has its fix."""
    for query in (query for table in TABLES for query in (*table.queries, *table.extra)):
        assert (query.rows is None) == bool(query.by_hand), query.text
        assert bool(query.broken) == bool(query.fixes), query.text


def _in_one_line(text: str) -> str:
    return " ".join(text.split()).replace("( ", "(").replace(" )", ")")


def test_what_was_wrong_is_documented() -> None:
    """The table of the documentation has each broken expression, and what is shipped in its place."""
    broken = [
        (f"`{table.dialect}`", _in_one_line(query.text), [_in_one_line(fix) for fix in query.fixes])
        for table in TABLES
        for query in table.queries
        if query.broken
    ]

    rows = [
        (dialect, *quoted(text), quoted(fixes))
        for dialect, text, _, fixes in table_rows("docs/moving.md", "What was wrong")
    ]

    assert sorted(broken) == sorted(rows)


def test_what_no_call_tells_is_documented() -> None:
    """The documentation has each family that no call feeds, and each alert that asks for one."""
    empty = {
        table.dialect: (
            [
                name
                for family in load(table.dialect).families
                if not any(row.columns for row in family.rows)
                for name in family.spellings
            ],
            [query.alert for query in table.queries if query.alert and query.by_hand],
        )
        for table in TABLES
    }

    rows = {
        quoted(dialect)[0]: (quoted(families), quoted(alerts))
        for dialect, families, alerts in table_rows("docs/moving.md", "## What no call tells")
    }

    assert empty == rows


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.dialect)
def test_rules_tell_of_alerts_that_cannot_fire(table: Table) -> None:
    """The comment that begins a file of rules names each of its alerts that no call feeds."""
    comment = shipped(table.dialect).read_text("utf-8").partition("groups:")[0]

    assert [] == [query.alert for query in table.queries if query.by_hand and query.alert not in comment]


def test_files_with_alerts_are_documented() -> None:
    """The documentation tells which files of rules have alerts."""
    found = [
        {table.dialect for table in TABLES if has == any(query.alert for query in table.queries)} for has in (1, 0)
    ]

    assert found == [set(quoted(dialects)) for dialects, _ in table_rows("docs/moving.md", "## Rules and alerts")]


def test_who_may_be_scraped_together_is_documented() -> None:
    """The documentation tells of each dialect with which others it shares no name."""
    names = {
        table.dialect: {name for family in load(table.dialect).families for name in family.spellings}
        for table in TABLES
    }
    together: dict[str, set[str]] = {name: set() for name in names}
    for one, other in combinations(names, 2):
        if not names[one] & names[other]:
            together[one].add(other)
            together[other].add(one)

    rows = {
        quoted(dialect)[0]: set(quoted(others)) or set(names) - {quoted(dialect)[0]}
        for dialect, others in table_rows("docs/moving.md", "One of those that collide".lower())
    }

    assert together == rows
