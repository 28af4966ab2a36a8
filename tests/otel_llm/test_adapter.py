"""Points of other instrumentations: each call that we do not patch counts once on the pages of the dialects."""

from __future__ import annotations

import gc
import math
import os
import signal
import threading
import weakref
from collections.abc import Iterable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.metrics.view import (
    DropAggregation,
    ExplicitBucketHistogramAggregation,
    ExponentialBucketHistogramAggregation,
    View,
)
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.util.types import AttributeValue

import otel_llm
from otel_llm import faults, runtime, serving
from otel_llm.call import Call
from otel_llm.ledger import Ledger
from otel_llm.prometheus.foreign.adapter import ForeignReader, is_patched
from otel_llm.state import Columns, Facts, Totals
from otel_llm.testing import Seen, capture
from otel_llm.testing.server import ScriptedServer
from tests.openai.styles import ASK, client

BOUNDS = {"duration": (0.1, 1.0, 10.0), "input_tokens": (10.0, 100.0), "time_to_first_chunk": (0.5,)}
COLUMNS = Columns(BOUNDS, frozenset({"task_type"}), frozenset({"client_id"}))

DURATION = "gen_ai.client.operation.duration"
USAGE = "gen_ai.client.token.usage"
CLAUDE: dict[str, AttributeValue] = {
    "gen_ai.operation.name": "chat",
    "gen_ai.system": "aws.bedrock",
    "gen_ai.request.model": "anthropic.claude-v2",
}
CLAUDE_FACTS = Facts("chat", "aws.bedrock", "anthropic.claude-v2")
BOTOCORE = "opentelemetry.instrumentation.botocore.bedrock-runtime"
LANGCHAIN = "opentelemetry.instrumentation.langchain"


def nothing_patched(client: str) -> bool:
    """Say that no client is patched."""
    return False


class Others:
    """A provider whose other instrumentations are read."""

    def __init__(self, *views: View, max_series: int = 100, patched: Iterable[str] = ()) -> None:
        self.memory = InMemoryMetricReader()
        self.provider = MeterProvider([self.memory], views=views)
        self.ledger = Ledger(max_series, COLUMNS)
        self.reader = ForeignReader(self.ledger, frozenset(patched).__contains__)
        assert self.reader.attach(self.provider)

    def ours(self, provider: str, model: str, answered: str | None = None) -> None:
        """Have a call of a patched client in the ledger."""
        call = Call()
        call.operation, call.provider, call.request_model, call.response_model = "chat", provider, model, answered
        call.series = ("chat", provider, model, answered, None, None)
        self.ledger.begin(call)
        self.ledger.end(call)

    def record(
        self,
        value: float,
        attributes: Mapping[str, AttributeValue] = CLAUDE,
        *,
        name: str = DURATION,
        scope: str = BOTOCORE,
        unit: str = "s",
        **more: AttributeValue,
    ) -> None:
        """Record a point of a histogram; further attributes are spelled with double underscores for dots."""
        attributes = {**attributes, **{key.replace("__", "."): each for key, each in more.items()}}
        self.provider.get_meter(scope).create_histogram(name, unit).record(value, attributes)

    def tokens(self, number: int, kind: str, **keywords: Any) -> None:
        """Record the use of tokens."""
        self.record(number, name=USAGE, unit="{token}", gen_ai__token__type=kind, **keywords)

    @property
    def cells(self) -> dict[Facts, Totals]:
        """What came of it."""
        cells = self.reader.cells()
        assert len(cells) == len(dict(cells))
        return dict(cells)

    @property
    def calls(self) -> dict[str | None, int]:
        """Calls by model."""
        calls: dict[str | None, int] = {}
        for facts, totals in self.reader.cells():
            model = facts.request_model or facts.response_model
            calls[model] = calls.get(model, 0) + totals.calls
        return calls


@pytest.fixture
def others() -> Others:
    """A provider without views, and nothing patched."""
    return Others()


def test_a_call(others: Others) -> None:
    """What botocore's instrumentation records is calls, seconds, buckets and tokens of one cell."""
    for seconds in (0.05, 0.1, 0.5, 20):
        others.record(seconds)
    others.tokens(7, "input")
    others.tokens(11, "completion")
    others.tokens(100, "input")

    ((facts, totals),) = others.cells.items()

    assert CLAUDE_FACTS == facts
    assert (4, [2, 1, 0, 1]) == (totals.calls, list(totals.counts))
    assert math.isclose(20.65, totals.seconds)
    assert (107, 11) == (totals.input_tokens, totals.output_tokens)
    assert totals.cache_read_tokens is None
    assert {"input_tokens": ([1, 1, 0], 107)} == {name: tuple(kept) for name, kept in totals.distributions.items()}


def test_a_copy(others: Others) -> None:
    """What was read does not change under the hands of the reader."""
    others.record(0.5)
    before = others.cells[CLAUDE_FACTS]
    others.record(0.5)

    assert (1, [0, 1, 0, 0]) == (before.calls, list(before.counts))
    assert 2 == others.cells[CLAUDE_FACTS].calls


def test_all_facts(others: Others) -> None:
    """The attributes of either vocabulary are the facts, the labels of the context with them."""
    with otel_llm.labels(task_type="extraction", client_id="c1", other="no"):
        others.record(
            1,
            {
                "gen_ai.operation.name": "embeddings",
                "gen_ai.provider.name": "gcp.vertex_ai",
                "gen_ai.request.model": "gemini",
                "gen_ai.response.model": "gemini-1",
                "server.address": "example.org",
                "server.port": 443,
                "unheard.of": "yes",
            },
            scope="my.app",
        )

    (facts,) = others.cells

    expected = Facts("embeddings", "gcp.vertex_ai", "gemini", "gemini-1", "example.org", 443)
    assert expected._replace(labels=(("task_type", "extraction"),)) == facts


@pytest.mark.parametrize(
    ("error_type", "name", "error_class"),
    [
        ("ThrottlingException", "ThrottlingException", "rate_limit"),
        ("google.api_core.exceptions.PermissionDenied", "PermissionDenied", "auth"),
        ("<class 'openai.RateLimitError'>", "RateLimitError", "rate_limit"),
        ("429", "429", "rate_limit"),
        ("500", "500", "api_error"),
        ("asyncio.CancelledError", "CancelledError", "cancelled"),
        ("TimeoutError", "TimeoutError", "timeout"),
        ("timeout", "timeout", "timeout"),
        ("overloaded_error", "overloaded_error", "api_error"),
        ("botocore.errorfactory.TooManyRequestsException", "TooManyRequestsException", "rate_limit"),
        ("9" * 5000, "9" * 5000, "unknown"),
        ("my.Error", "Error", "unknown"),
        ("_OTHER", "_OTHER", "unknown"),
    ],
)
def test_a_failure(others: Others, error_type: str, name: str, error_class: str) -> None:
    """A failed call is a cell of its own, with the class of its error and the labels that failures have."""
    with otel_llm.labels(task_type="t", client_id="c1"):
        others.record(0.5, error__type=error_type)
        others.record(0.5)

    failed, fine = others.cells

    assert failed.failure is not None
    assert (name, error_class) == (failed.failure.name, failed.failure.error_class)
    assert (("client_id", "c1"), ("task_type", "t")) == failed.labels
    assert (None, (("task_type", "t"),)) == (fine.failure, fine.labels)


def test_two_spellings_of_a_failure(others: Others) -> None:
    """No two cells have the same facts."""
    others.record(0.5, error__type="openai.RateLimitError")
    others.record(0.5, error__type="<class 'openai.RateLimitError'>")

    assert [2] == [totals.calls for totals in others.cells.values()]


def test_tokens_of_a_call_without_duration(others: Others) -> None:
    """Tokens whose attributes are not those of a duration count, and are no call."""
    others.record(0.5)
    others.tokens(7, "input", gen_ai__response__model="claude-v2:1")

    assert [1, 0] == [totals.calls for totals in others.cells.values()]
    assert [None, 7] == [totals.input_tokens for totals in others.cells.values()]


def test_unknown_kinds_of_tokens(others: Others) -> None:
    """Cached tokens that somebody adds as a type of their own are part of the input already."""
    others.tokens(7, "cache_read")
    others.record(7, name=USAGE)

    assert {} == others.cells


def test_the_newer_vocabulary(others: Others) -> None:
    """Counters and histograms of the present conventions count as the older ones do."""
    others.record(0.5, name="gen_ai.client.inference.duration", scope="new")
    others.record(0.25, name="gen_ai.client.inference.time_to_first_chunk", scope="new")
    others.record(7, name="gen_ai.client.inference.operation.input_tokens", scope="new")
    meter = others.provider.get_meter("new")
    kinds = ("input_tokens", "output_tokens", "cache_read.input_tokens", "cache_write.input_tokens")
    for number, kind in enumerate((*kinds, "reasoning.output_tokens")):
        counter = meter.create_counter(f"gen_ai.client.inference.usage.{kind}")
        counter.add(10 + number, {**CLAUDE, "gen_ai.token.modality": "text"})
        counter.add(10, {**CLAUDE, "gen_ai.token.modality": "image"})

    (totals,) = others.cells.values()

    assert (1, 0.5) == (totals.calls, totals.seconds)
    assert (7, 21, 22, 23, 24) == totals[3:8]
    assert ([1, 0, 0], 7) == tuple(totals.distributions["input_tokens"])
    assert ([1, 0], 0.25) == tuple(totals.distributions["time_to_first_chunk"])


def test_both_vocabularies(others: Others) -> None:
    """A scope that writes both is counted once, whichever comes first, and other scopes are heard as before."""
    for _ in range(3):
        for name in ("gen_ai.client.inference.duration", DURATION):
            others.record(0.5, name=name)
        others.record(0.5, name=DURATION, gen_ai__operation__name="embeddings")
        others.record(0.5, name=DURATION, scope="another")
        counter = others.provider.get_meter(BOTOCORE).create_counter("gen_ai.client.inference.usage.input_tokens")
        counter.add(7, CLAUDE)
        others.tokens(7, "input")
        others.record(7, name="gen_ai.client.inference.operation.input_tokens")

    chat, embeddings = others.cells.values()

    assert (6, 3) == (chat.calls, embeddings.calls)
    assert (21, ([3, 0, 0], 21)) == (chat.input_tokens, tuple(chat.distributions["input_tokens"]))


@pytest.mark.parametrize("name", ["execute_tool", "invoke_agent", "retrieval", "workflow"])
def test_operations_that_run_no_model(others: Others, name: str) -> None:
    """What frameworks tell of agents and tools is no call of a model."""
    others.record(0.5, gen_ai__operation__name=name, scope="my.framework")

    assert {} == others.cells


@pytest.mark.parametrize(
    ("told", "expected"),
    [("Ollama", "ollama"), ("AWS", "aws.bedrock"), ("MistralAI", "mistral_ai"), ("vertex_ai", "gcp.vertex_ai")],
)
def test_spellings_of_providers(others: Others, told: str, expected: str) -> None:
    """Dialects show providers as the conventions spell them."""
    others.record(0.5, gen_ai__system=told)

    assert [expected] == [facts.provider for facts in others.cells]


def test_who_names_no_provider(others: Others) -> None:
    """Some instrumentations of one provider do not name it where a call fails."""
    others.record(0.5, {"error.type": "ThrottlingException"}, scope="opentelemetry.instrumentation.bedrock")
    others.record(0.5, {"gen_ai.request.model": "unknown"}, scope="my.app")

    assert [("aws.bedrock", None), ("unknown", None)] == [(each.provider, each.request_model) for each in others.cells]


def test_other_units(others: Others) -> None:
    """Milliseconds are seconds in the end, and an instrument of the wrong kind is left alone."""
    others.record(500, unit="ms")
    meter = others.provider.get_meter("wrong")
    meter.create_counter(DURATION).add(5, CLAUDE)
    meter.create_up_down_counter(USAGE).add(5, {**CLAUDE, "gen_ai.token.type": "input"})

    (totals,) = others.cells.values()
    assert (1, 0.5, None) == (totals.calls, totals.seconds, totals.input_tokens)


# Who counts a call


def test_a_patched_client_and_its_other_instrumentation(server: ScriptedServer, seen: Seen) -> None:
    """A call of a client that we patch is in the ledger, so its instrumentation, or a meter by hand, adds nothing."""
    assert runtime._handle is not None
    assert runtime._handle.telemetry is not None
    ledger = runtime._handle.telemetry.ledger
    reader = ForeignReader(ledger)
    assert reader.attach(seen.meter_provider)
    assert (True, False) == (is_patched("openai"), is_patched("boto3"))
    attributes = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-5"}
    own = client(server)
    for scope in ("opentelemetry.instrumentation.openai.v1", "my.app", LANGCHAIN, "opentelemetry.util.genai.handler"):
        own.chat.completions.create(model="gpt-5", messages=ASK)
        meter = seen.meter_provider.get_meter(scope)
        meter.create_histogram(DURATION, "s").record(0.5, attributes)
        meter.create_histogram(USAGE, "{token}").record(5, {**attributes, "gen_ai.token.type": "input"})

    assert [] == reader.cells()
    assert 4 == sum(totals.calls for _, totals in ledger.state({}, "").cells)


def test_inside_a_block(server: ScriptedServer, seen: Seen) -> None:
    """In a block by hand a call of ours counts, else that of another instrumentation, else the block: one of them."""
    assert runtime._handle is not None
    assert runtime._handle.telemetry is not None
    ledger = runtime._handle.telemetry.ledger
    reader = ForeignReader(ledger)
    assert reader.attach(seen.meter_provider)
    meter = seen.meter_provider.get_meter("my.app")

    def record(model: str) -> None:
        attributes = {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": model}
        meter.create_histogram(DURATION, "s").record(0.5, attributes)
        meter.create_histogram(USAGE, "{token}").record(5, {**attributes, "gen_ai.token.type": "input"})

    with otel_llm.track_inference("ours", provider="openai"):
        client(server).chat.completions.create(model="gpt-5", messages=ASK)
        record("gpt-5")
    record("gpt-5")
    with otel_llm.track_inference("theirs", provider="openai"):
        record("theirs")
        otel_llm.record_tokens(input_tokens=7)
    with otel_llm.track_inference("none", provider="openai"):
        pass

    found = [*ledger.state({}, "").cells, *reader.cells()]
    assert {"ours": 1, "none": 1, "theirs": 1} == {facts.request_model: totals.calls for facts, totals in found}
    assert {"theirs": 5, "none": None} == {
        facts.request_model: totals.input_tokens for facts, totals in found if facts.request_model != "ours"
    }
    assert {0} == {point["value"] for point in seen.points("otel_llm.client.active")}


def test_nothing_is_patched_after_the_end() -> None:
    """A client that has its methods back is not patched."""
    with capture():
        assert is_patched("openai")
    assert not is_patched("openai")


@pytest.mark.parametrize(
    ("scope", "counts"),
    [
        ("opentelemetry.instrumentation.openai", False),
        ("opentelemetry.instrumentation.openai.v1", False),
        ("opentelemetry.instrumentation.openai_v2", False),
        ("opentelemetry.instrumentation.openai_agents", True),
        ("opentelemetry.instrumentation.anthropic", True),
        ("my.app", True),
    ],
)
def test_scopes_of_one_client(scope: str, counts: bool) -> None:
    """The instrumentation of a patched client is not heard at all, be its call in the ledger or dropped by a hook."""
    others = Others(patched=["openai"])
    others.record(0.5, gen_ai__system="openai", gen_ai__request__model="gpt-5", scope=scope)

    assert counts is bool(others.cells)


@pytest.mark.parametrize(
    ("told", "model", "counts"),
    [
        ("openai", "gpt-5", False),  # the client of OpenAI says so of every host
        ("deepseek", "gpt-5", False),
        ("deepseek", "GPT-5-2026", False),
        ("openai", "deepseek/gpt-5", False),
        ("openai", "gpt-4o", True),
        ("aws.bedrock", "gpt-5", True),
        ("groq", "gpt-5", True),
        ("acme", "gpt-5", True),
        ("gcp.gen_ai", "gemini", False),
        ("gcp.gemini", "gemini", False),
        ("gcp.vertex_ai", "gemini", True),
    ],
)
def test_what_the_ledger_has(others: Others, told: str, model: str, counts: bool) -> None:
    """Others count where the ledger does not have the model of that provider, as far as names can say."""
    others.ours("deepseek", "gpt-5", "gpt-5-2026")
    others.ours("gcp.gemini", "models/gemini")
    others.record(0.5, gen_ai__system=told, gen_ai__request__model=model, scope="my.app")

    assert counts is bool(others.cells)


def test_no_counter_falls(others: Others) -> None:
    """What was counted stays, when the ledger comes to have the same model later."""
    others.record(0.5, gen_ai__system="openai", gen_ai__request__model="gpt-5", scope="my.app")
    others.ours("openai", "gpt-5")
    others.record(0.5, gen_ai__system="openai", gen_ai__request__model="gpt-5", scope="my.app")

    assert {"gpt-5": 1} == others.calls


def test_a_framework(others: Others) -> None:
    """A framework counts for clients that nobody else tells of, and for one of two frameworks around each other."""
    others.ours("openai", "gpt-5")
    others.record(0.5)
    others.record(0.5, {"gen_ai.provider.name": "acme", "gen_ai.request.model": "a"}, scope="my.app")
    for scope in (LANGCHAIN, "litellm"):
        others.record(0.5, {"gen_ai.provider.name": "langchain", "gen_ai.response.model": "gpt-5"}, scope=scope)
        others.record(0.5, {"gen_ai.provider.name": "langchain", "gen_ai.response.model": "unknown"}, scope=scope)
        others.record(0.5, {**CLAUDE, "gen_ai.system": "AWS"}, scope=scope)
        others.record(0.5, {**CLAUDE, "gen_ai.request.model": "claude-v2"}, scope=scope)
        others.record(0.5, {"gen_ai.provider.name": "langchain", "gen_ai.response.model": "x/A"}, scope=scope)
        others.record(0.5, {"gen_ai.provider.name": "gcp.vertex_ai", "gen_ai.response.model": "g"}, scope=scope)

    assert {"anthropic.claude-v2": 1, "a": 1, "g": 1} == others.calls


def test_two_instrumentations_of_one_client(others: Others) -> None:
    """Of two known instrumentations of a provider's client the first to tell is heard, and meters by hand."""
    for scope in (BOTOCORE, "opentelemetry.instrumentation.bedrock", "my.app"):
        others.record(0.5, scope=scope)

    assert {"anthropic.claude-v2": 2} == others.calls


def test_beyond_the_cap_of_the_ledger() -> None:
    """Where the ledger no longer tells models apart, the provider decides."""
    others = Others(max_series=2)
    for number in range(4):
        others.ours("openai", f"m{number}")
    others.record(0.5, gen_ai__system="openai", gen_ai__request__model="m9", scope="my.app")
    others.record(0.5)

    assert {"anthropic.claude-v2": 1} == others.calls


def test_our_own_points_are_not_read(others: Others) -> None:
    """What we record ourselves is in the ledger."""
    others.record(0.5, scope="otel_llm")

    assert {} == others.cells


# The SDK


@pytest.mark.parametrize(
    "view",
    [
        View(instrument_name=DURATION, name="renamed"),
        View(instrument_name="gen_ai.*", attribute_keys={"nothing"}),
        View(instrument_name="gen_ai.*", aggregation=ExplicitBucketHistogramAggregation((0.3, 3))),
        View(instrument_name="*", aggregation=ExponentialBucketHistogramAggregation()),
    ],
    ids=["name", "attributes", "buckets", "exponential"],
)
def test_views(view: View, caplog: pytest.LogCaptureFixture) -> None:
    """A view that shows a metric otherwise changes nothing here."""
    others = Others(view)
    others.record(0.5)
    others.tokens(7, "input")

    ((facts, totals),) = others.cells.items()
    assert (CLAUDE_FACTS, 1, [0, 1, 0, 0], 7) == (facts, totals.calls, list(totals.counts), totals.input_tokens)
    assert [] == caplog.records


def test_a_view_that_drops(caplog: pytest.LogCaptureFixture) -> None:
    """Who drops a metric does not have it here, and is told so once; only of what would have counted."""
    others = Others(View(instrument_name=DURATION, aggregation=DropAggregation()), patched=["openai"])
    for _ in range(3):
        others.record(0.5, scope="opentelemetry.instrumentation.openai")
        others.record(0.5)
        others.tokens(7, "input")

    (totals,) = others.cells.values()
    assert (0, 21) == (totals.calls, totals.input_tokens)
    (line,) = [record.getMessage() for record in caplog.records if record.name == "otel_llm"]
    assert line.startswith(f"otel_llm: a View drops {DURATION} of {BOTOCORE}, so ")


def test_a_view_that_drops_all_else() -> None:
    """A metric that one view drops and another one shows is shown."""
    others = Others(View(instrument_name="*", aggregation=DropAggregation()), View(instrument_name=DURATION))
    others.record(0.5)

    assert 1 == others.cells[CLAUDE_FACTS].calls


def test_other_readers_see_what_they_saw(others: Others) -> None:
    """The buckets of the dialects are in no other reader."""
    others.record(0.5)

    data: Any = others.memory.get_metrics_data()
    (metric,) = data.resource_metrics[0].scope_metrics[0].metrics
    (point,) = metric.data.data_points
    assert (DURATION, 1) == (metric.name, point.count)
    assert 15 == len(point.explicit_bounds)


def test_late() -> None:
    """Instruments that are older than the reader are read from then on."""
    provider = MeterProvider()
    histogram = provider.get_meter(BOTOCORE).create_histogram(DURATION)
    histogram.record(0.5, CLAUDE)
    reader = ForeignReader(Ledger(10, COLUMNS), nothing_patched)
    reader.attach(provider)
    histogram.record(0.5, CLAUDE)

    assert [1] == [totals.calls for _, totals in reader.cells()]


def test_detached_and_attached_again(others: Others, caplog: pytest.LogCaptureFixture) -> None:
    """Totals stay when the reader is taken off, and go on where they were; twice is once."""
    others.record(0.5)
    others.reader.detach()
    others.reader.detach()
    others.record(0.5)
    assert {"anthropic.claude-v2": 1} == others.calls

    consumer: Any = others.provider._measurement_consumer
    assert others.reader.attach(others.provider)
    storages = consumer._reader_storages
    assert others.reader.attach(others.provider)
    assert storages is consumer._reader_storages
    others.record(0.5)
    assert {"anthropic.claude-v2": 2} == others.calls
    others.provider.force_flush()
    others.provider.shutdown()
    assert [] == caplog.records


def test_callbacks_of_others_are_not_run(others: Others) -> None:
    """Who collects from this reader runs no callback: a scrape that runs them does so once."""
    runs: list[object] = []

    def observe(options: CallbackOptions) -> list[Observation]:
        runs.append(options)
        return [Observation(1)]

    others.provider.get_meter("other").create_observable_counter("c", [observe])
    others.reader.collect()
    others.reader.force_flush()
    others.reader.cells()
    assert [] == runs

    others.memory.get_metrics_data()
    assert 1 == len(runs)


def test_unrelated_instruments_leave_nothing(others: Others) -> None:
    """Of what is not read there is neither a series nor any storage."""
    counter = others.provider.get_meter("other").create_counter("requests")
    for number in range(1000):
        counter.add(1, {"number": number})

    consumer: Any = others.provider._measurement_consumer
    storage = consumer._reader_storages[others.reader]
    assert {} == storage._instrument_view_instrument_matches
    assert [None] == list(others.reader._feeds.values())
    assert {} == others.cells


def test_no_sdk(unset: None) -> None:
    """There is nothing to read where no SDK is, be it only so far."""
    from opentelemetry import metrics

    reader = ForeignReader(Ledger(10, COLUMNS), nothing_patched)
    proxy = metrics.get_meter_provider()
    assert [False, False] == [reader.attach(proxy), reader.attach(metrics.NoOpMeterProvider())]

    meter = proxy.get_meter(BOTOCORE)
    metrics.set_meter_provider(MeterProvider())
    assert reader.attach(proxy)
    meter.create_histogram(DURATION).record(0.5, CLAUDE)
    assert [1] == [totals.calls for _, totals in reader.cells()]


def test_an_sdk_of_another_build(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """An SDK that has no such storage is left alone, with one line that says what is missing."""
    provider: Any = MeterProvider()
    calls: list[object] = []
    other = SimpleNamespace(add_metric_reader=calls.append, remove_metric_reader=calls.append, collect=None)
    monkeypatch.setattr(provider, "_measurement_consumer", other)
    reader = ForeignReader(Ledger(10, COLUMNS), nothing_patched)

    assert [False, False] == [reader.attach(provider) for _ in range(2)]
    assert [reader, reader] == calls
    (record,) = caplog.records
    assert "missing on the pages of the dialects" in record.getMessage()


def test_the_provider_is_not_kept() -> None:
    """A reader that somebody keeps does not keep the provider alive."""
    provider = MeterProvider(shutdown_on_exit=False)
    reader = ForeignReader(Ledger(10, COLUMNS), nothing_patched)
    reader.attach(provider)
    reference = weakref.ref(provider)
    del provider
    gc.collect()

    assert reference() is None
    reader.detach()


def test_a_fault_stays_here(others: Others, quiet: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake of ours is not the caller's, who records on."""
    monkeypatch.setattr(others.reader, "_cell", None)
    others.record(0.5)

    assert {"ForeignReader._take": 1} == faults.counts


def test_odd_attributes(others: Others) -> None:
    """Attributes of any type, or none at all, break nothing."""
    others.record(0.5, {})
    others.record(0.5, {"gen_ai.request.model": ["a", "b"], "gen_ai.system": 5, "server.port": "443"})
    others.provider.get_meter("my.app").create_histogram(DURATION).record(0.5)

    assert [("aws.bedrock", 2), ("unknown", 1)] == [
        (each.provider, totals.calls) for each, totals in others.reader.cells()
    ]


# Totals


def test_the_cap() -> None:
    """Facts beyond the cap are one row, and one for each class of failure; what was in stays in."""
    others = Others(max_series=3)
    for _ in range(2):
        for number in range(10):
            others.record(0.5, gen_ai__request__model=f"m{number}")
            others.record(0.5, gen_ai__request__model=f"m{number}", error__type="ThrottlingException")
            others.tokens(5, "input", gen_ai__request__model=f"m{number}")

    cells = others.cells

    assert [False, False, False, True, True] == [facts.overflow for facts in cells]
    assert 40 == sum(totals.calls for totals in cells.values())
    assert [2, 2, 2, 16, 18] == sorted(totals.calls for totals in cells.values())
    assert 34 == others.reader.folded
    assert 100 == sum(totals.input_tokens or 0 for totals in cells.values())
    assert ["rate_limit"] == [facts.failure.error_class for facts in cells if facts.overflow and facts.failure]


def test_memory_is_bounded() -> None:
    """Ten thousand models from frameworks and clients do not fill the memory."""
    others = Others(max_series=50)
    for number in range(10_000):
        others.record(0.5, gen_ai__request__model=f"m{number}", scope=(LANGCHAIN, "my.app")[number % 2])

    reader = others.reader
    assert max(len(reader._cells), len(reader._frameworks), len(reader._told), len(reader._sources)) <= 50
    assert 10_000 == sum(totals.calls for totals in others.cells.values())


def test_other_buckets(others: Others) -> None:
    """Where the dialects change, counts go where the ledger's go: to the upper end of the bucket they were in."""

    def up_to(bound: float) -> int:
        ((totals,), bounds) = others.cells.values(), others.ledger.columns.bounds["duration"]
        return sum(totals.counts[: bounds.index(bound) + 1])

    others.record(0.5)
    others.tokens(7, "input")
    before = [(bound, up_to(bound)) for bound in others.ledger.columns.bounds["duration"]]
    others.ledger.keep(Columns({"duration": (0.15, 0.17, 0.49, 0.51)}))
    others.record(0.16)

    assert [0, 1, 1] == [up_to(bound) for bound in (0.15, 0.17, 0.49)]
    assert [count + (bound > 0.16) for bound, count in before] == [up_to(bound) for bound, _ in before]


def test_threads(others: Others) -> None:
    """No point is lost between threads, and no total falls meanwhile."""
    seen: list[int] = []
    done = threading.Event()

    def scrape() -> None:
        while not done.is_set():
            seen.append(sum(others.calls.values()))

    def work() -> None:
        histogram = others.provider.get_meter(BOTOCORE).create_histogram(DURATION)
        for number in range(500):
            histogram.record(0.5, {**CLAUDE, "gen_ai.request.model": f"m{number % 7}"})

    scraper = threading.Thread(target=scrape)
    workers = [threading.Thread(target=work) for _ in range(4)]
    for thread in (scraper, *workers):
        thread.start()
    for thread in workers:
        thread.join()
    done.set()
    scraper.join()

    assert 2000 == sum(others.calls.values())
    assert sorted(seen) == seen


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_fork(others: Others) -> None:
    """A lock that is held at the fork does not hang the child."""
    others.record(0.5)
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with others.reader._lock:
            held.set()
            done.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait()
    child = os.fork()
    if child == 0:
        signal.alarm(10)
        others.record(0.5)
        os._exit(sum(others.calls.values()))
    done.set()
    holder.join()
    assert 2 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("before", [True, False])
def test_who_mounts_a_page_wants_to_see_them(monkeypatch: pytest.MonkeyPatch, before: bool) -> None:
    """With a provider of one's own, points are seen from when an application with the pages is made."""
    monkeypatch.setattr(serving, "_asked_for", False)
    provider = MeterProvider()
    if before:
        otel_llm.make_wsgi_app()
    otel_llm.instrument(meter_provider=provider, tracer_provider=TracerProvider())
    if not before:
        otel_llm.make_wsgi_app()
    provider.get_meter(BOTOCORE).create_histogram(DURATION, "s").record(0.5, CLAUDE)
    assert b'llm_requests_total{backend="aws.bedrock"' in otel_llm.generate_latest("llmbackend")


def test_instruments_are_histograms_of_the_sdk(others: Others) -> None:
    """The classes by which kinds are told apart are those that the SDK makes."""
    assert isinstance(others.provider.get_meter("x").create_histogram("y"), Histogram)
