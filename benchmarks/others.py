"""Ollama's client and raw httpx: their calls, and what answers them without a socket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Generator, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import httpx
import ollama

from benchmarks.scenarios import MESSAGES
from benchmarks.stub import answer as openai_answer

_DURATIONS = {
    "total_duration": 912_345_678,
    "load_duration": 12_345_678,
    "prompt_eval_count": 172,
    "prompt_eval_duration": 201_234_567,
    "eval_count": 96,
    "eval_duration": 690_123_456,
}
_MODEL = "llama3.2"


def _part(text: str, *, done: bool) -> dict[str, Any]:
    part = {
        "model": _MODEL,
        "created_at": "2026-11-21T12:00:00.000000Z",
        "message": {"role": "assistant", "content": text},
        "done": done,
    }
    return {**part, "done_reason": "stop", **_DURATIONS} if done else part


_CHAT = json.dumps(_part("The capital of France is Paris. " * 14, done=True)).encode()


class _Lines(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that comes one line at a time."""

    def __init__(self, length: int) -> None:
        line = json.dumps(_part(" Paris", done=False)).encode() + b"\n"
        self._lines = [*[line] * (length - 1), json.dumps(_part("", done=True)).encode() + b"\n"]

    def __iter__(self) -> Iterator[bytes]:
        yield from self._lines

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for line in self._lines:
            yield line


def _answer(request: httpx.Request) -> httpx.Response:
    if request.url.path.startswith("/v1"):
        other: Any = openai_answer(request)  # type: ignore[arg-type]  # both libraries have what it looks at
        return httpx.Response(other.status_code, headers=other.headers.multi_items(), content=other.content)
    body = json.loads(request.content)
    if body.get("stream"):
        headers = {"content-type": "application/x-ndjson"}
        return httpx.Response(200, headers=headers, stream=_Lines(body["options"]["num_predict"]))
    return httpx.Response(200, headers={"content-type": "application/json"}, content=_CHAT)


_TRANSPORT = httpx.MockTransport(_answer)
_HOST = "http://127.0.0.1:11434"

_ollama: Any = ollama.Client(host=_HOST, transport=_TRANSPORT)
_aollama: Any = ollama.AsyncClient(host=_HOST, transport=_TRANSPORT)
_raw = httpx.Client(transport=_TRANSPORT, base_url="http://127.0.0.1:8000")


def chat() -> object:
    """Make a plain chat call of Ollama's client."""
    return _ollama.chat(model=_MODEL, messages=MESSAGES, options={"temperature": 0.2})


def achat() -> Awaitable[object]:
    """Make a plain chat call of Ollama's client in asyncio."""
    answer: Awaitable[object] = _aollama.chat(model=_MODEL, messages=MESSAGES, options={"temperature": 0.2})
    return answer


def raw_chat() -> object:
    """Make a plain chat call with nothing but httpx."""
    body = {"model": "gpt-4o-mini", "messages": MESSAGES, "temperature": 0.2, "max_tokens": 256}
    return _raw.post("/v1/chat/completions", json=body).json()


class Sent(NamedTuple):
    """A request that is handed to a client which does nothing with it, so that only what stands before it is timed."""

    client: httpx.Client
    request: httpx.Request

    def __call__(self) -> object:
        """Send it."""
        return self.client.send(self.request, auth=None, follow_redirects=False)


def _nowhere(
    self: httpx.Client, request: httpx.Request, *, stream: bool = False, auth: Any = None, follow_redirects: Any = None
) -> None:
    """Stand in for ``send``."""


@contextmanager
def sent_nowhere() -> Generator[None]:
    """Have no client of httpx send anything for a while."""
    send = httpx.Client.send
    httpx.Client.send = _nowhere  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        httpx.Client.send = send  # type: ignore[method-assign]


GET = Sent(_raw, _raw.build_request("GET", "/v1/models"))
UPLOAD = Sent(_raw, _raw.build_request("POST", "/api/orders", json={"item": "book", "number": 3}))
