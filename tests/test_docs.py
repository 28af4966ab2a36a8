"""The documentation is true: its examples run, its commands and links exist, its tables say what the code says."""

from __future__ import annotations

import ast
import importlib
import inspect
import os
import re
import shlex
import subprocess
import sys
import tomllib
import typing
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import ollama
import pytest
from openai.types.responses import ResponseError
from opentelemetry.context import Context
from prometheus_client import Metric as Family
from prometheus_client.parser import text_string_to_metric_families

import otel_llm
from otel_llm import config, foreign
from otel_llm.call import Call
from otel_llm.testing.server import Reply, ScriptedServer
from otel_llm.wire import formats
from otel_llm.wire.ollama import endpoint
from otel_llm_httpx import rules
from otel_llm_semconv import attributes, environment, metrics
from otel_llm_semconv.metrics import Metric
from otel_llm_semconv.values import Operation
from tests.family.clients import CLIENTS, PLAIN, STREAMED
from tests.httpx.test_ends import OUTCOMES

ROOT = Path(__file__).parents[1]
PAGES = [
    *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
COLLECTOR = "http://localhost:4318"
"""Where the documentation has its collector."""
TEST_VARIABLES = {"OTEL_LLM_BACKENDS", "OTEL_LLM_REQUIRE_BACKENDS"}
"""Variables that only the project's own tests read."""
_KIN = {client.package.partition(".")[0] for client in CLIENTS.values()}


class Block(NamedTuple):
    """A fenced block of a page."""

    page: Path
    line: int
    language: str
    text: str

    def __repr__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def _blocks(*languages: str) -> list[Block]:
    """Return the blocks in these languages, of every page."""
    return [
        Block(page, text[: fence.start()].count("\n") + 1, fence[1], fence[2])
        for page in PAGES
        for text in [page.read_text("utf-8")]
        for fence in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
        if fence[1] in languages
    ]


def _prose(page: Path) -> str:
    """Return a page without its blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)


def _rows(page: str, after: str) -> Iterator[list[str]]:
    """Yield the rows of the first table after a text, as their cells."""
    text = (ROOT / page).read_text("utf-8")
    assert after in text
    _, *lines = text.partition(after)[2].partition("| ---")[2].splitlines()
    for line in lines:
        if not line.startswith("|"):
            return
        yield [cell.strip() for cell in line.strip("|").split("|")]


def _quoted(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def _environment(server: ScriptedServer, **more: str) -> dict[str, str]:
    """Return an environment in which every client of OpenAI's talks to the server."""
    here = Path(sys.executable).parent
    return {
        **os.environ,
        "PATH": f"{here}{os.pathsep}{os.environ.get('PATH', '')}",
        "NO_PROXY": "127.0.0.1,localhost",
        "OPENAI_BASE_URL": server.base_url,
        "OPENAI_API_KEY": "none",
        "OTEL_EXPORTER_PROMETHEUS_PORT": "0",
        **more,
    }


def _run(command: list[str], folder: Path, variables: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=variables, capture_output=True, encoding="utf-8", timeout=60, check=False
    )


def _example() -> str:
    """Return the program of the README."""
    return next(block.text for block in _blocks("python"))


def _families(page: str) -> dict[str, Family]:
    return {family.name: family for family in text_string_to_metric_families(page)}


# what runs


@pytest.mark.parametrize("block", _blocks("python"), ids=repr)
def test_python_runs(block: Block, server: ScriptedServer, tmp_path: Path) -> None:
    """Every Python example runs as it stands, in a process of its own, without a warning or a log line."""
    program = tmp_path / "test_example.py"
    program.write_text(block.text, "utf-8")
    pytest_alone = ["-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "-p", "no:asyncio"]
    runner = pytest_alone if "def test_" in block.text else []

    # A reader of the docs may leave a client to the interpreter; what the collector says of it is not ours.
    python = [sys.executable, "-W", "error", "-W", "ignore::ResourceWarning"]
    done = _run([*python, *runner, program.name], tmp_path, _environment(server))

    assert (0, "") == (done.returncode, done.stderr), done.stdout


def test_the_example_is_the_one_in_examples() -> None:
    """The README shows the program of `examples/app.py`."""
    shipped = ast.parse((ROOT / "examples" / "app.py").read_text("utf-8"))

    assert ast.dump(ast.Module(shipped.body[1:], [])) == ast.dump(ast.parse(_example()))


def test_the_page_in_the_readme(server: ScriptedServer, tmp_path: Path) -> None:
    """Every line of the page in the README is on the page that the example prints, with these labels and numbers."""
    (shown,) = [block for block in _blocks("prometheus") if block.page.name == "README.md"]
    (tmp_path / "app.py").write_text(_example(), "utf-8")

    done = _run([sys.executable, "app.py"], tmp_path, _environment(server))

    answer, page = done.stdout.split("\n", 1)
    printed = _families(page)
    assert "Paris" in answer
    for name, family in _families(shown.text).items():
        assert family.samples
        assert family.type == printed[name].type
        for sample in family.samples:
            values = [
                real.value
                for real in printed[name].samples
                if real.name == sample.name and sample.labels.items() <= real.labels.items()
            ]
            assert values, sample
            assert sample.name.endswith("_sum") or sample.value in values


@pytest.mark.parametrize(
    "shown", [block for block in _blocks("prometheus") if block.page.name != "README.md"], ids=repr
)
def test_other_pages_are_printed(shown: Block, server: ScriptedServer, tmp_path: Path) -> None:
    """A page that the documentation shows is what the example before it prints."""
    *_, program = [block for block in _blocks("python") if block.page == shown.page and block.line < shown.line]

    done = _run([sys.executable, "-c", program.text], tmp_path, _environment(server))

    assert shown.text == done.stdout


def _lines(block: Block) -> list[list[str]]:
    """Return the commands of a block, each as its words."""
    return [words for line in block.text.splitlines() if (words := shlex.split(line, comments=True))]


def _split(words: list[str]) -> tuple[dict[str, str], list[str]]:
    """Return the variables before a command, and the command."""
    words = words[words[0] == "export" :]
    count = next((at for at, word in enumerate(words) if not re.match(r"\w+=", word)), len(words))
    return dict(word.split("=", 1) for word in words[:count]), words[count:]


@pytest.mark.parametrize("line", [True, False], ids=["with the line", "without"])
@pytest.mark.parametrize("block", [block for block in _blocks("bash", "console") if "app.py" in block.text], ids=repr)
def test_programs_run(block: Block, line: bool, server: ScriptedServer, tmp_path: Path) -> None:
    """What starts `app.py` works, instrumented by its own line or not at all; the collector gets spans and metrics."""
    program = _example()
    assert "\notel_llm.instrument()\n" in program
    (tmp_path / "app.py").write_text(program if line else program.replace("\notel_llm.instrument()\n", "\n"), "utf-8")

    with ScriptedServer() as collector:
        collector.script(*[Reply()] * 50)
        variables = _environment(server, PYTHONWARNINGS="error")
        exports = False
        for words in _lines(block):
            given, command = _split(words)
            exports = exports or COLLECTOR in given.values()
            given = {name: value.replace(COLLECTOR, collector.url) for name, value in given.items()}
            if not command:
                variables |= given
                continue
            own = {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"} if exports else {}
            done = _run(command, tmp_path, variables | given | own)

            assert 0 == done.returncode, done.stderr
            assert "Traceback" not in done.stderr
            assert "gen_ai_client_operation_duration_seconds_count" in done.stdout
            assert "http_client_request_duration_seconds_count" in done.stdout

        sent = {request.path for request in collector.requests}
        assert ({"/v1/traces", "/v1/metrics"} if exports else set()) == sent
        assert all(variables.get("OTEL_SERVICE_NAME", "").encode() in request.body for request in collector.requests)


@cache
def _targets() -> set[str]:
    return set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))


@cache
def _extras() -> set[str]:
    extras: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    return set(extras["optional-dependencies"])


@pytest.mark.parametrize("block", _blocks("bash", "console"), ids=repr)
def test_commands_exist(block: Block) -> None:
    """What is only to be typed exists: the make target, the extra, the option, the test file."""
    for words in _lines(block):
        variables, command = _split(words)
        assert {name for name in variables if not name.startswith(("OTEL_", "OPENAI_", "PYTHONPATH"))} == set()
        match [Path(command[0]).name, *command[1:]] if command else []:
            case ["make", *rest]:
                given, targets = _split([*rest[1:], rest[0]])
                assert set(targets) <= _targets()
                assert all(f"{name}" in (ROOT / "Makefile").read_text("utf-8") for name in given)
            case ["pip", "install", requirement]:
                found = re.fullmatch(r"(?:otel-llm|\.)\[([\w,]+)\]", requirement)
                assert found is not None
                assert set(found[1].split(",")) <= _extras()
            case ["python", "-m", module, *options]:
                done = _run([sys.executable, "-m", module, "--help"], ROOT, dict(os.environ))
                assert {word for word in options if word.startswith("--")} <= set(re.findall(r"--[\w-]+", done.stdout))
            case ["pytest", *rest]:
                assert all((ROOT / word).exists() for word in rest if word.startswith("tests"))
            case []:
                pass
            case _:
                assert "app.py" in command, f"nobody checks {command}"


# what is named


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_resolve(page: Path) -> None:
    """Every link inside the repository leads to a file, and to a heading of it."""
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", _prose(page)):
        linked = (page.parent / target).resolve() if target else page
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", _prose(linked), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_files_and_targets_exist() -> None:
    """Every file of ours that a page names is there, and so is every make target."""
    for page in PAGES:
        prose = _prose(page)
        folders = r"(?:otel_llm|instrumentors|semconv|tests|docs|examples|benchmarks)"
        named = re.findall(rf"`({folders}/[\w./-]*)`", prose)
        assert [] == [name for name in named if not (ROOT / name).exists()], page.name
        assert set(re.findall(r"`make (\w+)", prose)) <= _targets()
        assert set(re.findall(r"otel-llm\[(\w+)\]", prose)) <= _extras()


@cache
def _defined() -> dict[str, set[str]]:
    """Return what our modules define at any depth, by the module's last name; of packages also what they import."""
    folders = [ROOT / "otel_llm", *(ROOT / "instrumentors").iterdir(), ROOT / "semconv" / "otel_llm_semconv"]
    found: dict[str, set[str]] = {}
    for source in (path for folder in folders for path in folder.rglob("*.py")):
        package = source.stem == "__init__"
        defined = found.setdefault(source.parent.name if package else source.stem, set())
        if package:
            defined |= {path.stem for path in source.parent.iterdir()}
        for node in ast.walk(ast.parse(source.read_text("utf-8"))):
            match node:
                case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                    defined.add(name)
                case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
                    defined.add(name)
                case ast.alias(name=name) if package:
                    defined.add(name)
                case _:
                    pass
    return found


def test_names_in_modules_exist() -> None:
    """What a page names as `module.name`, with a module of ours, is defined in that module."""
    defined = _defined()
    others = {value for value in vars(attributes).values() if isinstance(value, str)}
    others |= {metric.name for metric in (*metrics.in_vocabulary("both"), *metrics.OWN)}
    others |= formats.NAMES.keys()
    checked = 0
    for page in PAGES:
        for quoted in set(re.findall(r"`([\w.]+)(?:\([^`]*\))?`", _prose(page))) - others:
            path, _, name = quoted.rpartition(".")
            module = path.rpartition(".")[2]
            if (
                module not in defined
                or name in ("py", "ai")
                or quoted.startswith(("openai.", "ollama.", "anthropic.", "cerebras.", "httpx.", "com."))
            ):
                continue
            checked += 1
            assert name in defined[module], f"{page.name}: {quoted}"
    assert checked > 10


def test_variables_exist() -> None:
    """Each variable of ours is documented, and each documented one is there; so is each standard one that is read."""
    ours = {name for name in vars(environment) if name.startswith("OTEL_LLM_")}
    settings = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    named = {name for page in PAGES for name in re.findall(r"\bOTEL_LLM_\w+", page.read_text("utf-8"))}
    read = {
        name
        for source in (ROOT / "otel_llm").rglob("*.py")
        for name in re.findall(r"\bvariables\.([A-Z_]+)", source.read_text("utf-8"))
    }

    assert ours == named - TEST_VARIABLES
    assert set() == {name for name in ours | read if f"`{name}`" not in settings}


def test_keywords_are_documented() -> None:
    """The table of settings has every keyword of `instrument()`, in its order, with the defaults that hold."""
    rows = {_quoted(row[0])[0]: row for row in _rows("docs/configuration.md", "## Keywords and variables")}

    assert list(inspect.signature(otel_llm.instrument).parameters) == list(rows)
    assert [config.DEFAULT_SEMCONV] == _quoted(rows["semconv"][2])
    assert str(config.DEFAULT_MAX_SERIES) == rows["max_series"][2]
    assert list(metrics.VOCABULARY_CHOICES) == _quoted(rows["semconv"][3])[:3]


def _vocabulary(metric: Metric) -> str:
    if metric in metrics.HTTP:
        return "HTTP"
    if metric in metrics.OWN:
        return "ours"
    (only, *more) = metric.vocabularies
    return "both" if more else only


def test_metrics_table() -> None:
    """The table of metrics is that of `otel_llm_semconv`, with attributes and buckets, no more and no less."""
    groups = {name: _quoted(cell) for name, cell in _rows("docs/metrics.md", "The attribute groups")}
    buckets = {
        name: tuple(float(bound) for bound in cell.split(",")) for name, cell in _rows("docs/metrics.md", "### Buckets")
    }
    table: dict[str, object] = {}
    for name, vocabulary, kind, unit, cell, bucket, meaning in _rows("docs/metrics.md", "<!-- metrics:"):
        group = cell.partition(",")[0]
        table[_quoted(name)[0]] = (
            vocabulary,
            kind,
            *_quoted(unit),
            [*groups.get(group, []), *_quoted(cell)],
            buckets[bucket] if bucket else (),
        )
        assert meaning

    written = [*metrics.in_vocabulary("both"), *metrics.OWN, *metrics.HTTP]
    assert table == {
        metric.name: (_vocabulary(metric), metric.kind, metric.unit, [*metric.attributes], metric.boundaries)
        for metric in written
    }


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

    rows = [row[2:] for row in _rows("docs/metrics.md", "### Other instrumentations")]

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
    documented = {name for row in _rows("docs/metrics.md", "<!-- attributes:") for name in _quoted(row[0])}

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

    rows = {_quoted(row[0])[0]: row[1:] for row in _rows("docs/coverage.md", "<!-- ollama functions -->")}
    assert found == rows


def test_paths_table() -> None:
    """The table of paths over plain HTTP has each that is known, with the keys that a body must have."""
    found: list[tuple[str, list[set[str]], list[str], bool]] = []
    for _, paths, keys, unread in _rows("docs/http.md", "<!-- paths:"):
        asked, _, elements = keys.partition(", the first with ")
        asks = [set(_quoted(each)) for each in asked.split(", or ")]
        found += [(path, asks, _quoted(elements), unread == "yes") for path in _quoted(paths)]
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
    (listed,) = re.findall(r"^The formats are (.*?)\.$", _prose(ROOT / "docs" / "http.md"), re.MULTILINE | re.DOTALL)
    read = {
        name: (format.read_request_content is not None, format.read_answer_content is not None)
        for name in formats.NAMES
        if any((format := formats.format_of(name))[5:8])
    }

    assert list(formats.NAMES) == _quoted(listed)
    # What `docs/configuration.md` says in words.
    both = """
        openai.chat openai.completions openai.responses groq.chat cerebras.chat cerebras.completions anthropic.messages
        anthropic.complete gemini.generate bedrock.converse bedrock.invoke cohere.chat mistral.fim ollama.chat
        ollama.generate llama_cpp.completion llama_cpp.infill tgi.generate
    """
    assert {**dict.fromkeys(both.split(), (True, True)), "cohere.generate": (True, False)} == read


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

    assert made == list(_rows("docs/coverage.md", "<!-- kin -->"))


def test_ways_table() -> None:
    """The table of ways out of a stream over plain HTTP says what their test expects."""
    rows = {way: _quoted(outcome) for way, outcome, _ in _rows("docs/coverage.md", "<!-- plain http -->")}

    assert {way: [outcome] for way, outcome in OUTCOMES.items()} == rows


def test_instrumentors_are_listed() -> None:
    """Every instrumentor can be switched off, by a name that is documented."""
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    rows = {_quoted(row[0])[0]: row for row in _rows("docs/configuration.md", "## Standard variables")}

    listed = _quoted(rows["OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"][1])
    assert [*project["entry-points"]["otel_llm_instrumentor"], "*"] == listed


def test_error_types_exist() -> None:
    """Each exception in the list of error types is there under that name; each code is one of the client's."""
    cells = [row[0] for row in _rows("docs/errors.md", "## Exceptions")]
    cells += [" ".join(row[1:]) for row in _rows("docs/errors.md", "callbacks included.")]
    cells += [row[0] for row in _rows("docs/errors.md", "## Plain HTTP") if row[0].startswith("`httpx")]
    for name in [name for cell in cells for name in _quoted(cell)]:
        module, _, cls = name.rpartition(".")
        client = module.partition(".")[0]
        if client in _KIN and find_spec(client) is None:  # these are only laid over, by tests/matrix.py
            continue
        assert issubclass(getattr(importlib.import_module(module or "builtins"), cls), BaseException)

    codes = [code for row in _rows("docs/errors.md", "## Errors without") for code in _quoted(row[0])]
    declared: Any = ResponseError.model_fields["code"].annotation
    assert {"_OTHER"} == set(codes) - set(typing.get_args(declared))
