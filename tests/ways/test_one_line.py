"""`otel_llm.instrument()`, in processes of their own: what is imported when, and what a process leaves behind."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from otel_llm.testing.server import ScriptedServer
from tests.ways.pages import CALLS, TOKENS, free_port, page_at, scrape, served, total
from tests.ways.process import APP, APP_ONE_LINE, run, running
from tests.ways.receiver import Receiver

SPANS = ["chat tiny", "chat tiny", "embeddings tiny"]
PATCHED = "print(hasattr(openai._base_client.SyncAPIClient.request, '__wrapped__'))"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """Receive OTLP."""
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def openai_at(server: ScriptedServer) -> dict[str, str]:
    """Return the variables that lead the openai client to the scripted server."""
    return {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "test"}


def test_the_one_line_is_all_that_differs() -> None:
    """Both applications are the same but for the import and the call, and ten lines without them."""
    lines, one_line = APP.read_text().splitlines(), APP_ONE_LINE.read_text().splitlines()

    added = [line for line in one_line if line not in lines]
    assert added == ["import otel_llm", "otel_llm.instrument()"]
    assert [line for line in one_line if line and line not in added] == [line for line in lines if line]
    code = [line for line in lines if line and not line.startswith(('"', "import ", "from "))]
    assert len(code) <= 10


@pytest.mark.parametrize("to", ["grpc", "http"])
def test_the_application_with_one_line(openai_at: dict[str, str], receiver: Receiver, tmp_path: Path, to: str) -> None:
    """Its page has each call and the tokens of the answers, its traces and metrics arrive, and its log is empty."""
    port = free_port()
    protocol = {"grpc": "grpc", "http": "http/protobuf"}[to]
    otlp = {"OTEL_EXPORTER_OTLP_ENDPOINT": getattr(receiver, to), "OTEL_EXPORTER_OTLP_PROTOCOL": protocol}
    with running([sys.executable, APP_ONE_LINE], tmp_path, openai_at | page_at(port) | otlp) as app:
        usages = app.usages()
        page = scrape(port)
        app.finish()

    assert total(page, CALLS) == 3
    assert total(page, TOKENS, otel_llm_token_kind="input") == sum(usage["prompt_tokens"] for usage in usages)
    assert total(page, "http_client_request_duration_seconds_count") == 3
    assert receiver.spans() == SPANS
    assert {"gen_ai.client.operation.duration", "gen_ai.client.token.usage"} <= receiver.metrics()
    assert app.log == ""


def test_without_a_collector_nothing_is_sent(openai_at: dict[str, str], tmp_path: Path) -> None:
    """The page is served, and no line in the log tells of a collector that is not there."""
    port = free_port()
    with running([sys.executable, APP_ONE_LINE], tmp_path, openai_at | page_at(port)) as app:
        app.usages()
        assert total(scrape(port), CALLS) == 3
        assert app.finish() == ""

    assert app.log == ""


def test_it_imports_no_client() -> None:
    """Neither `import otel_llm` nor `instrument()` imports openai, ollama, httpx or httpx2."""
    code = f"""if True:
        import sys
        clients = {{"openai", "ollama", "httpx", "httpx2"}}
        import otel_llm
        print(sorted(clients & sys.modules.keys()))
        otel_llm.instrument(serve="127.0.0.1:0")
        print(sorted(clients & sys.modules.keys()))
        import openai
        {PATCHED}
        print("ollama" in sys.modules)
    """
    assert run(code).stdout == "[]\n[]\nTrue\nFalse\n"


def test_a_client_imported_before_is_patched_at_once() -> None:
    """The order of the two imports does not count."""
    code = f"""if True:
        import openai
        original = openai._base_client.SyncAPIClient.request
        import otel_llm
        with otel_llm.instrument(serve=False):
            {PATCHED}
        print(openai._base_client.SyncAPIClient.request is original)
    """
    assert run(code).stdout == "True\nTrue\n"


def test_off_before_the_client_was_ever_imported() -> None:
    """Then its import finds nothing to patch; and is found again where it is on again by then."""
    code = f"""if True:
        import otel_llm
        for _ in range(3):
            otel_llm.instrument(serve=False).uninstrument()
        {{again}}
        import openai
        {PATCHED}
    """
    assert run(code.format(again="pass")).stdout == "False\n"
    assert run(code.format(again="otel_llm.instrument(serve=False)")).stdout == "True\n"


def test_telemetry_of_earlier_times_is_let_go() -> None:
    """Turned on and off a hundred times for a client that is never imported, nothing piles up."""
    code = """if True:
        import gc, otel_llm
        from otel_llm.telemetry import Telemetry
        from otel_llm.testing import capture
        for _ in range(100):
            with capture():
                pass
        gc.collect()
        print(sum(isinstance(each, Telemetry) for each in gc.get_objects()))
    """
    assert int(run(code).stdout) <= 1


def test_http_spans_of_both_libraries(server: ScriptedServer) -> None:
    """The openai client goes by httpx2, and httpx is there by itself: each request has a span, by its stable names."""
    code = f"""if True:
        import otel_llm
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        spans, provider = InMemorySpanExporter(), TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(spans))
        handle = otel_llm.instrument(tracer_provider=provider, serve=False)
        import openai, httpx
        openai.OpenAI(base_url="{server.base_url}", api_key="x").embeddings.create(model="m", input="hi")
        httpx.get("{server.base_url}/models")
        http, call, other = spans.get_finished_spans()
        print(http.parent.span_id == call.context.span_id, http.attributes["http.request.method"])
        print(other.parent, other.attributes["url.full"])
        handle.uninstrument()
        httpx.get("{server.base_url}/models")
        print(len(spans.get_finished_spans()))
    """
    assert run(code).stdout == f"True POST\nNone {server.base_url}/models\n3\n"


def test_http_instrumentation_of_the_users_own_stays(server: ScriptedServer) -> None:
    """What they switched on is not switched off with ours, and sees each request once."""
    code = f"""if True:
        import otel_llm, httpx2
        from opentelemetry.instrumentation.httpx import HTTPX2ClientInstrumentor
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import SimpleSpanProcessor
        from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
        spans, provider = InMemorySpanExporter(), TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(spans))
        HTTPX2ClientInstrumentor().instrument(tracer_provider=provider)
        with otel_llm.instrument(tracer_provider=provider, serve=False):
            httpx2.get("{server.base_url}/models")
        httpx2.get("{server.base_url}/models")
        print(len(spans.get_finished_spans()))
    """
    done = run(code)
    assert (done.stdout, done.stderr) == ("2\n", "")


def test_a_wrapper_around_contribs_is_not_taken_off() -> None:
    """Contrib takes off the outermost wrapper, whosever it is; so it is left to stand, and the log says so."""
    code = """if True:
        import otel_llm, httpx2, wrapt
        handle = otel_llm.instrument(serve=False)
        def wrapper(wrapped, instance, args, kwargs):
            return wrapped(*args, **kwargs)
        wrapt.wrap_function_wrapper("httpx2", "HTTPTransport.handle_request", wrapper)
        theirs = vars(httpx2.HTTPTransport)["handle_request"]
        handle.uninstrument()
        print(vars(httpx2.HTTPTransport)["handle_request"] is theirs)
    """
    done = run(code)
    assert done.stdout == "True\n"
    assert done.stderr == "otel_llm: httpx2 stays instrumented: it was wrapped again since\n"


def test_the_exit_sends_what_is_left(openai_at: dict[str, str], receiver: Receiver) -> None:
    """A stream dropped half-way by the last line of a program is in the traces, and so are all metrics."""
    code = """if True:
        import otel_llm; otel_llm.instrument(serve=False)
        import openai
        stream = openai.OpenAI().chat.completions.create(model="tiny", messages=[], stream=True)
        next(stream)
        del stream
    """
    run(code, **openai_at, OTEL_EXPORTER_OTLP_ENDPOINT=receiver.grpc)

    assert receiver.spans() == ["chat tiny"]
    assert "gen_ai.client.operation.duration" in receiver.metrics()


def test_flush_sends_at_once(openai_at: dict[str, str], receiver: Receiver, tmp_path: Path) -> None:
    """`handle.flush()` does not wait for the exit or the interval."""
    code = """if True:
        import otel_llm; handle = otel_llm.instrument(serve=False)
        import openai
        openai.OpenAI().embeddings.create(model="tiny", input="hi")
        handle.flush()
        print("flushed", flush=True)
        input()
    """
    endpoint = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.grpc}
    with running([sys.executable, "-c", code], tmp_path, openai_at | endpoint) as app:
        app.line()
        assert receiver.spans() == ["embeddings tiny"]
        assert "gen_ai.client.token.usage" in receiver.metrics()


def test_a_forked_child_can_go_on(openai_at: dict[str, str]) -> None:
    """The page is the parent's, also when it goes and comes back; calls, `flush()` and a page of its own work."""
    if not hasattr(sys.modules["os"], "fork"):
        pytest.skip("no fork here")
    port, other = free_port(), free_port()
    code = f"""if True:
        import os, otel_llm, openai
        from urllib.request import urlopen
        client = openai.OpenAI(max_retries=0)
        handle = otel_llm.instrument(serve="127.0.0.1:{port}")
        client.embeddings.create(model="tiny", input="hi")
        child = os.fork()
        if not child:
            assert handle.url is None, handle.url
            openai.OpenAI().embeddings.create(model="tiny", input="hi")
            handle.flush()
            handle.uninstrument()
            mine = otel_llm.instrument(serve="127.0.0.1:{other}")
            assert urlopen(mine.url).status == 200
            os._exit(7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert urlopen(handle.url).status == 200
        handle.uninstrument()
        otel_llm.instrument(serve="127.0.0.1:{port}")
        print(otel_llm.generate_latest().decode())
    """
    page = run(code, **openai_at).stdout

    assert total(page, CALLS) == 1
    assert not served(port)


@pytest.mark.parametrize("fails", [False, True])
def test_the_environment_is_as_it_was(fails: bool) -> None:
    """Nothing is left in `os.environ`, whether it worked or not."""
    code = """if True:
        import os; before = dict(os.environ)
        import otel_llm
        try:
            otel_llm.instrument(serve=False)
        except ValueError as error:
            print(error)
        print(dict(os.environ) == before)
    """
    variables = {"OTEL_METRICS_EXPORTER": "nonsense"} if fails else {}
    *error, same = run(code, **variables).stdout.splitlines()

    assert same == "True"
    assert len(error) == fails


def test_a_configuration_file_goes_before_all_variables(tmp_path: Path) -> None:
    """Without the package that reads it there is one clear error, as `opentelemetry-instrument` has it."""
    code = """if True:
        import otel_llm
        try:
            otel_llm.instrument()
        except RuntimeError as error:
            print(error)
    """
    pytest.importorskip("opentelemetry.sdk._configuration")
    printed = run(code, OTEL_CONFIG_FILE=str(tmp_path / "none.yaml")).stdout
    assert "pip install opentelemetry-configuration" in printed


def test_importing_is_cheap() -> None:
    """`import otel_llm` pulls in neither the SDK nor prometheus_client nor a client."""
    code = """if True:
        import sys, otel_llm
        dear = ("opentelemetry.sdk", "prometheus_client", "wrapt", "openai", "httpx", "grpc", "requests", "asyncio")
        print([name for name in dear if name in sys.modules])
    """
    assert run(code).stdout == "[]\n"
