"""The calls that are measured, as a user writes them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, NamedTuple, Protocol

import openai

from benchmarks.stub import REFUSED, aclient, client

_MODEL = "gpt-4o-mini"
MESSAGES: Any = [
    {"role": "system", "content": "You are a helpful assistant who answers in one short sentence. " * 5},
    {"role": "user", "content": "What is the capital of France, and what is it known for? " * 6},
]

Call = Callable[[], object]
ACall = Callable[[], Awaitable[object]]


def chat() -> object:
    """Make a plain chat call."""
    return client.chat.completions.create(model=_MODEL, messages=MESSAGES, temperature=0.2, max_tokens=256)


def achat() -> Awaitable[object]:
    """Make a plain chat call in asyncio."""
    return aclient.chat.completions.create(model=_MODEL, messages=MESSAGES, temperature=0.2, max_tokens=256)


def embeddings() -> object:
    """Embed one text."""
    return client.embeddings.create(model="text-embedding-3-small", input="Paris", encoding_format="float")


def refused() -> object:
    """Make a chat call that the server answers with 400."""
    try:
        return client.chat.completions.create(model=REFUSED, messages=MESSAGES)
    except openai.BadRequestError:
        return None


class AnyStream(Protocol):
    """A stream of a given length, read to its end."""

    @property
    def length(self) -> int:
        """How many chunks there are."""
        ...

    def call(self) -> None:
        """Read the stream."""
        ...

    async def acall(self) -> None:
        """Read the stream in asyncio."""
        ...


class Stream(NamedTuple):
    """A streamed chat call of a given length, read to its end."""

    length: int
    ready: list[Any] | None = None
    """Chunks that stand in for what the client decodes, so that little more than the loop is left."""

    def call(self) -> None:
        """Read the stream."""
        create: Any = client.chat.completions.create
        stream = create(**self._request())
        if self.ready is not None:
            stream._iterator = iter(self.ready)
        for _ in stream:
            pass
        stream.close()

    async def acall(self) -> None:
        """Read the stream in asyncio."""
        create: Any = aclient.chat.completions.create
        stream = await create(**self._request())
        if self.ready is not None:
            stream._iterator = each(self.ready)
        async for _ in stream:
            pass
        await stream.close()

    def _request(self) -> dict[str, Any]:
        return {
            "model": _MODEL,
            "messages": MESSAGES,
            "max_tokens": self.length if self.ready is None else 3,
            "stream": True,
            "stream_options": {"include_usage": True},
        }


async def each(chunks: list[Any]) -> AsyncIterator[Any]:
    """Yield the chunks."""
    for chunk in chunks:
        yield chunk


def abandoned() -> None:
    """Read the beginning of a stream and drop it."""
    create: Any = client.chat.completions.create
    stream = create(**Stream(20)._request())
    next(iter(stream))
