"""Every way to make one and the same call, sync and async, so that tests can cross them with what may happen."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any

import openai

from otel_llm.testing.server import ScriptedServer

ASK: Any = [{"role": "user", "content": "What is the capital of France?"}]
PROMPT_TOKENS = 6
OUTPUT_TOKENS = 8


opened: list[openai.OpenAI] = []
"""Sync clients that a test opened; closed after it."""


def client(server: ScriptedServer, **options: Any) -> Any:
    """Return a sync client of the server's; untyped, since tests give it what no type allows."""
    # Loading certificates is what takes a client's time; nothing here is encrypted.
    settings: dict[str, Any] = {"max_retries": 0, "http_client": openai.DefaultHttpxClient(verify=False), **options}
    own = openai.OpenAI(base_url=server.base_url, api_key="test", **settings)
    opened.append(own)
    return own


def aclient(server: ScriptedServer, **options: Any) -> Any:
    """Return an async client of the server's."""
    settings: dict[str, Any] = {
        "max_retries": 0,
        "http_client": openai.DefaultAsyncHttpxClient(verify=False),
        **options,
    }
    return openai.AsyncOpenAI(base_url=server.base_url, api_key="test", **settings)


@cache
def has(path: str) -> bool:
    """Whether this version of the client has a resource or method, such as ``responses.parse``."""
    found: Any = openai.OpenAI(api_key="test", http_client=openai.DefaultHttpxClient(verify=False))
    for name in path.split("."):
        found = getattr(found, name, None)
    return found is not None


def drain(stream: Any) -> None:
    """Read a stream to its end."""
    for _ in stream:
        pass


def close(stream: Any) -> None:
    """Read one chunk and close."""
    next(iter(stream))
    stream.close()


def leave(stream: Any) -> None:
    """Leave a ``with`` block in the middle."""
    with stream:
        for _ in stream:
            break


def drop(stream: Any) -> None:
    """Leave the loop and forget the stream."""
    for _ in stream:
        break


def ignore(stream: Any) -> None:
    """Never read at all."""


def step(stream: Any) -> None:
    """Read with ``next`` to the end."""
    while True:
        try:
            next(stream)
        except StopIteration:
            return


async def adrain(stream: Any) -> None:
    """Read a stream to its end."""
    async for _ in stream:
        pass


async def aclose(stream: Any) -> None:
    """Read one chunk and close."""
    async for _ in stream:
        break
    await stream.close()


async def aleave(stream: Any) -> None:
    """Leave an ``async with`` block in the middle."""
    async with stream:
        async for _ in stream:
            break


async def adrop(stream: Any) -> None:
    """Leave the loop and forget the stream."""
    async for _ in stream:
        break


async def aignore(stream: Any) -> None:
    """Never read at all."""


async def astep(stream: Any) -> None:
    """Read with ``anext`` to the end."""
    while True:
        try:
            await anext(stream)
        except StopAsyncIteration:
            return


EXITS: dict[str, tuple[Callable[[Any], None], Callable[[Any], Awaitable[None]]]] = {
    "consumed": (drain, adrain),
    "stepped": (step, astep),
    "closed": (close, aclose),
    "left": (leave, aleave),
    "dropped": (drop, adrop),
    "never read": (ignore, aignore),
}
"""How a reader may treat a stream, sync and async."""

OUTCOMES = {
    "consumed": "completed",
    "stepped": "completed",
    "closed": "closed",
    "left": "closed",
    "dropped": "abandoned",
    "never read": "abandoned",
}
"""What becomes of the stream then."""


def run_async(make: Callable[[Any], Awaitable[Any]], server: ScriptedServer, **options: Any) -> Any:
    """Run a coroutine with an async client in a loop of its own, and collect what it dropped."""

    async def main() -> Any:
        async with aclient(server, **options) as own:
            result = await make(own)
            gc.collect()
            await asyncio.sleep(0)
            return result

    result = asyncio.run(main())
    gc.collect()
    return result
