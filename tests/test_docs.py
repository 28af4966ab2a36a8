"""The documentation is true: its examples run, its commands and links exist, its tables say what the code says."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import Metric as Family
from prometheus_client.parser import text_string_to_metric_families

from otel_llm.testing.server import Reply, ScriptedServer
from otel_llm.wire import formats
from otel_llm_semconv import attributes, environment, measures, metrics
from tests.documentation import PAGES, ROOT, Block, blocks, prose_of
from tests.family.clients import CLIENTS

COLLECTOR = "http://localhost:4318"
"""Where the documentation has its collector."""
_KIN = {client.package.partition(".")[0] for client in CLIENTS.values()}


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
    return next(block.text for block in blocks("python"))


def _families(page: str) -> dict[str, Family]:
    return {family.name: family for family in text_string_to_metric_families(page)}


# what runs


@pytest.mark.parametrize("block", blocks("python"), ids=repr)
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
    (shown,) = [block for block in blocks("prometheus") if block.page.name == "README.md"]
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


@pytest.mark.parametrize("shown", [block for block in blocks("prometheus") if block.page.name != "README.md"], ids=repr)
def test_other_pages_are_printed(shown: Block, server: ScriptedServer, tmp_path: Path) -> None:
    """A page that the documentation shows is what the example before it prints."""
    *_, program = [block for block in blocks("python") if block.page == shown.page and block.line < shown.line]

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
@pytest.mark.parametrize("block", [block for block in blocks("bash", "console") if "app.py" in block.text], ids=repr)
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


@pytest.mark.parametrize("block", blocks("bash", "console"), ids=repr)
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
            case ["python", "-c", code]:
                ast.parse(code)
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
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", prose_of(page)):
        linked = (page.parent / target).resolve() if target else page
        assert linked.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", prose_of(linked), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_files_and_targets_exist() -> None:
    """Every file of ours that a page names is there, and so is every make target."""
    for page in PAGES:
        prose = prose_of(page)
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
    others |= {metric.name for metric in (*metrics.ALL, *measures.OWN)}
    others |= formats.NAMES.keys()
    checked = 0
    for page in PAGES:
        for quoted in set(re.findall(r"`([\w.]+)(?:\([^`]*\))?`", prose_of(page))) - others:
            path, _, name = quoted.rpartition(".")
            module = path.rpartition(".")[2]
            if (
                module not in defined
                or name in ("py", "ai")
                or quoted.startswith(("openai.", "ollama.", "anthropic.", "cerebras.", "httpx.", "com.", "tinyllm."))
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

    assert ours == named
    assert set() == {name for name in ours | read if f"`{name}`" not in settings}
