"""Metrics: names and attributes by vocabulary, exemplars, the cap, what a server never told."""

from __future__ import annotations

from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics

import otel_llm
from otel_llm import runtime
from otel_llm.call import Call
from otel_llm.ledger import Ledger
from otel_llm.testing import Seen, capture
from otel_llm.testing.server import Reply, ScriptedServer, error
from otel_llm_semconv import attributes as names
from otel_llm_semconv import metrics
from tests.openai.styles import ASK, client

OWN = {
    "otel_llm.client.active",
    "otel_llm.client.retries",
    "otel_llm.client.ratelimit.requests.remaining",
    "otel_llm.client.ratelimit.requests.limit",
    "otel_llm.client.ratelimit.tokens.remaining",
    "otel_llm.client.ratelimit.tokens.limit",
    "otel_llm.client.time_to_first_text",
    "otel_llm.client.chunk.gap",
    "otel_llm.client.chunk.gap.max",
    "otel_llm.client.output.rate",
    "otel_llm.client.tokens",
}
RELEASED = {
    "gen_ai.client.operation.duration",
    "gen_ai.client.operation.time_to_first_chunk",
    "gen_ai.client.token.usage",
}
LATEST = {
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


def _everything(server: ScriptedServer) -> None:
    """Make calls that feed every metric: plain, streamed, retried, failed, embeddings."""
    own = client(server, max_retries=1)
    own.chat.completions.create(model="gpt-5", messages=ASK, extra_body={"reasoning_effort": "low"})
    list(own.chat.completions.create(model="gpt-5", messages=ASK, stream=True, stream_options={"include_usage": True}))
    server.script(error(429, headers={"retry-after-ms": "1"}))
    own.embeddings.create(model="embed", input="hi")
    server.script(error(400))
    with pytest.raises(Exception, match="400"):
        own.chat.completions.create(model="gpt-5", messages=ASK)


@pytest.mark.parametrize(
    ("semconv", "expected"), [("released", RELEASED), ("latest", LATEST), ("both", RELEASED | LATEST)]
)
def test_vocabularies(server: ScriptedServer, semconv: str, expected: set[str]) -> None:
    """One setting chooses the metrics; each has its unit, kind, buckets and declared attributes, and nothing else."""
    with capture(semconv=semconv) as seen:
        _everything(server)
        points = seen.metrics

        assert expected | OWN == {point["name"] for point in points}
        for point in points:
            metric = metrics.BY_NAME[point["name"]]
            assert metric.unit == point["unit"]
            assert {"histogram": "histogram", "gauge": "gauge"}.get(metric.kind, "sum") == point["kind"]
            assert set(point["attributes"]) <= set(metric.attributes)
            if metric.kind == "histogram":
                assert list(metric.boundaries) == point["bounds"]


@pytest.mark.parametrize(("semconv", "chat", "embeddings"), [("released", 1, 1), ("latest", 0, 1), ("both", 1, 1)])
def test_durations_are_recorded_once(server: ScriptedServer, semconv: str, chat: int, embeddings: int) -> None:
    """The duration that both vocabularies know is recorded once, and not for inference in the latest one."""
    with capture(semconv=semconv) as seen:
        client(server).chat.completions.create(model="gpt-5", messages=ASK)
        client(server).embeddings.create(model="embed", input="hi")

        counts = {
            point["attributes"][names.GEN_AI_OPERATION_NAME]: point["count"]
            for point in seen.points("gen_ai.client.operation.duration")
        }
        assert {"chat": chat, "embeddings": embeddings} == {"chat": 0, **counts}
        assert (semconv != "released") == bool(seen.points("gen_ai.client.inference.duration"))


def test_latest_token_counters(server: ScriptedServer) -> None:
    """Tokens that the provider does not break down are of unknown modality, and the parts add up."""
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 4,
        "total_tokens": 14,
        "prompt_tokens_details": {"audio_tokens": 3, "cached_tokens": 0},
    }
    server.script(Reply(json={"id": "1", "model": "m", "choices": [], "usage": usage}))
    with capture(semconv="latest") as seen:
        client(server).chat.completions.create(model="gpt-5", messages=ASK)

        def counted(kind: str) -> dict[str, int]:
            return {
                point["attributes"][names.GEN_AI_TOKEN_MODALITY]: point["value"]
                for point in seen.points(f"gen_ai.client.inference.usage.{kind}")
            }

        assert {"audio": 3, "unknown": 7} == counted("input_tokens")
        assert {"unknown": 4} == counted("output_tokens")
        assert {"unknown": 0} == counted("cache_read.input_tokens")
        assert {} == counted("reasoning.output_tokens")
        assert 3 == seen.spans[0]["attributes"]["gen_ai.usage.audio.input_tokens"]


@pytest.mark.parametrize("semconv", ["released", "latest", "both"])
def test_what_was_not_sent_is_absent(server: ScriptedServer, semconv: str) -> None:
    """A stream without usage leaves no token point and no token attribute, in every vocabulary."""
    with capture(semconv=semconv) as seen:
        list(client(server).chat.completions.create(model="gpt-5", messages=ASK, stream=True))

        assert [] == [point for point in seen.metrics if "token" in point["name"] and "ratelimit" not in point["name"]]
        assert [] == [name for name in seen.spans[0]["attributes"] if "usage" in name]


@pytest.mark.parametrize("semconv", ["released", "latest"])
def test_totals_that_otlp_cannot_carry(server: ScriptedServer, semconv: str) -> None:
    """However large the sums of what servers tell get, every metric can be exported, the others with it."""
    most = 2**63 - 1
    details = {"cached_tokens": most, "cache_write_tokens": most}
    usage = {"prompt_tokens": most, "completion_tokens": most, "prompt_tokens_details": details}
    usage["completion_tokens_details"] = {"reasoning_tokens": most}
    with capture(semconv=semconv) as seen:
        for _ in range(3):
            server.script(Reply(json={"object": "chat.completion", "model": "gpt-5", "choices": [], "usage": usage}))
            client(server).chat.completions.create(model="gpt-5", messages=ASK)
        data = seen._reader.get_metrics_data()
        assert data is not None
        scopes = encode_metrics(data).resource_metrics[0].scope_metrics

    sent = [metric for scope in scopes for metric in scope.metrics]
    sums = [metric for metric in sent if metric.HasField("sum") and "tokens" in metric.name]
    assert sums
    assert {most} == {point.as_int for metric in sums for point in metric.sum.data_points}


def test_exemplars(server: ScriptedServer, seen: Seen) -> None:
    """A duration point carries the trace and span of its call as exemplar."""
    client(server).chat.completions.create(model="gpt-5", messages=ASK)

    (span,) = seen.spans
    (point,) = seen.points("gen_ai.client.operation.duration")
    (exemplar,) = point["exemplars"]
    assert (span["trace_id"], span["span_id"]) == (exemplar["trace_id"], exemplar["span_id"])


def test_the_same_keys_for_every_kind_of_call(server: ScriptedServer, seen: Seen) -> None:
    """Plain, streamed and failed calls share one set of attribute keys; keys may be missing, never extra."""
    _everything(server)

    keys: dict[str, set[frozenset[str]]] = {}
    for point in seen.metrics:
        keys.setdefault(point["name"], set()).add(frozenset(point["attributes"]))
    for name, sets in keys.items():
        assert frozenset[str]().union(*sets) <= set(metrics.BY_NAME[name].attributes)
    every = {key for sets in keys.values() for some in sets for key in some}
    assert not [key for key in every if "fingerprint" in key or "tier" in key or key.endswith(".id")]


def test_cap(server: ScriptedServer) -> None:
    """Beyond the cap each metric has one more series, which says so, and nothing is lost from the sums."""
    with capture(max_series=3) as seen:
        own = client(server)
        for number in range(8):
            own.chat.completions.create(model=f"model-{number}", messages=ASK)

        points = seen.points("gen_ai.client.operation.duration")
        assert 4 == len(points)
        assert 8 == sum(point["count"] for point in points)
        assert [5] == [point["count"] for point in points if point["attributes"] == {"otel.metric.overflow": True}]
        tokens = seen.points("otel_llm.client.tokens")
        assert 4 == len(tokens)
        assert 8 * (6 + 8 + 3) == sum(point["value"] for point in tokens)


def test_ten_thousand_models_in_bounded_memory() -> None:
    """Ten thousand models leave no more rows and series than the cap allows."""
    ledger = Ledger(100)
    for number in range(10_000):
        call = Call()
        call.operation, call.request_model = "chat", f"model-{number}"
        ledger.begin(call)
        call.series = ("chat", "openai", call.request_model, None, None, None)
        call.input_tokens = 2
        ledger.end(call)

    assert 101 == len(ledger.rows) == len(ledger.lanes)
    assert 20_000 == sum(row.input or 0 for row in ledger.rows.values())
    assert 0 == sum(lane.active for lane in ledger.lanes.values())


def test_counters_go_on_after_another_instrument(server: ScriptedServer) -> None:
    """With the same providers, counters continue where they were, and nothing is observed twice."""
    from otel_llm.testing import Seen as InMemory

    seen = InMemory()
    for team in ("search", "chat"):
        with otel_llm.instrument(
            tracer_provider=seen.tracer_provider,
            meter_provider=seen.meter_provider,
            serve=False,
            labels={"team": team},
        ):
            client(server).chat.completions.create(model="gpt-5", messages=ASK)

    inputs = [
        point
        for point in seen.points("otel_llm.client.tokens")
        if point["attributes"][names.OTEL_LLM_TOKEN_KIND] == "input"
    ]
    assert [12] == [point["value"] for point in inputs]
    (duration,) = seen.points("gen_ai.client.operation.duration")
    assert 2 == duration["count"]
    assert ["search", "chat"] == [span["attributes"]["otel_llm.label.team"] for span in seen.spans]
    seen.tracer_provider.shutdown()
    seen.meter_provider.shutdown()


def test_keys_match_the_declared_attributes() -> None:
    """Every metric of calls declares the attributes of a call first, in the order of `Call.series`."""
    series = (
        names.GEN_AI_OPERATION_NAME,
        names.GEN_AI_PROVIDER_NAME,
        names.GEN_AI_REQUEST_MODEL,
        names.GEN_AI_RESPONSE_MODEL,
        names.SERVER_ADDRESS,
        names.SERVER_PORT,
    )
    start = tuple(name for name in series if name != names.GEN_AI_RESPONSE_MODEL)
    by_start = {metrics.OTEL_LLM_CLIENT_ACTIVE.name, *(m.name for m in metrics.OWN if "ratelimit" in m.name)}
    for metric in (*metrics.CLIENT, *metrics.OWN):
        if metric in (metrics.OTEL_LLM_INTERNAL_FAULTS, metrics.OTEL_LLM_INTERNAL_FOLDED):
            continue
        expected = start if metric.name in by_start else series
        assert expected == metric.attributes[: len(expected)], metric.name
        assert len(metric.attributes) <= len(expected) + 1


def test_labels_and_attributes(server: ScriptedServer) -> None:
    """Labels and attributes of a block are on the spans of the calls inside, the inner block's first."""
    with capture(labels={"team": "search"}) as seen:
        own = client(server)
        with (
            otel_llm.labels(task_type="extraction", graph="a"),
            otel_llm.labels(graph="b"),
            otel_llm.attributes({names.GEN_AI_CONVERSATION_ID: "c1"}),
        ):
            own.chat.completions.create(model="gpt-5", messages=ASK)
        own.chat.completions.create(model="gpt-5", messages=ASK)

        inside, outside = (span["attributes"] for span in seen.spans)
        assert ("search", "extraction", "b", "c1") == (
            inside["otel_llm.label.team"],
            inside["otel_llm.label.task_type"],
            inside["otel_llm.label.graph"],
            inside[names.GEN_AI_CONVERSATION_ID],
        )
        assert ["otel_llm.label.team"] == [name for name in outside if "label" in name]


@pytest.mark.parametrize("labels", [{"team": 3}, {"team": None}])
def test_labels_must_be_strings(labels: Any) -> None:
    """A label that is no string is one clear TypeError."""
    with pytest.raises(TypeError, match="team must be a string"), otel_llm.labels(**labels):
        pass


def test_what_is_folded_is_told() -> None:
    """Calls beyond the cap on label sets are counted in a metric of their own, which is not there before."""
    with capture(max_series=2) as seen:
        telemetry = runtime.join()
        assert telemetry is not None
        for number in range(5):
            call = Call()
            call.operation, call.provider, call.request_model = "chat", "openai", f"m{number}"
            telemetry.begin(call)
            telemetry.end(call)
            assert max(0, number - 1) == sum(point["value"] for point in seen.points("otel_llm.internal.folded"))
