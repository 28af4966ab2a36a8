"""Every way to make a call with the `ollama` client, sync and async, to be crossed with what may happen."""

from __future__ import annotations

import asyncio
import gc
import inspect
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

import httpx
import ollama

from otel_llm.testing.ollama import TIMES
from otel_llm.testing.server import ScriptedServer
from otel_llm_semconv import attributes as names

MESSAGES = [{"role": "user", "content": "What is the capital of France?"}]
PROMPT_TOKENS = 6
OUTPUT_TOKENS = 8
OPTIONS = {"temperature": 0, "num_predict": 24}
ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "chat": ("chat", {"model": "tiny", "messages": MESSAGES, "options": OPTIONS}),
    "generate": ("text_completion", {"model": "tiny", "prompt": MESSAGES[0]["content"], "options": OPTIONS}),
    "embed": ("embeddings", {"model": "tiny", "input": MESSAGES[0]["content"], "options": {}}),
    "embeddings": ("embeddings", {"model": "tiny", "prompt": MESSAGES[0]["content"], "options": {}}),
}
"""The operation of each API, and the arguments of a call."""
STREAMED = ("chat", "generate")
SECONDS = {
    names.OTEL_LLM_SERVER_LOAD_DURATION: TIMES["load_duration"] / 1e9,
    names.OTEL_LLM_SERVER_PROMPT_DURATION: TIMES["prompt_eval_duration"] / 1e9,
    names.OTEL_LLM_SERVER_GENERATION_DURATION: TIMES["eval_duration"] / 1e9,
}
"""What the scripted server tells of its own time."""

opened: list[Any] = []
"""Sync clients that a test opened; closed after it."""


def client(host: str, **options: Any) -> Any:
    """Return a sync client."""
    # Loading certificates is what takes a client's time; nothing here is encrypted.
    own = ollama.Client(host=host, verify=False, **options)
    opened.append(own)
    return own


def run(
    server: ScriptedServer | str,
    mode: str,
    make: Callable[[Any], Awaitable[Any]],
    *,
    collect: bool = True,
    **options: Any,
) -> Any:
    """Run a coroutine with a client of either kind; with a sync one it never waits, so it needs no loop."""
    host = server if isinstance(server, str) else server.url
    if mode == "sync":
        try:
            make(client(host, **options)).__await__().send(None)
        except StopIteration as done:
            gc.collect()
            return done.value
        raise AssertionError("a sync client made its caller wait")

    async def main() -> Any:
        own: Any = ollama.AsyncClient(host=host, verify=False, **options)
        try:
            return await make(own)
        finally:
            gc.collect()
            await asyncio.sleep(0)
            await own._client.aclose()

    result = asyncio.run(main())
    gc.collect()
    return result


async def settled(value: Any) -> Any:
    """Return the value, or what it stands for if it has to be awaited."""
    return await value if inspect.isawaitable(value) else value


END: Any = object()


async def step(stream: Any) -> Any:
    """Return the next chunk, or `END`."""
    return await anext(stream, END) if hasattr(stream, "__anext__") else next(stream, END)


async def drain(stream: Any) -> list[Any]:
    """Read a stream to its end."""
    if hasattr(stream, "__anext__"):
        return [chunk async for chunk in stream]
    return list(stream)


async def close(stream: Any) -> None:
    """Close a generator."""
    if hasattr(stream, "aclose"):
        await stream.aclose()
    else:
        stream.close()


class Got(NamedTuple):
    """What the caller got."""

    pieces: list[Any]
    raised: list[BaseException]

    def account(self) -> list[Any]:
        """Return everything of it that can be compared."""
        found: list[Any] = [(type(piece), repr(piece)) for piece in self.pieces]
        return found + [
            (type(raised), str(raised), type(raised.__cause__), type(raised.__context__), sorted(vars(raised)))
            for raised in self.raised
        ]


WAYS = {
    "consumed": "completed",
    "stepped": "completed",
    "closed": "closed",
    "broken": "abandoned",
    "dropped": "abandoned",
}
"""How a stream may be treated, and what becomes of it: read to its end, by a loop or by `next`; closed after its first
chunk; its loop left, while it is still held; let go after its first chunk."""


async def treat(own: Any, api: str, form: str, way: str, got: list[Any]) -> None:
    """Make a call, leave its answer in one of `WAYS`, and put down what came."""
    _, asked = ASKED[api]
    made = await settled(getattr(own, api)(**asked, **({"stream": True} if form == "stream" else {})))
    if form == "plain":
        got.append(made)
    elif way == "consumed":
        if hasattr(made, "__anext__"):
            async for chunk in made:
                got.append(chunk)
        else:
            for chunk in made:
                got.append(chunk)
    elif way == "stepped":
        while (chunk := await step(made)) is not END:
            got.append(chunk)
    elif way == "never read":
        pass
    else:
        if (chunk := await step(made)) is not END:
            got.append(chunk)
        if way == "closed":
            await close(made)
        elif way == "broken":
            if hasattr(made, "__anext__"):
                async for chunk in made:
                    got.append(chunk)
                    break
            else:
                for chunk in made:
                    got.append(chunk)
                    break


def takes(method: str, argument: str) -> bool:
    """Whether a method of this version of the client takes an argument."""
    own: Any = ollama.Client
    return argument in inspect.signature(getattr(own, method)).parameters


def refused() -> type[BaseException]:
    """Return what a plain call raises if no server is there; `ollama` 0.3 hands on the exception of httpx."""
    return httpx.ConnectError if hasattr(ollama.Client, "_request_stream") else ConnectionError
