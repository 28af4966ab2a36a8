"""The server without a socket: answers that are ready before a request comes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx2
import openai
from openai.types.chat import ChatCompletionChunk

_USAGE = {
    "prompt_tokens": 172,
    "completion_tokens": 96,
    "total_tokens": 268,
    "prompt_tokens_details": {"cached_tokens": 128, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
}
_CHAT = {
    "id": "chatcmpl-D1q9mXo2nPq8vK",
    "object": "chat.completion",
    "created": 1_790_812_800,
    "model": "gpt-4o-mini-2024-07-18",
    "choices": [
        {
            "index": 0,
            "message": {"role": "assistant", "content": "The capital of France is Paris. " * 14, "refusal": None},
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": _USAGE,
    "service_tier": "default",
    "system_fingerprint": "fp_07871e2ad8",
}
_EMBEDDINGS = {
    "object": "list",
    "data": [{"object": "embedding", "index": 0, "embedding": [0.0625] * 64}],
    "model": "text-embedding-3-small",
    "usage": {"prompt_tokens": 9, "total_tokens": 9},
}
_ERROR = {
    "error": {
        "message": "Invalid type for 'temperature'.",
        "type": "invalid_request_error",
        "param": "temperature",
        "code": "invalid_type",
    }
}
_HEADERS = [
    ("date", "Sat, 21 Nov 2026 12:00:00 GMT"),
    ("content-type", "application/json"),
    ("openai-organization", "org"),
    ("openai-processing-ms", "512"),
    ("openai-version", "2020-10-01"),
    ("x-ratelimit-limit-requests", "10000"),
    ("x-ratelimit-limit-tokens", "2000000"),
    ("x-ratelimit-remaining-requests", "9999"),
    ("x-ratelimit-remaining-tokens", "1999828"),
    ("x-ratelimit-reset-requests", "6ms"),
    ("x-ratelimit-reset-tokens", "5ms"),
    ("x-request-id", "req_0123456789abcdef0123456789abcdef"),
    ("server", "cloudflare"),
]
_STREAM_HEADERS = [*_HEADERS[:1], ("content-type", "text/event-stream"), *_HEADERS[2:]]

REFUSED = "refused"
"""The model that the server answers with 400."""


def chunks(length: int) -> list[dict[str, Any]]:
    """Return a streamed answer: *length* chunks, the last of which carries the usage."""
    common = {key: _CHAT[key] for key in ("id", "created", "model", "service_tier", "system_fingerprint")}
    common["object"] = "chat.completion.chunk"

    def chunk(delta: dict[str, str], reason: str | None = None) -> dict[str, Any]:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}
        return {**common, "choices": [choice], "usage": None}

    first, stop = chunk({"role": "assistant", "content": ""}), chunk({}, "stop")
    last = {**common, "choices": [], "usage": _USAGE}
    return [first, *[chunk({"content": " Paris"})] * (length - 3), stop, last]


def parsed_chunks(length: int) -> list[ChatCompletionChunk]:
    """Return the same, as the client hands them out."""
    return [ChatCompletionChunk.model_validate(chunk) for chunk in chunks(length)]


class _Events(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """A body that comes one event at a time."""

    def __init__(self, events: list[bytes]) -> None:
        self._events = events

    def __iter__(self) -> Iterator[bytes]:
        yield from self._events

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for event in self._events:
            yield event


_bodies: dict[int, list[bytes]] = {}


def _events(length: int) -> list[bytes]:
    if length not in _bodies:
        _bodies[length] = [*[b"data: %b\n\n" % json.dumps(chunk).encode() for chunk in chunks(length)]]
        _bodies[length].append(b"data: [DONE]\n\n")
    return _bodies[length]


def answer(request: httpx2.Request) -> httpx2.Response:
    """Answer a request of any kind."""
    if request.url.path.endswith("/embeddings"):
        return httpx2.Response(200, headers=_HEADERS, content=_EMBEDDINGS_BODY)
    body = json.loads(request.content)
    if body["model"] == REFUSED:
        return httpx2.Response(400, headers=_HEADERS, content=_ERROR_BODY)
    if body.get("stream"):
        # The length asked for comes as max_tokens.
        return httpx2.Response(200, headers=_STREAM_HEADERS, stream=_Events(_events(body["max_tokens"])))
    return httpx2.Response(200, headers=_HEADERS, content=_CHAT_BODY)


_CHAT_BODY, _EMBEDDINGS_BODY, _ERROR_BODY = (json.dumps(body).encode() for body in (_CHAT, _EMBEDDINGS, _ERROR))

_TRANSPORT = httpx2.MockTransport(answer)
_BASE_URL = "https://api.openai.com/v1"

client = openai.OpenAI(
    api_key="none", base_url=_BASE_URL, max_retries=0, http_client=httpx2.Client(transport=_TRANSPORT)
)
aclient = openai.AsyncOpenAI(
    api_key="none", base_url=_BASE_URL, max_retries=0, http_client=httpx2.AsyncClient(transport=_TRANSPORT)
)
