"""`opentelemetry-instrument python app.py`, of an application that does not know of us."""

from __future__ import annotations

import socket
from collections.abc import Generator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

import pytest

from otel_llm.testing.server import ScriptedServer
from tests.backends.servers import wait_until
from tests.ways.pages import CALLS, TOKENS, free_port, names, page_at, scrape, served, total
from tests.ways.process import APP, APP_ONE_LINE, ZERO_CODE, Process, run, running
from tests.ways.receiver import Receiver

SPANS = ["chat tiny", "chat tiny", "embeddings tiny"]
OURS = {"OTEL_PYTHON_DISTRO": "otel_llm", "OTEL_PYTHON_CONFIGURATOR": "otel_llm"}
UPSTREAM = {"OTEL_PYTHON_DISTRO": "distro", "OTEL_PYTHON_CONFIGURATOR": "configurator"}
WHICHEVER: dict[str, str] = {}
"""The one of both distros that comes first in the listing of the folder."""
TO_THE_PAGE = {"OTEL_METRICS_EXPORTER": "prometheus", "OTEL_TRACES_EXPORTER": "none", "OTEL_LOGS_EXPORTER": "none"}


class ZeroCode(Protocol):
    """Run the application with no change to its code."""

    def __call__(self, *distros: dict[str, str], **variables: str) -> AbstractContextManager[Process]: ...


@pytest.fixture
def zero_code(server: ScriptedServer, tmp_path: Path) -> ZeroCode:
    """Run the application with no change to its code, against the scripted server."""

    def start(*distros: dict[str, str], **variables: str) -> AbstractContextManager[Process]:
        fixed = {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "test"}
        for distro in distros:
            fixed |= distro
        return running([*ZERO_CODE, APP], tmp_path, fixed | variables)

    return start


@pytest.fixture
def receiver() -> Generator[Receiver]:
    """Receive OTLP."""
    with Receiver() as receiver:
        yield receiver


@pytest.fixture
def port() -> str:
    """Return a free port."""
    return free_port()


def grpc_to(receiver: Receiver) -> dict[str, str]:
    """Return the variables that send everything to the receiver."""
    return {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.grpc, "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}


def test_with_nothing_set_it_serves_the_page_and_sends_nothing(zero_code: ZeroCode, port: str) -> None:
    """The page has each call and the tokens that the answers tell; the log has not one line."""
    with zero_code(OURS, page_at(port)) as app:
        usages = app.usages()
        page = scrape(port)
        rest = app.finish()

    assert total(page, CALLS, gen_ai_operation_name="chat") == 2
    assert total(page, CALLS, gen_ai_operation_name="embeddings") == 1
    assert total(page, TOKENS, otel_llm_token_kind="input") == sum(usage["prompt_tokens"] for usage in usages)
    assert total(page, "http_client_request_duration_seconds_count") == 3
    assert (app.log, rest) == ("", "")


@pytest.mark.parametrize(
    ("distro", "exporter", "page", "sent"),
    [
        pytest.param(OURS, None, True, True, id="ours"),
        pytest.param(OURS, "none", False, False, id="ours-none"),
        pytest.param(OURS, "otlp", False, True, id="ours-otlp"),
        pytest.param(OURS, "prometheus", True, False, id="ours-prometheus"),
        pytest.param(OURS, "prometheus,otlp", True, True, id="ours-both"),
        pytest.param(OURS, "otel_llm", True, False, id="ours-otel_llm"),
        pytest.param(UPSTREAM, None, True, True, id="upstream"),
        pytest.param(UPSTREAM, "otlp", False, True, id="upstream-otlp"),
        pytest.param(UPSTREAM, "prometheus,otlp", True, True, id="upstream-both"),
        pytest.param(UPSTREAM, "otel_llm", True, False, id="upstream-otel_llm"),
        pytest.param(WHICHEVER, None, True, True, id="whichever"),
    ],
)
def test_metrics_go_where_the_environment_says(
    zero_code: ZeroCode,
    port: str,
    receiver: Receiver,
    distro: dict[str, str],
    exporter: str | None,
    page: bool,
    sent: bool,
) -> None:
    """With an endpoint, naming no exporter is the page and OTLP, naming some is exactly those; whichever distro ran."""
    chosen = {} if exporter is None else {"OTEL_METRICS_EXPORTER": exporter}
    with zero_code(distro, grpc_to(receiver), page_at(port), chosen, OTEL_LOGS_EXPORTER="none") as app:
        app.usages()
        assert served(port) is page
        assert not page or total(scrape(port), CALLS) == 3
        app.finish()

    assert receiver.spans() == SPANS
    assert ("gen_ai.client.operation.duration" in receiver.metrics()) is sent
    assert app.log == ""


def test_upstreams_reader_gets_our_collector(port: str) -> None:
    """Where upstream's reader won the name, two scopes that share a metric keep their labels on its page."""
    code = f"""if True:
        from urllib.request import urlopen
        from opentelemetry.metrics import get_meter
        get_meter("one").create_counter("shared").add(1, {{"alpha": "a"}})
        get_meter("two").create_counter("shared").add(1, {{"beta": "b"}})
        print(urlopen("http://127.0.0.1:{port}/metrics").read().decode())
    """
    page = run(code, *ZERO_CODE, **UPSTREAM, **page_at(port), **TO_THE_PAGE).stdout

    assert total(page, "shared_total", otel_scope_name="one", alpha="a") == 1
    assert total(page, "shared_total", otel_scope_name="two", beta="b") == 1


@pytest.mark.parametrize("distro", [OURS, UPSTREAM], ids=["ours", "upstream"])
@pytest.mark.parametrize(
    ("exporter", "sent"), [(None, True), ("none", False), ("otlp", True), ("otlp_proto_grpc", True)]
)
def test_traces_go_where_the_environment_says(
    zero_code: ZeroCode, port: str, receiver: Receiver, distro: dict[str, str], exporter: str | None, sent: bool
) -> None:
    """Spans are sent to the endpoint, unless the environment says otherwise."""
    chosen = {} if exporter is None else {"OTEL_TRACES_EXPORTER": exporter}
    with zero_code(distro, grpc_to(receiver), page_at(port), chosen, OTEL_METRICS_EXPORTER="none") as app:
        app.usages()
        app.finish()

    assert receiver.spans() == (SPANS if sent else [])


def test_http_protobuf(zero_code: ZeroCode, port: str, receiver: Receiver) -> None:
    """Traces and metrics go by HTTP where the protocol says so."""
    to = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.http, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
    with zero_code(OURS, page_at(port), to) as app:
        app.usages()
        app.finish()

    assert receiver.spans() == SPANS
    assert "gen_ai.client.token.usage" in receiver.metrics()
    assert app.log == ""


def test_an_endpoint_for_one_signal_sends_that_signal(zero_code: ZeroCode, port: str, receiver: Receiver) -> None:
    """An endpoint for traces alone sends spans there, by HTTP since it has a path, and metrics stay on the page."""
    with zero_code(OURS, page_at(port), OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=f"{receiver.http}/v1/traces") as app:
        app.usages()
        assert total(scrape(port), CALLS) == 3
        app.finish()

    assert receiver.spans() == SPANS
    assert receiver.metrics() == set()
    assert app.log == ""


def test_console(zero_code: ZeroCode, port: str) -> None:
    """The console exporters print, and the page, which they are not, is not served."""
    with zero_code(OURS, page_at(port), OTEL_METRICS_EXPORTER="console", OTEL_TRACES_EXPORTER="console") as app:
        printed = "".join(app.line() for _ in range(3))
        assert not served(port)
        printed += app.finish()

    assert '"name": "embeddings tiny"' in printed
    assert '"name": "gen_ai.client.operation.duration"' in printed


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("OTEL_METRICS_EXPORTER", "nonsense", "otel_llm"),
        ("OTEL_TRACES_EXPORTER", "nonsense", "console"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "carrier-pigeon", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "http/json", "grpc"),
        ("OTEL_LLM_SEMCONV", "newest", "released, latest, both"),
        ("OTEL_LLM_MAX_SERIES", "many", "a whole number"),
        ("OTEL_LLM_LABELS", "team", "key=value,key=value"),
        ("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "yes", "SPAN_ONLY"),
    ],
)
def test_a_wrong_variable_is_one_line_and_its_default(
    zero_code: ZeroCode, port: str, receiver: Receiver, variable: str, value: str, expected: str
) -> None:
    """The line names the variable and the accepted values; the page, the spans and the metrics are all there."""
    to = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.grpc}
    with zero_code(OURS, page_at(port), to, {variable: value}) as app:
        app.usages()
        assert total(scrape(port), CALLS) == 3
        app.finish()

    [line] = app.log.splitlines()
    assert f"{variable}={value!r}" in line
    assert expected in line
    assert receiver.spans() == SPANS
    assert "gen_ai.client.operation.duration" in receiver.metrics()


def test_a_wrong_port_is_one_line(zero_code: ZeroCode, receiver: Receiver) -> None:
    """A port that is none costs the page and nothing else."""
    with zero_code(OURS, grpc_to(receiver), OTEL_EXPORTER_PROMETHEUS_PORT="http") as app:
        app.usages()
        app.finish()

    [line] = app.log.splitlines()
    assert "OTEL_EXPORTER_PROMETHEUS_PORT='http'" in line
    assert receiver.spans() == SPANS


@pytest.mark.parametrize("distro", [OURS, UPSTREAM], ids=["ours", "upstream"])
def test_a_busy_port_is_one_line(zero_code: ZeroCode, port: str, receiver: Receiver, distro: dict[str, str]) -> None:
    """A port that is taken costs the page and nothing else: the application lives, and its spans arrive."""
    asked = {"OTEL_METRICS_EXPORTER": "otel_llm,otlp"}
    with (
        socket.create_server(("127.0.0.1", int(port))),
        zero_code(distro, page_at(port), grpc_to(receiver), asked) as app,
    ):
        app.usages()
        assert app.alive
        app.finish()

    [line] = app.log.splitlines()
    assert f"no Prometheus page on 127.0.0.1:{port}" in line
    assert receiver.spans() == SPANS
    assert "gen_ai.client.operation.duration" in receiver.metrics()


@pytest.mark.parametrize("distro", [OURS, UPSTREAM], ids=["ours", "upstream"])
def test_disabled(zero_code: ZeroCode, port: str, receiver: Receiver, distro: dict[str, str]) -> None:
    """With OTEL_SDK_DISABLED nothing is patched, nothing served and nothing sent."""
    with zero_code(distro, page_at(port), grpc_to(receiver), OTEL_SDK_DISABLED="True") as app:
        app.usages()
        assert not served(port)
        app.finish()

    assert (receiver.spans(), receiver.metrics()) == ([], set())


@pytest.mark.parametrize(
    ("disabled", "calls", "requests"),
    [
        ("otel_llm_openai", 3, 3),  # then they are calls over plain HTTP
        ("otel_llm_openai,otel_llm_httpx", 0, 3),
        ("otel_llm_httpx,httpx2", 3, 0),
        ("httpx2", 3, 0),
        ("openai", 3, 3),
        ("*", 0, 0),
    ],
)
def test_instrumentations_can_be_disabled(
    zero_code: ZeroCode, port: str, disabled: str, calls: int, requests: int
) -> None:
    """OTEL_PYTHON_DISABLED_INSTRUMENTATIONS takes out what it names, and the page is served all the same."""
    with zero_code(OURS, page_at(port), OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=disabled) as app:
        app.usages()
        page = scrape(port)
        app.finish()

    assert total(page, CALLS) == calls
    assert total(page, "http_client_request_duration_seconds_count") == requests


def test_settings_come_from_the_environment(zero_code: ZeroCode, port: str) -> None:
    """OTEL_LLM_SEMCONV chooses the vocabulary."""
    with zero_code(OURS, page_at(port), OTEL_LLM_SEMCONV="latest") as app:
        app.usages()
        page = scrape(port)
        app.finish()

    assert "gen_ai_client_inference_duration_seconds" in names(page)


def test_the_one_line_on_top_changes_nothing(server: ScriptedServer, port: str, tmp_path: Path) -> None:
    """An application with the one line, run with zero code too, counts each call once and warns of nothing."""
    variables = {"OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "test", **OURS, **page_at(port)}
    with running([*ZERO_CODE, APP_ONE_LINE], tmp_path, variables) as app:
        app.usages()
        assert total(scrape(port), CALLS) == 3
        app.finish()

    assert app.log == ""


def test_starting_imports_no_client(port: str) -> None:
    """The application's first line finds neither openai nor ollama imported."""
    code = "import sys; print(sorted({'openai', 'ollama'} & sys.modules.keys()), 'otel_llm' in sys.modules)"
    assert run(code, *ZERO_CODE, **OURS, **page_at(port)).stdout == "[] True\n"


def test_uninstrument_leaves_the_page_of_the_environment(port: str) -> None:
    """What OTEL_METRICS_EXPORTER asked for is not ours to stop: it has the metrics of the whole application."""
    code = f"""if True:
        import otel_llm, urllib.request
        handle = otel_llm.instrument()
        assert handle.url == "http://127.0.0.1:{port}/metrics", handle.url
        handle.uninstrument()
        assert urllib.request.urlopen("http://127.0.0.1:{port}/metrics").status == 200
        assert otel_llm.instrument(serve=True).url == "http://127.0.0.1:{port}/metrics"
    """
    assert run(code, *ZERO_CODE, **OURS, **page_at(port)).stderr.count("otel_llm:") == 0


def test_the_handle_knows_the_page_of_upstreams_reader(port: str) -> None:
    """It is where the variables say, and is not served a second time."""
    code = f"""if True:
        import otel_llm
        assert otel_llm.instrument(serve=True).url == "http://127.0.0.1:{port}/metrics"
        otel_llm.uninstrument()
        assert otel_llm.instrument(serve=True).url == "http://127.0.0.1:{port}/metrics"
    """
    assert "otel_llm:" not in run(code, *ZERO_CODE, **UPSTREAM, **page_at(port), **TO_THE_PAGE).stderr


def test_a_child_process_lives(port: str) -> None:
    """A process that the application starts is instrumented too, and leaves the port to its parent without a word."""
    code = """if True:
        import subprocess, sys
        child = subprocess.run([sys.executable, "-c", "import otel_llm; print(otel_llm.instrument().url)"],
                               capture_output=True, text=True, timeout=50)
        print(child.stdout.strip(), child.stderr.count("otel_llm:"))
    """
    assert run(code, *ZERO_CODE, **OURS, **page_at(port)).stdout == "None 0\n"


def test_the_receiver_is_not_needed(zero_code: ZeroCode, port: str) -> None:
    """Upstream's distro sends to a collector that may not be there; the page is there by its side."""
    with zero_code(UPSTREAM, page_at(port), OTEL_EXPORTER_OTLP_TIMEOUT="1") as app:
        app.usages()
        wait_until(lambda: served(port), what="the page")
        assert total(scrape(port), CALLS) == 3
