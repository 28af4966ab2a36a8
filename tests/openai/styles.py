"""Every way to make one and the same call, sync and async, so that tests can cross them with what may happen."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache
from typing import Any, NamedTuple

import openai
from pydantic import BaseModel

from otel_llm.testing.server import ScriptedServer
from tests import crossing
from tests.crossing import END, settled, take

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


def ask_in(form: str, resource: Any, asked: dict[str, Any]) -> Any:
    """Ask, and read the answer in one form: plain, raw (it is yet to be parsed), stream or bytes."""
    if form == "bytes":
        with resource.with_streaming_response.create(**asked, stream=True) as response:
            return b"".join(response.iter_bytes())
    if form == "raw":
        return resource.with_raw_response.create(**asked)
    answer = resource.create(**asked, stream=form == "stream")
    return list(answer) if form == "stream" else answer


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
    return run(server, "async", make, **options)


def run(server: ScriptedServer, mode: str, make: Callable[[Any], Any], **options: Any) -> Any:
    """Run a coroutine with a client of either kind, and collect what it dropped."""
    return crossing.run(lambda: client(server, **options), lambda: aclient(server, **options), mode, make)


# Every form of a call, for tables that cross them all.


class City(BaseModel):
    """What structured output is asked to be."""

    city: str


class Style(NamedTuple):
    """One way to call one API."""

    api: str
    form: str

    @property
    def streams(self) -> bool:
        """Whether it asks for a stream."""
        return self.form not in ("plain", "parse", "raw", "streaming response")

    @property
    def opens(self) -> bool:
        """Whether the caller gets the answer while its body is still to be read."""
        return self.streams or self.form == "streaming response"

    @property
    def needs(self) -> str:
        """The resource or method without which a version of the client cannot do it."""
        return {
            "chat parse": "beta.chat.completions.parse",
            "chat helper": "beta.chat.completions.stream",
            "responses parse": "responses.parse",
            "responses helper": "responses.stream",
            "chat": "chat.completions",
        }.get(f"{self.api} {self.form}", {"chat": "chat.completions"}.get(self.api, self.api))

    @property
    def asked(self) -> dict[str, Any]:
        """The arguments of the call."""
        question = ASK[0]["content"]
        asked = {
            "chat": {"model": "gpt-5", "messages": ASK},
            "completions": {"model": "gpt-5", "prompt": question},
            "responses": {"model": "gpt-5", "input": question},
            "embeddings": {"model": "text-embedding-3-small", "input": question},
        }[self.api]
        if self.form == "parse":
            return {**asked, "response_format" if self.api == "chat" else "text_format": City}
        if not self.streams:
            return asked
        usage = {"stream_options": {"include_usage": True}} if self.api != "responses" else {}
        return {**asked, **usage, **({"stream": True} if self.form != "helper" else {})}

    def make(self, client: Any) -> Any:
        """Return what the client's method returns: a value, a coroutine or a context manager."""
        own = client.chat.completions if self.api == "chat" else getattr(client, self.api)
        helper = "parse" if self.form == "parse" else "stream" if self.form == "helper" else "create"
        if self.form.startswith("raw"):
            own = own.with_raw_response
        elif self.form.startswith("streaming response"):
            own = own.with_streaming_response
        elif not hasattr(own, helper):  # the helpers moved out of beta in 1.92
            own = client.beta.chat.completions
        return getattr(own, helper)(**self.asked)


_SIMPLE = ("plain", "raw", "streaming response")
_STREAMED = ("stream", "raw, streamed", "streaming response, streamed")
STYLES = [
    *(
        Style(api, form)
        for api in ("chat", "responses")
        for form in ("plain", "parse", "raw", "streaming response", "stream", "helper", *_STREAMED[1:])
    ),
    *(Style("completions", form) for form in (*_SIMPLE, *_STREAMED)),
    *(Style("embeddings", form) for form in _SIMPLE),
]
"""Every way to call every API that is observed."""


def _iterator(items: Any) -> Any:
    return aiter(items) if hasattr(items, "__aiter__") else iter(items)


async def _inside(manager: Any, use: Callable[[Any], Awaitable[None]]) -> None:
    if hasattr(manager, "__aenter__"):
        async with manager as entered:
            await use(entered)
    else:
        with manager as entered:
            await use(entered)


async def _leave(items: Any, way: str, got: list[Any]) -> None:
    """Read a stream as far as that way out of it wants, short of what its context manager does."""
    if way == "never read":
        return
    iterator = _iterator(items)
    while (item := await take(iterator)) is not END:
        got.append(item)
        if way != "consumed":
            break
    if way == "closed":
        del iterator
        await settled(items.close())


async def treat(style: Style, own: Any, way: str, got: list[Any]) -> None:
    """Make a call, leave its answer in one of `WAYS`, and put down what came."""
    made = await settled(style.make(own))
    if style.form in ("plain", "parse"):
        got.append(made)
    elif style.form == "raw":
        if way == "consumed":
            got.append(await settled(made.parse()))
    elif style.form == "raw, streamed":
        if way != "never read":
            await _treat_stream(await settled(made.parse()), way, got)
    elif style.form == "stream":
        await _treat_stream(made, way, got)
    else:

        async def use(entered: Any) -> None:
            if style.form == "helper":
                await _leave(entered, way, got)
            elif style.form == "streaming response, bytes":
                await _leave(entered.iter_bytes(), way, got)
            elif style.streams:
                if way != "never read":
                    await _leave(await settled(entered.parse()), way, got)
            elif way == "consumed":
                got.append(await settled(entered.read()))
            elif way != "never read":
                got.append(await take(_iterator(entered.iter_bytes())))
                if way == "closed":
                    await settled(entered.close())

        if way == "dropped":
            await use(await made.__aenter__() if hasattr(made, "__aenter__") else made.__enter__())
        else:
            await _inside(made, use)


async def _treat_stream(stream: Any, way: str, got: list[Any]) -> None:
    if way == "broken":
        await _inside(stream, lambda entered: _leave(entered, way, got))
    else:
        await _leave(stream, way, got)


WAYS = ("consumed", "closed", "broken", "dropped", "never read")
"""How an answer may be treated: read to its end; closed after its first piece; its ``with`` block left after that; let
go after that, without ``with`` or close; not read at all."""
