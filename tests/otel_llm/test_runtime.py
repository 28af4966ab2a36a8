"""`instrument()` and what it returns, within one process."""

from __future__ import annotations

import logging
import os
import socket
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib.metadata import EntryPoint, entry_points
from types import ModuleType
from typing import Any

import httpx
import httpx2
import ollama
import openai
import prometheus_client
import pytest
from opentelemetry import metrics, trace
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import otel_llm
from otel_llm import exporters, runtime, sdk
from otel_llm.testing import capture
from otel_llm.testing.server import ScriptedServer
from otel_llm_openai import OpenAIInstrumentor
from tests.backends.servers import address, answers, fetch

CALLS = "gen_ai_client_operation_duration_seconds_count"
DISABLED = "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"


def ask(server: ScriptedServer) -> None:
    """Make one call."""
    with openai.OpenAI(base_url=server.base_url, api_key="test") as client:
        client.embeddings.create(model="small", input="hello")


Attributes = dict[type, dict[str, object]]


def patchable() -> Attributes:
    """Return the attributes of every class of the clients, as they are now."""
    modules: list[ModuleType] = [
        *(module for name, module in sys.modules.items() if name.startswith(("openai._", "ollama._"))),
        httpx,
        httpx2,
    ]
    classes = {cls for module in modules for cls in vars(module).values() if isinstance(cls, type)}
    return {cls: dict(vars(cls)) for cls in classes}


def changed(before: Attributes) -> set[str]:
    """Return the attributes that are other objects than before."""
    return {
        f"{cls.__module__}.{cls.__qualname__}.{name}"
        for cls, attributes in before.items()
        for name in attributes.keys() | vars(cls).keys()
        if attributes.get(name) is not vars(cls).get(name) and not name.startswith("_abc")
    }


@pytest.fixture
def port(monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a free port of the loopback, on which the page is served by default."""
    host, _, port = address().rpartition(":")
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_HOST", host)
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", port)
    return port


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged as a warning or worse, by anybody."""
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_every_original_comes_back() -> None:
    """`uninstrument()` restores all that was patched, by identity."""
    before = patchable()
    with capture():
        patched = changed(before)

    assert {"openai._base_client.SyncAPIClient.request", "openai._base_client.AsyncAPIClient.request"} <= patched
    assert {"ollama._client.Client._request", "ollama._client.AsyncClient._request"} <= patched
    assert any(name.startswith("httpx2.") for name in patched)
    assert changed(before) == set()


def test_a_wrapper_that_came_later_keeps_working(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """What somebody wrapped after us stays as it is, and our part beneath it passes calls through."""
    seen: list[str] = []
    base: Any = openai._base_client.SyncAPIClient
    original = base.request
    with capture() as inside:
        ours = base.request

        def theirs(self: Any, *args: Any, **kwargs: Any) -> Any:
            seen.append("theirs")
            return ours(self, *args, **kwargs)

        base.request = theirs
        ask(server)
    try:
        assert base.request is theirs
        ask(server)
        with capture() as again:
            ask(server)
    finally:
        base.request = original

    assert seen == ["theirs"] * 3
    assert (len(inside.spans), len(again.spans)) == (1, 1)


def test_a_second_call_returns_the_first_handle(caplog: pytest.LogCaptureFixture) -> None:
    """The same again, or nothing, is no reason to warn; something else is, and it is named."""
    provider = MeterProvider()

    def hook(call: otel_llm.Call) -> None:
        pass

    asked: Any = {"meter_provider": provider, "labels": {"team": "a"}, "call_hook": hook, "serve": False}
    handle = otel_llm.instrument(tracer_provider=TracerProvider(), max_series=5, **asked)

    assert otel_llm.instrument() is handle
    assert otel_llm.instrument(max_series=5, semconv="released", **asked) is handle
    assert warnings_of(caplog) == []
    assert otel_llm.instrument(max_series=6, meter_provider=MeterProvider(), serve=True, labels={"team": "a"}) is handle
    [warning] = warnings_of(caplog)
    assert warning == "otel_llm: already instrumented; ignored: meter_provider, serve, max_series"


def test_it_is_a_context_manager() -> None:
    """The end of the block turns everything off, also where it ends by an exception."""
    before = patchable()
    with (
        suppress(LookupError),
        otel_llm.instrument(tracer_provider=TracerProvider(), meter_provider=MeterProvider()) as handle,
    ):
        assert handle is otel_llm.instrument()
        raise LookupError

    assert not runtime.instrumented()
    assert changed(before) == set()


def test_arguments_are_keywords() -> None:
    """Nothing can be passed by position."""
    anything: Any = otel_llm.instrument
    with pytest.raises(TypeError, match="positional"):
        anything(TracerProvider())


@pytest.mark.parametrize(
    ("wrong", "error", "expected"),
    [
        ({"semconv": "newest"}, ValueError, "semconv='newest': expected one of released, latest, both"),
        ({"semconv": 1}, ValueError, "semconv=1: expected one of released, latest, both"),
        ({"max_series": 0}, ValueError, "max_series=0: expected a whole number from 1"),
        ({"max_series": "many"}, TypeError, "max_series must be a whole number, not str"),
        ({"labels": "a=b"}, TypeError, "labels must be a mapping of strings to strings, not str"),
        ({"labels": {"a": 1}}, TypeError, "labels: a must be a string, not int"),
        ({"labels": {1: "a"}}, TypeError, "labels: the key 1 must be a string, not int"),
        ({"tracer_provider": 3}, TypeError, "tracer_provider must be a TracerProvider, not int"),
        ({"tracer_provider": TracerProvider}, TypeError, "tracer_provider must be a TracerProvider, not the class Tra"),
        ({"meter_provider": TracerProvider()}, TypeError, "meter_provider must be a MeterProvider, not TracerProvider"),
        ({"logger_provider": 1}, TypeError, "logger_provider must be a LoggerProvider, not int"),
        ({"content_hook": "print"}, TypeError, "content_hook must be callable, not str"),
        ({"call_hook": 1}, TypeError, "call_hook must be callable, not int"),
        ({"serve": "localhost"}, ValueError, "serve='localhost': expected \"host:port\""),
        ({"serve": 9464}, TypeError, 'serve must be True, False, None or "host:port", not int'),
    ],
    ids=str,
)
@pytest.mark.usefixtures("unset")
def test_a_wrong_setting_raises_and_leaves_nothing_behind(
    wrong: dict[str, Any], error: type[Exception], expected: str
) -> None:
    """One error names the setting and the accepted values; nothing is patched, nothing is global."""
    before = patchable()
    with pytest.raises(error, match=r"^" + expected.replace("(", r"\(")):
        otel_llm.instrument(**wrong)

    assert changed(before) == set()
    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    with capture(), pytest.raises(error):
        otel_llm.instrument(**wrong)


@pytest.mark.usefixtures("unset")
def test_a_wrong_port_in_the_environment_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that is none is found before anything is built."""
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", "http")
    before = patchable()
    with pytest.raises(ValueError, match="OTEL_EXPORTER_PROMETHEUS_PORT='http': expected"):
        otel_llm.instrument()

    assert changed(before) == set()
    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)


@pytest.mark.usefixtures("unset")
def test_an_exporter_that_fails_leaves_nothing_global(monkeypatch: pytest.MonkeyPatch, port: str) -> None:
    """What one signal cannot have keeps the others from becoming global, and a mended call works."""
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "nonsense")
    with pytest.raises(ValueError, match="OTEL_TRACES_EXPORTER='nonsense': expected one of console, none, otlp"):
        otel_llm.instrument()

    assert sdk.global_meter_provider() is None
    assert b"python_info" in prometheus_client.generate_latest()
    monkeypatch.delenv("OTEL_TRACES_EXPORTER")
    assert otel_llm.instrument().url == f"http://127.0.0.1:{port}/metrics"


@pytest.mark.usefixtures("unset")
def test_with_the_users_providers_nothing_global_is_added(server: ScriptedServer) -> None:
    """Providers that are given are used; the globals, the registry, threads and the environment stay as they are."""

    def surroundings() -> object:
        collectors = set(prometheus_client.REGISTRY._collector_to_names)
        return set(threading.enumerate()), collectors, dict(os.environ), logging.getLogger().handlers[:]

    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracer_provider, meter_provider = TracerProvider(), MeterProvider([reader])
    tracer_provider.add_span_processor(SimpleSpanProcessor(spans))
    before = surroundings()
    with otel_llm.instrument(tracer_provider=tracer_provider, meter_provider=meter_provider) as handle:
        assert surroundings() == before
        assert handle.url is None
        ask(server)

    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    assert sdk.global_meter_provider() is None
    assert [span.name for span in spans.get_finished_spans() if span.name.startswith("embeddings")]
    assert reader.get_metrics_data() is not None


@pytest.mark.usefixtures("unset")
def test_global_providers_are_used_and_never_replaced(server: ScriptedServer, port: str) -> None:
    """Providers that the application made global get everything, and there is no page."""
    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracer_provider, meter_provider = TracerProvider(), MeterProvider([reader])
    tracer_provider.add_span_processor(SimpleSpanProcessor(spans))
    trace.set_tracer_provider(tracer_provider)
    metrics.set_meter_provider(meter_provider)
    with otel_llm.instrument() as handle:
        assert handle.url is None
        ask(server)

    assert (trace.get_tracer_provider(), metrics.get_meter_provider()) == (tracer_provider, meter_provider)
    assert "embeddings small" in [span.name for span in spans.get_finished_spans()]


@pytest.mark.usefixtures("unset")
def test_providers_are_built_where_there_are_none(server: ScriptedServer, port: str) -> None:
    """They become global, the page is served, and it is the same as `generate_latest()`."""
    with otel_llm.instrument() as handle:
        ask(server)
        assert handle.url == f"http://127.0.0.1:{port}/metrics"
        page = fetch(str(handle.url))
        same = otel_llm.generate_latest().decode()

    assert isinstance(trace.get_tracer_provider(), TracerProvider)
    assert isinstance(metrics.get_meter_provider(), MeterProvider)
    [line] = [line for line in page.splitlines() if line.startswith(CALLS)]
    assert line in same
    assert line.endswith(" 1.0")
    assert "OTEL_SEMCONV_STABILITY_OPT_IN" not in os.environ


@pytest.mark.parametrize(
    ("exporter", "page"),
    [("none", False), ("console", False), ("prometheus", True), ("otel_llm", True), ("prometheus,console", True)],
)
@pytest.mark.usefixtures("unset")
def test_the_environment_chooses_the_page(
    monkeypatch: pytest.MonkeyPatch, port: str, exporter: str, page: bool
) -> None:
    """Exporters named without a Prometheus reader mean no page, unless the caller wants one."""
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", exporter)
    with otel_llm.instrument() as handle:
        assert (handle.url is not None) is page
    with otel_llm.instrument(serve=True) as handle:
        assert handle.url == f"http://127.0.0.1:{port}/metrics"


@pytest.mark.usefixtures("unset")
def test_serve_says_where(port: str) -> None:
    """`True` is the address of the environment, `False` nowhere, and "host:port" that very place."""
    elsewhere = address()
    with otel_llm.instrument(serve=False) as handle:
        assert handle.url is None
        assert not answers(f"http://127.0.0.1:{port}/metrics")
        assert b"python_info" in otel_llm.generate_latest()
    with otel_llm.instrument(serve=elsewhere) as handle:
        assert handle.url == f"http://{elsewhere}/metrics"
        assert answers(str(handle.url))
    assert not answers(f"http://{elsewhere}/metrics")
    with otel_llm.instrument(serve="127.0.0.1:0") as handle:
        assert handle.url is not None
        assert answers(handle.url)


@pytest.mark.usefixtures("unset")
def test_a_busy_port_raises_where_the_caller_named_it(port: str, caplog: pytest.LogCaptureFixture) -> None:
    """Else it is one line in the log, and everything but the page."""
    before = patchable()
    with socket.create_server(("127.0.0.1", int(port))):
        for serve in (True, f"127.0.0.1:{port}"):
            with pytest.raises(OSError, match="in use"):
                otel_llm.instrument(serve=serve)
        assert changed(before) == set()
        assert warnings_of(caplog) == []
        with otel_llm.instrument() as handle:
            assert handle.url is None
            assert changed(before)
    [line] = warnings_of(caplog)
    assert f"no Prometheus page on 127.0.0.1:{port}" in line


def test_serve_with_the_users_provider(server: ScriptedServer, port: str, caplog: pytest.LogCaptureFixture) -> None:
    """Their provider gets a reader, once however often; the page goes on counting where it was."""
    providers: Any = {"tracer_provider": TracerProvider(), "meter_provider": MeterProvider()}
    with socket.create_server(("127.0.0.1", int(port))), pytest.raises(OSError, match="in use"):
        otel_llm.instrument(serve=True, **providers)
    for calls in (1, 2):
        with otel_llm.instrument(serve=True, **providers) as handle:
            ask(server)
            page = fetch(str(handle.url))
            [line] = [line for line in page.splitlines() if line.startswith(CALLS)]
            assert float(line.rpartition(" ")[2]) == calls

    assert warnings_of(caplog) == []
    sdk.prometheus_readers(providers["meter_provider"])[0].shutdown()


def test_a_provider_that_takes_no_reader_is_served(port: str) -> None:
    """The page of a provider that takes no reader shows what the ledger knows."""
    providers: dict[str, Any] = {"tracer_provider": TracerProvider(), "meter_provider": NoOpMeterProvider()}
    with otel_llm.instrument(serve=True, **providers) as handle:
        assert handle.url is not None
        assert "# TYPE gen_ai_client_operation_duration_seconds histogram" in httpx.get(handle.url).text


@pytest.mark.usefixtures("unset")
def test_the_built_providers_are_used_again(
    server: ScriptedServer, port: str, caplog: pytest.LogCaptureFixture
) -> None:
    """After `uninstrument()` the next `instrument()` serves again, and all counters go on where they were."""
    counts: list[tuple[str, ...]] = []
    for _ in range(2):
        with otel_llm.instrument() as handle:
            ask(server)
            page = fetch(str(handle.url))
        samples = [line for line in page.splitlines() if line.startswith((CALLS, "otel_llm_client_tokens_total{"))]
        counts.append(tuple(line.rpartition(" ")[2] for line in samples))
        assert not answers(f"http://127.0.0.1:{port}/metrics")
        ask(server)  # seen by nobody

    assert counts == [("1.0", "1.0"), ("2.0", "2.0")]
    assert warnings_of(caplog) == []


def test_counters_go_on_with_the_users_providers(server: ScriptedServer, caplog: pytest.LogCaptureFixture) -> None:
    """The same providers, three times over: one count, and no word of duplicate instruments from the SDK."""
    reader = InMemoryMetricReader()
    providers: Any = {"tracer_provider": TracerProvider(), "meter_provider": MeterProvider([reader])}
    for _ in range(3):
        with otel_llm.instrument(**providers):
            ask(server)
    data: Any = reader.get_metrics_data()
    points = {
        metric.name: metric.data.data_points
        for scope in data.resource_metrics[0].scope_metrics
        if scope.scope.name == "otel_llm"
        for metric in scope.metrics
    }

    assert [point.count for point in points["gen_ai.client.operation.duration"]] == [3]
    assert [point.value for point in points["otel_llm.client.tokens"]] == [3]
    assert warnings_of(caplog) == []


@pytest.mark.usefixtures("unset")
def test_counters_go_on_behind_the_proxy(server: ScriptedServer) -> None:
    """An instrumentor switched on before the provider is set, and `instrument()` after it, share their counters."""
    OpenAIInstrumentor().instrument()
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader]))
    trace.set_tracer_provider(TracerProvider())
    ask(server)
    otel_llm.uninstrument()
    with otel_llm.instrument():
        ask(server)
        data: Any = reader.get_metrics_data()
    values = [
        point.value
        for scope in data.resource_metrics[0].scope_metrics
        for metric in scope.metrics
        if metric.name == "otel_llm.client.tokens"
        for point in metric.data.data_points
    ]

    assert values == [2]


def test_one_instrumentor_by_hand_and_then_all() -> None:
    """`instrument()` after an instrumentor that was switched on by itself switches on the rest."""
    before = patchable()
    OpenAIInstrumentor().instrument(tracer_provider=TracerProvider(), meter_provider=MeterProvider())
    assert not any(name.startswith("ollama") for name in changed(before))
    handle = otel_llm.instrument()
    assert any(name.startswith("ollama") for name in changed(before))
    assert handle is otel_llm.instrument()
    handle.uninstrument()

    assert changed(before) == set()


@pytest.mark.usefixtures("unset")
def test_an_instrumentor_by_hand_builds_nothing() -> None:
    """Whoever drives an instrumentor by hand sets up the SDK too, before or after."""
    OpenAIInstrumentor().instrument()

    assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
    assert sdk.global_meter_provider() is None


def test_generate_latest_without_a_reader(server: ScriptedServer) -> None:
    """With a meter provider that has no Prometheus reader the page tells of calls what the ledger knows."""
    with capture():
        before = otel_llm.generate_latest()
        ask(server)
        after = otel_llm.generate_latest()

    declared = b"# TYPE gen_ai_client_operation_duration_seconds histogram"
    assert declared in before
    assert b"_count{" not in before
    assert declared in after
    assert b"gen_ai_client_operation_duration_seconds_count{" in after


@pytest.mark.parametrize(("variable", "value"), [("OTEL_SDK_DISABLED", "true"), ("OTEL_METRICS_EXPORTER", "none")])
def test_generate_latest_where_the_environment_wants_no_page(
    monkeypatch: pytest.MonkeyPatch, unset: None, variable: str, value: str
) -> None:
    """The page is empty; an application that writes it out goes on."""
    monkeypatch.setenv(variable, value)
    otel_llm.instrument()

    assert otel_llm.generate_latest() == b""


def test_generate_latest_of_an_unknown_dialect() -> None:
    """That is one clear error too."""
    with pytest.raises(ValueError, match="dialect='klingon'"):
        otel_llm.generate_latest("klingon")


@pytest.mark.usefixtures("unset")
def test_disabled(monkeypatch: pytest.MonkeyPatch, port: str) -> None:
    """With OTEL_SDK_DISABLED nothing is patched, built or served, and the handle says so."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "TRUE")
    before = patchable()
    with otel_llm.instrument(serve=True) as handle:
        assert handle.url is None
        assert handle is otel_llm.instrument()
        handle.flush()
        assert changed(before) == set()
        assert isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider)
        OpenAIInstrumentor().instrument()
        assert changed(before) == set()
    assert not answers(f"http://127.0.0.1:{port}/metrics")


@pytest.mark.parametrize(
    ("off", "patched"),
    [
        ("otel_llm_openai", {"ollama"}),
        ("otel_llm_ollama , otel_llm_httpx", {"openai"}),
        ("*", set[str]()),
        ("openai", None),
    ],
)
def test_instrumentations_can_be_disabled(monkeypatch: pytest.MonkeyPatch, off: str, patched: set[str] | None) -> None:
    """OTEL_PYTHON_DISABLED_INSTRUMENTATIONS takes out what it names by our names, and leaves the rest."""
    monkeypatch.setenv(DISABLED, off)
    before = patchable()
    with capture():
        libraries = {name.partition(".")[0] for name in changed(before)} & {"openai", "ollama"}

    assert libraries == ({"openai", "ollama"} if patched is None else patched)


def test_threads_that_instrument_at_once_get_one_handle(server: ScriptedServer) -> None:
    """Eight threads, one handle, one layer of patches."""
    before = patchable()
    spans = InMemorySpanExporter()
    provider, reader = TracerProvider(), MeterProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    barrier = threading.Barrier(8)

    def instrument(_: int) -> otel_llm.Handle:
        barrier.wait(10)
        return otel_llm.instrument(tracer_provider=provider, meter_provider=reader)

    with ThreadPoolExecutor(8) as pool:
        handles = set(pool.map(instrument, range(8)))
    ask(server)
    otel_llm.uninstrument()

    assert len(handles) == 1
    assert [span.name for span in spans.get_finished_spans()].count("embeddings small") == 1
    assert changed(before) == set()


def test_flush_reaches_every_provider_and_raises_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """A provider that cannot be flushed is one line in the log, and the others are flushed all the same."""
    flushed: list[int] = []

    class Broken(TracerProvider):
        def force_flush(self, timeout_millis: int = 30_000) -> bool:
            raise ConnectionError("nobody there")

    class Whole(MeterProvider):
        def force_flush(self, timeout_millis: float = 10_000) -> bool:
            flushed.append(int(timeout_millis))
            return True

    handle = otel_llm.instrument(tracer_provider=Broken(), meter_provider=Whole())
    handle.flush(1234)
    handle.uninstrument()

    assert flushed == [1234, 10_000]
    assert warnings_of(caplog) == ["otel_llm: not everything could be flushed: nobody there"] * 2


def test_upstreams_reader_of_the_user_gets_our_collector(server: ScriptedServer) -> None:
    """The families are right in the registry that the application serves by itself, until its own collector is back."""
    registry = prometheus_client.CollectorRegistry()
    reader: Any = PrometheusMetricReader(registry=registry)
    collector = reader._collector
    provider = MeterProvider([reader])
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        otel_llm.instrument(
            meter_provider=provider, serve=f"127.0.0.1:{taken.getsockname()[1]}", tracer_provider=TracerProvider()
        )
    assert reader._collector is collector
    for name, attribute in (("one", "alpha"), ("two", "beta")):
        provider.get_meter(name).create_counter("shared").add(1, {attribute: "x"})
    for calls in (1, 2):
        with otel_llm.instrument(tracer_provider=TracerProvider(), meter_provider=provider) as handle:
            ask(server)
            assert handle.url is None
            assert registry.get_sample_value("shared_total", _labels("one", alpha="x", beta="")) == 1
            assert registry.get_sample_value("shared_total", _labels("two", alpha="", beta="x")) == 1
            page = prometheus_client.generate_latest(registry).decode()
            assert [line for line in page.splitlines() if line.startswith(CALLS) and line.endswith(f" {calls}.0")]
        assert reader._collector is collector
        assert set(registry._collector_to_names) == {collector}
        assert b"shared_total" in prometheus_client.generate_latest(registry)
    otel_llm.instrument(tracer_provider=TracerProvider(), meter_provider=provider)
    provider.shutdown()
    otel_llm.uninstrument()
    assert not registry._collector_to_names


def _labels(scope: str, **labels: str) -> dict[str, str]:
    return {**labels, "otel_scope_name": scope, "otel_scope_version": "", "otel_scope_schema_url": ""}


def test_a_broken_instrumentor_does_not_cost_the_others(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An entry point that cannot be loaded is told in the log."""
    before = patchable()

    def with_a_broken_one(group: str) -> list[EntryPoint]:
        return [EntryPoint("broken", "otel_llm_nowhere:Instrumentor", group), *entry_points(group=group)]

    monkeypatch.setattr(runtime, "entry_points", with_a_broken_one)
    with capture():
        assert changed(before)

    assert changed(before) == set()
    assert all("the instrumentor broken cannot be loaded" in warning for warning in warnings_of(caplog))


@pytest.mark.usefixtures("unset")
def test_a_missing_exporter_package_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """OTLP without its package says what to install."""

    def none(group: str) -> list[EntryPoint]:
        return []

    monkeypatch.setattr(exporters, "entry_points", none)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://localhost:4317")
    with pytest.raises(ValueError, match=r"pip install 'otel-llm\[otlp\]'"):
        otel_llm.instrument()


def test_capture_where_everything_is_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that could see nothing says why, before its block runs."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    with pytest.raises(RuntimeError, match="OTEL_SDK_DISABLED is set"), capture():
        pytest.fail("the block ran")

    assert not runtime.instrumented()


def test_ollama_is_patched_where_its_calls_pass() -> None:
    """The module-level functions, which are methods of a client bound at its import, are reached too."""
    with capture():
        assert vars(ollama.Client)["_request"].__wrapped__
