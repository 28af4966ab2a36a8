"""What the file of a dialect may say: everything else is one clear error that names file, family and key."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import otel_llm_semconv
from otel_llm.prometheus.dialects import bounds, collisions, label_names, load, refuse_collisions, shipped
from otel_llm.prometheus.dialects.grammar import COLUMNS, TOLD_BY_HAND, Dialect, read
from otel_llm.prometheus.dialects.labels import CLOSED, DIMENSIONS
from otel_llm_semconv import metrics
from otel_llm_semconv.errors import ErrorClass

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file ``mine.toml``."""

    def write(text: str) -> Path:
        file = tmp_path / "mine.toml"
        file.write_text(text, "utf-8")
        return file

    return write


def _family(**keys: str) -> str:
    """Return a right counter, with some keys written otherwise or, if empty, left out."""
    written = {
        "name": '"calls_total"',
        "type": '"counter"',
        "help": '"Calls"',
        "value": '"calls"',
        "labels": '["model"]',
        **keys,
    }
    lines = [f"{key} = {value}" for key, value in written.items() if value]
    return "\n".join(['[labels]\nmodel = "model"\n[[family]]', *lines, ""])


def _histogram(**keys: str) -> str:
    return _family(
        **{"name": '"took_seconds"', "type": '"histogram"', "value": '"duration"', "buckets": "[1, 2.5]", **keys}
    )


def _labels(**labels: str) -> str:
    return "\n".join(["[labels]", *[f"{name} = {made}" for name, made in labels.items()], _family().split("\n", 2)[2]])


# what is right


def test_a_file_is_read(write: Write) -> None:
    """Every key of a file is found again in what is read."""
    dialect = load(
        write(
            """
[labels]
model = "model"
status = { from = ["outcome"], values = { success = "ok" }, otherwise = "failed", default = "none" }
team = { from = ["label.team", "service_name"], hosts = { "*.Example.com" = "ours" }, needed = true }

[[family]]
name = "tokens"
spellings = ["tokens", "tokens_total"]
type = "counter"
help = "Tokens"
outcome = "success"
where = { operation = ["chat", "embeddings"], task = "vision" }
labels = ["model", "team"]
rows.kind = { in = "input_tokens", all = ["input_tokens", "output_tokens"] }

[[family]]
name = "took_seconds"
type = "histogram"
help = ""
value = "duration"
buckets = [1, 2.5]
labels = { model = "response_model" }

[[family]]
name = "by_hand"
type = "gauge"
help = "Fed by nobody"
labels = ["colour", "model"]
"""
        )
    )

    tokens, took, by_hand = dialect.families
    assert "mine" == dialect.name
    assert ("tokens", "counter", "Tokens", "success") == (tokens.name, tokens.kind, tokens.help, tokens.outcome)
    assert ("tokens", "tokens_total") == tokens.spellings
    assert {"operation": {"chat", "embeddings"}, "task": {"vision"}} == tokens.where
    assert ("kind", "model", "team") == tokens.label_names
    assert [("in", ("input_tokens",)), ("all", ("input_tokens", "output_tokens"))] == [
        (row.value, row.columns) for row in tokens.rows
    ]
    team = tokens.labels["team"]
    assert team is not None
    assert (("label.team", "service_name"), True, "") == (team.dimensions, team.needed, team.default)
    assert ["ours"] == [shown for pattern, shown in team.hosts if pattern.fullmatch("a.example.com")]
    assert (1.0, 2.5) == took.buckets
    assert {"took_seconds", "took_seconds_bucket", "took_seconds_count", "took_seconds_sum"} == took.sample_names
    assert "response_model" == getattr(took.labels["model"], "dimensions", ("",))[0]
    assert ((), ("colour", "model")) == (by_hand.rows, by_hand.label_names)


@pytest.mark.parametrize(("kind", "column"), [(kind, column) for kind in COLUMNS for column in COLUMNS[kind]])
def test_every_column_can_be_shown(kind: str, column: str, write: Write) -> None:
    """A family of each type can show each of its columns."""
    keys = {"name": '"x_info"', "type": f'"{kind}"', "value": f'"{column}"', "labels": "[]"}
    if kind == "histogram":
        keys["buckets"] = "[1]"

    (family,) = load(write(_family(**keys))).families

    assert ((column,),) == tuple(row.columns for row in family.rows)


@pytest.mark.parametrize(("kind", "column"), [(kind, column) for kind in TOLD_BY_HAND for column in TOLD_BY_HAND[kind]])
def test_every_column_that_is_told_by_hand_can_be_shown(kind: str, column: str, write: Write) -> None:
    """A family of each type can show what is told by hand, alone and on top of what calls feed."""
    keys = {"name": '"x_info"', "type": f'"{kind}"', "labels": "[]"}
    if kind == "histogram":
        keys["buckets"] = "[1]"
    of_calls = COLUMNS[kind][0]

    (alone,) = load(write(_family(**keys, value=f'"{column}"'))).families
    (both,) = load(write(_family(**keys, value=f'["{of_calls}", "{column}"]'))).families

    assert [((), None, (column,))] == list(alone.rows)
    assert [((of_calls,), None, (column,))] == list(both.rows)


def test_tokens_that_are_told_by_hand(write: Write) -> None:
    """A counter of tokens shows those that are told by hand as well; a histogram, which needs calls, does not."""
    (counter,) = load(write(_family(value='["input_tokens", "output_tokens"]'))).families
    (histogram,) = load(write(_histogram(value='"input_tokens"'))).families

    assert ("input_tokens", "output_tokens") == counter.rows[0].measures
    assert () == histogram.rows[0].measures


@pytest.mark.parametrize("dimension", [name.replace("<key>", "team") for name in DIMENSIONS])
def test_every_dimension_can_be_a_label(dimension: str, write: Write) -> None:
    """A label can be made from each dimension that errors name."""
    (family,) = load(write(_labels(model=f'"{dimension}"'))).families

    assert (dimension,) == getattr(family.labels["model"], "dimensions", None)


def test_calls_under_way_can_have_the_model_that_answers(write: Write) -> None:
    """A label that prefers the model that answered may be one of calls under way, which have only the other."""
    made = '{ from = ["response_model", "request_model"] }'
    text = _labels(model=made).replace('"counter"', '"gauge"').replace('"calls"', '"active"')

    assert ("calls_total",) == tuple(family.name for family in load(write(text)).families)


def test_outcomes_are_the_classes_of_errors() -> None:
    """The values of `outcome` are success and every class of error."""
    classes = {value for name, value in vars(ErrorClass).items() if name.isupper()}

    assert {"success", *classes} == set(CLOSED["outcome"])


# what is wrong

NAME = "expected a metric name, such as llm_requests_total"
WRONG = {
    # the file
    "syntax": ("x = \n", r"is no TOML: Invalid value \(at line 1, column 5\)"),
    "nothing": ("", r"family: expected tables \[\[family\]\]"),
    "one family": ('family = { name = "x" }', r"family: expected tables \[\[family\]\]"),
    "text as family": ('family = ["x"]', "family 1: expected a table, found 'x'"),
    "unknown table": ("[metrics]\n" + _family(), "metrics: expected one of labels, family"),
    "labels are no table": ("labels = 3\n" + _family().split("\n", 2)[2], "labels: expected a table, found 3"),
    # a family
    "no name": (_family(name=""), f"family 1: name is missing: {NAME}"),
    "bad name": (_family(name='"a-b"'), f"family 1: name='a-b': {NAME}"),
    "name of digits": (_family(name='"1a"'), f"family 1: name='1a': {NAME}"),
    "name is a number": (_family(name="3"), f"family 1: name=3: {NAME}"),
    "unknown key": (_family(unit='"s"'), "family calls_total: unit: expected one of name, type, help, value, rows, .*"),
    "no type": (
        _family(type=""),
        "family calls_total: type is missing: expected one of counter, gauge, histogram, info",
    ),
    "unknown type": (_family(type='"summary"'), "family calls_total: type='summary': expected one of counter, .*"),
    "no help": (_family(help=""), "family calls_total: help is missing: expected a text"),
    "help is a number": (_family(help="1"), "family calls_total: help=1: expected a text"),
    "info without suffix": (
        _family(type='"info"', value='"seen"'),
        "family calls_total: name: expected _info at the end.*",
    ),
    "unknown column": (
        _family(value='"cost"'),
        "family calls_total: value='cost': expected of a counter one of calls, duration, input_tokens, .*",
    ),
    "column of another type": (
        _family(value='"active"'),
        "family calls_total: value='active': expected of a counter one.*",
    ),
    "value is a number": (_family(value="1"), "family calls_total: value=1: expected a text that is not empty.*"),
    "no columns": (_family(value="[]"), r"family calls_total: value=\[\]: expected a text that is not empty.*"),
    "several columns of a histogram": (
        _histogram(value='["duration", "load_duration"]'),
        "family took_seconds: value: expected one column, and one that is told by hand",
    ),
    "several columns that are told by hand": (
        _histogram(value='["model_load", "queue_wait"]'),
        "family took_seconds: value: expected one column, and one that is told by hand",
    ),
    "a column of the wrong type that is told by hand": (
        _histogram(value='["duration", "cache_hits"]'),
        "family took_seconds: value='cache_hits': expected of a histogram one of duration, .*, queue_wait, .*",
    ),
    "a column twice that is told by hand": (
        _family(value='["errors", "errors"]'),
        "family calls_total: value: expected different columns",
    ),
    "a column twice": (
        _family(value='["calls", "calls"]'),
        "family calls_total: value: expected different columns",
    ),
    # rows
    "value and rows": (
        _family(rows='{ a = { b = "calls" } }'),
        "family calls_total: value: expected either value or rows",
    ),
    "two labels of rows": (
        _family(value="", rows='{ a = { x = "calls" }, b = { y = "calls" } }'),
        "family calls_total: rows: expected one label, found a, b",
    ),
    "no label of rows": (_family(value="", rows="{}"), "family calls_total: rows: expected one label, found none"),
    "no rows": (
        _family(value="", rows="{ a = {} }"),
        "family calls_total: rows.a: expected at least one value of the label",
    ),
    "rows of a gauge": (
        _family(type='"gauge"', value="", rows='{ a = { x = "active" } }'),
        "family calls_total: rows: expected only in a counter or a histogram",
    ),
    "unknown column of a row": (
        _family(value="", rows='{ a = { x = "cost" } }'),
        "family calls_total: rows.a.x='cost': expected of a counter one of calls, .*",
    ),
    "label and rows": (
        _family(value="", rows='{ model = { x = "calls" } }'),
        "family calls_total: rows: model is in labels, too",
    ),
    "reserved label of rows": (
        _family(value="", rows='{ le = { x = "calls" } }'),
        "family calls_total: rows: 'le': .*",
    ),
    "complete is a text": (
        _family(complete='"yes"'),
        "family calls_total: complete='yes': expected true or false",
    ),
    "complete calls": (
        _family(complete="true"),
        "family calls_total: complete: expected only in a counter of input_tokens, output_tokens",
    ),
    # which calls
    "unknown outcome": (
        _family(outcome='"error"'),
        "family calls_total: outcome='error': expected one of all, success, failure",
    ),
    "unknown dimension of where": (
        _family(where='{ status = "x" }'),
        "family calls_total: where: 'status': expected one of model, request_model, .*, label.<key>",
    ),
    "unknown outcome of where": (
        _family(where='{ outcome = "ratelimit" }'),
        "family calls_total: where.outcome='ratelimit': expected one of success, timeout, rate_limit, .*",
    ),
    "where is a number": (_family(where="{ model = 3 }"), "family calls_total: where.model=3: expected a text .*"),
    "outcome of calls under way": (
        _family(type='"gauge"', value='"active"', outcome='"success"'),
        "family calls_total: outcome: not known of calls under way, which active counts",
    ),
    "response of calls under way": (
        _family(type='"gauge"', value='"active"', where='{ response_model = "x" }'),
        "family calls_total: response_model: not known of calls under way, which active counts",
    ),
    "labels of calls under way": (
        _labels(model='{ from = ["label.x", "outcome"] }')
        .replace('"counter"', '"gauge"')
        .replace('"calls"', '"active"'),
        "family calls_total: outcome: not known of calls under way, which active counts",
    ),
    "outcome of a process": (
        _family(type='"gauge"', value='"process"', outcome='"success"', labels="[]"),
        "family calls_total: outcome: expected only where a family counts calls",
    ),
    "outcome of nothing": (
        _family(value="", outcome='"success"'),
        "family calls_total: outcome: expected only where .*",
    ),
    "model of a process": (
        _family(type='"gauge"', value='"process"'),
        "family calls_total: labels: model: expected service_name or label.<key>, found model",
    ),
    # labels
    "undefined label": (
        _family(labels='["modell"]'),
        r"family calls_total: labels: modell: expected one of \[labels\]: model",
    ),
    "a label twice": (_family(labels='["model", "model"]'), "family calls_total: labels: model is there twice"),
    "labels as text": (
        _family(labels='"model"'),
        r"family calls_total: labels='model': expected names from \[labels\], or .*",
    ),
    "a number as label": (
        _family(labels="[1]"),
        r"family calls_total: labels=\[1\]: expected names from \[labels\], or .*",
    ),
    "reserved label": (_labels(le='"model"'), "labels: 'le': expected the name of a label, not le, and without __ .*"),
    "hidden label": (_labels(__x='"model"'), "labels: '__x': expected the name of a label, .*"),
    "label with a dash": (_labels(**{'"a-b"': '"model"'}), "labels: 'a-b': expected the name of a label, .*"),
    "reserved label by hand": (_family(value="", labels='["le"]'), "family calls_total: labels: 'le': .*"),
    "unknown dimension": (
        _labels(model='"modell"'),
        "labels: model: 'modell': expected one of model, request_model, .*",
    ),
    "no key of the context": (_labels(model='"label."'), "labels: model: 'label.': expected one of model, .*"),
    "own label, unknown dimension": (
        _family(labels='{ x = "y" }'),
        "family calls_total: labels: x: 'y': expected one of .*",
    ),
    "no from": (_labels(model="{ needed = true }"), "labels: model: from is missing: expected a text .*"),
    "unknown from": (_labels(model='{ from = "modell" }'), "labels: model: from: 'modell': expected one of model, .*"),
    "empty from": (_labels(model="{ from = [] }"), r"labels: model: from=\[\]: expected a text .*"),
    "a number as dimension": (_labels(model="3"), "labels: model: expected a table, found 3"),
    "unknown key of a label": (
        _labels(model='{ from = "model", else = "x" }'),
        "labels: model: else: expected one of from, hosts, values, otherwise, default, needed",
    ),
    "values as list": (
        _labels(model='{ from = "model", values = ["x"] }'),
        "labels: model: values: expected a table, .*",
    ),
    "a number as value": (
        _labels(model='{ from = "model", values = { x = 1 } }'),
        "labels: model: values: x=1: expected a text",
    ),
    "impossible value": (
        _labels(model='{ from = "outcome", values = { sucess = "ok" } }'),
        "labels: model: values: 'sucess': expected one of success, timeout, .*",
    ),
    "a number otherwise": (
        _labels(model='{ from = "model", otherwise = 1 }'),
        "labels: model: otherwise=1: expected a text",
    ),
    "a number as default": (
        _labels(model='{ from = "model", default = 1 }'),
        "labels: model: default=1: expected a text",
    ),
    "needed as text": (
        _labels(model='{ from = "model", needed = "yes" }'),
        "labels: model: needed='yes': expected true or false",
    ),
    "needed with default": (
        _labels(model='{ from = "model", needed = true, default = "x" }'),
        "labels: model: default: expected only where the label is not needed",
    ),
    "a host with a scheme": (
        _labels(model='{ from = "model", hosts = { "http://x" = "y" } }'),
        r"labels: model: hosts: 'http://x': expected the name of a host, with \* and \? as in file names",
    ),
    "a number for a host": (
        _labels(model='{ from = "model", hosts = { x = 1 } }'),
        "labels: model: hosts: x=1: expected a text",
    ),
    # buckets
    "no buckets": (
        _histogram(buckets=""),
        "family took_seconds: buckets is missing: expected finite numbers that rise, .*",
    ),
    "empty buckets": (
        _histogram(buckets="[]"),
        r"family took_seconds: buckets=\[\]: expected finite numbers that rise, .*",
    ),
    "falling buckets": (_histogram(buckets="[2, 1]"), r"family took_seconds: buckets=\[2, 1\]: expected finite .*"),
    "a bucket twice": (_histogram(buckets="[1, 1.0]"), r"family took_seconds: buckets=\[1, 1.0\]: expected finite .*"),
    "infinite bucket": (_histogram(buckets="[1, inf]"), r"family took_seconds: buckets=\[1, inf\]: expected finite .*"),
    "no number as bucket": (_histogram(buckets="[nan]"), r"family took_seconds: buckets=\[nan\]: expected finite .*"),
    "a bucket too large": (
        _histogram(buckets=f"[1{'0' * 400}]"),
        r"family took_seconds: buckets=\[10+\.\.\.0+\]: expected finite .*",
    ),
    "buckets that are shown alike": (
        _histogram(buckets="[9007199254740992, 9007199254740993]"),
        r"family took_seconds: buckets=\[9007199254740992, 9007199254740993\]: expected finite .*",
    ),
    "a number too long to read": (_histogram(buckets=f"[1{'0' * 5000}]"), "is no TOML: Exceeds the limit .*"),
    "brackets in brackets": (_histogram(buckets="[" * 5000), "is nested too deep"),
    "tables in tables": (
        _family(value="", rows="{ kind = { in." + "a." * 2000 + 'a = "calls" } }'),
        "family calls_total: rows.kind.in=.{,80}: expected a text that .*",
    ),
    "truth as bucket": (_histogram(buckets="[true]"), r"family took_seconds: buckets=\[True\]: expected finite .*"),
    "one number": (_histogram(buckets="1"), "family took_seconds: buckets=1: expected finite .*"),
    "buckets of an unknown metric": (
        _histogram(buckets='"duration"'),
        "family took_seconds: buckets='duration': expected one of gen_ai.client.operation.duration, .*",
    ),
    "buckets of a counter": (_family(buckets="[1]"), "family calls_total: buckets: expected only in a histogram"),
    # names
    "spellings without the name": (
        _family(spellings='["x"]'),
        "family calls_total: spellings: expected calls_total among them",
    ),
    "a spelling twice": (
        _family(spellings='["calls_total", "calls_total"]'),
        "family calls_total: spellings: expected each of them once",
    ),
    "bad spelling": (
        _family(spellings='["calls_total", "a b"]'),
        "family calls_total: spellings: 'a b': expected a metric name",
    ),
    "spelling of an info": (
        _family(name='"x_info"', type='"info"', value='"seen"', spellings='["x_info", "x"]'),
        "family x_info: spellings: 'x': expected a metric name that ends in _info",
    ),
    "a family twice": (
        _family() + _family().split("\n", 2)[2],
        "family calls_total: name: the family calls_total has calls_total, too",
    ),
    "a spelling of another": (
        _family() + _family(name='"calls"', spellings='["calls", "calls_total"]').split("\n", 2)[2],
        "family calls: name: the family calls_total has calls_total, too",
    ),
    "a sample of a histogram": (
        _histogram() + _family(name='"took_seconds_count"').split("\n", 2)[2],
        "family took_seconds_count: name: the family took_seconds has took_seconds_count, too",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_files(case: str, write: Write) -> None:
    """A wrong file is a `ValueError` that names file, family and key, and what is accepted."""
    text, message = WRONG[case]
    file = write(text)

    with pytest.raises(ValueError, match=f"^{re.escape(str(file))}: {message}$") as raised:
        load(file)
    assert ValueError is raised.type


def test_files_that_cannot_be_read(tmp_path: Path, write: Write) -> None:
    """A file that is not there, is a folder, or is not UTF-8, is a `ValueError` that says so."""
    with pytest.raises(ValueError, match=r"none\.toml: cannot be read: No such file or directory$"):
        load(tmp_path / "none.toml")
    with pytest.raises(ValueError, match=r"cannot be read: Is a directory$"):
        load(tmp_path)
    write("").write_bytes(b'[labels]\nmodel = "\xff"')
    with pytest.raises(ValueError, match=r"mine\.toml: is not UTF-8: invalid start byte at byte 18$"):
        load(str(tmp_path / "mine.toml"))


def test_names_of_files(tmp_path: Path) -> None:
    """A dialect is named as its file, which must be good for an address and not the name of one that is shipped."""
    (tmp_path / "my shop.toml").write_text(_family(), "utf-8")
    with pytest.raises(ValueError, match=r"my shop\.toml: expected a file name of letters, digits, .*"):
        load(tmp_path / "my shop.toml")
    (tmp_path / "aegis.toml").write_text(_family(), "utf-8")
    with pytest.raises(
        ValueError, match=r"aegis is the name of a dialect that comes with the package; rename the file$"
    ):
        load(tmp_path / "aegis.toml")


def test_unknown_names() -> None:
    """An unknown name is a `ValueError` that names those there are; no text at all is a `TypeError`."""
    with pytest.raises(
        ValueError, match=r"^dialect 'aegsi': expected one of aegis, genai, .*, or the path of a TOML file$"
    ):
        load("aegsi")
    with pytest.raises(ValueError, match=r"^dialect '': expected one of aegis"):
        load("")
    with pytest.raises(TypeError, match=r"^a dialect must be a name or a path, not int$"):
        load(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# those that come with the package


def test_shipped() -> None:
    """Five systems and the canonical page come with the package; each is loaded once."""
    assert ("aegis", "genai", "llmbackend", "local_llm", "ollama_exporter", "tinyllm") == shipped()
    for name in shipped():
        assert name == load(name).name
        assert load(name) is load(name)


def test_shipped_labels_are_used() -> None:
    """No shipped file defines a label that no family of it has."""
    import tomllib

    folder = Path(otel_llm_semconv.__file__).parent / "dialects"
    for name in shipped():
        defined = tomllib.loads((folder / f"{name}.toml").read_text("utf-8"))["labels"]
        assert set() == set(defined) - {label for family in load(name).families for label in family.labels}


@pytest.mark.parametrize("family", load("genai").families, ids=lambda family: family.name)
def test_genai_is_the_conventions(family: object) -> None:
    """Each family of `genai` has the name, help, labels and buckets of a metric of the conventions."""
    (found,) = [each for each in load("genai").families if each is family]
    (metric,) = [
        each
        for each in metrics.in_vocabulary("released")
        if found.name in (each.name.replace(".", "_"), f"{each.name.replace('.', '_')}_seconds")
    ]

    assert ("_seconds" in found.name) == (metric.unit == "s")
    assert (metric.kind, metric.description) == (found.kind, found.help)
    assert tuple(map(float, metric.boundaries)) == found.buckets
    assert {name.replace(".", "_") for name in metric.attributes} == set(found.label_names)


def test_genai_is_complete() -> None:
    """`genai` has every client metric of the released vocabulary."""
    assert len(metrics.in_vocabulary("released")) == len(load("genai").families)


def test_loading_is_light() -> None:
    """Loading, which every process does at its start, needs neither `prometheus_client` nor OpenTelemetry's SDK."""
    code = (
        "import sys; from otel_llm.prometheus.dialects import load, shipped; [*map(load, shipped())];"
        "print(*[name for name in ('prometheus_client', 'opentelemetry.sdk') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)

    assert "" == done.stdout.strip()


# what several dialects need together


def _mine(write: Write, text: str) -> Dialect:
    return read(write(text))


def test_bounds(write: Write) -> None:
    """The buckets of a column are those of all families that show it; families that nothing feeds ask for none."""
    one = _mine(write, _histogram() + _histogram(name='"b"', value='"load_duration"', buckets="[7]").split("\n", 2)[2])
    other = _mine(
        write,
        _histogram(buckets="[0.5, 2.5]")
        + _histogram(name='"c"', value="", buckets="[9]").split("\n", 2)[2]
        + _histogram(
            name='"d"', value="", buckets="[10, 20]", rows='{ x = { a = "input_tokens", b = "output_tokens" } }'
        ).split("\n", 2)[2],
    )

    assert {
        "duration": (0.5, 1.0, 2.5),
        "input_tokens": (10.0, 20.0),
        "load_duration": (7.0,),
        "output_tokens": (10.0, 20.0),
    } == bounds([one, other])
    assert {} == bounds([])


def test_bounds_of_the_five() -> None:
    """The five systems have 16 bounds of durations together, and those of what is told by hand."""
    five = [load(name) for name in shipped() if name != "genai"]
    union = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 2.5, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0)

    loads = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
    assert {
        "duration": union,
        "load_duration": loads,
        "model_load": loads,
        "queue_wait": (0.001, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0, 30.0, 60.0),
        "rate_limit_wait": (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0),
        "steps": (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
        "workflows": (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0),
    } == bounds(five)


def test_label_names(write: Write) -> None:
    """Labels of the context are told apart by whether only failed calls need them; a process needs none."""
    text = _labels(
        model='"label.a"',
        failed='{ from = ["label.b", "label.a"] }',
        limited='"label.c"',
        version='"label.d"',
        unused='"label.e"',
    )
    for keys in (
        {"name": '"f"', "labels": '["failed"]', "outcome": '"failure"'},
        {"name": '"l"', "labels": '["limited"]', "where": '{ outcome = ["rate_limit", "timeout"] }'},
        {"name": '"w"', "labels": "[]", "where": '{ "label.w" = "x", outcome = ["rate_limit", "success"] }'},
        {"name": '"v_info"', "type": '"info"', "value": '"process"', "labels": '["version"]'},
        {"name": '"n"', "value": "", "labels": '["unused"]'},
    ):
        text += _family(**keys).split("\n", 2)[2]

    names = label_names([_mine(write, text)])

    assert {"a", "w"} == names.always
    assert {"b", "c"} == names.on_failure


def test_label_names_of_the_five() -> None:
    """The shipped dialects ask for these labels; the client's id only of calls that failed."""
    names = label_names([load(name) for name in shipped()])

    assert {"provider", "task_type", "graph", "request_type", "container", "backend", "version"} == names.always
    assert {"client_id"} == names.on_failure


def test_label_names_of_what_is_told_by_hand() -> None:
    """What is told by hand is told apart by those labels only that a family of it has."""
    told = label_names([load(name) for name in shipped()]).told

    assert {
        "errors": {"provider", "task_type", "container", "graph", "backend"},
        "rate_limits": {"client_id"},
        "queue_size": {"container", "priority"},
        "queue_workers": set(),
        "queue_rejected": set(),
        "steps": {"node", "graph"},
        "workflows": {"graph"},
        "input_tokens": {"provider", "container", "graph", "backend"},
        "backend_health": {"backend"},
    } == {name: told[name] for name in told if name in NAMED}


NAMED = (
    *("errors", "rate_limits", "queue_size", "queue_workers", "queue_rejected", "steps", "workflows", "input_tokens"),
    "backend_health",
)


def test_collisions_of_the_five() -> None:
    """The shipped dialects collide in these families, and in no others."""
    found = {name: {dialect for dialect, _ in families} for name, families in collisions(map(load, shipped()))}

    assert {
        "llm_inference_latency_seconds": {"local_llm", "ollama_exporter"},
        "llm_queue_size": {"local_llm", "ollama_exporter"},
        "llm_model_info": {"local_llm", "ollama_exporter"},
        "llm_tokens_total": {"local_llm", "llmbackend"},
        "llm_requests_total": {"aegis", "llmbackend"},
        "llm_errors_total": {"aegis", "llmbackend"},
        "llm_active_requests": {"ollama_exporter", "llmbackend"},
    } == found


@pytest.mark.parametrize(
    "names",
    [
        ("local_llm", "aegis", "tinyllm"),
        ("aegis", "ollama_exporter", "tinyllm"),
        ("tinyllm", "llmbackend"),
        ("aegis",) * 2,
    ],
)
def test_dialects_without_collisions(names: tuple[str, ...]) -> None:
    """These can be on one page, and so can a dialect that is named twice."""
    refuse_collisions([load(name) for name in names])


def test_dialects_of_one_name(write: Write) -> None:
    """Two dialects whose files are named alike cannot both have a page."""
    one, other = _mine(write, _family()), _mine(write, _family(name='"other"'))

    with pytest.raises(ValueError, match=r"^two dialects are called mine, as their files are; rename one of them$"):
        refuse_collisions([one, load("aegis"), other])
    refuse_collisions([one, load("aegis"), one])


def test_collisions_are_refused(write: Write) -> None:
    """The error names the families and their dialects, by spellings and by samples of histograms, too."""
    mine = _mine(
        write, _family(name='"llm_cost_usd_total"') + _family(name='"llm_latency_seconds_sum"').split("\n", 2)[2]
    )

    with pytest.raises(ValueError) as raised:
        refuse_collisions([mine, load("aegis")])
    assert (
        "dialects that cannot be on one page: they share llm_cost_usd_total (mine, llm_cost_usd of aegis); "
        "llm_latency_seconds_sum (mine, llm_latency_seconds of aegis)"
    ) == str(raised.value)
    with pytest.raises(
        ValueError, match=r"they share llm_errors_total \(aegis, llmbackend\); llm_requests_total \(aegis, llm"
    ):
        refuse_collisions([load("aegis"), load("llmbackend")])
