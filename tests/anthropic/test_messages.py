"""What messages tell: parameters, usage of every kind, reasons, content, errors inside streams, and other endpoints."""

from __future__ import annotations

import asyncio
import inspect
import json
from collections.abc import Callable
from typing import Any

import pytest

from otel_llm.testing import Seen, capture
from otel_llm.testing.anthropic import CACHED
from otel_llm.testing.server import Reply, ScriptedServer, error, sse
from otel_llm_semconv import attributes as names
from otel_llm_semconv import metrics
from otel_llm_semconv.environment import OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT
from tests.family.clients import CLIENTS, run_async

anthropic: Any = pytest.importorskip("anthropic")

ASK: Any = [{"role": "user", "content": "What is the capital of France?"}]
ASKED: dict[str, Any] = {"model": "claude-opus-5", "max_tokens": 100, "messages": ASK}
TOOL: Any = {
    "name": "get_weather",
    "description": "d",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-opus-5",
    "content": [{"type": "text", "text": "Paris"}],
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "usage": {"input_tokens": 5, "output_tokens": 7},
}


def client(server: ScriptedServer, **options: Any) -> Any:
    """Return a sync client of the server's."""
    return CLIENTS["anthropic"].sync(server, **options)


def only(seen: Seen) -> dict[str, Any]:
    """Return the attributes of the one span."""
    (span,) = seen.spans
    attributes: dict[str, Any] = span["attributes"]
    return attributes


def test_request_parameters(server: ScriptedServer, seen: Seen) -> None:
    """Each parameter with a conventional name is told by it, `top_k` and the tier included."""
    with client(server) as own:
        own.messages.create(
            **ASKED,
            stop_sequences=["END"],
            extra_body={  # which the newest models, and so the newest client, have no keywords for
                "temperature": 0.5,
                "top_p": 0.9,
                "top_k": 40,
                "service_tier": "auto",
                "output_config": {"effort": "high", "format": {"type": "json_schema", "schema": {}}},
            },
        )

    attributes = only(seen)
    expected = {
        names.GEN_AI_REQUEST_MAX_TOKENS: 100,
        names.GEN_AI_REQUEST_TEMPERATURE: 0.5,
        names.GEN_AI_REQUEST_TOP_P: 0.9,
        names.GEN_AI_REQUEST_TOP_K: 40,
        names.GEN_AI_REQUEST_STOP_SEQUENCES: ("END",),
        names.GEN_AI_REQUEST_REASONING_LEVEL: "high",
        names.GEN_AI_OUTPUT_TYPE: "json",
        names.ANTHROPIC_REQUEST_SERVICE_TIER: "auto",
        names.ANTHROPIC_RESPONSE_SERVICE_TIER: "standard",
    }
    assert expected == {name: attributes.get(name) for name in expected}
    assert names.GEN_AI_REQUEST_STREAM not in attributes


@pytest.mark.parametrize("stream", [False, True])
def test_usage(server: ScriptedServer, seen: Seen, stream: bool) -> None:
    """Input tokens are all of them, the cached and the written ones included; thinking is part of the output."""
    with client(server) as own:
        answer = own.messages.create(**ASKED, stream=stream, extra_body={"thinking": {"type": "adaptive"}})
        if stream:
            list(answer)

    attributes = only(seen)
    expected = {
        names.GEN_AI_USAGE_INPUT_TOKENS: 6 + 2 * CACHED,
        names.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: CACHED,
        names.GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS: CACHED,
        names.GEN_AI_USAGE_OUTPUT_TOKENS: 8 + 4,
        names.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS: 4,
    }
    assert expected == {name: attributes.get(name) for name in expected}
    counted = {
        point["attributes"][names.OTEL_LLM_TOKEN_KIND]: point["value"]
        for point in seen.points(metrics.OTEL_LLM_CLIENT_TOKENS.name)
    }
    assert {"input": 12, "output": 12, "cache_read": 3, "cache_write": 3, "reasoning": 4} == counted


def test_usage_that_was_not_sent(server: ScriptedServer, seen: Seen) -> None:
    """Without counts of the cache the input is what it is, and no zeros are made up."""
    server.script(Reply(json=MESSAGE))
    with client(server) as own:
        own.messages.create(**ASKED)

    attributes = only(seen)
    assert (5, 7) == (attributes[names.GEN_AI_USAGE_INPUT_TOKENS], attributes[names.GEN_AI_USAGE_OUTPUT_TOKENS])
    assert names.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS not in attributes
    assert names.GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS not in attributes


def test_a_stream_left_early_tells_its_input_alone(server: ScriptedServer, seen: Seen) -> None:
    """What `message_start` says of the output is a placeholder, and the reason never came."""
    with client(server) as own, own.messages.create(**ASKED, stream=True) as stream:
        for _ in zip(range(3), stream, strict=False):
            pass

    attributes = only(seen)
    assert 12 == attributes[names.GEN_AI_USAGE_INPUT_TOKENS]
    assert names.GEN_AI_USAGE_OUTPUT_TOKENS not in attributes
    assert ("error",) == attributes[names.GEN_AI_RESPONSE_FINISH_REASONS]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_call"),
        ("refusal", "content_filter"),
        ("pause_turn", "pause_turn"),
        (None, "error"),
    ],
)
def test_reasons(server: ScriptedServer, seen: Seen, theirs: str | None, ours: str, stream: bool) -> None:
    """A reason is told by the conventions' word for it, if they have one."""
    delta = {"type": "message_delta", "delta": {"stop_reason": theirs}, "usage": {"output_tokens": 7}}
    start: dict[str, Any] = {"type": "message_start", "message": {**MESSAGE, "content": [], "stop_reason": None}}
    whole = Reply(json={**MESSAGE, "stop_reason": theirs})
    server.script(sse(start, delta, {"type": "message_stop"}, done=False) if stream else whole)
    with client(server) as own:
        answer = own.messages.create(**ASKED, stream=stream)
        if stream:
            list(answer)

    assert (ours,) == only(seen)[names.GEN_AI_RESPONSE_FINISH_REASONS]


OVERLOADED = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}


def test_an_error_inside_a_stream(server: ScriptedServer, seen: Seen) -> None:
    """The exception that the client makes of it ends the call, with what was read before."""
    start = {"type": "message_start", "message": MESSAGE}
    server.script(sse(start, OVERLOADED, done=False))
    with client(server) as own, pytest.raises(anthropic.APIStatusError) as raised:
        list(own.messages.create(**ASKED, stream=True))

    (span,) = seen.spans
    assert f"anthropic.{type(raised.value).__name__}" == span["attributes"][names.ERROR_TYPE]
    assert ("error", 5) == (span["status"], span["attributes"][names.GEN_AI_USAGE_INPUT_TOKENS])


def test_an_error_inside_a_stream_that_is_read_raw(server: ScriptedServer, seen: Seen) -> None:
    """Nobody raises where the bytes are the caller's; the event still makes it an error, by its own type."""
    server.script(sse({"type": "message_start", "message": MESSAGE}, OVERLOADED, done=False))
    with client(server) as own, own.messages.with_streaming_response.create(**ASKED, stream=True) as response:
        got = b"".join(response.iter_bytes())

    assert b"overloaded_error" in got
    (span,) = seen.spans
    assert ("error", "Overloaded") == (span["status"], span["description"])
    assert "overloaded_error" == span["attributes"][names.ERROR_TYPE]


def test_retries(server: ScriptedServer, seen: Seen) -> None:
    """Two failed attempts are two retries of one call."""
    server.script(error(529, headers={"retry-after-ms": "1"}), error(429, headers={"retry-after-ms": "1"}))
    with client(server, max_retries=2) as own:
        own.messages.create(**ASKED)

    assert (3, 2) == (len(server.requests), only(seen)[names.OTEL_LLM_RETRIES])
    reasons = {
        point["attributes"][names.OTEL_LLM_RETRY_REASON] for point in seen.points(metrics.OTEL_LLM_CLIENT_RETRIES.name)
    }
    assert {"server_error", "rate_limit"} == reasons


def test_request_id_and_rate_limits_of_their_headers(server: ScriptedServer, seen: Seen) -> None:
    """The headers have names of their own."""
    own_headers = {
        "x-request-id": None,
        "request-id": "req_theirs",
        **{
            f"anthropic-ratelimit-{what}-{which}": value
            for what, which, value in (
                ("requests", "limit", "50"),
                ("requests", "remaining", "49"),
                ("tokens", "limit", "9000"),
                ("tokens", "remaining", "8000"),
            )
        },
        **{f"x-ratelimit-{which}-{what}": None for which in ("limit", "remaining") for what in ("requests", "tokens")},
    }
    server.script(Reply(json=MESSAGE, headers=own_headers))
    with client(server) as own:
        own.messages.create(**ASKED)

    assert "req_theirs" == only(seen)[names.OTEL_LLM_REQUEST_ID]
    for metric, value in (
        (metrics.OTEL_LLM_CLIENT_RATELIMIT_REQUESTS_LIMIT, 50),
        (metrics.OTEL_LLM_CLIENT_RATELIMIT_REQUESTS_REMAINING, 49),
        (metrics.OTEL_LLM_CLIENT_RATELIMIT_TOKENS_LIMIT, 9000),
        (metrics.OTEL_LLM_CLIENT_RATELIMIT_TOKENS_REMAINING, 8000),
    ):
        assert [value] == [point["value"] for point in seen.points(metric.name)]


BLOCKS: Any = [
    {"type": "thinking", "thinking": "Hm.", "signature": "s"},
    {"type": "text", "text": "I look."},
    {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {"query": "q"}},
    {"type": "web_search_tool_result", "tool_use_id": "srv_1", "content": [{"type": "web_search_result", "url": "u"}]},
    {"type": "tool_use", "id": "t_1", "name": "get_weather", "input": {"city": "Paris"}},
]
PARTS = [
    {"type": "reasoning", "content": "Hm."},
    {"type": "text", "content": "I look."},
    {"type": "tool_call", "id": "srv_1", "name": "web_search", "arguments": {"query": "q"}},
    {"type": "tool_call_response", "id": "srv_1", "response": [{"type": "web_search_result", "url": "u"}]},
    {"type": "tool_call", "id": "t_1", "name": "get_weather", "arguments": {"city": "Paris"}},
]


def _streamed(block: dict[str, Any], index: int) -> list[dict[str, Any]]:
    """Return the events of one block: what grows comes in two pieces."""
    grows = {"thinking": "thinking", "text": "text"}.get(block["type"])
    deltas: list[dict[str, Any]] = []
    empty = dict(block)
    if grows:
        empty[grows] = ""
        deltas = [
            {"type": f"{grows}_delta", grows: block[grows][:2]},
            {"type": f"{grows}_delta", grows: block[grows][2:]},
        ]
    elif "input" in block:
        empty["input"] = {}
        written = json.dumps(block["input"])
        deltas = [{"type": "input_json_delta", "partial_json": part} for part in ("", written[:4], written[4:])]
    return [
        {"type": "content_block_start", "index": index, "content_block": empty},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


@pytest.mark.parametrize("form", ["plain", "stream", "raw", "bytes"])
def test_content(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    """Where content is asked for, it is in the conventions' form: thinking, tools of every kind, their results."""
    monkeypatch.setenv(OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT, "SPAN_ONLY")
    events: list[dict[str, Any]] = [{"type": "message_start", "message": {**MESSAGE, "content": []}}]
    for index, block in enumerate(BLOCKS):
        events += _streamed(block, index)
    events += [{"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 9}}]
    streams = form in ("stream", "bytes")
    server.script(sse(*events, done=False) if streams else Reply(json={**MESSAGE, "content": BLOCKS}))
    asked: Any = {
        **ASKED,
        "system": [{"type": "text", "text": "Be brief."}],
        "extra_body": {"tools": [TOOL, {"type": "web_search_20250305", "name": "web_search"}]},
        "messages": [
            *ASK,
            {"role": "assistant", "content": BLOCKS[4:]},
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "t_1", "content": [{"type": "text", "text": "sunny"}]},
                    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "cGl4"}},
                    {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
                ],
            },
        ],
    }
    with capture() as seen, client(server) as own:
        if form == "bytes":
            with own.messages.with_streaming_response.create(**asked, stream=True) as response:
                b"".join(response.iter_bytes())
        elif form == "raw":
            own.messages.with_raw_response.create(**asked)
        else:
            answer = own.messages.create(**asked, stream=streams)
            if streams:
                list(answer)

        attributes = only(seen)

    told = {
        name: json.loads(attributes[name])
        for name in (
            names.GEN_AI_SYSTEM_INSTRUCTIONS,
            names.GEN_AI_INPUT_MESSAGES,
            names.GEN_AI_OUTPUT_MESSAGES,
            names.GEN_AI_TOOL_DEFINITIONS,
        )
    }
    assert {
        names.GEN_AI_SYSTEM_INSTRUCTIONS: [{"type": "text", "content": "Be brief."}],
        names.GEN_AI_INPUT_MESSAGES: [
            {"role": "user", "parts": [{"type": "text", "content": ASK[0]["content"]}]},
            {"role": "assistant", "parts": PARTS[4:]},
            {
                "role": "user",
                "parts": [
                    {"type": "tool_call_response", "id": "t_1", "response": [{"type": "text", "text": "sunny"}]},
                    {"type": "blob", "modality": "image", "mime_type": "image/png", "content": "cGl4"},
                    {"type": "uri", "modality": "image", "uri": "https://example.com/a.png"},
                ],
            },
        ],
        names.GEN_AI_OUTPUT_MESSAGES: [{"role": "assistant", "parts": PARTS}],
        names.GEN_AI_TOOL_DEFINITIONS: [
            {"type": "function", "name": "get_weather"},
            {"type": "web_search_20250305", "name": "web_search"},
        ],
    } == told


def test_no_content_unless_asked(server: ScriptedServer, seen: Seen) -> None:
    """Neither prompt nor answer is anywhere by default."""
    with client(server) as own:
        own.messages.create(**ASKED, system="secret")

    assert [] == [name for name in only(seen) if name.endswith(("messages", "instructions", "definitions"))]


def test_counting_is_no_inference(server: ScriptedServer, seen: Seen) -> None:
    """Counting tokens has a span of its own kind and no points of `gen_ai.client`."""
    with client(server) as own:
        counts = getattr(own.messages, "count_tokens", None)
        if counts is None:
            pytest.skip("this client counts no tokens")
        assert 6 == counts(model="claude-opus-5", messages=ASK).input_tokens

    (span,) = seen.spans
    assert "count_tokens claude-opus-5" == span["name"]
    assert names.GEN_AI_USAGE_INPUT_TOKENS not in span["attributes"]
    assert [] == seen.points(metrics.GEN_AI_CLIENT_OPERATION_DURATION.name)


BATCH = {"id": "msgbatch_1", "type": "message_batch", "processing_status": "in_progress"}
OTHERS: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "POST /messages/batches": ("messages.batches", lambda own: own.messages.batches.create(requests=[])),
    "GET /messages/batches/{id}": ("messages.batches", lambda own: own.messages.batches.retrieve("msgbatch_1")),
    "POST /messages/batches/{id}/cancel": ("messages.batches", lambda own: own.messages.batches.cancel("msgbatch_1")),
    "GET /models/{id}": ("models", lambda own: own.models.retrieve("claude-opus-5")),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_endpoints(server: ScriptedServer, seen: Seen, name: str) -> None:
    """What runs no model is recorded by its path, without the ids in it, and not counted."""
    needs, make = OTHERS[name]
    server.script(Reply(json=BATCH))
    with client(server) as own:
        found: Any = own
        for part in needs.split("."):
            found = getattr(found, part, None)
        if found is None:
            pytest.skip(f"this client has no {needs}")
        make(own)

    (span,) = seen.spans
    assert name == span["name"]
    assert [] == seen.points(metrics.GEN_AI_CLIENT_OPERATION_DURATION.name)


PLATFORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "aws.bedrock": ("AnthropicBedrock", {"aws_region": "us-east-1", "api_key": "test"}),
    "gcp.vertex_ai": ("AnthropicVertex", {"region": "us-east5", "project_id": "p", "access_token": "t"}),
}


@pytest.mark.parametrize("provider", PLATFORMS)
def test_platforms(server: ScriptedServer, seen: Seen, provider: str) -> None:
    """The clients for Bedrock and Vertex name their platform, and the model that goes into the path."""
    name, options = PLATFORMS[provider]
    made = getattr(anthropic, name)
    if not set(options) <= set(inspect.signature(made).parameters):
        pytest.skip("this client cannot sign without botocore")
    server.script(Reply(json=MESSAGE))
    with made(base_url=server.url, **options) as own:
        own.messages.create(**ASKED)

    attributes = only(seen)
    assert "/v1/messages" not in server.requests[0].path
    assert (provider, "claude-opus-5") == (
        attributes[names.GEN_AI_PROVIDER_NAME],
        attributes[names.GEN_AI_REQUEST_MODEL],
    )
    assert 5 == attributes[names.GEN_AI_USAGE_INPUT_TOKENS]


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_foundry(server: ScriptedServer, seen: Seen, mode: str) -> None:
    """The client for Microsoft Foundry names that platform."""
    name = "AnthropicFoundry" if mode == "sync" else "AsyncAnthropicFoundry"
    made = getattr(anthropic, name, None)
    if made is None:
        pytest.skip("this client knows no Foundry")

    async def call() -> None:
        async with made(base_url=server.url, api_key="test") as own:
            await own.messages.create(**ASKED)

    if mode == "async":
        asyncio.run(call())
    else:
        with made(base_url=server.url, api_key="test") as own:
            own.messages.create(**ASKED)

    assert "azure.ai.inference" == only(seen)[names.GEN_AI_PROVIDER_NAME]


BETA_FORMS: dict[str, Callable[[Any], Any]] = {
    "plain": lambda messages: messages.create(**ASKED),
    "stream": lambda messages: list(messages.create(**ASKED, stream=True)),
    "raw": lambda messages: messages.with_raw_response.create(**ASKED),
    "helper": lambda messages: _final(messages.stream(**ASKED)),
}


def _final(manager: Any) -> Any:
    with manager as stream:
        return stream.get_final_message()


@pytest.mark.parametrize("form", BETA_FORMS)
def test_beta_messages(server: ScriptedServer, seen: Seen, form: str) -> None:
    """Messages of the beta API are the same calls."""
    with client(server) as own:
        if not hasattr(own, "beta") or not hasattr(own.beta, "messages") or not hasattr(own.beta.messages, "stream"):
            pytest.skip("this client has no beta messages")
        BETA_FORMS[form](own.beta.messages)

    (span,) = seen.spans
    assert "/v1/messages" == server.requests[0].path
    assert ("chat claude-opus-5", 12, 8) == (
        span["name"],
        span["attributes"][names.GEN_AI_USAGE_INPUT_TOKENS],
        span["attributes"][names.GEN_AI_USAGE_OUTPUT_TOKENS],
    )
    (duration,) = seen.points(metrics.GEN_AI_CLIENT_OPERATION_DURATION.name)
    assert 1 == duration["count"]


def test_async_helper_tells_the_same(server: ScriptedServer, seen: Seen) -> None:
    """The async stream helper ends its call at the end of the block, with everything."""

    async def call(own: Any) -> str:
        async with own.messages.stream(**ASKED) as stream:
            return str(await stream.get_final_text())

    assert "The capital of France is Paris, of course." == run_async("anthropic", call, server)
    attributes = only(seen)
    assert ("completed", 8) == (
        attributes[names.OTEL_LLM_STREAM_OUTCOME],
        attributes[names.GEN_AI_USAGE_OUTPUT_TOKENS],
    )
