"""Every metric can be created from its declaration, and each choice of vocabulary has the right ones."""

import importlib
from itertools import pairwise
from typing import Final, get_args

import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import Histogram, InMemoryMetricReader

from otel_llm_semconv import attributes, events, measures, metrics, values
from otel_llm_semconv.metrics import Metric, VocabularyChoice

ATTRIBUTES: Final = {value for name, value in vars(attributes).items() if name.isupper()}
HIGH_CARDINALITY: Final = {attributes.OPENAI_RESPONSE_SERVICE_TIER, attributes.OPENAI_RESPONSE_SYSTEM_FINGERPRINT}
CALL: Final = {
    attributes.GEN_AI_OPERATION_NAME,
    attributes.GEN_AI_PROVIDER_NAME,
    attributes.GEN_AI_REQUEST_MODEL,
    attributes.GEN_AI_RESPONSE_MODEL,
    attributes.SERVER_ADDRESS,
    attributes.SERVER_PORT,
}

RELEASED: Final = {
    "gen_ai.client.operation.duration",
    "gen_ai.client.operation.time_to_first_chunk",
    "gen_ai.client.token.usage",
}
LATEST: Final = {
    "gen_ai.client.operation.duration",
    "gen_ai.client.inference.duration",
    "gen_ai.client.inference.time_to_first_chunk",
    "gen_ai.client.inference.usage.input_tokens",
    "gen_ai.client.inference.usage.output_tokens",
    "gen_ai.client.inference.usage.cache_read.input_tokens",
    "gen_ai.client.inference.usage.cache_write.input_tokens",
    "gen_ai.client.inference.usage.reasoning.output_tokens",
    "gen_ai.client.inference.operation.input_tokens",
    "gen_ai.client.inference.operation.output_tokens",
}
START: Final = CALL - {attributes.GEN_AI_RESPONSE_MODEL}

OWN: Final = {
    "otel_llm.client.active": ("updowncounter", "{call}", START),
    "otel_llm.client.retries": ("counter", "{retry}", CALL | {"otel_llm.retry.reason"}),
    "otel_llm.client.ratelimit.requests.remaining": ("gauge", "{request}", START),
    "otel_llm.client.ratelimit.requests.limit": ("gauge", "{request}", START),
    "otel_llm.client.ratelimit.tokens.remaining": ("gauge", "{token}", START),
    "otel_llm.client.ratelimit.tokens.limit": ("gauge", "{token}", START),
    "otel_llm.client.time_to_first_text": ("histogram", "s", CALL),
    "otel_llm.client.chunk.gap": ("histogram", "s", CALL),
    "otel_llm.client.chunk.gap.max": ("histogram", "s", CALL),
    "otel_llm.client.output.rate": ("histogram", "{token}/s", CALL),
    "otel_llm.client.tokens": ("counter", "{token}", CALL | {"otel_llm.token.kind"}),
    "otel_llm.server.load.duration": ("histogram", "s", CALL),
    "otel_llm.server.prompt.duration": ("histogram", "s", CALL),
    "otel_llm.server.generation.duration": ("histogram", "s", CALL),
    "otel_llm.server.output.rate": ("histogram", "{token}/s", CALL),
    "otel_llm.internal.faults": ("counter", "{fault}", {"otel_llm.fault.place"}),
    "otel_llm.internal.folded": ("counter", "{call}", set[str]()),
}

MODEL: Final = "gen_ai.request.model"
PRIORITY: Final = "otel_llm.queue.priority"
BY_HAND: Final = {
    "otel_llm.errors": ("counter", "{error}", {"error.type", "gen_ai.provider.name", MODEL}),
    "otel_llm.rate_limits": ("counter", "{request}", {"otel_llm.client.id"}),
    "otel_llm.queue.size": ("updowncounter", "{request}", {MODEL, PRIORITY}),
    "otel_llm.queue.wait.duration": ("histogram", "s", {MODEL, PRIORITY}),
    "otel_llm.queue.requests": ("counter", "{request}", {MODEL, PRIORITY}),
    "otel_llm.queue.rejected": ("counter", "{request}", {MODEL, PRIORITY}),
    "otel_llm.queue.workers": ("updowncounter", "{worker}", {MODEL}),
    "otel_llm.model.info": ("gauge", "1", {MODEL, "otel_llm.model.version", "otel_llm.model.base_url"}),
    "otel_llm.model.load.duration": ("histogram", "s", {MODEL}),
    "otel_llm.memory.usage": ("gauge", "By", {MODEL, "otel_llm.memory.type"}),
    "otel_llm.circuit_breaker.state": ("gauge", "1", {MODEL}),
    "otel_llm.circuit_breaker.failures": ("counter", "{failure}", {MODEL}),
    "otel_llm.cache.hits": ("counter", "{request}", {"otel_llm.cache.type"}),
    "otel_llm.cache.misses": ("counter", "{request}", {"otel_llm.cache.type"}),
    "otel_llm.rate_limit.wait.duration": ("histogram", "s", {MODEL}),
    "otel_llm.memory.operations": ("counter", "{operation}", {"otel_llm.memory.operation"}),
    "otel_llm.backend.health": ("gauge", "1", {"otel_llm.backend.name"}),
    "otel_llm.step.duration": (
        "histogram",
        "s",
        {"otel_llm.step.name", "gen_ai.workflow.name", "error.type"},
    ),
}

every_metric = pytest.mark.parametrize("metric", [*metrics.ALL, *measures.OWN], ids=lambda metric: metric.name)


@every_metric
def test_metric_is_complete(metric: Metric) -> None:
    """Each metric has a unit, a description that is a sentence, a source and a vocabulary."""
    assert metric.unit
    assert metric.description.endswith(".")
    assert metric.source
    assert metric.vocabularies
    assert set(metric.vocabularies) <= set(get_args(metrics.Vocabulary))
    assert metric.kind in get_args(metrics.Kind)
    assert metric.value_type in (int, float)


@every_metric
def test_instrument_can_be_created(metric: Metric) -> None:
    """The SDK accepts each declaration as it stands and keeps its name, unit, description and boundaries."""
    reader = InMemoryMetricReader()
    meter = MeterProvider([reader], shutdown_on_exit=False).get_meter("test")
    text = {"name": metric.name, "unit": metric.unit, "description": metric.description}
    match metric.kind:
        case "histogram":
            boundaries = list(metric.boundaries)
            meter.create_histogram(**text, explicit_bucket_boundaries_advisory=boundaries).record(metric.value_type(1))
        case "counter":
            meter.create_counter(**text).add(metric.value_type(1))
        case "updowncounter":
            meter.create_up_down_counter(**text).add(metric.value_type(1))
        case "gauge":
            meter.create_gauge(**text).set(metric.value_type(1))
    data = reader.get_metrics_data()
    assert data is not None
    (exported,) = data.resource_metrics[0].scope_metrics[0].metrics
    assert (exported.name, exported.unit, exported.description) == (metric.name, metric.unit, metric.description)
    if isinstance(exported.data, Histogram):
        assert tuple(exported.data.data_points[0].explicit_bounds) == metric.boundaries


@every_metric
def test_boundaries_belong_to_histograms(metric: Metric) -> None:
    """Histograms have rising boundaries above zero, other instruments none."""
    assert bool(metric.boundaries) is (metric.kind == "histogram")
    assert all(0 < low < high for low, high in pairwise(metric.boundaries))


@every_metric
def test_seconds_are_floats(metric: Metric) -> None:
    """What is measured in seconds is a float, what is counted per operation is an int."""
    assert metric.value_type is (float if metric.unit in ("s", "{token}/s") else int)


@every_metric
def test_attributes_are_declared(metric: Metric) -> None:
    """Each metric uses declared attributes, none twice, and none that would begin new series for ever."""
    assert set(metric.attributes) <= ATTRIBUTES
    assert len(set(metric.attributes)) == len(metric.attributes)
    assert HIGH_CARDINALITY.isdisjoint(metric.attributes)


@pytest.mark.parametrize("metric", metrics.CLIENT, ids=lambda metric: metric.name)
def test_client_metrics_share_the_call(metric: Metric) -> None:
    """Client metrics have the six attributes of a call, and beside them only what the convention adds."""
    assert set(metric.attributes) >= CALL
    added = set(metric.attributes) - CALL
    if metric.name.endswith("token.usage"):
        assert added == {"gen_ai.token.type"}
    elif ".usage." in metric.name:
        assert added == {"gen_ai.token.modality"}
    elif "chunk" in metric.name:
        assert added == set()
    else:
        assert added == {"error.type"}


def test_own_metrics() -> None:
    """Our own metrics are exactly these, with these units and attributes."""
    assert {metric.name: (metric.kind, metric.unit, set(metric.attributes)) for metric in metrics.OWN} == OWN
    assert {metric.vocabularies for metric in metrics.OWN} == {("otel_llm",)}


def test_measures() -> None:
    """What is told by hand is exactly this: the metrics of the conventions for blocks, and these of ours."""
    ours = {metric.name: (metric.kind, metric.unit, set(metric.attributes)) for metric in measures.OWN}

    assert BY_HAND == ours
    assert {("otel_llm",)} == {metric.vocabularies for metric in measures.OWN}
    assert {
        "workflows": "gen_ai.invoke_workflow.duration",
        "tools": "gen_ai.execute_tool.duration",
        "agents": "gen_ai.invoke_agent.duration",
    } == {name: metric.name for name, metric in measures.MEASURES.items() if metric not in measures.OWN}
    names = [metric.name for metric in (*metrics.ALL, *measures.OWN)]
    assert len(names) == len(set(names))


def test_labels_of_measures() -> None:
    """Each attribute of what is told by hand is made from a label or from a fact that calls have, and none is spare."""
    used = {name for metric in measures.MEASURES.values() for name in metric.attributes}

    assert used - measures.LABELS.keys() <= CALL | {attributes.ERROR_TYPE, attributes.OTEL_LLM_MODEL_BASE_URL}
    assert measures.LABELS.keys() <= used
    assert len(set(measures.LABELS.values())) == len(measures.LABELS)
    assert [0, 1, 2] == list(values.CIRCUIT_BREAKER_STATES.values())
    assert all(
        state in measures.MEASURES["circuit_breaker_state"].description for state in values.CIRCUIT_BREAKER_STATES
    )


@pytest.mark.parametrize(("choice", "names"), [("released", RELEASED), ("latest", LATEST), ("both", RELEASED | LATEST)])
def test_vocabulary_choice(choice: VocabularyChoice, names: set[str]) -> None:
    """A choice gives the client metrics of its vocabularies, each once, without those that need work per chunk."""
    chosen = metrics.in_vocabulary(choice)
    assert {metric.name for metric in chosen} == names
    assert len(chosen) == len(names)


def test_unknown_choice_is_refused() -> None:
    """A choice that does not exist is an error, not an empty set of metrics."""
    with pytest.raises(KeyError):
        metrics.in_vocabulary("newest")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_choices_match_their_type() -> None:
    """The table of choices has exactly the values its type allows."""
    assert set(metrics.VOCABULARY_CHOICES) == set(get_args(VocabularyChoice))


def test_collections_hold_everything() -> None:
    """Each metric and event a module declares is in its `ALL`, once, and can be found by name."""
    declared = [item for item in vars(metrics).values() if isinstance(item, Metric)]
    assert sorted(metrics.ALL) == sorted(declared)
    assert [metrics.BY_NAME[metric.name] for metric in metrics.ALL] == list(metrics.ALL)
    assert list(events.ALL) == [item for item in vars(events).values() if isinstance(item, events.Event)]


@pytest.mark.parametrize("module", ["_incubating.metrics.gen_ai_metrics", "metrics.http_metrics"])
def test_metrics_of_opentelemetry_are_here(module: str) -> None:
    """Client metrics and GenAI server metrics of the installed conventions are declared alike."""
    theirs = vars(importlib.import_module(f"opentelemetry.semconv.{module}"))
    names = {name: value for name, value in theirs.items() if name.startswith(("GEN_AI_", "HTTP_CLIENT_"))}
    assert names
    assert {name: getattr(metrics, name).name for name in names} == names


def test_http_boundaries_are_those_of_opentelemetry() -> None:
    """The HTTP boundaries are those the installed instrumentations use."""
    semconv = importlib.import_module("opentelemetry.instrumentation._semconv")
    assert list(metrics.HTTP_DURATION_BOUNDARIES) == list(semconv.HTTP_DURATION_HISTOGRAM_BUCKETS_NEW)


def test_event_severities() -> None:
    """Details are DEBUG and exceptions WARN, as the conventions ask; evaluations have no severity."""
    assert [event.severity_number for event in events.ALL] == [5, 13, None]
    assert [event.severity_text for event in events.ALL] == ["DEBUG", "WARN", None]
