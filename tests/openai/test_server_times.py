"""A server of llama.cpp's, spoken to with the openai client: the times that it tells are on the span."""

from __future__ import annotations

from typing import Any

import pytest

from otel_llm.testing import Seen
from otel_llm.testing.server import Reply, ScriptedServer, sse
from otel_llm_semconv import attributes as names
from tests.openai.styles import ASK, client

TIMINGS = {"cache_n": 3, "prompt_n": 6, "prompt_ms": 125.0, "predicted_n": 4, "predicted_ms": 250.0}
USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
END: dict[str, Any] = {"timings": TIMINGS, "usage": USAGE}
CHOICES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "chat": ({"message": {"role": "assistant", "content": "Paris"}}, {"delta": {"content": "Paris"}}),
    "completions": ({"text": "Paris"}, {"text": "Paris"}),
}


@pytest.mark.parametrize("form", ["plain", "raw", "stream", "bytes"])
@pytest.mark.parametrize("api", CHOICES)
def test_llama_cpp(server: ScriptedServer, seen: Seen, api: str, form: str) -> None:
    """Seconds of prompt and generation are recorded, and what of the prompt was cached, however the answer is read."""
    head: dict[str, Any] = {"id": "c-1", "created": 1, "model": "tiny", "object": "chat.completion"}
    whole, delta = ({"index": 0, "finish_reason": "stop", **choice} for choice in CHOICES[api])
    streams = form in ("stream", "bytes")
    if streams:
        server.script(sse({**head, "choices": [delta]}, {**head, "choices": [], **END}))
    else:
        server.script(Reply(json={**head, "choices": [whole], **END}))
    asked: dict[str, Any] = {"model": "tiny"} | ({"messages": ASK} if api == "chat" else {"prompt": "Paris is"})
    with client(server) as own:
        resource: Any = own.chat.completions if api == "chat" else own.completions
        if form == "bytes":
            with resource.with_streaming_response.create(**asked, stream=True) as response:
                b"".join(response.iter_bytes())
        elif form == "raw":
            resource.with_raw_response.create(**asked).parse()
        else:
            answer = resource.create(**asked, stream=streams)
            if streams:
                list(answer)

    (span,) = seen.spans
    expected = {
        names.OTEL_LLM_SERVER_PROMPT_DURATION: 0.125,
        names.OTEL_LLM_SERVER_GENERATION_DURATION: 0.25,
        names.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: 3,
        names.GEN_AI_USAGE_INPUT_TOKENS: 9,
    }
    assert expected == {key: span["attributes"].get(key) for key in expected}
