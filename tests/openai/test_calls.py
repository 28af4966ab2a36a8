"""Plain calls: each API in each call style, sync and async, gives one whole span and whole metric points."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from otel_llm.testing import Seen
from otel_llm.testing.server import ScriptedServer
from otel_llm_semconv import attributes as names
from tests.openai.styles import ASK, client, has, run_async

Sync = Callable[[Any], Any]


class Answer(BaseModel):
    """What structured output is asked to be."""

    city: str


async def _awaited(made: Any) -> Any:
    return await made


def _beta(client: Any) -> Any:
    """Return the namespace of ``parse`` and ``stream`` helpers, which moved out of beta in 1.92."""
    own = client.chat.completions
    return own if hasattr(own, "parse") else client.beta.chat.completions


def _chat(client: Any, **more: Any) -> Any:
    return client.chat.completions.create(model="gpt-5", messages=ASK, **more)


def _raw(client: Any) -> Any:
    return client.chat.completions.with_raw_response.create(model="gpt-5", messages=ASK)


def _parse(client: Any) -> Any:
    return _beta(client).parse(model="gpt-5", messages=ASK, response_format=Answer)


def _responses(client: Any) -> Any:
    return client.responses.create(model="gpt-5", input="What is the capital of France?")


def _responses_parse(client: Any) -> Any:
    return client.responses.parse(model="gpt-5", input="What is the capital of France?", text_format=Answer)


def _responses_raw(client: Any) -> Any:
    return client.responses.with_raw_response.create(model="gpt-5", input="What is the capital of France?")


def _completions(client: Any) -> Any:
    return client.completions.create(model="gpt-5", prompt="What is the capital of France?")


def _embeddings(client: Any) -> Any:
    return client.embeddings.create(model="text-embedding-3-small", input="What is the capital of France?")


def _embeddings_raw(client: Any) -> Any:
    return client.embeddings.with_raw_response.create(
        model="text-embedding-3-small", input="What is the capital of France?"
    )


PLAIN: dict[str, tuple[Sync, str, str]] = {
    "chat": (_chat, "chat", "chat.completions"),
    "chat raw": (_raw, "chat", "chat.completions"),
    "chat parse": (_parse, "chat", "beta.chat.completions.parse"),
    "responses": (_responses, "chat", "responses"),
    "responses parse": (_responses_parse, "chat", "responses.parse"),
    "responses raw": (_responses_raw, "chat", "responses"),
    "completions": (_completions, "text_completion", "completions"),
    "embeddings": (_embeddings, "embeddings", "embeddings"),
    "embeddings raw": (_embeddings_raw, "embeddings", "embeddings"),
}


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("style", PLAIN)
def test_plain_call(server: ScriptedServer, seen: Seen, style: str, mode: str) -> None:
    """One call is one span with the conventions' attributes, and one point of each metric."""
    make, operation, needs = PLAIN[style]
    if not has(needs):
        pytest.skip(f"this client has no {needs}")

    if mode == "sync":
        make(client(server))
    else:
        run_async(lambda own: _awaited(make(own)), server)

    (span,) = seen.spans
    model = "text-embedding-3-small" if operation == "embeddings" else "gpt-5"
    answered = model if operation == "embeddings" else "gpt-5-2026-10-01"
    host, port = "127.0.0.1", server.port
    attributes = span["attributes"]
    assert f"{operation} {model}" == span["name"]
    assert "client" == span["kind"]
    assert "unset" == span["status"]
    expected = {
        names.GEN_AI_OPERATION_NAME: operation,
        names.GEN_AI_PROVIDER_NAME: "openai",
        names.GEN_AI_REQUEST_MODEL: model,
        names.GEN_AI_RESPONSE_MODEL: answered,
        names.SERVER_ADDRESS: host,
        names.SERVER_PORT: port,
        names.GEN_AI_USAGE_INPUT_TOKENS: 6,
        names.OTEL_LLM_REQUEST_ID: "req_00000001",
    }
    assert expected.items() <= attributes.items()
    assert all(type(expected[name]) is type(attributes[name]) for name in expected)
    assert names.GEN_AI_REQUEST_STREAM not in attributes
    assert names.ERROR_TYPE not in attributes
    assert names.GEN_AI_REQUEST_ENCODING_FORMATS not in attributes
    if operation != "embeddings":
        assert ("stop",) == attributes[names.GEN_AI_RESPONSE_FINISH_REASONS]
        assert attributes[names.GEN_AI_USAGE_OUTPUT_TOKENS] > 0
        assert attributes[names.GEN_AI_RESPONSE_ID]

    series = {
        names.GEN_AI_OPERATION_NAME: operation,
        names.GEN_AI_PROVIDER_NAME: "openai",
        names.GEN_AI_REQUEST_MODEL: model,
        names.GEN_AI_RESPONSE_MODEL: answered,
        names.SERVER_ADDRESS: host,
        names.SERVER_PORT: port,
    }
    (duration,) = seen.points("gen_ai.client.operation.duration")
    assert series == duration["attributes"]
    assert 1 == duration["count"]
    assert (span["end_ns"] - span["start_ns"]) / 1e9 == pytest.approx(duration["sum"], abs=1e-6)
    usage = {
        point["attributes"].pop(names.GEN_AI_TOKEN_TYPE): point for point in seen.points("gen_ai.client.token.usage")
    }
    assert {"input"} | ({"output"} if operation != "embeddings" else set()) == set(usage)
    for kind, point in usage.items():
        assert series == point["attributes"]
        assert attributes[f"gen_ai.usage.{kind}_tokens"] == point["sum"]
    assert [] == seen.points("gen_ai.client.operation.time_to_first_chunk")
    (active,) = seen.points("otel_llm.client.active")
    assert 0 == active["value"]


def test_structured_output_is_json(server: ScriptedServer, seen: Seen) -> None:
    """A schema as response format is output type ``json``."""
    if not has("beta.chat.completions.parse"):
        pytest.skip("this client has no parse")

    completion = _parse(client(server))

    assert isinstance(completion.choices[0].message.parsed, Answer)
    (span,) = seen.spans
    assert "json" == span["attributes"][names.GEN_AI_OUTPUT_TYPE]


def test_request_attributes_as_the_caller_set_them(server: ScriptedServer, seen: Seen) -> None:
    """Every parameter that has a name is there with the convention's type; defaults are absent."""
    _chat(
        client(server),
        temperature=0,
        top_p=1,
        max_tokens=100,
        frequency_penalty=0.5,
        presence_penalty=1,
        seed=7,
        stop="END",
        n=2,
        extra_body={"reasoning_effort": "low", "service_tier": "default"},
    )

    (span,) = seen.spans
    expected: dict[str, Any] = {
        names.GEN_AI_REQUEST_TEMPERATURE: 0.0,
        names.GEN_AI_REQUEST_TOP_P: 1.0,
        names.GEN_AI_REQUEST_MAX_TOKENS: 100,
        names.GEN_AI_REQUEST_FREQUENCY_PENALTY: 0.5,
        names.GEN_AI_REQUEST_PRESENCE_PENALTY: 1.0,
        names.GEN_AI_REQUEST_SEED: 7,
        names.GEN_AI_REQUEST_STOP_SEQUENCES: ("END",),
        names.GEN_AI_REQUEST_CHOICE_COUNT: 2,
        names.GEN_AI_REQUEST_REASONING_LEVEL: "low",
        names.OPENAI_REQUEST_SERVICE_TIER: "default",
        names.GEN_AI_RESPONSE_FINISH_REASONS: ("stop", "stop"),
    }
    got = {name: span["attributes"].get(name) for name in expected}
    assert expected == got
    assert [type(value) for value in expected.values()] == [type(value) for value in got.values()]


def test_an_encoding_that_the_caller_asked_for(server: ScriptedServer, seen: Seen) -> None:
    """The embedding format is reported where the caller named it, not where the client chose it."""
    own = client(server)
    own.embeddings.create(model="m", input="hi", encoding_format="float", dimensions=4)
    own.embeddings.create(model="m", input="hi", encoding_format="base64")
    own.embeddings.create(model="m", input="hi")

    formats = [span["attributes"].get(names.GEN_AI_REQUEST_ENCODING_FORMATS) for span in seen.spans]
    assert [("float",), ("base64",), None] == formats
    assert 4 == seen.spans[0]["attributes"][names.GEN_AI_EMBEDDINGS_DIMENSION_COUNT]


def test_a_client_made_before(server: ScriptedServer) -> None:
    """Clients, resources, bound methods and raw wrappers made before `instrument()` are seen."""
    from otel_llm.testing import capture

    own = client(server)
    resource, bound, raw = own.chat.completions, own.chat.completions.create, own.chat.completions.with_raw_response
    with capture() as seen:
        resource.create(model="gpt-5", messages=ASK)
        bound(model="gpt-5", messages=ASK)
        raw.create(model="gpt-5", messages=ASK)
        bound(model="gpt-5", messages=ASK)

        assert 4 == len(seen.spans)


def test_a_call_by_path(server: ScriptedServer, seen: Seen) -> None:
    """`client.post()` to a known path is the same call."""
    result = client(server).post("/chat/completions", cast_to=dict[str, Any], body={"model": "gpt-5", "messages": ASK})

    assert "gpt-5-2026-10-01" == result["model"]
    (span,) = seen.spans
    assert ("stop",) == span["attributes"][names.GEN_AI_RESPONSE_FINISH_REASONS]


def test_a_call_by_url(server: ScriptedServer, seen: Seen) -> None:
    """An absolute URL or one with a query is the same call, at the host it names."""
    body: Any = {"model": "gpt-5", "messages": ASK}
    elsewhere = openai.OpenAI(
        base_url="http://elsewhere.example/v1", api_key="test", http_client=openai.DefaultHttpxClient(verify=False)
    )
    elsewhere.post(f"{server.base_url}/chat/completions", cast_to=dict[str, Any], body=body)
    elsewhere.close()
    client(server).post("/chat/completions?x=1", cast_to=dict[str, Any], body=body)

    assert [("chat gpt-5", "127.0.0.1", server.port)] * 2 == [
        (span["name"], span["attributes"][names.SERVER_ADDRESS], span["attributes"][names.SERVER_PORT])
        for span in seen.spans
    ]


@pytest.mark.parametrize("streamed", [False, True])
def test_azure(server: ScriptedServer, seen: Seen, streamed: bool) -> None:
    """An Azure client, which rewrites the path, is seen as Azure and carries OpenAI's attributes."""
    settings: Any = {"api_key": "test", "api_version": "2026-01-01", "azure_endpoint": server.url}
    with openai.AzureOpenAI(**settings, http_client=openai.DefaultHttpxClient(verify=False)) as own:
        made = own.chat.completions.create(model="gpt-5", messages=ASK, stream=streamed)
        if streamed:
            list(made)

    (span,) = seen.spans
    assert "azure.ai.openai" == span["attributes"][names.GEN_AI_PROVIDER_NAME]
    assert "chat_completions" == span["attributes"][names.OPENAI_API_TYPE]
    assert "/deployments/gpt-5/" in server.requests[0].path


def test_a_call_that_runs_no_model(server: ScriptedServer, seen: Seen) -> None:
    """A list of models runs no model: a span of its own kind and no point of ``gen_ai.client.*``."""
    client(server).models.list()

    assert ["GET /models"] == [span["name"] for span in seen.spans]
    assert [] == [point for point in seen.metrics if point["name"].startswith("gen_ai.")]


def test_suppressed(server: ScriptedServer, seen: Seen) -> None:
    """Inside ``suppress_instrumentation()`` nothing is recorded."""
    from opentelemetry.instrumentation.utils import suppress_instrumentation

    with suppress_instrumentation():
        _chat(client(server))

    assert [] == seen.all_spans


def test_rate_limits_and_retries(server: ScriptedServer, seen: Seen) -> None:
    """Retries are inside one call, counted by reason; the headroom is that of the last answer."""
    from otel_llm.testing.server import error

    soon = {"retry-after-ms": "1"}
    server.script(
        error(429, headers=soon), error(500, headers=soon), error(409, headers=soon), error(408, headers=soon)
    )

    _chat(client(server, max_retries=4))

    (span,) = seen.spans
    assert "unset" == span["status"]
    assert 4 == span["attributes"][names.OTEL_LLM_RETRIES]
    reasons = {
        point["attributes"][names.OTEL_LLM_RETRY_REASON]: point["value"]
        for point in seen.points("otel_llm.client.retries")
    }
    assert {"rate_limit": 1, "server_error": 1, "conflict": 1, "timeout": 1} == reasons
    for suffix in ("requests.remaining", "requests.limit", "tokens.remaining", "tokens.limit"):
        (point,) = seen.points(f"otel_llm.client.ratelimit.{suffix}")
        assert point["value"] > 0


def test_token_kinds(server: ScriptedServer, seen: Seen) -> None:
    """Cached and reasoning tokens are counted by kind, as the server told them."""
    _chat(client(server), extra_body={"reasoning_effort": "low"})

    kinds = {
        point["attributes"][names.OTEL_LLM_TOKEN_KIND]: point["value"]
        for point in seen.points("otel_llm.client.tokens")
    }
    attributes = seen.spans[0]["attributes"]
    assert 3 == kinds["cache_read"] == attributes[names.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS]
    assert 16 == kinds["reasoning"] == attributes[names.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS]
    assert attributes[names.GEN_AI_USAGE_OUTPUT_TOKENS] == kinds["output"]


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_spans_nest(server: ScriptedServer, seen: Seen, mode: str) -> None:
    """The call's span is a child of the application's, and the HTTP span is a child of the call's."""
    tracer = seen.tracer_provider.get_tracer("application")

    with tracer.start_as_current_span("question"):
        if mode == "sync":
            _chat(client(server))
        else:

            async def ask(own: Any) -> Any:
                return await _chat(own)

            run_async(ask, server)

    by_scope = {span["scope"]: span for span in seen.all_spans}
    call, question = by_scope["otel_llm"], by_scope["application"]
    http = by_scope["opentelemetry.instrumentation.httpx"]
    assert question["span_id"] == call["parent_id"]
    assert call["span_id"] == http["parent_id"]
    assert {call["trace_id"]} == {question["trace_id"], http["trace_id"]}
