"""Every endpoint of a real Ollama by raw httpx and httpx2, and by the clients: what is recorded is what it said."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import pytest

from otel_llm.testing import Seen
from otel_llm_semconv import attributes as names
from otel_llm_semconv import metrics
from tests.backends.servers import Ollama
from tests.httpx.apis import LIBRARIES, MODES

HELLO: list[dict[str, str]] = [{"role": "user", "content": "hello"}]
SERVER_TIMES = {
    names.OTEL_LLM_SERVER_LOAD_DURATION: "load_duration",
    names.OTEL_LLM_SERVER_PROMPT_DURATION: "prompt_eval_duration",
    names.OTEL_LLM_SERVER_GENERATION_DURATION: "eval_duration",
}


class Endpoint(NamedTuple):
    """One endpoint."""

    path: str
    asked: dict[str, Any]
    operation: str
    provider: str
    """As far as can be known from what it is asked for, and from its answer."""
    usage: Callable[[list[Any]], tuple[int | None, int | None]]
    """Read input and output tokens from the objects that the server sent."""
    streams: bool = True
    more: dict[str, Any] = {}
    """What a stream is asked for besides."""


def _openai(said: list[Any]) -> tuple[int | None, int | None]:
    usage = [one["usage"] for one in said if one.get("usage")][-1]
    return usage["prompt_tokens"], usage.get("completion_tokens")


def _responses(said: list[Any]) -> tuple[int | None, int | None]:
    usage = said[-1].get("response", said[-1])["usage"]
    return usage["input_tokens"], usage["output_tokens"]


def _anthropic(said: list[Any]) -> tuple[int | None, int | None]:
    (usage,) = [one["usage"] for one in said if one["type"] in ("message", "message_delta")]
    return usage["input_tokens"], usage["output_tokens"]


def _ollama(said: list[Any]) -> tuple[int | None, int | None]:
    return said[-1].get("prompt_eval_count"), said[-1].get("eval_count")


USAGE = {"stream_options": {"include_usage": True}}
THREE = {"options": {"num_predict": 3}}
ENDPOINTS = {
    "chat completions": Endpoint(
        "/v1/chat/completions", {"messages": HELLO, "max_tokens": 3}, "chat", "ollama", _openai, more=USAGE
    ),
    "completions": Endpoint(
        "/v1/completions", {"prompt": "hello", "max_tokens": 3}, "text_completion", "ollama", _openai, more=USAGE
    ),
    "embeddings": Endpoint("/v1/embeddings", {"input": "hello"}, "embeddings", "openai", _openai, streams=False),
    "responses": Endpoint("/v1/responses", {"input": "hello", "max_output_tokens": 3}, "chat", "openai", _responses),
    "messages": Endpoint("/v1/messages", {"messages": HELLO, "max_tokens": 3}, "chat", "anthropic", _anthropic),
    "ollama chat": Endpoint("/api/chat", {"messages": HELLO, **THREE}, "chat", "ollama", _ollama),
    "ollama generate": Endpoint("/api/generate", {"prompt": "hello", **THREE}, "text_completion", "ollama", _ollama),
    "ollama embed": Endpoint(
        "/api/embed", {"input": ["hello", "world"]}, "embeddings", "ollama", _ollama, streams=False
    ),
}


def _said(body: bytes) -> list[Any]:
    """Return the objects of an answer: one, lines of them, or events."""
    if not body.startswith((b"data:", b"event:")):
        return [json.loads(line) for line in body.splitlines() if line]
    lines = [line.removeprefix(b"data:").strip() for line in body.splitlines() if line.startswith(b"data:")]
    return [json.loads(line) for line in lines if line != b"[DONE]"]


def _ask(library: Any, mode: str, server: Ollama, path: str, body: dict[str, Any]) -> bytes:
    """Return the bytes of the answer, as the caller gets them."""
    if mode == "sync":
        with library.Client(base_url=server.url, verify=False) as own, own.stream("POST", path, json=body) as response:
            return b"".join(response.iter_bytes())

    async def ask() -> bytes:
        own = library.AsyncClient(base_url=server.url, verify=False)
        async with own, own.stream("POST", path, json=body) as response:
            return b"".join([piece async for piece in response.aiter_bytes()])

    return asyncio.run(ask())


CASES = [(name, stream) for name, endpoint in ENDPOINTS.items() for stream in (False, True)[: 1 + endpoint.streams]]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.__name__)
@pytest.mark.parametrize(("name", "stream"), CASES)
def test_what_the_server_said(
    ollama_server: Ollama, seen: Seen, name: str, stream: bool, library: Any, mode: str
) -> None:
    """Tokens, times of the server's clock and the provider, in the span and in the metrics, once."""
    endpoint = ENDPOINTS[name]
    body = {"model": "tiny", "stream": stream, **endpoint.asked, **(endpoint.more if stream else {})}

    said = _said(_ask(library, mode, ollama_server, endpoint.path, body))

    assert stream == (len(said) > 1)
    tokens = endpoint.usage(said)
    assert tokens[0]
    (span,) = seen.spans
    attributes = span["attributes"]
    assert (f"{endpoint.operation} tiny", "unset") == (span["name"], span["status"])
    assert endpoint.provider == attributes[names.GEN_AI_PROVIDER_NAME]
    assert stream == ("completed" == attributes.get(names.OTEL_LLM_STREAM_OUTCOME))
    usage = (names.GEN_AI_USAGE_INPUT_TOKENS, names.GEN_AI_USAGE_OUTPUT_TOKENS)
    assert tokens == tuple([attributes.get(key) for key in usage])
    counted = {
        point["attributes"][names.GEN_AI_TOKEN_TYPE]: point["sum"]
        for point in seen.points(metrics.GEN_AI_CLIENT_TOKEN_USAGE.name)
    }
    assert {kind: count for kind, count in zip(("input", "output"), tokens, strict=True) if count} == counted

    told = {key: said[-1][theirs] / 1e9 for key, theirs in SERVER_TIMES.items() if theirs in said[-1]}
    assert endpoint.path.startswith("/api/") == bool(told)
    for key in SERVER_TIMES:
        assert told.get(key) == attributes.get(key)
        points = [(point["count"], point["sum"]) for point in seen.points(key)]
        assert ([(1, pytest.approx(told[key]))] if key in told else []) == points
    (duration,) = seen.points(metrics.GEN_AI_CLIENT_OPERATION_DURATION.name)
    assert 1 == duration["count"]
    assert sum(told.values()) < duration["sum"]


MADE: dict[str, Callable[[Any], Any]] = {
    "chat completions": lambda own: own.chat.completions,
    "completions": lambda own: own.completions,
    "embeddings": lambda own: own.embeddings,
    "responses": lambda own: own.responses,
    "messages": lambda own: own.messages,
}


def _by_client(client: Callable[[], Any], mode: str, make: Callable[[Any], Any], asked: dict[str, Any]) -> list[Any]:
    """Return what the client gave, as plain objects."""

    async def ask() -> list[Any]:
        async with client() as own:
            answer = await make(own).create(**asked)
            return [one.model_dump() for one in ([one async for one in answer] if asked.get("stream") else [answer])]

    if mode == "async":
        return asyncio.run(ask())
    with client() as own:
        answer = make(own).create(**asked)
        return [one.model_dump() for one in (answer if asked.get("stream") else [answer])]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("name", "stream"), [case for case in CASES if case[0] in MADE])
def test_by_the_clients(ollama_server: Ollama, seen: Seen, name: str, stream: bool, mode: str) -> None:
    """The clients that the endpoints are made for are told the same, and the call is theirs, once."""
    package = pytest.importorskip("anthropic" if name == "messages" else "openai")
    endpoint = ENDPOINTS[name]

    def client() -> Any:
        kind = ("" if mode == "sync" else "Async") + ("Anthropic" if name == "messages" else "OpenAI")
        base_url = ollama_server.url + ("" if name == "messages" else "/v1")
        return getattr(package, kind)(base_url=base_url, api_key="none", max_retries=0)

    if name == "responses" and not hasattr(package.OpenAI, "responses"):
        pytest.skip("this client has no responses")
    asked = {"model": "tiny", **endpoint.asked, **({"stream": True, **endpoint.more} if stream else {})}
    said = _by_client(client, mode, MADE[name], asked)

    assert stream == (len(said) > 1)
    (span,) = seen.spans
    attributes = span["attributes"]
    usage = (names.GEN_AI_USAGE_INPUT_TOKENS, names.GEN_AI_USAGE_OUTPUT_TOKENS)
    assert endpoint.usage(said) == tuple([attributes.get(key) for key in usage])
    assert endpoint.usage(said)[0]
    assert [f"{endpoint.operation} tiny"] == [span["name"]]
    (duration,) = seen.points(metrics.GEN_AI_CLIENT_OPERATION_DURATION.name)
    assert 1 == duration["count"]


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.__name__)
@pytest.mark.parametrize("name", ENDPOINTS)
def test_an_unknown_model(ollama_server: Ollama, seen: Seen, name: str, library: Any) -> None:
    """A model that the server has not is an error of the call by its status, with the server's words."""
    endpoint = ENDPOINTS[name]
    with library.Client(base_url=ollama_server.url, verify=False) as own:
        response = own.post(endpoint.path, json={"model": "nope", **endpoint.asked})

    error = response.json()["error"]
    (span,) = seen.spans
    assert (404, "error", "404") == (response.status_code, span["status"], span["attributes"][names.ERROR_TYPE])
    assert (error if isinstance(error, str) else error["message"]) == span["description"]
