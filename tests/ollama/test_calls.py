"""Ollama: chat, generate and embed that are not streamed give one whole span; streams pass untouched."""

from __future__ import annotations

import asyncio
from typing import Any

import ollama
import pytest

from otel_llm.testing import Seen
from otel_llm.testing.server import Reply, ScriptedServer
from otel_llm_semconv import attributes as names

ANSWER: dict[str, Any] = {
    "model": "tiny:latest",
    "created_at": "2026-10-01T00:00:00Z",
    "done": True,
    "done_reason": "stop",
    "prompt_eval_count": 7,
    "eval_count": 24,
    "load_duration": 1,
}
MESSAGES = [{"role": "user", "content": "hi"}]
OPTIONS = {"temperature": 0, "num_predict": 24}


def _chat(client: Any) -> Any:
    return client.chat(model="tiny", messages=MESSAGES, options=OPTIONS)


def _generate(client: Any) -> Any:
    return client.generate(model="tiny", prompt="hi", options=OPTIONS)


def _embed(client: Any) -> Any:
    return client.embed(model="tiny", input="hi")


CALLS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "chat": (
        _chat,
        {**ANSWER, "message": {"role": "assistant", "content": "x"}},
        "chat",
    ),
    "generate": (
        _generate,
        {**ANSWER, "response": "x"},
        "text_completion",
    ),
    "embed": (
        _embed,
        {"model": "tiny:latest", "embeddings": [[0.1]], "prompt_eval_count": 4},
        "embeddings",
    ),
}


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("api", CALLS)
def test_plain_call(server: ScriptedServer, seen: Seen, api: str, mode: str) -> None:
    """One call is one span of provider ``ollama`` with the counts that the server told."""
    make, answer, operation = CALLS[api]
    server.script(Reply(json=answer))

    if mode == "sync":
        client: Any = ollama.Client(host=server.url)
        make(client)
        client._client.close()
    else:

        async def main() -> None:
            client: Any = ollama.AsyncClient(host=server.url)
            await make(client)
            await client._client.aclose()

        asyncio.run(main())

    (span,) = seen.spans
    attributes = span["attributes"]
    assert (f"{operation} tiny", "ollama") == (span["name"], attributes[names.GEN_AI_PROVIDER_NAME])
    assert answer["prompt_eval_count"] == attributes[names.GEN_AI_USAGE_INPUT_TOKENS]
    assert answer.get("eval_count") == attributes.get(names.GEN_AI_USAGE_OUTPUT_TOKENS)
    assert ("127.0.0.1", server.port) == (attributes[names.SERVER_ADDRESS], attributes[names.SERVER_PORT])
    assert "tiny:latest" == attributes[names.GEN_AI_RESPONSE_MODEL]
    if api != "embed":
        assert (0.0, 24) == (attributes[names.GEN_AI_REQUEST_TEMPERATURE], attributes[names.GEN_AI_REQUEST_MAX_TOKENS])
        assert ("stop",) == attributes[names.GEN_AI_RESPONSE_FINISH_REASONS]
    (point,) = seen.points("gen_ai.client.operation.duration")
    assert 1 == point["count"]


def test_unknown_model(server: ScriptedServer, seen: Seen) -> None:
    """An error of the server's is an error of the call, by its public name."""
    server.script(Reply(status=404, json={"error": "model 'nope' not found"}))
    client: Any = ollama.Client(host=server.url)
    with pytest.raises(ollama.ResponseError):
        client.chat(model="nope", messages=MESSAGES)
    client._client.close()

    (span,) = seen.spans
    assert ("error", "ollama.ResponseError") == (span["status"], span["attributes"][names.ERROR_TYPE])


def test_streams_pass_untouched(server: ScriptedServer, seen: Seen) -> None:
    """A stream is not recorded yet, and reaches the caller as it is."""
    server.script(Reply(chunks=['{"model": "tiny", "message": {"role": "assistant", "content": "x"}, "done": true}\n']))
    client: Any = ollama.Client(host=server.url)
    assert ["x"] == [part["message"]["content"] for part in client.chat(model="tiny", messages=MESSAGES, stream=True)]
    client._client.close()

    assert [] == seen.spans
