"""A real Ollama with a tiny model: what is recorded is what the server said, to the nanosecond."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import ollama
import openai
import pytest

from otel_llm.testing import Seen
from otel_llm_semconv import attributes as names
from otel_llm_semconv import environment
from tests.backends.servers import Ollama
from tests.crossing import settled
from tests.ollama.styles import client, drain, run

HELLO: list[dict[str, str]] = [{"role": "user", "content": "hello"}]
THREE = {"num_predict": 3}
OLD = hasattr(ollama.Client, "_request_stream")
NANOSECONDS = {
    names.OTEL_LLM_SERVER_LOAD_DURATION: "load_duration",
    names.OTEL_LLM_SERVER_PROMPT_DURATION: "prompt_eval_duration",
    names.OTEL_LLM_SERVER_GENERATION_DURATION: "eval_duration",
}
TOKENS = {names.GEN_AI_USAGE_INPUT_TOKENS: "prompt_eval_count", names.GEN_AI_USAGE_OUTPUT_TOKENS: "eval_count"}


def same(seen: Seen, said: list[Any]) -> None:
    """Check that spans and metrics tell what the server said, call by call and in sum."""
    spans = [span["attributes"] for span in seen.spans if names.HTTP_REQUEST_METHOD not in span["attributes"]]
    assert len(said) == len(spans)
    for attributes, answer in zip(spans, said, strict=True):
        for name, key in TOKENS.items():
            assert answer.get(key) == attributes.get(name)
        for name, key in NANOSECONDS.items():
            told = answer.get(key)
            assert (None if told is None else told / 1e9) == attributes.get(name)
    for name, key in NANOSECONDS.items():
        told = [answer.get(key) for answer in said if answer.get(key) is not None]
        points = seen.points(name)
        assert len(told) == sum(point["count"] for point in points)
        assert sum(told) / 1e9 == pytest.approx(sum(point["sum"] for point in points))
    rates = [
        answer["eval_count"] / (answer["eval_duration"] / 1e9)
        for answer in said
        if answer.get("eval_count") and answer.get("eval_duration")
    ]
    recorded = seen.points("otel_llm.server.output.rate")
    assert rates == pytest.approx([found for one in spans if (found := one.get(names.OTEL_LLM_SERVER_OUTPUT_RATE))])
    assert sum(rates) == pytest.approx(sum(point["sum"] for point in recorded))
    usage = seen.points("gen_ai.client.token.usage")
    for kind, key in (("input", "prompt_eval_count"), ("output", "eval_count")):
        counted = [point["sum"] for point in usage if kind == point["attributes"][names.GEN_AI_TOKEN_TYPE]]
        assert sum(answer.get(key) or 0 for answer in said) == sum(counted)


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_every_api(ollama_server: Ollama, seen: Seen, mode: str) -> None:
    """Chat, generate and embed, plain and streamed."""

    async def calls(own: Any) -> list[Any]:
        said: list[Any] = []
        for more in ({}, {"stream": True}):
            for api, asked in (("chat", {"messages": HELLO}), ("generate", {"prompt": "hello"})):
                answer = await settled(getattr(own, api)("tiny", **asked, options=THREE, **more))
                said.append((await drain(answer))[-1] if more else answer)
        said.append(await settled(own.embed("tiny", ["hello", "world"])))
        return said

    said = run(ollama_server.url, mode, calls)

    same(seen, said)
    assert [7, 7, 7, 7, 14] == [answer["prompt_eval_count"] for answer in said]
    assert [("chat", "length"), ("text_completion", "length")] * 2 + [("embeddings", None)] == [
        (
            span["attributes"][names.GEN_AI_OPERATION_NAME],
            ("".join(span["attributes"].get(names.GEN_AI_RESPONSE_FINISH_REASONS, ())) or None),
        )
        for span in seen.spans
    ]
    streamed = [span["attributes"] for span in seen.spans[2:4]]
    assert [("completed", True)] * 2 == [
        (one[names.OTEL_LLM_STREAM_OUTCOME], one[names.OTEL_LLM_TIME_TO_FIRST_TEXT] > 0) for one in streamed
    ]


@pytest.mark.parametrize("stream", [False, True])
def test_by_httpx(ollama_server: Ollama, seen: Seen, stream: bool) -> None:
    """Who posts to the server himself is told the same, whether he reads the answer at once or line by line."""
    said: list[Any] = []
    with httpx.Client(base_url=ollama_server.url, verify=False) as own:
        for path, asked in (("/api/chat", {"messages": HELLO}), ("/api/generate", {"prompt": "hello"})):
            body = {"model": "tiny", **asked, "options": THREE, "stream": stream}
            if stream:
                with own.stream("POST", path, json=body) as response:
                    said.append([json.loads(line) for line in response.iter_lines()][-1])
            else:
                said.append(own.post(path, json=body).json())
        said.append(own.post("/api/embed", json={"model": "tiny", "input": "hello"}).json())

    same(seen, said)
    assert {"ollama"} == {span["attributes"][names.GEN_AI_PROVIDER_NAME] for span in seen.spans}


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("form", ["plain", "stream"])
def test_an_unknown_model(ollama_server: Ollama, seen: Seen, form: str, mode: str) -> None:
    """A model that the server has not is `ollama.ResponseError`, with its words."""

    async def call(own: Any) -> str:
        with pytest.raises(ollama.ResponseError) as caught:
            await drain(await settled(own.chat("nope", HELLO, stream=form == "stream")))
        return str(caught.value)

    said = run(ollama_server.url, mode, call)
    (span,) = seen.spans

    assert "nope" in said
    assert ("chat nope", "error", said) == (span["name"], span["status"], span["description"])
    assert "ollama.ResponseError" == span["attributes"][names.ERROR_TYPE]


def test_unloaded_and_loaded_again(ollama_server: Ollama, seen: Seen) -> None:
    """The time of loading a model is there, and much longer where it had to be loaded; unloading costs no token."""
    own = client(ollama_server.url)
    said = [
        own.chat("tiny", HELLO, options=THREE),
        own.chat("tiny", HELLO, options=THREE),
        own.generate("tiny", "", keep_alive=0),
        own.chat("tiny", HELLO, options=THREE),
    ]

    same(seen, said)
    _, warm, unload, cold = (span["attributes"] for span in seen.spans)
    load = names.OTEL_LLM_SERVER_LOAD_DURATION
    assert cold[load] > 5 * warm[load]
    assert ("unload",) == unload[names.GEN_AI_RESPONSE_FINISH_REASONS]
    assert names.GEN_AI_USAGE_INPUT_TOKENS not in unload
    assert load not in unload


@pytest.mark.skipif(OLD, reason="this client makes models of a text that new servers do not read")
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_models_come_and_go(ollama_server: Ollama, seen: Seen, mode: str) -> None:
    """Create, copy, show, list, delete: each is a call of its own kind, and none counts as inference."""

    async def calls(own: Any) -> None:
        progress = await drain(await settled(own.create("mine", from_="tiny", stream=True)))
        assert "success" == progress[-1]["status"]
        await settled(own.copy("mine", "twin"))
        await settled(own.show("twin"))
        listed = await settled(own.list())
        assert {"mine:latest", "twin:latest"} <= {model["model"] for model in listed["models"]}
        await settled(own.ps())
        await settled(own.delete("mine"))
        await settled(own.delete("twin"))
        with pytest.raises(ollama.ResponseError):
            await settled(own.delete("twin"))
        with pytest.raises(ollama.ResponseError):
            await drain(await settled(own.pull("registry.invalid/no/such", stream=True)))

    run(ollama_server.url, mode, calls)

    assert [
        "POST /api/create mine",
        "POST /api/copy",
        "POST /api/show twin",
        "GET /api/tags",
        "GET /api/ps",
        "DELETE /api/delete mine",
        "DELETE /api/delete twin",
        "DELETE /api/delete twin",
        "POST /api/pull registry.invalid/no/such",
    ] == [span["name"] for span in seen.spans]
    assert ["unset"] * 7 + ["error"] * 2 == [span["status"] for span in seen.spans]
    assert [] == [point for point in seen.metrics if point["name"].startswith("gen_ai.")]


@pytest.fixture
def gpt(ollama_server: Ollama) -> Iterator[Any]:
    """A client of OpenAI's, at Ollama's compatible endpoints."""
    http_client = openai.DefaultHttpxClient(verify=False)
    with openai.OpenAI(base_url=f"{ollama_server.url}/v1", api_key="none", http_client=http_client) as own:
        yield own


@pytest.mark.parametrize("told", [True, False])
def test_by_the_openai_client(
    ollama_server: Ollama, seen: Seen, gpt: Any, monkeypatch: pytest.MonkeyPatch, told: bool
) -> None:
    """The endpoints like OpenAI's tell the same tokens; the provider is Ollama by its address, or by its reply."""
    if told:
        monkeypatch.setenv(environment.OLLAMA_HOST, ollama_server.url)
        # A base URL is looked at once.
        gpt.base_url = f"{ollama_server.url}/v1/"
    options: dict[str, Any] = {"model": "tiny", "messages": HELLO, "max_tokens": 3}
    usages = [gpt.chat.completions.create(**options).usage]
    chunks = list(gpt.chat.completions.create(**options, stream=True, stream_options={"include_usage": True}))
    usages += [chunks[-1].usage, gpt.completions.create(model="tiny", prompt="hello", max_tokens=3).usage]
    embedded = gpt.embeddings.create(model="tiny", input="hello").usage
    with pytest.raises(openai.NotFoundError):
        gpt.chat.completions.create(model="nope", messages=HELLO)
    *spans, embedding, failed = [span["attributes"] for span in seen.spans]

    assert [(7, 3)] * 3 == [(usage.prompt_tokens, usage.completion_tokens) for usage in usages]
    assert [(7, 3)] * 3 == [
        (one[names.GEN_AI_USAGE_INPUT_TOKENS], one[names.GEN_AI_USAGE_OUTPUT_TOKENS]) for one in spans
    ]
    assert embedded.prompt_tokens == embedding[names.GEN_AI_USAGE_INPUT_TOKENS]
    assert ["ollama"] * 3 == [one[names.GEN_AI_PROVIDER_NAME] for one in spans]
    assert not [name for one in spans for name in one if name.startswith("openai.")]
    assert ["ollama" if told else "openai"] * 2 == [one[names.GEN_AI_PROVIDER_NAME] for one in (embedding, failed)]
    points = seen.points("gen_ai.client.operation.duration")
    assert {"ollama": 5} == _by_provider(points) if told else {"ollama": 3, "openai": 2} == _by_provider(points)
    assert {0} == {point["value"] for point in seen.points("otel_llm.client.active")}


def _by_provider(points: list[Any]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for point in points:
        provider = point["attributes"][names.GEN_AI_PROVIDER_NAME]
        counts[provider] = counts.get(provider, 0) + point["count"]
    return counts


@pytest.mark.skipif(not hasattr(openai.OpenAI, "responses"), reason="this client has no responses")
def test_responses_by_the_openai_client(ollama_server: Ollama, seen: Seen, gpt: Any) -> None:
    """Ollama answers OpenAI's responses, too."""
    usage = gpt.responses.create(model="tiny", input="hello", max_output_tokens=3).usage
    (span,) = seen.spans
    attributes = span["attributes"]

    assert (usage.input_tokens, usage.output_tokens) == (
        attributes[names.GEN_AI_USAGE_INPUT_TOKENS],
        attributes[names.GEN_AI_USAGE_OUTPUT_TOKENS],
    )


@pytest.mark.parametrize("form", ["plain", "stream"])
def test_by_the_anthropic_client(ollama_server: Ollama, seen: Seen, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    """The endpoint like Anthropic's tells the same tokens; the provider is Ollama by its address."""
    anthropic = pytest.importorskip("anthropic")
    monkeypatch.setenv(environment.OLLAMA_HOST, ollama_server.url)
    options: dict[str, Any] = {"model": "tiny", "messages": HELLO, "max_tokens": 3}
    with anthropic.Anthropic(base_url=ollama_server.url, api_key="none") as own:
        if form == "plain":
            usage = own.messages.create(**options).usage
        else:
            with own.messages.stream(**options) as stream:
                usage = stream.get_final_message().usage
    (span,) = seen.spans
    attributes = span["attributes"]

    assert (7, 3) == (usage.input_tokens, usage.output_tokens)
    assert (7, 3, "ollama") == (
        attributes[names.GEN_AI_USAGE_INPUT_TOKENS],
        attributes[names.GEN_AI_USAGE_OUTPUT_TOKENS],
        attributes[names.GEN_AI_PROVIDER_NAME],
    )
