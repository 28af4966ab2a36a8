"""What stands for the client's async generator refuses what that refuses, and is otherwise used like it."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, cast

import pytest

from otel_llm.exchange import Exchange
from otel_llm.testing import Seen, capture
from otel_llm.testing.server import ScriptedServer
from otel_llm_semconv import attributes as names
from otel_llm_semconv.metrics import OTEL_LLM_CLIENT_ACTIVE
from tests.crossing import settled, take
from tests.ollama.styles import ASKED, run

ASK = {**ASKED["chat"][1], "stream": True}


async def _error(made: Awaitable[Any]) -> str:
    """Return what it raises."""
    try:
        return repr(await made)
    except BaseException as error:
        return repr(error)


async def _said(stream: Any) -> list[str]:
    return [part["message"]["content"] async for part in stream]


async def _unbound(stream: Any) -> list[Any]:
    """Step by way of the type, as `langchain_core` does."""
    cls: Any = cast("Any", type(stream))
    step = cls.__anext__
    return [(await step(stream))["message"]["content"], *await _said(stream)]


async def _bound(stream: Any) -> list[Any]:
    """Keep the method alone."""
    step = stream.__anext__
    del stream
    return [(await step())["message"]["content"] for _ in range(2)]


async def _sent_to_too_early(stream: Any) -> list[Any]:
    return [await _error(stream.asend(3)), *await _said(stream)]


async def _thrown_in_at_first(stream: Any) -> list[Any]:
    return [await _error(stream.athrow(ValueError("x"))), *await _said(stream)]


def _while_running(use: Callable[[Any], Awaitable[Any]]) -> Callable[[Any], Awaitable[list[Any]]]:
    async def used(stream: Any) -> list[Any]:
        first = await anext(stream)
        reading = asyncio.create_task(anext(stream))
        await asyncio.sleep(0)
        refused = await _error(use(stream))
        return [first["message"]["content"], refused, (await reading)["message"]["content"], *await _said(stream)]

    return used


async def _copied(stream: Any) -> list[Any]:
    with pytest.raises(TypeError) as caught:
        copy.copy(stream)
    await stream.aclose()
    return [str(caught.value)]


USES: dict[str, tuple[Callable[[Any], Awaitable[list[Any]]], list[str]]] = {
    "unbound": (_unbound, ["completed"]),
    "bound": (_bound, ["abandoned"]),
    "sent to too early": (_sent_to_too_early, ["completed"]),
    "thrown in at first": (_thrown_in_at_first, []),
    "closed while running": (_while_running(lambda stream: stream.aclose()), ["completed"]),
    "sent to while running": (_while_running(lambda stream: stream.asend(None)), ["completed"]),
    "thrown in while running": (_while_running(lambda stream: stream.athrow(ValueError("x"))), ["completed"]),
    "copied": (_copied, []),
}
"""How the generator is used, and what becomes of the call."""


@pytest.mark.parametrize("use", USES)
def test_uses(use: str) -> None:
    """The caller gets what he gets without us, and the call is counted as what it was."""
    function, expected = USES[use]

    async def call(own: Any) -> list[Any]:
        return await function(await settled(own.chat(**ASK)))

    with ScriptedServer(chunk_delay=0.02) as server:
        bare = run(server, "async", call)
        with capture() as seen:
            assert bare == run(server, "async", call)

    assert expected == [span["attributes"][names.OTEL_LLM_STREAM_OUTCOME] for span in seen.spans]


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_an_interrupt_while_a_call_begins(
    server: ScriptedServer, seen: Seen, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the caller's, and no call stays under way."""
    begin = Exchange.begin

    def interrupted(self: Exchange, *args: Any, **kwargs: Any) -> None:
        begin(self, *args, **kwargs)
        raise KeyboardInterrupt

    monkeypatch.setattr(Exchange, "begin", interrupted)

    async def call(own: Any) -> None:
        with suppress(StopIteration):
            await take(await settled(own.chat(**ASK)))

    with pytest.raises(KeyboardInterrupt):
        run(server, mode, call)

    assert [0] == [point["value"] for point in seen.points(OTEL_LLM_CLIENT_ACTIVE.name)]
