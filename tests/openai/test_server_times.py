"""Servers of others, spoken to with the openai client: the times that they tell are on the span."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from otel_llm.testing import Seen
from otel_llm.testing.server import Reply, ScriptedServer, sse
from otel_llm_semconv import attributes as names
from tests.openai.styles import ASK, ask_in, client

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
        answer = ask_in(form, resource, asked)
        if form == "raw":
            answer.parse()

    (span,) = seen.spans
    expected = {
        names.OTEL_LLM_SERVER_PROMPT_DURATION: 0.125,
        names.OTEL_LLM_SERVER_GENERATION_DURATION: 0.25,
        names.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: 3,
        names.GEN_AI_USAGE_INPUT_TOKENS: 9,
    }
    assert expected == {key: span["attributes"].get(key) for key in expected}


TIMES = {"queue_time": 0.5, "prompt_time": 0.125, "completion_time": 0.25, "total_time": 0.375}
KIN: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "groq": (
        "https://api.groq.com/openai/v1",
        {"usage": {**USAGE, **TIMES}},
        {"x_groq": {"id": "req_1", "usage": {**USAGE, **TIMES}}},
    ),
    "cerebras": ("https://api.cerebras.ai/v1", {"usage": USAGE, "time_info": TIMES}, {}),
}
"""By provider: its base URL, what a whole answer tells, and the last chunk if that differs."""


@pytest.mark.parametrize("form", ["plain", "raw", "absolute", "stream", "bytes"])
@pytest.mark.parametrize("provider", KIN)
def test_kin(seen: Seen, provider: str, form: str) -> None:
    """What Groq and Cerebras tell in their own way is recorded, though the client is not theirs."""
    base_url, told, last = KIN[provider]
    head: dict[str, Any] = {"id": "c-1", "created": 1, "model": "tiny", "object": "chat.completion"}
    whole, delta = ({"index": 0, "finish_reason": "stop", **choice} for choice in CHOICES["chat"])
    streams = form in ("stream", "bytes")
    parts: Any = ({**head, "choices": [delta]}, {**head, "choices": [], **(last or told)})
    events = "".join([f"data: {json.dumps(part)}\n\n" for part in parts]) + "data: [DONE]\n\n"
    library: Any = __import__(openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0])

    def respond(request: Any) -> Any:
        if streams:
            return library.Response(200, text=events, headers={"content-type": "text/event-stream"})
        return library.Response(200, json={**head, "choices": [whole], **told})

    http = library.Client(transport=library.MockTransport(respond))
    asked: Any = {"model": "tiny", "messages": ASK}
    elsewhere = "http://test/v1" if form == "absolute" else base_url
    with openai.OpenAI(base_url=elsewhere, api_key="test", http_client=http, max_retries=0) as opened:
        own: Any = opened
        if form == "absolute":
            own.post(f"{base_url}/chat/completions", body=asked, cast_to=object)
        else:
            answer = ask_in(form, own.chat.completions, asked)
            if form == "raw":
                answer.parse()

    (span,) = seen.spans
    expected = {
        names.GEN_AI_PROVIDER_NAME: provider,
        names.OTEL_LLM_SERVER_PROMPT_DURATION: 0.125,
        names.OTEL_LLM_SERVER_GENERATION_DURATION: 0.25,
        names.GEN_AI_USAGE_INPUT_TOKENS: 9,
        names.GEN_AI_USAGE_OUTPUT_TOKENS: 4,
    }
    assert expected == {key: span["attributes"].get(key) for key in expected}
