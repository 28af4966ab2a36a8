"""``OTEL_LLM_OPENAI_INJECT_USAGE``: the token counts of streams that nobody asked for, unseen by the caller."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import openai
import pytest
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF

from otel_llm.testing import capture
from otel_llm.testing.server import ScriptedServer
from otel_llm_semconv import attributes as names
from tests.openai.styles import ASK, OUTPUT_TOKENS, PROMPT_TOKENS, aclient, client

Read = Callable[[ScriptedServer], list[Any]]
_NOT_COMPARED = {"id", "created", "usage"}


def chat(server: ScriptedServer, **options: Any) -> Any:
    """Ask for a stream without a word of usage."""
    return client(server).chat.completions.create(model="gpt-5", messages=ASK, stream=True, **options)


def by_loop(server: ScriptedServer) -> list[Any]:
    """Read by a loop."""
    return [chunk for chunk in chat(server)]  # noqa: C416


def by_list(server: ScriptedServer) -> list[Any]:
    """Read by `list`."""
    return list(chat(server))


def by_next(server: ScriptedServer) -> list[Any]:
    """Read by `next`, one chunk at a time, and beyond the end."""
    stream = chat(server)
    chunks: list[Any] = []
    while (chunk := next(stream, None)) is not None:
        chunks.append(chunk)
    assert next(stream, None) is None
    return chunks


def by_both(server: ScriptedServer) -> list[Any]:
    """Read one chunk by `next` and the rest by a loop."""
    stream = chat(server)
    return [next(stream), *stream]


def by_loop_async(server: ScriptedServer) -> list[Any]:
    """Read by a loop of asyncio."""

    async def read() -> list[Any]:
        async with aclient(server) as own:
            return [chunk async for chunk in await own.chat.completions.create(model="m", messages=ASK, stream=True)]

    return asyncio.run(read())


def by_next_async(server: ScriptedServer) -> list[Any]:
    """Read by `anext`."""

    async def read() -> list[Any]:
        async with aclient(server) as own:
            stream = await own.chat.completions.create(model="m", messages=ASK, stream=True)
            chunks: list[Any] = []
            while (chunk := await anext(stream, None)) is not None:
                chunks.append(chunk)
            return chunks

    return asyncio.run(read())


def by_helper(server: ScriptedServer) -> list[Any]:
    """Read the events of the helper, and its final completion."""
    own = client(server).chat.completions
    if not hasattr(own, "stream"):
        pytest.skip("this version of the client has no helper here")
    with own.stream(model="gpt-5", messages=ASK) as stream:
        return [*(event.type for event in stream), stream.get_final_completion()]


def completions(server: ScriptedServer) -> list[Any]:
    """Read a stream of the completions API."""
    return list(client(server).completions.create(model="gpt-5", prompt="Hello", stream=True))


def seen(read: Read, server: ScriptedServer) -> list[Any]:
    """Return what the caller sees, less what differs between any two calls."""
    return [
        value if isinstance(value, str) else {k: v for k, v in value.to_dict().items() if k not in _NOT_COMPARED}
        for value in read(server)
    ]


@pytest.mark.parametrize(
    "read", [by_loop, by_list, by_next, by_both, by_loop_async, by_next_async, by_helper, completions]
)
def test_the_caller_sees_what_he_asked_for(server: ScriptedServer, read: Read) -> None:
    """However the stream is read: the same chunks as without us, none that has only usage; the tokens are recorded."""
    bare = seen(read, server)
    with capture(inject_usage=True) as telemetry:
        ours = seen(read, server)
        (span,) = telemetry.spans

    assert bare == ours
    assert {"include_usage": True} == server.requests[-1].json["stream_options"]
    assert span["attributes"][names.GEN_AI_USAGE_OUTPUT_TOKENS] == OUTPUT_TOKENS
    assert span["attributes"][names.GEN_AI_USAGE_INPUT_TOKENS] > 0
    if read is by_loop:
        assert PROMPT_TOKENS == span["attributes"][names.GEN_AI_USAGE_INPUT_TOKENS]
        assert len(ours) == span["attributes"][names.OTEL_LLM_STREAM_CHUNKS]
    assert ["stop"] == list(span["attributes"][names.GEN_AI_RESPONSE_FINISH_REASONS])


def test_by_the_variable(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable does it, too; without either, nothing is asked and nothing recorded."""
    with capture() as off:
        by_list(server)
        asked_off = "stream_options" in server.requests[-1].json
        without = off.spans[0]["attributes"]
    monkeypatch.setenv("OTEL_LLM_OPENAI_INJECT_USAGE", "true")
    with capture() as on:
        by_list(server)
        asked_on = "stream_options" in server.requests[-1].json
        with_usage = on.spans[0]["attributes"]

    assert (False, True) == (asked_off, asked_on)
    assert (False, True) == tuple(names.GEN_AI_USAGE_INPUT_TOKENS in found for found in (without, with_usage))


@pytest.mark.parametrize(
    "options",
    [
        {"stream_options": {"include_usage": True}},
        {"stream_options": {"include_usage": False}},
        {"extra_body": {"stream_options": {"include_usage": True}}},
    ],
)
def test_who_says_anything_of_usage_is_left_alone(server: ScriptedServer, options: dict[str, Any]) -> None:
    """A caller who asked sees the chunk he asked for; one who refused gets no usage."""
    bare = len(list(chat(server, **options)))
    with capture(inject_usage=True):
        ours = len(list(chat(server, **options)))

    assert bare == ours
    wanted = options.get("extra_body", options)["stream_options"]
    assert wanted == server.requests[-1].json["stream_options"]


def test_other_options_of_the_stream_stay(server: ScriptedServer) -> None:
    """What the caller gave stays his own, unchanged, and reaches the server beside what we ask."""
    given = {"include_obfuscation": False}
    with capture(inject_usage=True):
        list(chat(server, stream_options=given))

    assert {"include_obfuscation": False} == given
    assert {"include_obfuscation": False, "include_usage": True} == server.requests[-1].json["stream_options"]


def test_raw_and_plain_requests_stay_as_they_are(server: ScriptedServer) -> None:
    """Where the caller reads the bytes himself, and where there is no stream, nothing is asked."""
    own = client(server).chat.completions
    with capture(inject_usage=True):
        own.create(model="gpt-5", messages=ASK)
        plain = server.requests[-1].json
        list(own.with_raw_response.create(model="gpt-5", messages=ASK, stream=True).parse())
        raw = server.requests[-1].json
        with own.with_streaming_response.create(model="gpt-5", messages=ASK, stream=True) as response:
            response.read()
        streaming = server.requests[-1].json

    assert [False] * 3 == ["stream_options" in body for body in (plain, raw, streaming)]


def test_nothing_is_asked_where_nobody_would_see_it(server: ScriptedServer) -> None:
    """A call that is sampled out where there are no metrics keeps its request and its chunks."""
    bare = len(by_list(server))
    with capture(
        inject_usage=True, tracer_provider=TracerProvider(sampler=ALWAYS_OFF), meter_provider=NoOpMeterProvider()
    ):
        ours = len(by_list(server))

    assert bare == ours
    assert "stream_options" not in server.requests[-1].json


def test_a_stream_left_early(server: ScriptedServer) -> None:
    """Who leaves before the end gets no usage recorded, and no error."""
    with capture(inject_usage=True) as telemetry:
        stream = chat(server)
        next(iter(stream))
        stream.close()
        (span,) = telemetry.spans

    assert names.GEN_AI_USAGE_INPUT_TOKENS not in span["attributes"]
    assert ("unset", "closed") == (span["status"], span["attributes"][names.OTEL_LLM_STREAM_OUTCOME])


@pytest.mark.parametrize("base_url", ["https://api.groq.com/openai/v1", "https://api.cerebras.ai/v1"])
def test_kin(base_url: str) -> None:
    """Servers that have formats of their own are asked like any other, when the client is that of OpenAI."""
    library: Any = __import__(openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0])
    asked: list[Any] = []

    def respond(request: Any) -> Any:
        asked.append(json.loads(request.content))
        return library.Response(200, text="data: [DONE]\n\n", headers={"content-type": "text/event-stream"})

    http = library.Client(transport=library.MockTransport(respond))
    with capture(inject_usage=True), openai.OpenAI(base_url=base_url, api_key="test", http_client=http) as own:
        list(own.chat.completions.create(model="m", messages=ASK, stream=True))

    assert [{"include_usage": True}] == [body["stream_options"] for body in asked]
