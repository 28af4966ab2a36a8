"""The demo and the example are what a newcomer runs first: they end well, whatever they print to."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from otel_llm.testing.server import Reply, ScriptedServer, error

EXAMPLES = Path(__file__).parents[1] / "examples"
NOWHERE = "http://127.0.0.1:9"
"""Where nobody listens: the demo must not find an Ollama that happens to run here."""
TREE = """
demo
  plain
    chat gpt-5
      POST 200
  async, two at once
    chat gpt-5
      POST 200
    chat gpt-5
      POST 200
  streamed
    chat gpt-5
      POST 200
  stream left early
    chat gpt-5
      POST 200
  structured answer
    chat gpt-5
      POST 200
  responses API
    chat gpt-5
      POST 200
  embeddings
    embeddings text-embedding-3-small
      POST 200
  ollama's client
    chat llama3.2
      POST 200
  bare httpx
    chat gpt-5
      POST 200
  failing
    chat no-such-model
      POST 404
  retried
    chat gpt-5
      POST 429
      POST 500
      POST 200
"""


def environment(**more: str) -> dict[str, str]:
    """Return an environment without settings of whoever runs the tests."""
    ours = ("OTEL_", "OPENAI_", "OLLAMA_", "FORCE_COLOR", "TTY_", "COLUMNS")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, "OLLAMA_HOST": NOWHERE, **more}


def run(program: str, *options: str, **more: str) -> subprocess.CompletedProcess[str]:
    """Run an example with warnings as errors, its output piped."""
    command = [sys.executable, "-W", "error", str(EXAMPLES / program), *options]
    return subprocess.run(command, env=environment(**more), capture_output=True, text=True, timeout=60, check=False)


def sections(output: str) -> dict[str, str]:
    """Cut the output of the demo at its headings."""
    pieces = re.split(r"^(Calls|Trace|Measured|Metrics page|Served)  .*\n\n", output, flags=re.MULTILINE)
    return dict(zip(pieces[1::2], pieces[2::2], strict=True))


def tree(trace: str) -> str:
    """Return the spans of a printed trace, with the status of each HTTP request."""
    spans = re.findall(r"^( *[a-z].*?) +[\d.]+ m?s", trace, flags=re.MULTILINE | re.IGNORECASE)
    codes = iter(re.findall(r"POST .*?(\d+)$", trace, flags=re.MULTILINE))
    return "".join(f"{span}{f' {next(codes)}' if 'POST' in span else ''}\n" for span in spans)


def row(table: str, label: str) -> list[str]:
    """Return the cells of a row."""
    line = next(line for line in table.splitlines() if line.strip().startswith(label))
    return re.split(r"\s{2,}", line.strip())[1:]


@pytest.fixture(scope="module")
def demo() -> dict[str, str]:
    """The demo against its own server, piped."""
    done = run("demo.py")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.isascii()
    assert "\x1b" not in done.stdout
    assert all(line == line.rstrip() for line in sections(done.stdout)["Trace"].splitlines())
    return sections(done.stdout)


def test_the_trace_shows_every_kind_of_call(demo: dict[str, str]) -> None:
    """Each kind of call stands below its own span of the application, each attempt below its call."""
    assert tree(demo["Trace"]) == TREE.lstrip()


def test_the_trace_tells_what_came_of_the_calls(demo: dict[str, str]) -> None:
    """Finish reasons, tokens, the error, the retries and the stream that was left are readable."""
    trace = demo["Trace"]
    assert re.search(r"chat gpt-5 +\d+ ms +6 +8  stop, 11 chunks, first text \d+ ms\n", trace)
    assert re.search(r"chat gpt-5 +\d+ ms +left at chunk 4, first text \d+ ms\n", trace)
    assert re.search(r"chat gpt-5 +\d+ ms +6 +24  stop, 16 reasoning tokens\n", trace)
    assert re.search(r"chat llama3.2 +\d+ ms +6 +8  stop, 9 chunks, first text \d+ ms\n", trace)
    assert re.search(r"chat no-such-model +\d+ ms +openai.NotFoundError\n", trace)
    assert re.search(r"chat gpt-5 +\d+ ms +6 +8  2 retries, stop\n", trace)


def test_the_measurements_add_up(demo: dict[str, str]) -> None:
    """What was read back from the page is the sum of what the server answered."""
    table = demo["Measured"]
    assert row(table, "calls") == ["9", "1", "1", "1"]
    assert row(table, "failed") == ["0", "0", "1", "0"]
    assert row(table, "retries") == ["2", "-", "-", "-"]
    assert row(table, "tokens in") == ["48", "6", "-", "7"]
    assert row(table, "read from cache") == ["24", "-", "-", "-"]
    assert row(table, "tokens out") == ["76", "8", "-", "-"]
    assert row(table, "spent on reasoning") == ["16", "-", "-", "-"]


def test_of_the_page_the_best_lines_are_shown(demo: dict[str, str]) -> None:
    """The overview stays in sight: of the page there are few lines, and where to see all of it."""
    page = demo["Metrics page"]
    assert 'gen_ai_client_operation_duration_seconds_count{error_type="openai.NotFoundError",...} 1\n' in page
    assert not re.search("_bucket|# HELP", page)
    assert len(page.splitlines()) < 30
    assert page.endswith("\nmake demo DEMO=--page  prints all of it\n\n")


def test_where_the_page_is_comes_last(demo: dict[str, str]) -> None:
    """The run is over, so the address is told together with what it takes to have the page there."""
    said = "The page is up with --serve only: make demo DEMO=--serve\nhttp://localhost:9464/metrics\n"
    assert demo["Served"] == said


def test_the_whole_page_is_printed_on_request() -> None:
    """With --page the page is complete and as Prometheus reads it."""
    page = sections(run("demo.py", "--page").stdout)["Metrics page"]
    assert "# TYPE gen_ai_client_operation_duration_seconds histogram\n" in page
    found = {family.name for family in text_string_to_metric_families(page)}
    assert {"otel_llm_client_retries", "otel_llm_client_tokens", "http_client_request_duration_seconds"} <= found


def test_the_answers_are_shown(demo: dict[str, str]) -> None:
    """The program gets its answers and its error, with otel-llm in between."""
    calls = demo["Calls"]
    assert calls.count("The capital of France is Paris, of course.") == 6
    assert "NotFoundError: The model 'no-such-model' does not exist\n" in calls
    assert "The capital of ... and stopped reading\n" in calls


def test_narrow_output_fits() -> None:
    """With 60 columns no line of ours is longer; the page keeps its own lines."""
    done = run("demo.py", COLUMNS="60", PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    ours = done.stdout.replace(sections(done.stdout)["Metrics page"], "")
    assert [line for line in ours.splitlines() if len(line) > 60] == []


def test_other_server(server: ScriptedServer) -> None:
    """With a server given by its address the first model it lists is asked, and what it cannot do is left out."""
    server.on_model("no-such-model", error(404, code="model_not_found"))
    done = run("demo.py", "--base-url", server.base_url)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"talks to gpt-5 on the server at {server.base_url}." in done.stdout
    found = sections(done.stdout)
    assert re.search(r"retried +left out: only the scripted server fails on demand\n", found["Calls"])
    assert re.search(r"ollama's client +left out: this server is no Ollama\n", found["Calls"])
    assert "retried" not in found["Trace"]
    assert row(found["Measured"], "calls") == ["8", "1", "1"]


def test_ollama_is_found(server: ScriptedServer) -> None:
    """An Ollama is asked if it answers where OLLAMA_HOST says and has a model."""
    server.on_model("no-such-model", error(404))
    server.script(Reply(json={"models": [{"name": "tiny"}]}))
    address = f"{server.host}:{server.port}"
    done = run("demo.py", "--model", "tiny", OLLAMA_HOST=address)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"talks to tiny on the Ollama at http://{address}." in done.stdout
    server.script(Reply(json={"models": []}))
    assert "scripted server" in run("demo.py", OLLAMA_HOST=address).stdout


def test_in_a_terminal() -> None:
    """A terminal gets colours, the guide lines of a tree, and of the page what fits."""
    pty = pytest.importorskip("pty")
    outer, inner = pty.openpty()
    command = [sys.executable, str(EXAMPLES / "demo.py")]
    env = environment(TERM="xterm-256color", COLUMNS="100", LC_ALL="C.UTF-8")
    env.pop("NO_COLOR", None)
    with subprocess.Popen(command, env=env, stdout=inner, stderr=inner) as running, os.fdopen(outer, "rb") as terminal:
        os.close(inner)
        shown = b""
        with suppress(OSError):  # how the end shows on Linux
            while piece := terminal.read1():
                shown += piece
    text = shown.decode()
    assert running.returncode == 0
    assert "\x1b[31m404" in text.replace("2;31m", "31m")
    plain = re.sub("\x1b\\[[0-9;]*m", "", text).replace("\r", "")
    assert re.search("│     └─ POST +[0-9]+ ms +404 *\n", plain)
    assert "# HELP" not in plain
    assert [line for line in plain.splitlines() if len(line) > 100] == []


def test_no_server() -> None:
    """Where nobody answers the demo says so and fails."""
    done = run("demo.py", "--base-url", f"{NOWHERE}/v1")
    assert done.returncode == 1
    assert "APIConnectionError" in done.stdout
    assert done.stdout.endswith("No call was answered.\n")
    assert done.stderr == ""


def test_serve_stays_until_interrupted() -> None:
    """With --serve the page stays up until Ctrl-C, which is a good end."""
    command = [sys.executable, "-u", str(EXAMPLES / "demo.py"), "--serve"]
    env = environment(OTEL_EXPORTER_PROMETHEUS_PORT="0")
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as running:
        assert running.stdout is not None
        lines = iter(running.stdout.readline, "")
        served = next(line for line in lines if "until Ctrl-C" in line)
        running.send_signal(signal.SIGINT)
        rest = "".join(lines)
    assert re.match(r"http://localhost:\d+/metrics  until Ctrl-C\n", served)
    assert (running.returncode, rest) == (0, "")


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
def test_make_alone_lists_the_targets() -> None:
    """A bare `make` runs nothing: it tells of every target, in the order of the Makefile."""
    makefile = (EXAMPLES.parent / "Makefile").read_text("utf-8")
    targets = re.findall(r"^([a-z]+):", makefile, flags=re.MULTILINE)

    env = {name: value for name, value in environment().items() if not name.startswith("MAKE")}
    done = subprocess.run(
        ["make"], cwd=EXAMPLES.parent, env=env, capture_output=True, text=True, timeout=60, check=True
    )

    assert [line.split()[0] for line in done.stdout.splitlines()] == targets


def test_the_example_of_the_readme(server: ScriptedServer) -> None:
    """The ordinary program with one line added prints its answer and its page."""
    done = run("app.py", OPENAI_BASE_URL=server.base_url, OPENAI_API_KEY="none", OTEL_EXPORTER_PROMETHEUS_PORT="0")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("The capital of France is Paris, of course.\n")
    families = {family.name: family for family in text_string_to_metric_families(done.stdout.partition("\n")[2])}
    assert [
        (sample.labels["gen_ai_request_model"], sample.value)
        for sample in families["gen_ai_client_operation_duration_seconds"].samples
        if sample.name.endswith("_count")
    ] == [("gpt-5", 1)]
