"""Calls that nobody would see: passed by, until somebody listens."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, Decision, StaticSampler

import otel_llm
from otel_llm.call import Call
from otel_llm.exchange import Exchange
from otel_llm.testing.server import ScriptedServer
from otel_llm_openai import OpenAIInstrumentor
from otel_llm_semconv import attributes as names
from tests.openai.styles import ASK, client, drain


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the operations of the exchanges that begin."""
    operations: list[str] = []
    begin = Exchange.begin

    def spy(self: Exchange, format: Any, *args: Any, **kwargs: Any) -> None:
        operations.append(format.operation)
        begin(self, format, *args, **kwargs)

    monkeypatch.setattr(Exchange, "begin", spy)
    return operations


def ask(server: ScriptedServer) -> None:
    """Make a plain call and a streamed one."""
    create = client(server).chat.completions.create
    create(model="gpt-5", messages=ASK)
    drain(create(model="gpt-5", messages=ASK, stream=True))


def test_nothing_begins_before_there_is_an_sdk(server: ScriptedServer, unset: None, begun: list[str]) -> None:
    """While the API does nothing we do nothing; from the moment that the application sets a provider we do all."""
    spans = InMemorySpanExporter()
    OpenAIInstrumentor().instrument()
    try:
        ask(server)
        before = list(begun)
        provider = TracerProvider()
        provider.add_span_processor(SimpleSpanProcessor(spans))
        trace.set_tracer_provider(provider)
        ask(server)
    finally:
        OpenAIInstrumentor().uninstrument()

    assert ([], ["chat", "chat"]) == (before, begun)
    assert ["chat gpt-5"] * 2 == [span.name for span in spans.get_finished_spans()]


def test_metrics_alone_wake_it(server: ScriptedServer, unset: None, begun: list[str]) -> None:
    """A meter provider is somebody who listens, without any tracer provider."""
    OpenAIInstrumentor().instrument()
    try:
        ask(server)
        metrics.set_meter_provider(MeterProvider(metric_readers=[InMemoryMetricReader()]))
        ask(server)
    finally:
        OpenAIInstrumentor().uninstrument()

    assert ["chat", "chat"] == begun


def test_a_hook_listens_too(server: ScriptedServer) -> None:
    """A `call_hook` sees every call, also where no provider does anything."""
    seen: list[Call] = []
    with otel_llm.instrument(
        tracer_provider=trace.NoOpTracerProvider(),
        meter_provider=NoOpMeterProvider(),
        serve=False,
        call_hook=seen.append,
    ):
        ask(server)

    assert [6, None] == [call.input_tokens for call in seen]


def test_sampled_out_without_metrics(server: ScriptedServer) -> None:
    """The decision of the sampler holds for what happens inside; no answer is read, and nothing stays in flight."""
    inside: list[Any] = []
    sampled_out = TracerProvider(sampler=ALWAYS_OFF)
    handle = otel_llm.instrument(tracer_provider=sampled_out, meter_provider=NoOpMeterProvider(), serve=False)
    http_client = client(server)._client

    def note(request: Any) -> None:
        inside.append(trace.get_current_span())

    http_client.event_hooks = {"request": [note]}
    before = trace.get_current_span()
    create = client(server, http_client=http_client).chat.completions.create
    create(model="gpt-5", messages=ASK)
    drain(create(model="gpt-5", messages=ASK, stream=True))
    telemetry = handle.telemetry
    assert telemetry is not None
    otel_llm.uninstrument()

    assert [(True, False)] * 2 == [
        (span.get_span_context().is_valid, span.get_span_context().trace_flags.sampled) for span in inside
    ]
    assert before is trace.get_current_span()
    assert {} == telemetry.ledger.rows
    assert [0] == [lane.active for lane in telemetry.ledger.lanes.values()]


def test_sampled_out_until_there_are_metrics(server: ScriptedServer, unset: None) -> None:
    """Where the application sets a meter provider later, calls that are sampled out count from then on."""
    OpenAIInstrumentor().instrument(tracer_provider=TracerProvider(sampler=ALWAYS_OFF))
    reader = InMemoryMetricReader()
    try:
        ask(server)
        metrics.set_meter_provider(MeterProvider(metric_readers=[reader]))
        ask(server)
        data = reader.get_metrics_data()
    finally:
        OpenAIInstrumentor().uninstrument()

    assert data is not None
    counts = {
        metric.name: sum(getattr(point, "count", 0) for point in metric.data.data_points)
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }
    assert 2 == counts["gen_ai.client.operation.duration"]


def test_sampled_in_without_metrics(server: ScriptedServer, quiet: None) -> None:
    """A span is as full without metrics as with them, and its call is counted once, also where the sampler fails."""

    class Sampler(StaticSampler):
        def should_sample(self, *args: Any, **kwargs: Any) -> Any:
            if fails:
                raise RuntimeError("no sampler")
            return super().should_sample(*args, **kwargs)

    def attributes_of(meter_provider: Any) -> tuple[list[Any], Any]:
        spans = InMemorySpanExporter()
        provider = TracerProvider(sampler=Sampler(Decision.RECORD_AND_SAMPLE))
        provider.add_span_processor(SimpleSpanProcessor(spans))
        handle = otel_llm.instrument(tracer_provider=provider, meter_provider=meter_provider, serve=False)
        create = client(server).chat.completions.create
        create(model="gpt-5", messages=ASK, temperature=0.5, n=2)
        telemetry = handle.telemetry
        otel_llm.uninstrument()
        found = [dict(span.attributes or {}) for span in spans.get_finished_spans() if span.name == "chat gpt-5"]
        for attributes in found:
            del attributes[names.OTEL_LLM_REQUEST_ID], attributes[names.GEN_AI_RESPONSE_ID]
        return found, telemetry

    fails = False
    (full,), _ = attributes_of(MeterProvider())
    (alone,), telemetry = attributes_of(NoOpMeterProvider())
    fails = True
    none, unsampled = attributes_of(NoOpMeterProvider())

    assert full == alone
    assert [] == none
    for seen in (telemetry, unsampled):
        assert [1] == [row.calls for row in seen.ledger.rows.values()]
        assert [0] == [lane.active for lane in seen.ledger.lanes.values()]
