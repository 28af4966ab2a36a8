"""The APIs that are recognised in plain HTTP: what is asked, what is answered, and what must be recorded of it."""

from __future__ import annotations

import asyncio
import importlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any, NamedTuple

import pytest

LIBRARIES: list[Any] = [pytest.importorskip(name) for name in ("httpx", "httpx2")]
"""Both libraries; they are as good as the same to a caller."""
MODES = ("sync", "async")

ASK: Any = [{"role": "user", "content": "What is the capital of France?"}]
SSE = "text/event-stream; charset=utf-8"
NDJSON = "application/x-ndjson"
JSON = "application/json"


class Api(NamedTuple):
    """One endpoint."""

    path: str
    asked: dict[str, Any]
    answer: Any
    """The answer that is no stream."""
    told: tuple[str, str, str | None, str | None, int | None, int | None]
    """Operation, provider, request model, response model, input tokens and output tokens."""
    chunks: Sequence[Any] = ()
    """The events of a stream, if it can be one."""
    content_type: str = SSE
    """Of the stream."""
    stream_path: str = ""
    """The path of a stream, if it is another one."""

    def request(self, *, stream: bool) -> tuple[str, dict[str, Any]]:
        """Return the path to post to, and the body."""
        if not stream:
            return self.path, {**self.asked, **({"stream": False} if self.content_type == NDJSON else {})}
        if self.stream_path:
            return self.stream_path, self.asked
        return self.path, {**self.asked, "stream": True}

    @property
    def pieces(self) -> list[bytes]:
        """The body of the stream, cut between its events."""
        if self.content_type == NDJSON:
            return [json.dumps(chunk).encode() + b"\n" for chunk in self.chunks]
        if self.content_type == JSON:
            marks = [b"[", *[b",\r\n"] * (len(self.chunks) - 1)]
            return [mark + json.dumps(chunk).encode() for mark, chunk in zip(marks, self.chunks, strict=True)] + [b"]"]
        done = [] if "type" in self.chunks[0] or self.stream_path else [b"data: [DONE]\n\n"]
        return [self._event(chunk) for chunk in self.chunks] + done

    def _event(self, chunk: Any) -> bytes:
        name = f"event: {chunk['type']}\n" if "type" in chunk else ""
        return f"{name}data: {json.dumps(chunk)}\n\n".encode()


_USAGE = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
_CHAT = {"id": "c-1", "object": "chat.completion", "created": 1, "model": "gpt-5-2"}
_RESPONSE: dict[str, Any] = {"id": "r-1", "object": "response", "model": "gpt-5-2", "output": []}
_OLLAMA = {"model": "tiny:latest", "created_at": "2026-10-01T00:00:00Z"}
_DONE = {"done": True, "done_reason": "stop", "prompt_eval_count": 9, "eval_count": 4, "eval_duration": 2_000_000_000}
_MESSAGE = {"id": "m-1", "type": "message", "role": "assistant", "model": "claude-4-2", "stop_sequence": None}
_GEMINI = {"modelVersion": "gemini-3-2", "responseId": "g-1"}
_GEMINI_USAGE = {"promptTokenCount": 9, "candidatesTokenCount": 4, "totalTokenCount": 13}


def _candidate(text: str, reason: str | None = None) -> dict[str, Any]:
    part = {"content": {"role": "model", "parts": [{"text": text}]}, "index": 0}
    return {"candidates": [part | ({"finishReason": reason} if reason else {})]}


_GENERATED = [
    {**_candidate("The capital "), **_GEMINI, "usageMetadata": {"promptTokenCount": 9, "totalTokenCount": 9}},
    {**_candidate("is Paris."), **_GEMINI, "usageMetadata": {"promptTokenCount": 9, "totalTokenCount": 9}},
    {**_candidate("", "STOP"), **_GEMINI, "usageMetadata": _GEMINI_USAGE},
]

APIS: dict[str, Api] = {
    "openai chat": Api(
        "/v1/chat/completions",
        {"model": "gpt-5", "messages": ASK},
        {
            **_CHAT,
            "choices": [{"index": 0, "message": {"role": "assistant", "content": "Paris"}, "finish_reason": "stop"}],
            "usage": _USAGE,
        },
        ("chat", "openai", "gpt-5", "gpt-5-2", 9, 4),
        [
            {**_CHAT, "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]},
            {**_CHAT, "choices": [{"index": 0, "delta": {"content": "Par"}, "finish_reason": None}]},
            {**_CHAT, "choices": [{"index": 0, "delta": {"content": "ís\n\n"}, "finish_reason": None}]},
            {**_CHAT, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
            {**_CHAT, "choices": [], "usage": _USAGE},
        ],
    ),
    "openai completions": Api(
        "/v1/completions",
        {"model": "gpt-3.5", "prompt": "Paris is"},
        {"id": "c-2", "model": "gpt-3.5-2", "choices": [{"text": "x", "finish_reason": "stop"}], "usage": _USAGE},
        ("text_completion", "openai", "gpt-3.5", "gpt-3.5-2", 9, 4),
        [
            {"id": "c-2", "model": "gpt-3.5-2", "choices": [{"index": 0, "text": "a ", "finish_reason": None}]},
            {"id": "c-2", "model": "gpt-3.5-2", "choices": [{"index": 0, "text": "town", "finish_reason": "stop"}]},
            {"id": "c-2", "model": "gpt-3.5-2", "choices": [], "usage": _USAGE},
        ],
    ),
    "openai responses": Api(
        "/v1/responses",
        {"model": "gpt-5", "input": "The capital of France?"},
        {**_RESPONSE, "status": "completed", "usage": {"input_tokens": 9, "output_tokens": 4}},
        ("chat", "openai", "gpt-5", "gpt-5-2", 9, 4),
        [
            {"type": "response.created", "response": {**_RESPONSE, "status": "in_progress", "usage": None}},
            {"type": "response.output_text.delta", "delta": "Paris"},
            {
                "type": "response.completed",
                "response": {
                    **_RESPONSE,
                    "status": "completed",
                    "usage": {"input_tokens": 9, "output_tokens": 4},
                },
            },
        ],
    ),
    "openai embeddings": Api(
        "/v1/embeddings",
        {"model": "text-embedding-3-small", "input": "Paris"},
        {"object": "list", "data": [], "model": "te-3", "usage": {"prompt_tokens": 9, "total_tokens": 9}},
        ("embeddings", "openai", "text-embedding-3-small", "te-3", 9, None),
    ),
    "azure": Api(
        "/openai/deployments/gpt-5-eu/chat/completions?api-version=2026-01-01",
        {"messages": ASK},
        {**_CHAT, "choices": [], "usage": _USAGE},
        ("chat", "openai", "gpt-5-eu", "gpt-5-2", 9, 4),
    ),
    "anthropic": Api(
        "/v1/messages",
        {"model": "claude-4", "max_tokens": 64, "messages": ASK},
        {**_MESSAGE, "stop_reason": "end_turn", "content": [], "usage": {"input_tokens": 9, "output_tokens": 4}},
        ("chat", "anthropic", "claude-4", "claude-4-2", 9, 4),
        [
            {
                "type": "message_start",
                "message": {
                    **_MESSAGE,
                    "stop_reason": None,
                    "content": [],
                    "usage": {"input_tokens": 9, "output_tokens": 1},
                },
            },
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "ping"},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Paris"}},
            {"type": "content_block_stop", "index": 0},
            {
                "type": "message_delta",
                "delta": {"stop_reason": "end_turn", "stop_sequence": None},
                "usage": {"output_tokens": 4},
            },
            {"type": "message_stop"},
        ],
    ),
    "ollama chat": Api(
        "/api/chat",
        {"model": "tiny", "messages": ASK},
        {**_OLLAMA, **_DONE, "message": {"role": "assistant", "content": "Paris"}},
        ("chat", "ollama", "tiny", "tiny:latest", 9, 4),
        [
            {**_OLLAMA, "message": {"role": "assistant", "content": "Par"}, "done": False},
            {**_OLLAMA, "message": {"role": "assistant", "content": "is"}, "done": False},
            {**_OLLAMA, **_DONE, "message": {"role": "assistant", "content": ""}},
        ],
        NDJSON,
    ),
    "ollama generate": Api(
        "/api/generate",
        {"model": "tiny", "prompt": "Paris is"},
        {**_OLLAMA, **_DONE, "response": "a town"},
        ("text_completion", "ollama", "tiny", "tiny:latest", 9, 4),
        [{**_OLLAMA, "response": "a town", "done": False}, {**_OLLAMA, **_DONE, "response": ""}],
        NDJSON,
    ),
    "ollama embed": Api(
        "/api/embed",
        {"model": "tiny", "input": "Paris"},
        {"model": "tiny:latest", "embeddings": [[0.1]], "prompt_eval_count": 9},
        ("embeddings", "ollama", "tiny", "tiny:latest", 9, None),
    ),
    "gemini": Api(
        "/v1beta/models/gemini-3:generateContent",
        {"contents": [{"role": "user", "parts": [{"text": "The capital?"}]}]},
        {**_candidate("Paris", "STOP"), **_GEMINI, "usageMetadata": _GEMINI_USAGE},
        ("generate_content", "gcp.gemini", "gemini-3", "gemini-3-2", 9, 4),
        _GENERATED,
        JSON,
        "/v1beta/models/gemini-3:streamGenerateContent",
    ),
    "vertex": Api(
        "/v1/projects/p/locations/eu/publishers/google/models/text-embedding-005:predict",
        {"instances": [{"content": "Paris"}, {"content": "Rome"}], "parameters": {"outputDimensionality": 3}},
        {
            "predictions": [
                {"embeddings": {"values": [0.1], "statistics": {"truncated": False, "token_count": 4}}},
                {"embeddings": {"values": [0.2], "statistics": {"truncated": False, "token_count": 5}}},
            ],
            "metadata": {"billableCharacterCount": 9},
        },
        ("embeddings", "gcp.vertex_ai", "text-embedding-005", None, 9, None),
    ),
    "gemini sse": Api(
        "/v1beta/models/gemini-3:generateContent?key=x",
        {"contents": [{"role": "user", "parts": [{"text": "The capital?"}]}]},
        {**_candidate("Paris", "STOP"), **_GEMINI, "usageMetadata": _GEMINI_USAGE},
        ("generate_content", "gcp.gemini", "gemini-3", "gemini-3-2", 9, 4),
        _GENERATED,
        SSE,
        "/v1beta/models/gemini-3:streamGenerateContent?alt=sse",
    ),
}
STREAMED = {name: api for name, api in APIS.items() if api.chunks}


READERS: dict[str, Callable[[Any], Any]] = {
    "read": lambda response: response.read,
    "iter_lines": lambda response: response.iter_lines,
    "iter_bytes": lambda response: response.iter_bytes,
    "iter_text": lambda response: response.iter_text,
    "iter_raw": lambda response: response.iter_raw,
}
"""How a caller may read a streamed answer, with the names that a sync response has for it."""


def run(mode: str, library: Any, use: Callable[[Any], Awaitable[Any]], **options: Any) -> Any:
    """Run *use* with a client: an async one in a loop, or a sync one, with which it never waits."""
    if mode == "async":

        async def main() -> Any:
            async with library.AsyncClient(**{"verify": False, **options}) as client:
                return await use(client)

        return asyncio.run(main())
    with library.Client(**{"verify": False, **options}) as client:
        coroutine: Any = use(client)
        try:
            coroutine.send(None)
        except StopIteration as done:
            return done.value
        raise AssertionError("a sync client made its caller wait")


async def settled(value: Any) -> Any:
    """Return the value, or what it stands for if it has to be awaited."""
    return await value if hasattr(value, "__await__") else value


async def opened(client: Any, path: str, body: Any) -> Any:
    """Send a request whose answer is to be read by the caller."""
    return await settled(client.send(client.build_request("POST", path, json=body), stream=True))


async def pieces(response: Any, reader: str) -> list[Any]:
    """Read an answer to its end."""
    is_async = hasattr(response.stream, "__aiter__") and not hasattr(response.stream, "__iter__")
    return [piece async for piece in _aiter(response, reader, is_async)]


async def _aiter(response: Any, reader: str, is_async: bool) -> AsyncIterator[Any]:
    if reader == "read":
        yield await response.aread() if is_async else response.read()
    elif is_async:
        async for piece in getattr(response, f"a{reader}")():
            yield piece
    else:
        for piece in getattr(response, reader)():
            yield piece


def streams(library: Any) -> type[Any]:
    """Return a class of byte streams of a library, sync and async at once, that end with an exception if given one."""
    base: Any = importlib.import_module(library.__name__)

    class Pieces(base.SyncByteStream, base.AsyncByteStream):  # type: ignore[misc]
        def __init__(self, pieces: Sequence[bytes], error: BaseException | None = None) -> None:
            self.pieces, self.error, self.closed = pieces, error, 0

        def __iter__(self) -> Iterator[bytes]:
            yield from self.pieces
            if self.error is not None:
                raise self.error

        async def __aiter__(self) -> AsyncIterator[bytes]:
            for piece in self.pieces:
                yield piece
            if self.error is not None:
                raise self.error

        def close(self) -> None:
            self.closed += 1

        async def aclose(self) -> None:
            self.closed += 1

    return Pieces
