"""Ask for the usage of a stream where the caller did not, and keep the chunk that brings it from him.

Only on request, by ``OTEL_LLM_OPENAI_INJECT_USAGE``: some servers refuse what they do not know.
Source: ``stream_options.include_usage`` of OpenAI's API reference, "Create chat completion".
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

from otel_llm.streams import Tap
from otel_llm.wire.fields import field


def ask(options: Any) -> bool:
    """Have the request ask for usage, and say so; a caller who said anything about it himself is left alone."""
    body: dict[str, Any] | None = options.json_data
    if not isinstance(body, dict) or body.get("stream") is not True:
        return False
    chosen: dict[str, Any] = body.get("stream_options") or {}
    if not isinstance(chosen, dict) or "include_usage" in chosen or "stream_options" in (options.extra_json or {}):
        return False
    options.json_data = {**body, "stream_options": {**chosen, "include_usage": True}}
    return True


def hide(stream: Any, tap: Tap) -> None:
    """Leave the chunk that we asked for out of what the client's stream object gives."""
    if tap.asked:
        tap.asked = False
        kind = _Hiding if hasattr(stream._iterator, "__next__") else _AsyncHiding
        stream._iterator = kind(tap, stream._iterator)


def _only_usage(chunk: object) -> bool:
    return field(chunk, "choices") == [] and field(chunk, "usage") is not None


# No generators: an asynchronous one that is dropped half read would be one more for asyncio to clean up, in public.


class _Hiding(Iterator[Any]):
    def __init__(self, tap: Tap, chunks: Iterator[Any]) -> None:
        self._tap = tap
        self._chunks = chunks

    def __next__(self) -> Any:
        chunk = next(self._chunks)
        while _only_usage(chunk):
            self._tap.tail.append(chunk)
            chunk = next(self._chunks)
        return chunk


class _AsyncHiding(AsyncIterator[Any]):
    def __init__(self, tap: Tap, chunks: AsyncIterator[Any]) -> None:
        self._tap = tap
        self._chunks = chunks

    async def __anext__(self) -> Any:
        chunk = await anext(self._chunks)
        while _only_usage(chunk):
            self._tap.tail.append(chunk)
            chunk = await anext(self._chunks)
        return chunk
