"""The page about dialects says what their files say, and its own file works."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import otel_llm
from otel_llm.errors import Failure
from otel_llm.prometheus.dialects import collisions, grammar, load, shipped
from otel_llm.prometheus.dialects.grammar import FamilySpec, Row
from otel_llm.prometheus.dialects.labels import CLOSED, DIMENSIONS, Process
from otel_llm.state import Facts
from otel_llm_semconv.measures import MEASURES
from otel_llm_semconv.values import Operation
from tests.dialects.originals import SPELLINGS
from tests.documentation import ROOT, blocks, quoted, table_rows

PAGE = "docs/dialects.md"
_OUTCOMES = {"all": "", "success": ", successes only", "failure": ", failures only"}


def row(family: FamilySpec) -> list[str]:
    """Return how the page has a family in its table."""
    names = " ".join([f"`{name}`" for name in family.spellings])
    labels = [f"`{name}`" for name in family.labels]
    shows = [_shown(each) for each in family.rows]
    if family.row_label is not None:
        labels.append(f"`{family.row_label}`")
        shows = [f"`{each.value}`: {what}" for each, what in zip(family.rows, shows, strict=True)]
    what = ", ".join(shows) + _OUTCOMES[family.outcome] if shows else ""
    for dimension, values in family.where.items():
        what += f", where `{dimension}` is {', '.join([f'`{value}`' for value in sorted(values)])}"
    return [names, family.kind, ", ".join(labels), what, " ".join([f"{bound:g}" for bound in family.buckets])]


def _shown(row: Row) -> str:
    """Return the columns of calls, and in italics what is told by hand of something else."""
    of_calls = [f"`{' + '.join(row.columns)}`"] if row.columns else []
    return " + ".join([*of_calls, *[f"*`{measure}`*" for measure in row.measures if measure not in row.columns]])


@pytest.mark.parametrize("name", [name for name in shipped() if name != "genai"])
def test_tables_of_families(name: str) -> None:
    """The table of a dialect has the families of its file, in their order, with labels, values and buckets."""
    assert [row(family) for family in load(name).families] == list(table_rows(PAGE, f"### `{name}`"))


def test_table_of_dialects() -> None:
    """The table of dialects has those that are shipped, and the page of each."""
    rows = list(table_rows(PAGE, "## Which one"))

    assert [f"/metrics/{name}" for name in shipped()] == sorted(quoted(cells[1])[0] for cells in rows)
    assert list(shipped()) == sorted(quoted(cells[0])[0] for cells in rows)


def test_table_of_collisions() -> None:
    """The table of shared names has every collision of the shipped dialects."""
    found = {name: sorted(dialect for dialect, _ in families) for name, families in collisions(map(load, shipped()))}

    assert found == {
        quoted(name)[0]: sorted(quoted(dialects)) for name, dialects in table_rows(PAGE, "### One page, one Prometheus")
    }


def test_table_of_spellings() -> None:
    """The table of spellings is the one by which pages are compared with the originals'."""
    rows = list(table_rows(PAGE, "### What is spelled otherwise"))

    found = {(quoted(dialect)[0], quoted(theirs)[0]): tuple(quoted(ours)) for dialect, theirs, ours in rows}
    assert found == {
        (dialect, theirs): ours for dialect, spellings in SPELLINGS.items() for theirs, ours in spellings.items()
    }


def test_table_of_failures() -> None:
    """The table of failures has every class of error as each dialect spells it."""
    columns = (("local_llm", "status"), ("aegis", "error_type"), ("llmbackend", "status"), ("llmbackend", "error_type"))
    process = Process({}, "")
    seen: list[str] = []
    for cells in table_rows(PAGE, "### How failures are spelled"):
        (outcome, *shown) = [quoted(cell)[0] for cell in (cells[0], *cells[2:])]
        seen.append(outcome)
        facts = Facts(Operation.CHAT, "openai", failure=Failure("x", "x", outcome))
        for (name, label), value in zip(columns, shown, strict=True):
            made = next(family.labels[label] for family in load(name).families if label in family.labels)
            assert made is not None
            assert value == made.of(facts, process), (name, outcome)

    assert [outcome for outcome in CLOSED["outcome"] if outcome != "success"] == seen


@pytest.mark.parametrize(
    ("heading", "names"),
    [
        ("### A family", grammar._KEYS),
        ("### A label", grammar._LABEL_KEYS),
        ("### What a label is made from", DIMENSIONS),
    ],
)
def test_tables_of_keys(heading: str, names: tuple[str, ...]) -> None:
    """The tables of keys and dimensions have each of them, in the order in which errors name them."""
    assert list(names) == [name for cells in table_rows(PAGE, heading) for name in quoted(cells[0])]


def test_complete_families_are_named() -> None:
    """The row of the key `complete` names the shipped families that have it, and whose they are if names are shared."""
    (row,) = [cells[1] for cells in table_rows(PAGE, "### A family") if "complete" in quoted(cells[0])]
    complete = {family.name: set[str]() for name in shipped() for family in load(name).families if family.complete}
    for name in shipped():
        for family in load(name).families:
            if family.name in complete:
                complete[family.name].add(name)

    shared = {dialect for dialects in complete.values() if len(dialects) > 1 for dialect in dialects}
    assert {*complete, *shared} == set(quoted(row.partition(". ")[2]))


def test_table_of_columns() -> None:
    """The table of columns says which types of family can show each."""
    found = {
        name: quoted(cells[1]) for cells in table_rows(PAGE, "### What a family shows") for name in quoted(cells[0])
    }

    every = dict.fromkeys(column for columns in grammar.COLUMNS.values() for column in columns)
    assert found == {
        column: [kind for kind, columns in grammar.COLUMNS.items() if column in columns] for column in every
    }


def test_table_of_what_is_told_by_hand() -> None:
    """The table of what is told by hand says which types of family can show each, its metric and who tells it."""
    rows = list(table_rows(PAGE, "### What is told by hand"))

    assert {name: metric.name for name, metric in MEASURES.items()} == {
        quoted(name)[0]: quoted(metric)[0] for name, _, metric, _ in rows
    }
    assert {name: [kind for kind, columns in grammar.TOLD_BY_HAND.items() if name in columns] for name in MEASURES} == {
        quoted(name)[0]: quoted(kinds) for name, kinds, _, _ in rows
    }
    functions = {name.removesuffix("()") for *_, cell in rows for name in quoted(cell)}
    told = {name for name in otel_llm.__all__ if name.startswith(("record_", "set_", "track_", "instrument_"))}
    assert told - {"record_tokens", "track_inference"} == functions


def test_the_file_of_the_page(tmp_path: Path) -> None:
    """The file that the page shows is a dialect that `instrument()` takes and whose page can be asked for."""
    (block,) = [block for block in blocks("toml") if block.page.name == "dialects.md"]
    (tmp_path / "mine.toml").write_text(block.text, "utf-8")
    code = "\n".join(
        [
            "import otel_llm",
            "otel_llm.instrument(dialects=['aegis', './mine.toml'], serve=False)",
            "page = otel_llm.generate_latest('mine').decode()",
            "print(*[line for line in page.splitlines() if line.startswith('# TYPE')], sep='\\n')",
        ]
    )

    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=tmp_path, capture_output=True, encoding="utf-8", check=False
    )

    assert "" == done.stderr
    assert [
        "# TYPE shop_llm_seconds histogram",
        "# TYPE shop_llm_tokens_total counter",
        "# TYPE shop_llm_throttled_total counter",
    ] == done.stdout.splitlines()


def test_files_are_in_the_package() -> None:
    """The files of the shipped dialects lie in a package of the wheel, which takes everything in it."""
    files = sorted((ROOT / "semconv" / "otel_llm_semconv" / "dialects").iterdir())

    assert [f"{name}.toml" for name in shipped()] == [file.name for file in files]
