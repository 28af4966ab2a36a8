"""Every way to make a call with the `ollama` client, sync and async, to be crossed with what may happen."""

from __future__ import annotations

import inspect
import json
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NamedTuple

import httpx
import ollama

from otel_llm.testing.ollama import TIMES
from otel_llm.testing.server import ScriptedServer
from otel_llm_semconv import attributes as names
from tests import crossing
from tests.crossing import END, settled, take

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


@contextmanager
def _client(mode: str, host: str, options: dict[str, Any]) -> Generator[Any]:
    """Have a sync client, or the module with its functions, which are methods of a client that it has made."""
    own = client(host, **options)
    if mode == "sync":
        yield own
        return
    module: Any = ollama
    behind = module.chat.__self__
    kept, behind._client = behind._client, own._client
    try:
        yield module
    finally:
        behind._client = kept


@asynccontextmanager
async def _aclient(host: str, options: dict[str, Any]) -> AsyncGenerator[Any]:
    own: Any = ollama.AsyncClient(host=host, verify=False, **options)
    try:
        yield own
    finally:
        await own._client.aclose()


def run(server: ScriptedServer | str, mode: str, make: Callable[[Any], Any], **options: Any) -> Any:
    """Run a coroutine with what makes calls in one of `MODES`: a client, or the module."""
    host = server if isinstance(server, str) else server.url
    return crossing.run(lambda: _client(mode, host, options), lambda: _aclient(host, options), mode, make)


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


WAYS = {
    "consumed": "completed",
    "stepped": "completed",
    "closed": "closed",
    "broken": "abandoned",
    "dropped": "abandoned",
}
"""How a stream may be treated, and what becomes of it: read to its end, by a loop or by `next`; closed after its first
chunk; its loop left, while it is still held; let go after its first chunk."""


class Style(NamedTuple):
    """One way to call one API."""

    api: str
    form: str

    @property
    def streams(self) -> bool:
        """Whether it asks for a stream."""
        return self.form == "stream"


STYLES = [Style(api, form) for api in ASKED for form in ("plain", "stream") if form == "plain" or api in STREAMED]
"""Every way to call every API that runs a model and is in every version of the client."""
MODES = ("sync", "async", "module")


async def treat(own: Any, style: Style, way: str, got: list[Any]) -> None:
    """Make a call, leave its answer in one of `WAYS`, and put down what came."""
    _, asked = ASKED[style.api]
    made = await settled(getattr(own, style.api)(**asked, **({"stream": True} if style.streams else {})))
    if not style.streams:
        got.append(made)
    elif way == "consumed":
        if hasattr(made, "__anext__"):
            async for chunk in made:
                got.append(chunk)
        else:
            for chunk in made:
                got.append(chunk)
    elif way == "stepped":
        while (chunk := await take(made)) is not END:
            got.append(chunk)
    elif way == "never read":
        pass
    else:
        if (chunk := await take(made)) is not END:
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


def line(api: str, text: str = "x", **more: Any) -> str:
    """Return one line of a stream."""
    said = {"message": {"role": "assistant", "content": text}} if api == "chat" else {"response": text}
    return json.dumps({"model": "tiny:latest", **said, "done": False, **more}) + "\n"


def takes(method: str, argument: str) -> bool:
    """Whether a method of this version of the client takes an argument."""
    own: Any = ollama.Client
    return argument in inspect.signature(getattr(own, method)).parameters


def refused() -> type[BaseException]:
    """Return what a plain call raises if no server is there; `ollama` 0.3 hands on the exception of httpx."""
    return httpx.ConnectError if hasattr(ollama.Client, "_request_stream") else ConnectionError
