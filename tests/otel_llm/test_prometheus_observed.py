"""What is observed from the ledger reaches our page past the SDK, and the page is what it is by way of the SDK."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from typing import Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Observation
from opentelemetry.sdk.metrics import MeterProvider, ObservableCounter
from opentelemetry.sdk.metrics.export import InMemoryMetricReader, MetricReader
from opentelemetry.sdk.metrics.view import DropAggregation, View
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry

import otel_llm
from otel_llm import runtime, sdk
from otel_llm.prometheus import PrometheusReader, shortcut, writer
from otel_llm.prometheus.reader import page
from otel_llm.testing import capture
from otel_llm.testing.server import ScriptedServer, error
from otel_llm_openai import OpenAIInstrumentor
from otel_llm_semconv import SCHEMA_URL
from otel_llm_semconv import attributes as names
from otel_llm_semconv.metrics import (
    GEN_AI_CLIENT_INFERENCE_USAGE_INPUT_TOKENS,
    OTEL_LLM_CLIENT_TOKENS,
)
from tests.openai.styles import ASK, client

from .prometheus_pages import assert_valid, close_all, only, provider, values

TOKENS = OTEL_LLM_CLIENT_TOKENS.name
TOKENS_TOTAL = "otel_llm_client_tokens_total"


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    """Leave no page behind."""
    yield
    otel_llm.uninstrument()
    close_all()


def _calls(server: ScriptedServer, *models: str) -> None:
    """Make calls that feed every metric: plain, streamed, retried, failed, embeddings."""
    own = client(server, max_retries=1)
    for model in models:
        own.chat.completions.create(model=model, messages=ASK, extra_body={"reasoning_effort": "low"})
        usage = {"include_usage": True}
        list(own.chat.completions.create(model=model, messages=ASK, stream=True, stream_options=usage))
        server.script(error(429, headers={"retry-after-ms": "1"}))
        own.embeddings.create(model=model, input="hi")
    server.script(error(400))
    with pytest.raises(Exception, match="400"):
        own.chat.completions.create(model=models[0], messages=ASK)


def _instrument(meter_provider: MeterProvider, **settings: Any) -> None:
    otel_llm.instrument(tracer_provider=TracerProvider(), meter_provider=meter_provider, serve=False, **settings)


def _page(registry: CollectorRegistry) -> tuple[bytes, bytes]:
    """Return the page in both formats."""
    return writer.TEXT.write(page(registry)), writer.OPENMETRICS.write(page(registry))


def _by_way_of_the_sdk(registry: CollectorRegistry) -> tuple[bytes, bytes]:
    """Return the page in both formats, as it is where nothing takes the shortcut."""

    def none(*args: object) -> None:
        """Let nothing pass."""

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shortcut, "_passing", none)
        return _page(registry)


def _carried(reader: MetricReader, name: str = TOKENS) -> int:
    """Return how many points of a metric the SDK carries to the reader for a page."""
    collect: Any = reader._collect
    with shortcut.opened(reader):
        return _points(collect(reader), name)


def _points(data: Any, name: str = TOKENS) -> int:
    return sum(len(metric.data.data_points) for metric in _metrics(data) if metric.name == name)


def _metrics(data: Any) -> list[Any]:
    scopes = [scope for resource in data.resource_metrics for scope in resource.scope_metrics]
    return [metric for scope in scopes for metric in scope.metrics]


class Own:
    """A provider of calls, with a page."""

    def __init__(self, *others: MetricReader, views: Sequence[View] = (), **options: Any) -> None:
        self.registry = CollectorRegistry()
        self.reader = PrometheusReader(registry=self.registry, **options)
        self.provider = provider(self.reader, *others, views=views)

    def models(self) -> set[str]:
        """Return the models of which the page shows tokens."""
        return set(values(self.registry, TOKENS_TOTAL, "gen_ai_request_model"))


@pytest.mark.parametrize("semconv", ["released", "latest"])
@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ({}, {}),
        ({"prefix": "9 shop"}, {}),
        ({"scope_info_enabled": False, "disable_target_info": True}, {}),
        ({"resource_attribute_filter": only("service.name")}, {}),
        ({"max_series": 2}, {}),
        ({}, {"max_series": 3}),
        ({"max_series": 2}, {"max_series": 3}),
    ],
)
def test_the_page_is_that_of_the_sdk(
    server: ScriptedServer, semconv: str, options: dict[str, Any], settings: dict[str, Any]
) -> None:
    """Page for page both ways give the same bytes in both formats: at first, with more calls, with caps exceeded."""
    own = Own(**options)
    _instrument(own.provider, semconv=semconv, **settings)
    assert _by_way_of_the_sdk(own.registry) == _page(own.registry)
    for models in (("gpt-5", 'a "b"\n'), ("gpt-5", "o1", "o2"), ("o3",)):
        _calls(server, *models)
        short = _page(own.registry)
        assert 1 == _carried(own.reader)
        assert short[0].count(TOKENS_TOTAL.encode()) > 4
        assert _by_way_of_the_sdk(own.registry) == short == _page(own.registry)
        assert_valid(own.registry)


@pytest.mark.parametrize("semconv", ["released", "both"])
def test_the_order_is_that_of_the_sdk(server: ScriptedServer, semconv: str) -> None:
    """A reader that has always taken the one way shows the order of one that has always taken the other."""
    registries = CollectorRegistry(), CollectorRegistry()
    own = provider(*(PrometheusReader(registry=registry) for registry in registries))
    _instrument(own, semconv=semconv, inject_usage=False)
    create = client(server).chat.completions.create
    for models in (("a", "b"), ("c", "d"), ("a", "e")):
        # The first one's tokens are not told before the other's.
        list(create(model=models[0], messages=ASK, stream=True))
        create(model=models[1], messages=ASK)
        assert _page(registries[0]) == _by_way_of_the_sdk(registries[1])
        _calls(server, *models)
        assert _page(registries[0]) == _by_way_of_the_sdk(registries[1])


def test_nothing_is_lost_beyond_the_cap(server: ScriptedServer) -> None:
    """What is beyond the cap of our metrics is added up in one series."""
    totals: list[float] = []
    for max_series in (1, 3, 100):
        own = Own()
        _instrument(own.provider, max_series=max_series)
        _calls(server, "a", "b")
        samples = [sample for family in own.registry.collect() for sample in family.samples]
        totals.append(sum(sample.value for sample in samples if sample.name == TOKENS_TOTAL))
        otel_llm.uninstrument()
    assert totals[0] == totals[1] == totals[2] > 0


def test_other_readers_get_everything(server: ScriptedServer) -> None:
    """Readers that are not ours collect all points from the callbacks, before and after a page."""
    memory = InMemoryMetricReader()
    own = Own(memory)
    _instrument(own.provider)
    _calls(server, "a", "b")
    points = _points(memory.get_metrics_data())
    assert points > 4
    _page(own.registry)
    assert (1, points) == (_carried(own.reader), _points(memory.get_metrics_data()))


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("alone", [True, False])
def test_a_collection_within_a_collection(server: ScriptedServer, first: bool, alone: bool) -> None:
    """A callback of somebody's that has another provider collect takes nothing from either."""
    memory = InMemoryMetricReader()
    inner, outer = Own(memory), Own()
    found: list[object] = []

    def observe(options: CallbackOptions) -> Iterable[Observation]:
        found.append(_points(memory.get_metrics_data()))
        inner.reader.force_flush()
        found.append(_page(inner.registry))
        yield Observation(1)

    def nest() -> None:
        outer.provider.get_meter("somebody").create_observable_gauge("g", [observe])

    if first:
        nest()
    for one in outer, inner:
        _instrument(one.provider)
        # The first series is the same in both, and the only one of some metrics in one of them.
        client(server).embeddings.create(model="a", input="hi")
        if not alone:
            client(server).chat.completions.create(model="a", messages=ASK)
        if one is outer:
            _calls(server, "a", "b")
        otel_llm.uninstrument()
    if not first:
        nest()
    expected = [_points(memory.get_metrics_data()), _page(inner.registry)]
    short = _page(outer.registry)
    assert expected * 2 == found
    assert _by_way_of_the_sdk(outer.registry) == short


@pytest.mark.parametrize(
    "view",
    [
        View(instrument_name=TOKENS, name="renamed"),
        View(instrument_name="OTEL_LLM.*", attribute_keys={"gen_ai.request.model"}),
        View(instrument_type=ObservableCounter, aggregation=DropAggregation()),
    ],
)
def test_views_of_ours_work(server: ScriptedServer, view: View) -> None:
    """What a view touches goes by way of the SDK, and the page shows what the view makes of it."""
    own, plain = Own(views=[view]), Own()
    _instrument(own.provider)
    _calls(server, "a", "b")
    assert _by_way_of_the_sdk(own.registry) == _page(own.registry)
    otel_llm.uninstrument()
    _instrument(plain.provider)
    _calls(server, "a", "b")
    assert plain.models() == {"a", "b"}
    assert _lines(plain.registry) != _lines(own.registry)


def _lines(registry: CollectorRegistry) -> list[bytes]:
    return [line for line in _page(registry)[0].splitlines() if b"tokens_total{" in line or b"renamed" in line]


def test_views_of_others_leave_ours_alone(server: ScriptedServer) -> None:
    """A view that touches only what others have does not keep our metrics from the shortcut."""
    own = Own(
        views=[View(meter_name="somebody", name="renamed"), View(instrument_name="g*.duration", attribute_keys=set())]
    )
    _instrument(own.provider)
    _calls(server, "a", "b")
    assert 1 == _carried(own.reader)
    assert _by_way_of_the_sdk(own.registry) == _page(own.registry)


def test_providers_are_kept_apart(server: ScriptedServer) -> None:
    """Two providers on one page, each with a ledger of its own, add up as they did."""
    registry = CollectorRegistry()
    for models in (("a", "b"), ("b", "c")):
        _instrument(provider(PrometheusReader(registry=registry)))
        _calls(server, *models)
        otel_llm.uninstrument()
    assert _by_way_of_the_sdk(registry) == _page(registry)
    found = values(registry, TOKENS_TOTAL, "gen_ai_request_model", "gen_ai_token_kind", "gen_ai_operation_name")
    assert {"a", "b", "c"} == {model for model, *_ in found}


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(("same", "other"), [(False, True), (True, False), (True, True)])
def test_a_name_that_somebody_else_uses_in_our_scope(
    server: ScriptedServer, first: bool, same: bool, other: bool
) -> None:
    """An instrument of the same scope and name is not taken for ours, and the page shows both as it did."""
    memory = InMemoryMetricReader()
    own = Own(memory)
    observed = [Observation(1, {names.GEN_AI_REQUEST_MODEL: "z"})]

    def create() -> None:
        meter = own.provider.get_meter(runtime.SCOPE, version("otel-llm"), SCHEMA_URL)
        meter.create_observable_counter(TOKENS, [lambda _: observed], "{token}")
        own.models()

    if first:
        create()
    _instrument(own.provider)
    _calls(server, "a", "b")
    own.models()
    if not first:
        create()
    ours = next(
        point
        for metric in _metrics(memory.get_metrics_data())
        for point in metric.data.data_points
        if metric.name == TOKENS and point.attributes.get(names.GEN_AI_REQUEST_MODEL) == "a"
    )
    observed[:] = [Observation(ours.value, ours.attributes)] * same + observed * other
    assert {"a", "b"} | ({"z"} if other else set[str]()) == own.models()
    # A reader that comes late meets the points in another order.
    late = CollectorRegistry()
    own.provider.add_metric_reader(PrometheusReader(registry=late))
    for registry in (own.registry, late):
        short = _page(registry)
        assert _by_way_of_the_sdk(registry) == short


def test_two_callbacks_of_one_metric(server: ScriptedServer) -> None:
    """Who comes second is sent by way of the SDK, and who comes first keeps what it left."""
    own = Own()
    counter = own.provider.get_meter("s").create_observable_counter("c")
    short = shortcut.Shortcut(own.reader)
    observations = [shortcut.Observations([{"n": 1}, {"n": 2}], [number, number]) for number in range(2)]
    assert [True, False] == [short.leave(counter, one) for one in observations]


def test_instrumented_again(server: ScriptedServer) -> None:
    """Whoever turns it off and on again, with another vocabulary, goes on with the counters that were there."""
    own = Own()
    _instrument(own.provider)
    _calls(server, "a", "b")
    before = values(own.registry, TOKENS_TOTAL, "gen_ai_request_model", "gen_ai_token_kind")
    otel_llm.uninstrument()
    assert before == values(own.registry, TOKENS_TOTAL, "gen_ai_request_model", "gen_ai_token_kind")
    _instrument(own.provider, semconv="both")
    _calls(server, "a", "c")
    assert {"a", "b", "c"} == own.models()
    assert 1 == _carried(own.reader, GEN_AI_CLIENT_INFERENCE_USAGE_INPUT_TOKENS.name)
    assert _by_way_of_the_sdk(own.registry) == _page(own.registry)


@pytest.mark.usefixtures("unset")
def test_behind_the_proxy(server: ScriptedServer) -> None:
    """What was observed by way of the proxy takes the shortcut once there is a provider."""
    OpenAIInstrumentor().instrument()
    own = Own()
    metrics.set_meter_provider(own.provider)
    trace.set_tracer_provider(TracerProvider())
    _calls(server, "a", "b")
    assert (1, {"a", "b"}) == (_carried(own.reader), own.models())
    assert _by_way_of_the_sdk(own.registry) == _page(own.registry)
    otel_llm.uninstrument()
    _instrument(own.provider)
    _calls(server, "c")
    assert {"a", "b", "c"} == own.models()
    assert _by_way_of_the_sdk(own.registry) == _page(own.registry)


def test_an_adopted_reader(server: ScriptedServer) -> None:
    """Upstream's reader shows the same, and gets every point itself after we have let it go."""
    registry = CollectorRegistry()
    reader = PrometheusMetricReader(registry=registry)
    _instrument(provider(reader))
    _calls(server, "a", "b")
    assert 1 == _carried(reader)
    assert _by_way_of_the_sdk(registry) == _page(registry)
    ours = values(registry, TOKENS_TOTAL, "gen_ai_request_model", "gen_ai_operation_name", "gen_ai_token_kind")
    otel_llm.uninstrument()
    theirs = values(registry, TOKENS_TOTAL, "gen_ai_request_model", "gen_ai_operation_name", "gen_ai_token_kind")
    assert ours == theirs


@pytest.mark.parametrize("room", [-1, 0, 1000])
def test_the_limit_of_the_sdk(server: ScriptedServer, room: int) -> None:
    """What the SDK may fold, as it does from 1.45.2 on, goes by way of it."""
    memory = InMemoryMetricReader()
    own = Own(memory)
    _instrument(own.provider)
    _calls(server, "a", "b")
    points = _points(memory.get_metrics_data())
    kinds: Any = own.reader._instrument_class_temporality
    vars(own.reader)["_instrument_class_cardinality_limit"] = dict.fromkeys(kinds, points + room)
    assert (points if room < 0 else 1) == _carried(own.reader)
    assert _by_way_of_the_sdk(own.registry) == _page(own.registry)


@pytest.mark.parametrize(
    "name", ["_instrument_class_temporality", "_instrument_class_aggregation", "_instrument_class_cardinality_limit"]
)
@pytest.mark.parametrize("unknown", [None, {}, 7])
def test_an_unknown_sdk(server: ScriptedServer, name: str, unknown: object) -> None:
    """Where the SDK's own ways are not known, everything goes by way of it."""
    own = Own()
    _instrument(own.provider)
    _calls(server, "a", "b")
    expected = _page(own.registry)
    # The SDK has made its own copies by now.
    vars(own.reader)[name] = unknown
    if (name, unknown) != ("_instrument_class_cardinality_limit", {}):
        assert 1 < _carried(own.reader)
    assert expected == _page(own.registry)


def test_flushed(server: ScriptedServer) -> None:
    """A flush, which no page asks for, goes by way of the SDK and leaves the next page as it is."""
    own = Own()
    _instrument(own.provider)
    _calls(server, "a", "b")
    expected = _page(own.registry)
    own.provider.force_flush()
    assert expected == _page(own.registry)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_fork_in_the_midst_of_a_scrape(server: ScriptedServer) -> None:
    """A child that is forked while another thread collects finds no lock taken: its calls and its page go on."""
    asked = threading.Event()

    def slow(options: CallbackOptions) -> list[Observation]:
        asked.set()
        time.sleep(0.3)
        return [Observation(1)]

    with capture(serve="127.0.0.1:0") as seen:
        seen.meter_provider.get_meter("shop").create_observable_gauge("slow", [slow])
        scrape = threading.Thread(target=otel_llm.generate_latest)
        scrape.start()
        asked.wait()
        child = os.fork()
        if child == 0:
            signal.alarm(10)
            client(server).chat.completions.create(model="gpt-5", messages=ASK)
            os._exit(0 if otel_llm.generate_latest() else 1)
        scrape.join()
        assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        for reader in sdk.prometheus_readers(seen.meter_provider):
            reader.shutdown()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_in_a_forked_child(server: ScriptedServer) -> None:
    """A forked child shows what its parent had counted, both ways."""
    own = Own()
    _instrument(own.provider)
    _calls(server, "a", "b")
    child = os.fork()
    if child == 0:
        same = False
        try:
            same = _by_way_of_the_sdk(own.registry) == _page(own.registry) and own.models() == {"a", "b"}
        finally:
            os._exit(0 if same else 1)
    assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_collection_that_fails(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A collection that ends in an error leaves nothing of the shortcut behind."""
    own = Own()
    _instrument(own.provider)
    _calls(server, "a", "b")

    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError

    with monkeypatch.context() as patch:
        patch.setattr(own.reader, "_receive_metrics", fail)
        with pytest.raises(RuntimeError):
            page(own.registry)
    assert shortcut.current() is None
    assert {"a", "b"} == own.models()
