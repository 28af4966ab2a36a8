"""One scene for each version of Prometheus: an instrumented process, and three servers that scrape it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple

import pytest

from tests.backends.build import OLD_PROMETHEUS, has_old_prometheus
from tests.backends.fixtures import unavailable
from tests.backends.servers import Missing, wait_until
from tests.promql import aegis, llmbackend, local_llm, ollama_exporter, tinyllm
from tests.promql.expected import Counted, Scene, counted
from tests.promql.servers import VERSIONS, Binaries, Process, Watcher, find, scenario, scraping
from tests.promql.tables import Table

ROUNDS = 6
APART: Sequence[tuple[Sequence[Table], Mapping[str, str]]] = (
    ((local_llm.TABLE, aegis.TABLE, tinyllm.TABLE), {}),
    ((ollama_exporter.TABLE,), {"canonical": "/metrics"}),
    ((llmbackend.TABLE,), {"canonical": "/metrics/genai"}),
)
"""Dialects that do not collide, which one Prometheus may scrape together; and other pages that it scrapes, too."""


class Watched(NamedTuple):
    """The scene, when everything was done."""

    binaries: Binaries
    process: Process
    by_dialect: Mapping[str, Watcher]
    at: float
    """The time at which everything is asked."""
    calls: list[Counted]

    def scene(self, table: Table) -> Scene:
        """Return what a Prometheus must know of a dialect's page."""
        later = sum(len(each.seconds) for each in self.calls if not (table.successes and each.made.error_class))
        (increase,) = self.by_dialect[table.dialect].rows(f"sum(increase({table.requests}[5m]))", self.at).values()
        stretch = increase / later
        assert 1 <= stretch < 1.25
        return Scene(self.calls, stretch, self.process.server)


@pytest.fixture(scope="module", params=VERSIONS)
def binaries(request: pytest.FixtureRequest) -> Binaries:
    """The binaries of a version."""
    try:
        return find(request.param)
    except Missing as reason:
        if request.param == OLD_PROMETHEUS and not has_old_prometheus():
            pytest.skip(f"{reason}, and this is another system")
        raise unavailable(reason) from None


def rules_of(table: Table) -> dict[str, Any]:
    """Return the rules of a document as one group, and the shipped ones beside them; alerts wait for a second."""
    rules: list[dict[str, Any]] = []
    for query in table.queries:
        if query.record:
            rules.append({"record": query.record, "expr": query.text})
        for name, text in ((query.alert, query.text), *((f"{query.alert}Shipped", fix) for fix in query.fixes)):
            if query.alert:
                rules.append({"alert": name, "expr": text, "for": "1s"})
    return {"name": table.dialect, "rules": rules}


@pytest.fixture(scope="module")
def watched(binaries: Binaries, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """The scene."""
    with scenario() as process, ExitStack() as stack:
        before = process.do("round")
        watchers: list[Watcher] = []
        for tables, others in APART:
            folder = tmp_path_factory.mktemp("prometheus")
            jobs = {**others, **{table.job: f"/metrics/{table.dialect}" for table in tables}}
            groups = [rules_of(table) for table in tables]
            started = scraping(folder, binaries.prometheus, process.page, jobs, groups=groups, dead=local_llm.TABLE.job)
            watchers.append(stack.enter_context(started))
        pages = sum(len(tables) + len(others) for tables, others in APART)
        by_dialect = {
            table.dialect: each for each, (tables, _) in zip(watchers, APART, strict=True) for table in tables
        }
        scraped(watchers, pages, time.time())
        process.do("late")
        rounds = [process.do("round") for _ in range(ROUNDS)]
        calls = counted(before, rounds, process.do("joined"))
        process.do("held")
        scraped(watchers, pages, time.time())
        yield Watched(binaries, process, by_dialect, time.time(), calls)


def scraped(watchers: Sequence[Watcher], pages: int, after: float) -> None:
    """Wait until every page has been scraped after a time."""
    for_all = "count(timestamp(up) > {} and up == 1)"

    def fresh() -> bool:
        return pages == sum(value for watcher in watchers for _, value in watcher.query(for_all.format(after)))

    wait_until(fresh, 30, "every page to be scraped")
