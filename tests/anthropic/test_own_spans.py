"""Where `anthropic` traces itself there is still one GenAI span for each call: ours, with what only it tells."""

from __future__ import annotations

import gc
import importlib
from collections.abc import Callable
from functools import partial
from types import CodeType, FunctionType
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import Tracer, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON

import otel_llm
from otel_llm.testing import Seen, capture
from otel_llm.testing.server import DROP, ScriptedServer, error
from otel_llm_semconv import attributes as names
from otel_llm_semconv import metrics
from tests.crossing import finish, settled
from tests.family.clients import CLIENTS, Style, run_async
from tests.openai.styles import astep, step, treat

anthropic: Any = pytest.importorskip("anthropic")
pytest.importorskip("anthropic._tracing", reason="this client does not trace itself")

THEIRS = "com.anthropic.sdk.python"
FORMS = ("plain", "raw", "streaming response", "stream", "raw, streamed", "streaming response, bytes", "helper")
ASKED: dict[str, Any] = {"model": "llama", "max_tokens": 100, "messages": [{"role": "user", "content": "Hi"}]}


def traced(seen: Seen) -> dict[str, Any]:
    """Return the options of a client whose own spans go where ours go."""
    return {"open_telemetry": {"tracer_provider": seen.tracer_provider, "conversation_id": "conv_1"}}


def perform(form: str, mode: str, server: ScriptedServer, options: dict[str, Any], way: str = "consumed") -> list[Any]:
    """Make one call and return what came of it."""
    got: list[Any] = []

    async def call(own: Any) -> None:
        await treat(Style("anthropic", "messages", form), own, way, got)  # type: ignore[arg-type]

    if mode == "sync":
        with CLIENTS["anthropic"].sync(server, **options) as own:
            finish(call(own))
    else:
        run_async("anthropic", call, server, **options)
    gc.collect()
    return got


def genai(seen: Seen) -> list[dict[str, Any]]:
    """Return every span that is about GenAI, whoever made it."""
    return [span for span in seen.all_spans if names.GEN_AI_PROVIDER_NAME in span["attributes"]]


def test_it_does_trace_itself(server: ScriptedServer) -> None:
    """Without us there is a span of theirs: what the other tests are about exists."""
    seen = Seen()
    perform("plain", "sync", server, traced(seen))

    assert [THEIRS] == [span["scope"] for span in genai(seen)]


@pytest.mark.parametrize("way", ["consumed", "dropped"])
@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("form", FORMS)
def test_one_span(server: ScriptedServer, seen: Seen, form: str, mode: str, way: str) -> None:
    """There is one span, complete by the conventions, with the conversation that the client was told."""
    perform(form, mode, server, traced(seen), way)

    (span,) = genai(seen)
    attributes = span["attributes"]
    assert ("otel_llm", "chat llama") == (span["scope"], span["name"])
    assert "conv_1" == attributes[names.GEN_AI_CONVERSATION_ID]
    if way == "consumed":
        assert ("stop",) == attributes[names.GEN_AI_RESPONSE_FINISH_REASONS]
        assert 8 == attributes[names.GEN_AI_USAGE_OUTPUT_TOKENS]
    (duration,) = seen.points(metrics.GEN_AI_CLIENT_OPERATION_DURATION.name)
    assert 1 == duration["count"]
    assert (span["end_ns"] - span["start_ns"]) / 1e9 == pytest.approx(duration["sum"], abs=1e-6)


@pytest.mark.parametrize("reply", [error(400), DROP], ids=["status", "no answer"])
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_one_span_of_a_failure(server: ScriptedServer, seen: Seen, mode: str, reply: Any) -> None:
    """A failed call has one span too, and it is an error."""
    server.script(reply)
    with pytest.raises(anthropic.APIError):
        perform("plain", mode, server, traced(seen))

    assert ["error"] == [span["status"] for span in genai(seen)]


ORDERS = ("client, then us", "us, then client", "provider last")


@pytest.mark.parametrize("order", ORDERS)
def test_in_any_order(server: ScriptedServer, unset: None, order: str) -> None:
    """Clients made before us, after us, and before there is a tracer provider: one span each."""
    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    provider, meters = TracerProvider(), MeterProvider(metric_readers=[reader])
    provider.add_span_processor(SimpleSpanProcessor(spans))
    steps: dict[str, Callable[[], Any]] = {
        "provider": lambda: trace.set_tracer_provider(provider),
        "us": lambda: otel_llm.instrument(meter_provider=meters, tracer_provider=provider, serve=False),
        "client": lambda: CLIENTS["anthropic"].sync(server),
    }
    wanted = {
        "client, then us": ("provider", "client", "us"),
        "us, then client": ("provider", "us", "client"),
        "provider last": ("client", "us", "provider"),
    }[order]
    done = {step: steps[step]() for step in wanted}
    with done["client"] as own:
        for _ in range(2):
            own.messages.create(**ASKED)

    assert ["chat llama"] * 2 == [
        span.name for span in spans.get_finished_spans() if names.GEN_AI_PROVIDER_NAME in (span.attributes or {})
    ]
    provider.shutdown()
    meters.shutdown()


def test_the_request_carries_our_context(server: ScriptedServer, seen: Seen) -> None:
    """The client still propagates its span: ours stands for it."""
    perform("plain", "sync", server, traced(seen))

    (span,) = genai(seen)
    trace_id = server.requests[0].headers["traceparent"].split("-")[1]
    assert f"{span['trace_id']:032x}" == trace_id


def test_what_only_the_client_tells_is_kept(server: ScriptedServer, seen: Seen) -> None:
    """Attributes of the client's own namespace come along; none of the others changes ours."""
    with CLIENTS["anthropic"].sync(server, **traced(seen)) as own:
        own.messages.create(**ASKED, extra_body={"thinking": {"type": "adaptive"}})

    attributes = genai(seen)[0]["attributes"]
    assert "adaptive" == attributes["anthropic.thinking.type"]
    assert "http.route" not in attributes


def test_spans_of_tools_stay(server: ScriptedServer, seen: Seen) -> None:
    """What the client makes spans of besides its requests is untouched: the tool runner and its tools."""

    def get_weather(city: str) -> str:
        """Tell the weather."""
        return f"sunny in {city}"

    with CLIENTS["anthropic"].sync(server, **traced(seen)) as own:
        tools = [anthropic.beta_tool(get_weather)]
        own.beta.messages.tool_runner(**{**ASKED, "model": "tools"}, tools=tools).until_done()

    spans = genai(seen)
    assert ["chat tools", "execute_tool", "chat tools", "invoke_agent"] == [
        span["name"] if span["scope"] == "otel_llm" else span["attributes"][names.GEN_AI_OPERATION_NAME]
        for span in spans
    ]
    runner = spans[-1]["span_id"]
    assert {runner} == {span["parent_id"] for span in spans if span["scope"] == "otel_llm"}


class Elsewhere:
    """A provider of the client's own, which samples whatever the parent says."""

    def __init__(self) -> None:
        self.exporter = InMemorySpanExporter()
        self.provider = TracerProvider(sampler=ALWAYS_ON)
        self.provider.add_span_processor(SimpleSpanProcessor(self.exporter))
        self.options = {"open_telemetry": {"tracer_provider": self.provider}}

    @property
    def told(self) -> Any:
        """The attributes of the one span of theirs."""
        (span,) = self.exporter.get_finished_spans()
        assert THEIRS == (span.instrumentation_scope and span.instrumentation_scope.name)
        return span.attributes


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("form", FORMS)
def test_theirs_stays_where_ours_is_not_recorded(server: ScriptedServer, form: str, mode: str) -> None:
    """Where our spans go nowhere, theirs is as without us, and our metrics count the call all the same, once."""
    bare, elsewhere = Elsewhere(), Elsewhere()
    perform(form, mode, server, bare.options)
    with capture(tracer_provider=TracerProvider(sampler=ALWAYS_OFF)) as seen:
        assert perform(form, mode, server, elsewhere.options)

        (duration,) = seen.points(metrics.GEN_AI_CLIENT_OPERATION_DURATION.name)
        tokens = [
            point["value"]
            for point in seen.points(metrics.OTEL_LLM_CLIENT_TOKENS.name)
            if point["attributes"][names.OTEL_LLM_TOKEN_KIND] == "output"
        ]
        assert (1, [8]) == (duration["count"], tokens)
        streamed = form not in ("plain", "raw", "streaming response")
        assert [1] * streamed == [
            point["count"] for point in seen.points(metrics.GEN_AI_CLIENT_OPERATION_TIME_TO_FIRST_CHUNK.name)
        ]
    assert bare.told.keys() == elsewhere.told.keys()


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_their_span_hears_of_each_chunk_that_is_stepped_to(server: ScriptedServer, mode: str) -> None:
    """A stream that is read with ``next`` tells a span of theirs, and us."""
    elsewhere = Elsewhere()

    async def call(own: Any) -> None:
        stream = await settled(own.messages.create(**ASKED, stream=True))
        if mode == "async":
            await astep(stream)
        else:
            step(stream)

    with capture(tracer_provider=TracerProvider(sampler=ALWAYS_OFF)) as seen:
        if mode == "sync":
            with CLIENTS["anthropic"].sync(server, **elsewhere.options) as own:
                finish(call(own))
        else:
            run_async("anthropic", call, server, **elsewhere.options)
        (rate,) = seen.points(metrics.OTEL_LLM_CLIENT_OUTPUT_RATE.name)

    assert (1, 8) == (rate["count"], elsewhere.told[names.GEN_AI_USAGE_OUTPUT_TOKENS])


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_middleware(server: ScriptedServer, seen: Seen, mode: str, streams: bool) -> None:
    """A middleware that asks a second time gives one call, which the last answer ends."""

    def twice(request: Any, call_next: Any) -> Any:
        call_next(request).close()
        return call_next(request)

    async def atwice(request: Any, call_next: Any) -> Any:
        await (await call_next(request)).close()
        return await call_next(request)

    async def call(own: Any) -> None:
        answer = await settled(own.messages.create(**ASKED, stream=streams))
        if not streams:
            return
        if mode == "sync":
            list(answer)
        else:
            [event async for event in answer]

    options = {**traced(seen), "middleware": [twice if mode == "sync" else atwice]}
    if mode == "sync":
        with CLIENTS["anthropic"].sync(server, **options) as own:
            finish(call(own))
    else:
        run_async("anthropic", call, server, **options)

    assert 2 == len(server.requests)
    (span,) = genai(seen)
    assert ("msg_00000002", 8) == (
        span["attributes"][names.GEN_AI_RESPONSE_ID],
        span["attributes"][names.GEN_AI_USAGE_OUTPUT_TOKENS],
    )


def _renamed(patch: pytest.MonkeyPatch, base: Any) -> None:
    """Give the function by which the client starts a span another name, wherever it is called."""
    patch.setattr(base, "open_call_span", base.start_api_call_span, raising=False)
    patch.delattr(base, "start_api_call_span")
    for cls in (base.SyncAPIClient, base.AsyncAPIClient):
        code: CodeType = cls.request.__code__
        called = tuple("open_call_span" if name == "start_api_call_span" else name for name in code.co_names)
        patch.setattr(cls, "request", FunctionType(code.replace(co_names=called), base.__dict__))


def _kept_for_nothing(patch: pytest.MonkeyPatch, base: Any) -> None:
    """Leave the function where it is, and call another one."""
    kept = base.start_api_call_span
    _renamed(patch, base)
    patch.setattr(base, "start_api_call_span", kept, raising=False)


def _other_parameters(patch: pytest.MonkeyPatch, base: Any) -> None:
    """Have the function take no argument of the name that is known."""
    original = base.start_api_call_span

    def start_api_call_span(own: Any, *args: Any, **kwargs: Any) -> Any:
        return original(own, *args, **kwargs)

    patch.setattr(base, "start_api_call_span", start_api_call_span)


def _no_function(patch: pytest.MonkeyPatch, base: Any) -> None:
    """Have an object in place of the function."""
    patch.setattr(base, "start_api_call_span", partial(base.start_api_call_span))


def _other_body(patch: pytest.MonkeyPatch, base: Any) -> None:
    """Have the function ask the tracer in another way, and let out what goes wrong."""

    def start_api_call_span(tracer: Any, base_url: Any, options: Any, attributes: Any, **_: Any) -> Any:
        assert tracer.sampler
        with tracer.start_as_current_span("call", end_on_exit=False):
            pass
        return tracer.start_span("call", None, trace.SpanKind.CLIENT, {"gen_ai.provider.name": "x", **attributes})

    patch.setattr(base, "start_api_call_span", start_api_call_span)


CHANGES = (_renamed, _kept_for_nothing, _other_parameters, _no_function, _other_body)


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("form", ["plain", "raw", "stream", "helper"])
def test_one_span_of_a_client_that_traces_itself_in_another_way(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, form: str, mode: str, change: Callable[..., None]
) -> None:
    """Where a coming version starts its span otherwise there is one still, and the call gives what it gives."""
    base: Any = importlib.import_module("anthropic._base_client")
    change(monkeypatch, base)
    start_span = Tracer.start_span
    bare = Seen()
    with ScriptedServer() as other_server:
        expected = perform(form, mode, other_server, traced(bare))
    assert {THEIRS} == {span["scope"] for span in genai(bare)}
    with capture() as seen:
        assert repr(expected) == repr(perform(form, mode, server, traced(seen)))

        (span,) = genai(seen)
        assert "otel_llm" == span["scope"]
        assert "conv_1" == span["attributes"][names.GEN_AI_CONVERSATION_ID]
        assert 8 == span["attributes"][names.GEN_AI_USAGE_OUTPUT_TOKENS]
        assert THEIRS not in {span["scope"] for span in seen.all_spans}
        (duration,) = seen.points(metrics.GEN_AI_CLIENT_OPERATION_DURATION.name)
        assert 1 == duration["count"]
    assert start_span is Tracer.start_span


@pytest.mark.parametrize("change", CHANGES)
def test_theirs_stays_where_ours_is_not_recorded_in_another_way_either(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, change: Callable[..., None]
) -> None:
    """Where our spans go nowhere, theirs is made; so are the application's own, whatever they are called."""
    change(monkeypatch, importlib.import_module("anthropic._base_client"))
    elsewhere = Elsewhere()
    with capture(tracer_provider=TracerProvider(sampler=ALWAYS_OFF)):
        perform("plain", "sync", server, elsewhere.options)
    assert THEIRS in {
        span.instrumentation_scope and span.instrumentation_scope.name
        for span in elsewhere.exporter.get_finished_spans()
    }


def test_spans_of_others_inside_a_call_stay(
    server: ScriptedServer, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of what is traced inside a call only the client's own span is folded into ours."""
    otel_llm.uninstrument()
    _renamed(monkeypatch, importlib.import_module("anthropic._base_client"))
    scopes = (
        "my.app",
        "anthropics",
        "my.anthropic",
        "opentelemetry.instrumentation.anthropic",
        "openinference.instrumentation.anthropic",
    )

    def middleware(request: Any, call_next: Any) -> Any:
        for scope in scopes:
            seen.tracer_provider.get_tracer(scope).start_span("inside").end()
        return call_next(request)

    with capture() as ours:
        providers = {"open_telemetry": {"tracer_provider": seen.tracer_provider}}
        with CLIENTS["anthropic"].sync(server, **providers, middleware=[middleware]) as own:
            own.messages.create(**ASKED)
        assert 1 == len(ours.spans)

    assert list(scopes) == [span["scope"] for span in seen.all_spans]
