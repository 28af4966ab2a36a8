"""What Groq, Cerebras and Together AI tell in their own way: usage inside `x_groq`, times of the server's own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from otel_llm.testing import Seen
from otel_llm.testing.server import Reply, ScriptedServer, sse
from otel_llm_semconv import attributes as names
from tests.family.clients import CLIENTS, installed
from tests.openai.styles import ASK, ask_in

USAGE: dict[str, Any] = {"prompt_tokens": 6, "completion_tokens": 8, "total_tokens": 14}
TIMES = {"queue_time": 0.5, "prompt_time": 0.125, "completion_time": 0.25, "total_time": 0.375}
HEAD: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "llama",
    "system_fingerprint": "fp",
}
MESSAGE = {"role": "assistant", "content": "Paris"}


def _own(name: str) -> dict[str, Any]:
    """Return how a server of that client tells usage and times in a whole answer."""
    return {"usage": {**USAGE, **TIMES}} if name == "groq" else {"usage": USAGE, "time_info": TIMES}


@pytest.mark.parametrize("form", ["plain", "raw", "stream", "bytes"])
@pytest.mark.parametrize("name", ["groq", "cerebras"])
def test_times_and_usage(server: ScriptedServer, seen: Seen, name: str, form: str) -> None:
    """Seconds of prompt and generation are on the span, and the tokens, wherever the stream has them."""
    if not installed(name):
        pytest.skip(f"{name} is not installed")
    first: dict[str, Any] = {**HEAD, "choices": [{"index": 0, "delta": MESSAGE, "finish_reason": None}]}
    last: dict[str, Any] = {**HEAD, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    last |= {"x_groq": {"id": "req_1", **_own(name)}} if name == "groq" else _own(name)
    whole = {**HEAD, **_own(name), "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop"}]}
    streams = form in ("stream", "bytes")
    server.script(sse(first, last) if streams else Reply(json=whole))
    asked: Any = {"model": "llama", "messages": ASK}
    with CLIENTS[name].sync(server) as own:
        ask_in(form, own.chat.completions, asked)

    (span,) = seen.spans
    expected = {
        names.GEN_AI_USAGE_INPUT_TOKENS: 6,
        names.GEN_AI_USAGE_OUTPUT_TOKENS: 8,
        names.GEN_AI_RESPONSE_FINISH_REASONS: ("stop",),
        names.OTEL_LLM_SERVER_PROMPT_DURATION: 0.125,
        names.OTEL_LLM_SERVER_GENERATION_DURATION: 0.25,
    }
    assert expected == {key: span["attributes"].get(key) for key in expected}


def test_why_groq_stopped_early(server: ScriptedServer, seen: Seen) -> None:
    """An error that Groq tells in the last chunk, and nobody raises, makes the call an error."""
    if not installed("groq"):
        pytest.skip("groq is not installed")
    first: dict[str, Any] = {**HEAD, "choices": [{"index": 0, "delta": MESSAGE, "finish_reason": None}]}
    server.script(sse(first, {**HEAD, "choices": [], "x_groq": {"id": "req_1", "error": "over capacity"}}))
    with CLIENTS["groq"].sync(server) as own:
        list(own.chat.completions.create(model="llama", messages=ASK, stream=True))

    (span,) = seen.spans
    assert ("error", "over capacity") == (span["status"], span["description"])
    assert "_OTHER" == span["attributes"][names.ERROR_TYPE]


OTHERS: list[tuple[str, str, Callable[[Any], Any]]] = [
    ("groq", "embeddings llama", lambda own: own.embeddings.create(model="llama", input="a b")),
    ("groq", "GET /models/{id}", lambda own: own.models.retrieve("meta-llama/Llama-3")),
    ("together", "embeddings llama", lambda own: own.embeddings.create(model="llama", input="a b")),
    ("together", "GET /fine-tunes/{id}", lambda own: own.fine_tuning.retrieve("ft-1")),
    ("cerebras", "GET /models/{id}", lambda own: own.models.retrieve("llama3.1-8b")),
]


@pytest.mark.parametrize(("name", "title", "make"), OTHERS)
def test_other_endpoints(server: ScriptedServer, seen: Seen, name: str, title: str, make: Callable[[Any], Any]) -> None:
    """Embeddings are what they are with OpenAI; any other endpoint is recorded by its path, without the ids."""
    if not installed(name):
        pytest.skip(f"{name} is not installed")
    data = [{"object": "embedding", "index": 0, "embedding": [0.5]}]
    server.script(Reply(json={"id": "1", "object": "list", "model": "llama", "data": data, "usage": USAGE}))
    with CLIENTS[name].sync(server) as own:
        try:
            make(own)
        except AttributeError:
            pytest.skip(f"this version of {name} has no such resource")

    (span,) = seen.spans
    assert (title, CLIENTS[name].provider) == (span["name"], span["attributes"][names.GEN_AI_PROVIDER_NAME])
    assert "unset" == span["status"]
