"""Ollama's client and raw httpx: their calls, and what answers them without a socket."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from typing import Any, NamedTuple

import httpx
import ollama

from benchmarks.scenarios import MESSAGES, each
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


class _Pieces(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that comes one piece at a time."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece


@cache
def _parts(length: int) -> list[dict[str, Any]]:
    return [*[_part(" Paris", done=False)] * (length - 1), _part("", done=True)]


@cache
def _lines(length: int) -> list[bytes]:
    return [json.dumps(part).encode() + b"\n" for part in _parts(length)]


@cache
def _decoded(length: int) -> list[Any]:
    return [ollama.ChatResponse.model_validate(part) for part in _parts(length)]


def _answer(request: httpx.Request) -> httpx.Response:
    if request.url.path.startswith("/v1"):
        other: Any = openai_answer(request)  # type: ignore[arg-type]  # both libraries have what it looks at
        body: dict[str, Any] = {"content": other.content} if other.is_closed else {"stream": _Pieces([*other.stream])}
        return httpx.Response(other.status_code, headers=other.headers.multi_items(), **body)
    body = json.loads(request.content)
    if body.get("stream"):
        headers = {"content-type": "application/x-ndjson"}
        return httpx.Response(200, headers=headers, stream=_Pieces(_lines(body["options"]["num_predict"])))
    return httpx.Response(200, headers={"content-type": "application/json"}, content=_CHAT)


_TRANSPORT = httpx.MockTransport(_answer)
_HOST = "http://127.0.0.1:11434"

_ollama: Any = ollama.Client(host=_HOST, transport=_TRANSPORT)
_aollama: Any = ollama.AsyncClient(host=_HOST, transport=_TRANSPORT)
_raw = httpx.Client(transport=_TRANSPORT, base_url="http://127.0.0.1:8000")
_araw = httpx.AsyncClient(transport=_TRANSPORT, base_url="http://127.0.0.1:8000")


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


class OllamaStream(NamedTuple):
    """A streamed chat call of Ollama's client, without its decoding."""

    length: int

    def call(self) -> None:
        """Read the stream."""
        for _ in _ollama.chat(model=_MODEL, messages=MESSAGES, stream=True, options={"num_predict": self.length}):
            pass

    async def acall(self) -> None:
        """Read the stream in asyncio."""
        options = {"num_predict": self.length}
        async for _ in await _aollama.chat(model=_MODEL, messages=MESSAGES, stream=True, options=options):
            pass


def _chunks(self: Any, cls: object, *args: object, stream: bool, json: dict[str, Any]) -> Iterator[Any]:
    """Stand in for ``_request`` of Ollama's client."""
    return (chunk for chunk in _decoded(json["options"]["num_predict"]))


async def _achunks(self: Any, cls: object, *args: object, stream: bool, json: dict[str, Any]) -> AsyncIterator[Any]:
    """Stand in for ``_request`` of Ollama's client; `_chunks` for asyncio."""
    return each(_decoded(json["options"]["num_predict"]))


def nothing_decoded() -> AbstractContextManager[None]:
    """Have Ollama's client hand out chunks that are there already, so that little more than the loop is left."""
    return put_in((ollama.Client, "_request", _chunks), (ollama.AsyncClient, "_request", _achunks))


class RawStream(NamedTuple):
    """A streamed chat call with nothing but httpx, whose bytes are read as they come."""

    length: int

    def call(self) -> None:
        """Read the stream."""
        with _raw.stream("POST", "/v1/chat/completions", json=self._body()) as response:
            stream: Any = response.stream
            for _ in stream:
                pass

    async def acall(self) -> None:
        """Read the stream in asyncio."""
        async with _araw.stream("POST", "/v1/chat/completions", json=self._body()) as response:
            stream: Any = response.stream
            async for _ in stream:
                pass

    def _body(self) -> dict[str, Any]:
        return {"model": "gpt-4o-mini", "messages": MESSAGES, "max_tokens": self.length, "stream": True}


class Sent(NamedTuple):
    """A request that is handed to a client which does nothing with it, so that only what stands before it is timed."""

    request: httpx.Request

    def call(self) -> object:
        """Send it."""
        return _raw.send(self.request, auth=None, follow_redirects=False)

    def acall(self) -> Awaitable[object]:
        """Send it in asyncio."""
        return _araw.send(self.request, auth=None, follow_redirects=False)


def _nowhere(
    self: Any, request: httpx.Request, *, stream: bool = False, auth: Any = None, follow_redirects: Any = None
) -> None:
    """Stand in for ``send``."""


async def _anowhere(
    self: Any, request: httpx.Request, *, stream: bool = False, auth: Any = None, follow_redirects: Any = None
) -> None:
    """Stand in for ``send``; `_nowhere` for asyncio."""


@contextmanager
def put_in(*replacements: tuple[Any, str, object]) -> Generator[None]:
    """Put something else in place of attributes of classes for a while."""
    originals = [(owner, name, getattr(owner, name)) for owner, name, _ in replacements]
    for owner, name, replacement in replacements:
        setattr(owner, name, replacement)
    try:
        yield
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)


def sent_nowhere() -> AbstractContextManager[None]:
    """Have no client of httpx send anything for a while."""
    return put_in((httpx.Client, "send", _nowhere), (httpx.AsyncClient, "send", _anowhere))


GET = Sent(_raw.build_request("GET", "/v1/models"))
STRANGER = Sent(_raw.build_request("POST", "/v1/chat/completions", json={"item": "book", "number": 3}))
UPLOAD = Sent(_raw.build_request("POST", "/api/orders", json={"item": "book", "number": 3}))
