"""Every kind of client, and every way to have one: the same record, with the right provider and server."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import openai
import pytest

from otel_llm.testing import Seen, capture
from otel_llm.testing.server import ScriptedServer
from otel_llm_semconv import attributes as names
from tests.openai.styles import ASK, aclient, client, drain

VERSION = tuple(int(part) for part in openai.__version__.split(".")[:2])


def ask(own: Any, **options: Any) -> Any:
    """Make one plain call."""
    return own.chat.completions.create(model="gpt-5", messages=ASK, **options)


def told(seen: Seen) -> list[tuple[Any, ...]]:
    """Return provider, server and tokens of every span."""
    wanted = (names.GEN_AI_PROVIDER_NAME, names.SERVER_ADDRESS, names.SERVER_PORT, names.GEN_AI_USAGE_OUTPUT_TOKENS)
    return [tuple(span["attributes"].get(name) for name in wanted) for span in seen.spans]


@pytest.mark.skipif(VERSION < (3, 0), reason="provider= came with openai 3")
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("name", "expected"), [("bedrock", "aws.bedrock"), ("vertex", "gcp.vertex_ai")])
def test_a_provider_of_the_clients_own(
    server: ScriptedServer, seen: Seen, name: str, expected: str, streamed: bool
) -> None:
    """What `provider=` says is the provider, wherever its requests go; no attribute of OpenAI's own is on the span."""
    providers: Any = __import__("openai.providers", fromlist=["vertex"])
    provider: Any = (
        providers.bedrock(region="us-east-1", base_url=server.base_url, api_key="test")
        if name == "bedrock"
        else providers.vertex(base_url=server.base_url, token_provider=lambda: "test")
    )
    with openai.OpenAI(provider=provider, http_client=openai.DefaultHttpxClient(verify=False)) as own:
        made: Any = own.responses.create(model="gpt-5", input="Hello", stream=streamed)
        if streamed:
            drain(made)

    assert [(expected, "127.0.0.1", server.port)] == [found[:3] for found in told(seen)]
    assert [] == [name for name in seen.spans[0]["attributes"] if name.startswith("openai.")]


@pytest.mark.skipif(VERSION < (3, 0), reason="older clients need another package for it")
@pytest.mark.parametrize("streamed", [False, True])
def test_aiohttp(server: ScriptedServer, seen: Seen, streamed: bool) -> None:
    """A client on aiohttp is recorded as one on httpx, streamed or not."""
    if find_spec("aiohttp") is None:
        pytest.skip("aiohttp is not installed")

    async def call() -> None:
        async with aclient(server, http_client=openai.DefaultAioHttpClient()) as own:
            made = await ask(own, stream=streamed)
            if streamed:
                async for _ in made:
                    pass

    asyncio.run(call())

    assert [("openai", "127.0.0.1", server.port)] == [found[:3] for found in told(seen)]
    assert ("completed" if streamed else None) == seen.spans[0]["attributes"].get(names.OTEL_LLM_STREAM_OUTCOME)


@pytest.mark.skipif(VERSION < (3, 0), reason="older clients have no other library than httpx")
@pytest.mark.parametrize("streamed", [False, True])
def test_the_older_http_library(server: ScriptedServer, seen: Seen, streamed: bool) -> None:
    """A client that was given an `httpx.Client` is recorded like one on httpx2."""
    import httpx

    with httpx.Client(verify=False) as http_client:
        made = ask(client(server, http_client=http_client), stream=streamed)
        if streamed:
            drain(made)

    assert [("openai", "127.0.0.1", server.port)] == [found[:3] for found in told(seen)]


@pytest.fixture
def module_client(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Configure the client that the module itself is."""
    monkeypatch.setattr(openai, "api_key", "test")
    monkeypatch.setattr(openai, "base_url", server.base_url)
    with openai.DefaultHttpxClient(verify=False) as http_client:
        monkeypatch.setattr(openai, "http_client", http_client)
        openai._reset_client()
        yield
        openai._reset_client()


def test_the_client_of_the_module(server: ScriptedServer, seen: Seen, module_client: None) -> None:
    """`openai.chat.completions.create` is a call like any other."""
    ask(openai)
    drain(ask(openai, stream=True))

    assert [("openai", "127.0.0.1", server.port)] * 2 == [found[:3] for found in told(seen)]


def test_what_was_made_before(server: ScriptedServer) -> None:
    """Clients, resources, bound methods and raw wrappers that are older than `instrument()` are recorded."""
    own = client(server)
    completions = own.chat.completions
    create = own.chat.completions.create
    raw = own.chat.completions.with_raw_response
    streaming = own.chat.completions.with_streaming_response
    copied = own.with_options(max_retries=1)
    with capture() as seen:
        ask(own)
        completions.create(model="gpt-5", messages=ASK)
        create(model="gpt-5", messages=ASK)
        raw.create(model="gpt-5", messages=ASK).parse()
        with streaming.create(model="gpt-5", messages=ASK) as response:
            response.read()
        ask(copied)

    assert [("openai", "127.0.0.1", server.port, 8)] * 6 == told(seen)


class Mine(openai.OpenAI):
    """A client of the application's own."""

    def request(self, *args: Any, **kwargs: Any) -> Any:
        """Pass everything on."""
        base: Any = super()
        return base.request(*args, **kwargs)


def test_a_subclass(server: ScriptedServer, seen: Seen) -> None:
    """A subclass that overrides `request` and calls what it overrides makes one record."""
    with Mine(base_url=server.base_url, api_key="test", http_client=openai.DefaultHttpxClient(verify=False)) as own:
        ask(own)

    assert [("openai", "127.0.0.1", server.port, 8)] == told(seen)


@pytest.mark.parametrize(
    ("base_url", "expected"),
    [
        ("https://api.openai.com/v1", ("openai", "api.openai.com", 443)),
        ("https://api.openai.com/v1/", ("openai", "api.openai.com", 443)),
        ("http://localhost:8000", ("openai", "localhost", 8000)),
        ("http://localhost:11434/v1", ("ollama", "localhost", 11434)),
        ("https://gateway.test/team/llm/v1", ("openai", "gateway.test", 443)),
        ("http://[::1]:9999/v1", ("openai", "::1", 9999)),
        ("https://API.GROQ.com/openai/v1", ("groq", "api.groq.com", 443)),
        ("https://mine.openai.azure.com/openai/v1/", ("azure.ai.openai", "mine.openai.azure.com", 443)),
        (
            "https://bedrock-runtime.eu-west-1.amazonaws.com/openai/v1",
            (
                "aws.bedrock",
                "bedrock-runtime.eu-west-1.amazonaws.com",
                443,
            ),
        ),
        (
            "https://us-central1-aiplatform.googleapis.com/v1",
            (
                "gcp.vertex_ai",
                "us-central1-aiplatform.googleapis.com",
                443,
            ),
        ),
    ],
)
def test_base_urls(seen: Seen, base_url: str, expected: tuple[Any, ...]) -> None:
    """Slash, prefix, port, address and case of the URL: the server is told as it is, the path does not matter."""
    library: Any = __import__(openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0])
    body: dict[str, Any] = {"id": "1", "object": "chat.completion", "created": 1, "model": "gpt-5", "choices": []}

    def answer(request: Any) -> Any:
        return library.Response(200, json=body)

    with library.Client(transport=library.MockTransport(answer)) as http_client:
        ask(openai.OpenAI(base_url=base_url, api_key="test", http_client=http_client))

    assert [expected] == [found[:3] for found in told(seen)]


def test_the_answer_is_the_clients_own(server: ScriptedServer, seen: Seen) -> None:
    """Class, text, request id and a round through pickle: as without us."""
    answer = ask(client(server))
    again = pickle.loads(pickle.dumps(answer))

    assert ("ChatCompletion", answer) == (type(answer).__name__, again)
    if hasattr(answer, "_request_id"):
        assert answer._request_id == seen.spans[0]["attributes"][names.OTEL_LLM_REQUEST_ID]
