"""The scripted server answers the real OpenAI client, and breaks off exactly as told."""

import asyncio
import http.client
import json
import logging
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, AzureOpenAI, OpenAI
from openai.types.chat import ChatCompletionMessageParam, ChatCompletionToolParam
from pydantic import BaseModel

from otel_llm.testing import answers
from otel_llm.testing.server import DROP, RESET, STALL, TRUNCATE, Reply, ScriptedServer, error, sse

ASK: list[ChatCompletionMessageParam] = [{"role": "user", "content": "What is the capital of France?"}]
WEATHER: ChatCompletionToolParam = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}, "days": {"type": "integer"}}},
    },
}


class City(BaseModel):
    """A city, with other cities in it, to try a schema that contains itself."""

    name: str
    population: int
    area: float
    capital: bool
    kinds: list[str]
    twin: "City | None"
    districts: list["City"]


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """Run a server."""
    with ScriptedServer() as server:
        yield server


@pytest.fixture
def client(server: ScriptedServer) -> Iterator[OpenAI]:
    """Connect a client that refuses answers of the wrong form and never tries twice."""
    with OpenAI(base_url=server.base_url, api_key="k", max_retries=0, _strict_response_validation=True) as client:
        yield client


@pytest.fixture
def tolerant(server: ScriptedServer) -> Iterator[OpenAI]:
    """Connect a client for what the strict one does not accept even from OpenAI."""
    with OpenAI(base_url=server.base_url, api_key="k", max_retries=0) as client:
        yield client


@pytest.fixture
def wire(server: ScriptedServer) -> Iterator[http.client.HTTPConnection]:
    """Connect without an LLM client."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    yield connection
    connection.close()


def eventually(condition: Callable[[], bool]) -> bool:
    """Wait for something another thread does."""
    deadline = time.monotonic() + 10
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    return condition()


def test_chat(client: OpenAI) -> None:
    """A plain chat completion has its text, a dated model, and counted usage."""
    answer = client.chat.completions.create(model="gpt-5", messages=ASK)
    assert answer.id == "chatcmpl-00000001"
    assert answer.model == "gpt-5-2026-10-01"
    assert answer.choices[0].message.content == answers.WORDS
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (6, 8, 14)
    assert answer.usage.prompt_tokens_details is not None
    assert answer.usage.prompt_tokens_details.cached_tokens == 3


def test_chat_choices_limits_and_reasoning(client: OpenAI) -> None:
    """The number of choices, the token limit and the reasoning effort count in the usage."""
    answer = client.chat.completions.create(
        model="o9", messages=ASK, n=2, max_completion_tokens=3, reasoning_effort="low"
    )
    assert answer.model == "o9"
    assert [choice.message.content for choice in answer.choices] == ["The capital of"] * 2
    assert {choice.finish_reason for choice in answer.choices} == {"length"}
    assert answer.usage is not None
    assert answer.usage.completion_tokens_details is not None
    assert answer.usage.completion_tokens_details.reasoning_tokens == 32
    assert answer.usage.completion_tokens == 38


@pytest.mark.parametrize("include_usage", [False, True])
def test_chat_stream(client: OpenAI, include_usage: bool) -> None:
    """A streamed chat completion sends word by word, both choices, and the usage only when asked."""
    stream = client.chat.completions.create(
        model="gpt-5", messages=ASK, n=2, stream=True, stream_options={"include_usage": include_usage}
    )
    chunks = list(stream)
    choices = [choice for chunk in chunks for choice in chunk.choices]
    for index in range(2):
        mine = [choice for choice in choices if choice.index == index]
        assert mine[0].delta.role == "assistant"
        assert "".join(choice.delta.content or "" for choice in mine) == answers.WORDS
        assert [choice.finish_reason for choice in mine] == [None] * 9 + ["stop"]
    assert [chunk.usage.completion_tokens for chunk in chunks if chunk.usage] == [16] * include_usage
    assert [len(chunk.choices) for chunk in chunks] == [1] * 20 + [0] * include_usage


def test_chat_tools(client: OpenAI) -> None:
    """The model named tools calls the tool it was given, and speaks once it has the result."""
    call = client.chat.completions.create(model="tools", messages=ASK, tools=[WEATHER]).choices[0]
    assert call.finish_reason == "tool_calls"
    assert call.message.tool_calls is not None
    tool_call = call.message.tool_calls[0]
    assert tool_call.type == "function"
    assert tool_call.function.name == "weather"
    assert json.loads(tool_call.function.arguments) == {"place": "Paris", "days": 1}
    result: ChatCompletionMessageParam = {"role": "tool", "tool_call_id": tool_call.id, "content": "sunny"}
    last = client.chat.completions.create(model="tools", messages=[*ASK, result], tools=[WEATHER])
    assert last.choices[0].message.content == answers.WORDS


def test_chat_tools_stream(client: OpenAI) -> None:
    """The client's own helper puts a streamed tool call together."""
    with client.chat.completions.stream(model="tools", messages=ASK, tools=[WEATHER]) as stream:
        message = stream.get_final_completion().choices[0].message
    assert message.tool_calls is not None
    assert message.tool_calls[0].id == "call_00000001_0"
    assert json.loads(message.tool_calls[0].function.arguments) == {"place": "Paris", "days": 1}


def test_structured_output(client: OpenAI) -> None:
    """Structured output fits the schema, in both APIs, even if the schema contains itself."""
    parsed = client.chat.completions.parse(model="gpt-5", messages=ASK, response_format=City).choices[0].message.parsed
    assert parsed is not None
    assert (parsed.name, parsed.population, parsed.area, parsed.capital, parsed.kinds) == (
        *("Paris", 1, 1.5, True),
        ["Paris"],
    )
    assert client.responses.parse(model="gpt-5", input="?", text_format=City).output_parsed == parsed
    plain = client.chat.completions.create(model="gpt-5", messages=ASK, response_format={"type": "json_object"})
    assert plain.choices[0].message.content == '{"answer": "Paris"}'


def test_completions(client: OpenAI, tolerant: OpenAI) -> None:
    """Completions answer each prompt, plain and streamed."""
    plain = client.completions.create(model="gpt-3.5-turbo-instruct", prompt=["one", "two"], n=2)
    assert [choice.text for choice in plain.choices] == [answers.WORDS] * 4
    stream = tolerant.completions.create(
        model="gpt-3.5-turbo-instruct", prompt="one", stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == answers.WORDS
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == 9


def test_responses(client: OpenAI) -> None:
    """A response has its text and usage, and repeats what was asked."""
    answer = client.responses.create(
        model="gpt-5", input="hello there", instructions="be brief", temperature=0.5, reasoning={"effort": "low"}
    )
    assert answer.output_text == answers.WORDS
    assert (answer.id, answer.model, answer.status) == ("resp_00000001", "gpt-5-2026-10-01", "completed")
    assert (answer.temperature, answer.instructions) == (0.5, "be brief")
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.input_tokens_details.cached_tokens) == (4, 2)
    assert (answer.usage.output_tokens, answer.usage.output_tokens_details.reasoning_tokens) == (24, 16)
    cut = client.responses.create(model="gpt-5", input="hello", max_output_tokens=2)
    assert (cut.status, cut.output_text) == ("incomplete", "The capital")


def test_responses_stream(client: OpenAI) -> None:
    """A streamed response has the real events in the real order."""
    events = list(client.responses.create(model="gpt-5", input="hello", stream=True))
    assert [event.type.removeprefix("response.") for event in events] == [
        *("created", "in_progress", "output_item.added", "content_part.added"),
        *(["output_text.delta"] * 8),
        *("output_text.done", "content_part.done", "output_item.done", "completed"),
    ]
    assert [event.sequence_number for event in events] == list(range(16))
    assert events[-1].type == "response.completed"
    assert events[-1].response.output_text == answers.WORDS


def test_responses_tools(client: OpenAI) -> None:
    """The client's own helper puts a streamed function call together."""
    with client.responses.stream(
        model="tools",
        input="weather?",
        tools=[{"type": "function", "name": "weather", "strict": False, "parameters": None}],
    ) as stream:
        item = stream.get_final_response().output[0]
    assert item.type == "function_call"
    assert (item.name, json.loads(item.arguments), item.status) == ("weather", {"city": "Paris"}, "completed")


def test_named_tools(client: OpenAI) -> None:
    """The model calls the tool that the request names, plain and streamed, in both APIs, and after a result too."""
    other: ChatCompletionToolParam = {"type": "function", "function": {"name": "other"}}
    named: Any = {"type": "function", "function": {"name": "weather"}}
    result: ChatCompletionMessageParam = {"role": "tool", "tool_call_id": "call_1", "content": "again"}
    asked: Any = {"model": "gpt-5", "messages": [*ASK, result], "tools": [other, WEATHER], "tool_choice": named}
    untyped: Any = client
    plain = untyped.chat.completions.create(**asked)
    with untyped.chat.completions.stream(**asked) as stream:
        streamed = stream.get_final_completion()
    for choice in (plain.choices[0], streamed.choices[0]):
        assert choice.finish_reason == "tool_calls"
        [call] = choice.message.tool_calls
        assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"place": "Paris", "days": 1})

    tools: Any = [{"type": "function", "name": name, "parameters": None} for name in ("other", "weather")]
    for name, kind in (("weather", "function_call"), ("unknown", "message")):
        choose: Any = {"type": "function", "name": name}
        [item] = client.responses.create(model="gpt-5", input="weather?", tools=tools, tool_choice=choose).output
        assert item.type == kind
        assert item.type != "function_call" or item.name == name


def test_embeddings(client: OpenAI, tolerant: OpenAI) -> None:
    """Embeddings are the same in both encodings, unit vectors, and have the size asked for."""
    floats = client.embeddings.create(model="e", input=["one two", "three"], encoding_format="float")
    coded = tolerant.embeddings.create(model="e", input=["one two", "three"])
    small = tolerant.embeddings.create(model="e", input=[1, 2, 3], dimensions=3)
    assert [datum.embedding for datum in coded.data] == [datum.embedding for datum in floats.data]
    assert floats.data[0].embedding != floats.data[1].embedding
    assert sum(x * x for x in floats.data[0].embedding) == pytest.approx(1)
    assert [len(datum.embedding) for datum in floats.data + small.data] == [8, 8, 3]
    assert [answer.usage.prompt_tokens for answer in (floats, small)] == [3, 3]


def test_other_endpoints(client: OpenAI) -> None:
    """Models, moderations, images, speech and transcriptions answer too."""
    assert "gpt-5" in [model.id for model in client.models.list()]
    assert client.models.retrieve("mine").id == "mine"
    assert not client.moderations.create(input=["one", "two"]).results[1].flagged
    assert len(client.images.generate(prompt="a cat", n=2).data or []) == 2
    assert client.audio.speech.create(model="tts-1", voice="alloy", input="hello").read().startswith(b"ID3")
    heard = client.audio.transcriptions.create(model="whisper-1", file=("a.wav", b"\x00\xff\r\n"))
    assert heard.text == answers.WORDS


def test_azure(server: ScriptedServer) -> None:
    """The Azure client finds its way, and the deployment in the path names the model."""
    server.on_model("mine", Reply(json=answers.chat({"model": "gpt-5"}, 7, "Azure!")))
    with AzureOpenAI(azure_endpoint=server.url, api_key="k", api_version="2024-10-21") as client:
        answer = client.chat.completions.create(model="mine", messages=ASK)
    assert answer.choices[0].message.content == "Azure!"
    assert server.requests[0].path == "/openai/deployments/mine/chat/completions"
    assert server.requests[0].query == {"api-version": "2024-10-21"}


def test_recorded_requests(server: ScriptedServer, client: OpenAI) -> None:
    """Requests are kept as they came, forms included."""
    client.chat.completions.create(model="gpt-5", messages=ASK, extra_headers={"X-Test": "yes"})
    client.audio.transcriptions.create(model="whisper-1", file=("a.wav", b"\x00\xff\r\n"), language="fr")
    first, second = server.requests
    assert (first.method, first.path, first.query) == ("POST", "/v1/chat/completions", {})
    assert (first.headers["authorization"], first.headers["x-test"]) == ("Bearer k", "yes")
    assert first.json == {"model": "gpt-5", "messages": ASK}
    assert second.fields == {"model": "whisper-1", "language": "fr"}


def test_usual_headers(server: ScriptedServer, client: OpenAI) -> None:
    """Every answer has a request id and rate limits that count down, unless its reply says otherwise."""
    server.script(error(418), Reply(json={}, headers={"X-Request-ID": "mine", "x-ratelimit-limit-tokens": None}))
    with pytest.raises(openai.APIStatusError) as caught:
        client.models.list()
    assert caught.value.response.headers["x-request-id"] == "req_00000001"
    assert caught.value.response.headers["x-ratelimit-remaining-requests"] == "499"
    headers = client.models.with_raw_response.list().headers
    assert (headers["x-request-id"], "x-ratelimit-limit-tokens" in headers) == ("mine", False)
    headers = client.chat.completions.with_raw_response.create(model="gpt-5", messages=ASK).headers
    assert headers["x-ratelimit-remaining-requests"] == "497"
    assert 29_000 < int(headers["x-ratelimit-remaining-tokens"]) < 30_000


def test_errors_and_retries(server: ScriptedServer, client: OpenAI) -> None:
    """Errors have OpenAI's form, and a client that may try again does."""
    server.script(error(401), error(429, code="insufficient_quota", message="No money"))
    with pytest.raises(openai.AuthenticationError) as denied:
        client.chat.completions.create(model="gpt-5", messages=ASK)
    assert denied.value.code == "invalid_api_key"
    with pytest.raises(openai.RateLimitError, match="No money") as limited:
        client.chat.completions.create(model="gpt-5", messages=ASK)
    assert (limited.value.code, limited.value.type) == ("insufficient_quota", "requests")
    server.script(error(429, headers={"retry-after-ms": "1"}), error(500, headers={"retry-after-ms": "1"}))
    patient = client.with_options(max_retries=2)
    assert patient.chat.completions.create(model="gpt-5", messages=ASK).id == "chatcmpl-00000005"
    assert [request.headers["x-stainless-retry-count"] for request in server.requests[2:]] == ["0", "1", "2"]


def test_unknown_and_odd_requests(client: OpenAI, wire: http.client.HTTPConnection) -> None:
    """What the server cannot answer is the client's error."""
    with pytest.raises(openai.NotFoundError, match=r"POST /v1/nowhere"):
        client.post("/nowhere", cast_to=object, body={})
    with pytest.raises(openai.BadRequestError, match="cannot answer"):
        client.post("/embeddings", cast_to=object, body={"input": 1.5, "dimensions": "many"})
    wire.request("POST", "/v1/chat/completions", body=b"{")
    assert wire.getresponse().status == 400


def test_on_model(server: ScriptedServer, client: OpenAI) -> None:
    """Replies for a model come in turn, the last repeats, other models and scripts are apart."""
    server.on_model("mine", *(Reply(json=answers.chat({}, 1, words)) for words in ("one", "two")))

    def ask(model: str) -> str | None:
        return client.chat.completions.create(model=model, messages=ASK).choices[0].message.content

    assert [ask("mine"), ask("gpt-5"), ask("mine"), ask("mine")] == ["one", answers.WORDS, "two", "two"]
    server.script(Reply(json=answers.chat({}, 1, "three")))
    assert [ask("mine"), ask("mine")] == ["three", "two"]


def test_words_and_chunk_delay() -> None:
    """The text and the pace of the default answers can be chosen."""
    with (
        ScriptedServer(words="a  b\n", chunk_delay=0.02) as server,
        OpenAI(base_url=server.base_url, api_key="k") as client,
    ):
        began = time.perf_counter()
        stream = client.chat.completions.create(model="gpt-5", messages=ASK, stream=True)
        assert [chunk.choices[0].delta.content for chunk in stream] == ["", "a", "  b\n", None]
        assert time.perf_counter() - began >= 0.08


def test_sse(wire: http.client.HTTPConnection, server: ScriptedServer) -> None:
    """Events become lines of server-sent events, with pauses between them."""
    server.script(sse({"a": 1}, 0.01, "text", b"bytes", {"type": "x.y"}), sse(done=False), Reply(status=599, body=b"!"))
    bodies: list[bytes] = []
    for _ in range(3):
        wire.request("GET", "/")
        bodies.append(wire.getresponse().read())
    assert (
        bodies[0]
        == b'data: {"a":1}\n\ndata: text\n\ndata: bytes\n\nevent: x.y\ndata: {"type":"x.y"}\n\ndata: [DONE]\n\n'
    )
    assert bodies[1:] == [b"", b"!"]


@pytest.mark.parametrize(
    "arguments",
    [
        *(
            {"chunks": [None]},
            {"chunks": ["a", True]},
            {"chunks": "text"},
            {"chunks": b"text"},
            {"chunks": iter(["a"])},
        ),
        *({"body": "text"}, {"json": object()}, {"json": 1, "body": b"1"}),
    ],
)
def test_wrong_replies(arguments: dict[str, Any]) -> None:
    """A reply that could not be sent is refused when it is made."""
    with pytest.raises(TypeError):
        Reply(**arguments)


def test_wrong_events() -> None:
    """So is an event."""
    with pytest.raises(TypeError, match="a chunk is"):
        sse(None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("ending", [RESET, TRUNCATE])
def test_broken_stream(server: ScriptedServer, client: OpenAI, ending: Any) -> None:
    """A stream that is reset or cut gives what came before, then fails."""
    chunk: dict[str, Any] = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": []}
    server.script(sse(chunk, chunk, 0.01, ending))
    stream = client.chat.completions.create(model="m", messages=ASK, stream=True)
    seen = 0
    with pytest.raises(openai.APIConnectionError):  # noqa: PT012  # how far it came is the point
        for _ in stream:
            seen += 1
    assert seen == 2
    assert eventually(lambda: server.open_connections == 0)


def test_reset_is_a_reset(server: ScriptedServer) -> None:
    """RESET sends a TCP RST, TRUNCATE an ordinary end."""
    server.script(Reply(chunks=["a", 0.01, RESET]), Reply(chunks=["a", TRUNCATE]))
    with socket.create_connection(("127.0.0.1", server.port)) as reset:
        reset.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(ConnectionResetError):  # noqa: PT012  # what came before may still be read
            while reset.recv(65536):
                pass
    with socket.create_connection(("127.0.0.1", server.port)) as cut:
        cut.sendall(b"GET / HTTP/1.1\r\n\r\n")
        received = b"".join(iter(lambda: cut.recv(65536), b""))
    assert received.endswith(b"\r\n\r\n1\r\na\r\n")


def test_drop(server: ScriptedServer, client: OpenAI) -> None:
    """A dropped request gets no answer, and the client's next attempt is served."""
    server.script(DROP, DROP)
    with pytest.raises(openai.APIConnectionError):
        client.chat.completions.create(model="gpt-5", messages=ASK)
    assert client.with_options(max_retries=1).chat.completions.create(model="gpt-5", messages=ASK).choices


def test_stall_until_the_client_leaves(server: ScriptedServer, client: OpenAI) -> None:
    """A stalled stream hangs until the client's timeout, and the server sees it go."""
    server.script(sse(STALL))
    stream = client.with_options(timeout=0.2).chat.completions.create(model="gpt-5", messages=ASK, stream=True)
    assert server.open_connections == 1
    with pytest.raises(openai.APITimeoutError):
        next(stream)
    stream.close()
    assert eventually(lambda: server.open_connections == 0)


def test_stall_until_the_server_stops(server: ScriptedServer, client: OpenAI) -> None:
    """A server with a stalled stream stops at once."""
    server.script(sse({"id": "1"}, STALL), Reply(delay=3600))
    stream = client.chat.completions.create(model="gpt-5", messages=ASK, stream=True)

    def wait() -> None:
        with pytest.raises(openai.APIConnectionError):
            client.models.list()

    waiting = threading.Thread(target=wait)
    waiting.start()
    assert eventually(lambda: server.open_connections == 2)
    began = time.monotonic()
    server.stop()
    assert time.monotonic() - began < 2
    waiting.join()
    stream.close()


def test_client_leaves_quietly(caplog: pytest.LogCaptureFixture) -> None:
    """A client that leaves in mid-stream is no error: nothing is logged, and its connection is given up."""
    caplog.set_level(logging.DEBUG, "asyncio")
    with (
        ScriptedServer(chunk_delay=0.02) as server,
        OpenAI(base_url=server.base_url, api_key="k") as client,
    ):
        with client.chat.completions.create(model="gpt-5", messages=ASK, stream=True) as stream:
            next(stream)
        assert eventually(lambda: server.open_connections == 0)
        server.script(Reply(chunks=["x" * 10_000_000] * 3))
        with client.chat.completions.with_streaming_response.create(model="gpt-5", messages=ASK):
            assert server.open_connections == 1
        assert eventually(lambda: server.open_connections == 0)
    assert [record for record in caplog.records if record.levelno > logging.DEBUG and record.name == "asyncio"] == []


def test_many_streams_at_once() -> None:
    """Five hundred streams are open at once, and all of them end well."""
    many = 500

    async def run(server: ScriptedServer) -> list[str]:
        everyone_reads = asyncio.Barrier(many)

        async def one(client: AsyncOpenAI) -> str:
            text = ""
            async for chunk in await client.chat.completions.create(model="gpt-5", messages=ASK, stream=True):
                if not text and chunk.choices[0].delta.content:
                    await everyone_reads.wait()
                    assert server.open_connections == many
                text += chunk.choices[0].delta.content or ""
            return text

        async with AsyncOpenAI(base_url=server.base_url, api_key="k", timeout=60, max_retries=0) as client:
            return await asyncio.gather(*(one(client) for _ in range(many)))

    with ScriptedServer(chunk_delay=0.01) as server:
        assert asyncio.run(run(server)) == [answers.WORDS] * many
        assert eventually(lambda: server.open_connections == 0)
        assert len(server.requests) == many


def test_keep_alive(server: ScriptedServer, client: OpenAI) -> None:
    """Plain and streamed requests in a row share one connection (the client itself drops it after a [DONE])."""
    for _ in range(3):
        client.chat.completions.create(model="gpt-5", messages=ASK)
        assert list(client.responses.create(model="gpt-5", input="hello", stream=True))
        assert server.open_connections == 1
    assert len(server.requests) == 6
    client.close()
    assert eventually(lambda: server.open_connections == 0)


def test_request_bodies(server: ScriptedServer, wire: http.client.HTTPConnection) -> None:
    """Bodies come by length, in chunks, after 100 Continue, or not at all."""
    wire.request("POST", "/v1/embeddings", body=iter([b'{"input":', b' "a"}']), encode_chunked=True)
    assert wire.getresponse().read()
    wire.request("GET", "/v1/models?limit=&after=x%20y")
    assert wire.getresponse().read()
    assert (server.requests[0].body, server.requests[1].body) == (b'{"input": "a"}', b"")
    assert server.requests[1].query == {"limit": "", "after": "x y"}
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as raw:
        raw.sendall(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
        assert raw.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        raw.sendall(b"{}")
        assert raw.recv(65536).startswith(b"HTTP/1.1 404 Not Found\r\n")


def test_head(wire: http.client.HTTPConnection) -> None:
    """HEAD gives the headers of GET and leaves the connection usable."""
    wire.request("HEAD", "/v1/models")
    head = wire.getresponse()
    assert (head.status, head.read()) == (200, b"")
    wire.request("GET", "/v1/models")
    assert len(wire.getresponse().read()) == int(head.headers["content-length"])


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /v1/models HTTP/1.0\r\n\r\n", b"200 OK"),
        (b"GET /v1/models HTTP/1.1\r\nConnection: close\r\n\r\n", b"200 OK"),
        (b"nonsense\r\n\r\n", b"400 Bad Request"),
        (b"POST / HTTP/1.1\r\nContent-Length: many\r\n\r\n", b"400 Bad Request"),
    ],
)
def test_connection_close(server: ScriptedServer, request_: bytes, status: bytes) -> None:
    """The connection ends where HTTP says so, and after a request that is not HTTP."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as raw:
        raw.sendall(request_)
        received = b"".join(iter(lambda: raw.recv(65536), b""))
    assert received.startswith(b"HTTP/1.1 " + status)
    assert b"connection: close" in received


def test_nothing_is_left() -> None:
    """A stopped server leaves no thread and no socket, and can be started again."""

    def files() -> int:
        return len(list(Path("/dev/fd").iterdir()))

    before = threading.active_count(), files()
    server = ScriptedServer()
    server.stop()
    for _ in range(3):
        server.start()
        with pytest.raises(RuntimeError):
            server.start()
        clients = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(20)]
        server.stop()
        for client in clients:
            client.close()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port))
    assert server.open_connections == 0
    assert (threading.active_count(), files()) == before


def test_command_line() -> None:
    """`python -m otel_llm.testing.server` serves until Ctrl-C and goes without a word."""
    command = [sys.executable, "-W", "error", "-m", "otel_llm.testing.server", "--port", "0", "--words", "hi"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        base_url = process.stdout.readline().split()[1]
        with OpenAI(base_url=base_url, api_key="k") as client:
            assert client.responses.create(model="gpt-5", input="?").output_text == "hi"
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0
        assert process.stderr.read() == ""


def test_command_line_on_a_taken_port(server: ScriptedServer) -> None:
    """One line says what to do, and the exit code that nothing is served."""
    command = [sys.executable, "-W", "error", "-m", "otel_llm.testing.server", "--port", str(server.port)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)

    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == f"port {server.port} is taken: choose another with --port\n"
