"""The tables of the documentation say what the code says."""

from __future__ import annotations

import importlib
import inspect
import re
import sys
import tomllib
import typing
from importlib.util import find_spec
from typing import Any

import httpx
import ollama
import pytest
from openai.types.responses import ResponseError
from opentelemetry.context import Context

import otel_llm
from otel_llm import config, foreign, threads
from otel_llm.call import Call
from otel_llm.testing import capture
from otel_llm.wire import formats
from otel_llm.wire.ollama import endpoint
from otel_llm_httpx import rules
from otel_llm_semconv import attributes, metrics
from otel_llm_semconv.measures import MEASURES
from otel_llm_semconv.metrics import Metric
from otel_llm_semconv.values import Operation
from tests.documentation import ROOT, prose_of, quoted, table_rows
from tests.family.clients import CLIENTS, PLAIN, STREAMED
from tests.httpx.test_ends import OUTCOMES

_KIN = {client.package.partition(".")[0] for client in CLIENTS.values()}


def test_keywords_are_documented() -> None:
    """The table of settings has every keyword of `instrument()`, in its order, with the defaults that hold."""
    rows = {quoted(row[0])[0]: row for row in table_rows("docs/configuration.md", "## Keywords and variables")}

    assert list(inspect.signature(otel_llm.instrument).parameters) == list(rows)
    assert [config.DEFAULT_SEMCONV] == quoted(rows["semconv"][2])
    assert str(config.DEFAULT_MAX_SERIES) == rows["max_series"][2]
    assert list(metrics.VOCABULARY_CHOICES) == quoted(rows["semconv"][3])[:3]


def _vocabulary(metric: Metric) -> str:
    if metric in metrics.HTTP:
        return "HTTP"
    if metric in metrics.OWN:
        return "ours"
    (only, *more) = metric.vocabularies
    return "both" if more else only


def test_metrics_table() -> None:
    """The table of metrics is that of `otel_llm_semconv`, with attributes and buckets, no more and no less."""
    groups = {name: quoted(cell) for name, cell in table_rows("docs/metrics.md", "The attribute groups")}
    buckets = {
        name: tuple(float(bound) for bound in cell.split(","))
        for name, cell in table_rows("docs/metrics.md", "### Buckets")
    }
    table: dict[str, object] = {}
    for name, vocabulary, kind, unit, cell, bucket, meaning in table_rows("docs/metrics.md", "<!-- metrics:"):
        group = cell.partition(",")[0]
        table[quoted(name)[0]] = (
            vocabulary,
            kind,
            *quoted(unit),
            [*groups.get(group, []), *quoted(cell)],
            buckets[bucket] if bucket else (),
        )
        assert meaning

    written = [*metrics.in_vocabulary("both"), *metrics.OWN, *metrics.HTTP]
    assert table == {
        metric.name: (_vocabulary(metric), metric.kind, metric.unit, [*metric.attributes], metric.boundaries)
        for metric in written
    }


def test_measures_table() -> None:
    """The table of metrics that are told by hand is that of `otel_llm_semconv`, in its order."""
    buckets = {
        name: tuple(float(bound) for bound in cell.split(","))
        for name, cell in table_rows("docs/metrics.md", "### Buckets")
    }

    rows = list(table_rows("docs/metrics.md", "<!-- measures:"))

    assert [
        (metric.name, metric.kind, metric.unit, metric.attributes, metric.boundaries) for metric in MEASURES.values()
    ] == [
        (*quoted(name), kind, *quoted(unit), tuple(quoted(names)), buckets[bucket] if bucket else ())
        for name, kind, unit, names, bucket, _ in rows
    ]
    assert all(meaning for *_, meaning in rows)


def test_block_spans_table() -> None:
    """The table of spans of blocks has the names, arguments and attributes that they have, and no others."""
    source = (ROOT / "otel_llm" / "manual" / "tracking.py").read_text("utf-8")
    written = {getattr(attributes, name) for name in re.findall(r"\bnames\.([A-Z_]+)\b", source)}
    rows = list(table_rows("docs/by-hand.md", "<!-- spans:"))

    assert written == {name for *_, names in rows for name in quoted(names)} | {attributes.ERROR_TYPE}
    with capture() as seen:
        for block, *_ in rows:
            name, _, arguments = quoted(block)[0].removesuffix(")").partition("(")
            function = getattr(otel_llm, name)
            assert list(inspect.signature(function).parameters) == [each.rstrip("=") for each in arguments.split(", ")]
            with function("x"):
                pass
        assert [quoted(span)[0].replace("{name}", "x") for _, span, *_ in rows] == [span["name"] for span in seen.spans]
        assert [quoted(metric)[0] for _, _, metric, _ in rows] == [point["name"] for point in seen.metrics]
        for span, (*_, names) in zip(seen.spans, rows, strict=True):
            assert span["attributes"].keys() <= set(quoted(names))


def test_other_instrumentations_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of what other instrumentations keep says what the code leaves to them."""
    wrappers = foreign._WRAPPERS
    openllmetry = "opentelemetry.instrumentation.openai"
    beside = Context({foreign._OPENLLMETRY_KEY: True})
    of_frameworks = foreign.covered(Operation.CHAT, beside)
    monkeypatch.setitem(sys.modules, foreign._OPENLLMETRY_LANGCHAIN, sys)
    kept = [
        foreign._SCOPES["opentelemetry.util.genai.handler"],
        wrappers[f"{openllmetry}.shared.chat_wrappers"][""],
        wrappers[f"{openllmetry}.v1.responses_wrappers"][""],
        wrappers[f"{openllmetry}.shared.image_gen_wrappers"][""],
        foreign._SCOPES["openinference.instrumentation.openai"],
        foreign._OPENLIT_CALLS[Operation.CHAT],
        foreign._OPENLIT_CALLS[""],
        wrappers["opentelemetry.instrumentation.anthropic"][Operation.CHAT],
        wrappers["openinference.instrumentation.anthropic._wrappers"][Operation.CHAT],
        wrappers["openlit.instrumentation.anthropic.anthropic"][Operation.CHAT],
        foreign._PYDANTIC_AI_OPERATIONS["chat", Operation.CHAT],
        foreign._PYDANTIC_AI_OPERATIONS["embeddings", Operation.EMBEDDINGS],
        foreign._LANGCHAIN_CALLS[Operation.CHAT],
        foreign.covered(Operation.CHAT, beside),
        of_frameworks,
    ]

    rows = [row[2:] for row in table_rows("docs/metrics.md", "### Other instrumentations")]

    assert [["theirs" if part else "ours" for part in covered] for covered in kept] == rows


def test_span_attributes_table() -> None:
    """The table of span attributes has what the record, the readers and the span sink set, and nothing else."""
    core = ROOT / "otel_llm"
    sources = [*(core / "wire").glob("*.py"), core / "sinks" / "spans.py", core / "call.py"]
    written = {
        getattr(attributes, name)
        for source in sources
        for name in re.findall(r"\bnames\.([A-Z_]+)\b", source.read_text("utf-8"))
    }
    documented = {name for row in table_rows("docs/metrics.md", "<!-- attributes:") for name in quoted(row[0])}

    assert written == {name.replace("<key>", "") for name in documented}


def test_ollama_functions_table() -> None:
    """The table of Ollama's functions has each that sends a request, its styles, its operation, and if it is counted.

    The styles are those that its signature offers, the operation is that of the format for what it asks for.
    """
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(500)

    given: dict[str, Any] = {"path": __file__, "questions": {}}
    own: Any = ollama.Client(
        "http://test", headers={"authorization": "Bearer x"}, transport=httpx.MockTransport(answer)
    )
    found: dict[str, list[str]] = {}
    for name, method in inspect.getmembers(own, inspect.ismethod):
        if name.startswith("_") or name == "close":
            continue
        parameters = inspect.signature(method).parameters
        needed = [key for key, value in parameters.items() if value.default is value.empty or key == "model"]
        with pytest.raises(ollama.ResponseError):
            method(**{key: given.get(key, "x") for key in needed})
        format = endpoint(asked[-1].method, str(asked[-1].url))
        call = Call()
        format.read_request(call, {})
        styles = "plain, stream" if "stream" in parameters else "plain"
        found[name] = [styles, f"`{format.operation}`", "yes" if call.runs_model else "no"]
    own._client.close()

    rows = {quoted(row[0])[0]: row[1:] for row in table_rows("docs/coverage.md", "<!-- ollama functions -->")}
    assert found == rows


def test_paths_table() -> None:
    """The table of paths over plain HTTP has each that is known, with the keys that a body must have."""
    found: list[tuple[str, list[set[str]], list[str], bool]] = []
    for _, paths, keys, unread in table_rows("docs/http.md", "<!-- paths:"):
        asked, _, elements = keys.partition(", the first with ")
        asks = [set(quoted(each)) for each in asked.split(", or ")]
        found += [(path, asks, quoted(elements), unread == "yes") for path in quoted(paths)]
    known = [
        (
            rule.path,
            [set(each.split()) - {"*"} for each in rule.asks.split("|")],
            rule.elements.split(),
            "*" in rule.asks,
        )
        for rule in rules.TABLE
    ]

    def last(row: tuple[str, Any, Any, Any]) -> str:
        return re.split("[/:]", row[0])[-1]

    # Of those that end alike the first one counts, so that their order is told, too.
    assert sorted(known, key=last) == sorted(found, key=last)


def test_formats_are_listed() -> None:
    """The formats that a rule of one's own may name are all there, and so are those whose content is read."""
    (listed,) = re.findall(r"^The formats are (.*?)\.$", prose_of(ROOT / "docs" / "http.md"), re.MULTILINE | re.DOTALL)
    read = {
        name: (format.read_request_content is not None, format.read_answer_content is not None)
        for name in formats.NAMES
        if any((format := formats.format_of(name))[5:8])
    }

    assert list(formats.NAMES) == quoted(listed)
    # What `docs/configuration.md` says in words.
    both = """
        openai.chat openai.completions openai.responses groq.chat cerebras.chat cerebras.completions anthropic.messages
        anthropic.complete gemini.generate bedrock.converse bedrock.invoke cohere.chat cohere.generate mistral.fim
        ollama.chat ollama.generate llama_cpp.completion llama_cpp.infill tgi.generate
    """
    assert dict.fromkeys(both.split(), (True, True)) == read


def test_kin_table() -> None:
    """The table of the clients made like `openai` has the calls and the styles that their tests make."""
    styles = ", ".join([*PLAIN, *[form.replace(", ", " ") for form in STREAMED if not form.endswith("bytes")]])
    made = [
        [
            f"`{name}`",
            f"`{api}`",
            f"{styles}, helper" if api == "messages" else styles,
            "`text_completion`" if api == "completions" else "`chat`",
        ]
        for name, client in CLIENTS.items()
        for api in client.apis
    ]

    assert made == list(table_rows("docs/coverage.md", "<!-- kin -->"))


def test_ways_table() -> None:
    """The table of ways out of a stream over plain HTTP says what their test expects."""
    rows = {way: quoted(outcome) for way, outcome, _ in table_rows("docs/coverage.md", "<!-- plain http -->")}

    assert {way: [outcome] for way, outcome in OUTCOMES.items()} == rows


def test_instrumentors_are_listed() -> None:
    """Every instrumentor can be switched off, by a name that is documented."""
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    rows = {quoted(row[0])[0]: row for row in table_rows("docs/configuration.md", "## Standard variables")}

    listed = quoted(rows["OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"][1])
    assert [*project["entry-points"]["otel_llm_instrumentor"], threads.NAME, "*"] == listed


def test_error_types_exist() -> None:
    """Each exception in the list of error types is there under that name; each code is one of the client's."""
    cells = [row[0] for row in table_rows("docs/errors.md", "## Exceptions")]
    cells += [" ".join(row[1:]) for row in table_rows("docs/errors.md", "callbacks included.")]
    cells += [row[0] for row in table_rows("docs/errors.md", "## Plain HTTP") if row[0].startswith("`httpx")]
    for name in [name for cell in cells for name in quoted(cell)]:
        module, _, cls = name.rpartition(".")
        client = module.partition(".")[0]
        if client in _KIN and find_spec(client) is None:  # these are only laid over, by tests/matrix.py
            continue
        assert issubclass(getattr(importlib.import_module(module or "builtins"), cls), BaseException)

    codes = [code for row in table_rows("docs/errors.md", "## Errors without") for code in quoted(row[0])]
    declared: Any = ResponseError.model_fields["code"].annotation
    assert {"_OTHER"} == set(codes) - set(typing.get_args(declared))
