"""Ways out of a call that the table of `test_coverage` has not: each ends its record once, and is as without us."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest
from opentelemetry import trace

from otel_llm.testing import Seen
from otel_llm.testing.server import ScriptedServer
from otel_llm_semconv import attributes as names
from tests.openai.styles import ASK

LIBRARY: Any = __import__(openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0])


@pytest.mark.parametrize("phase", ["ConnectTimeout", "ReadTimeout", "WriteTimeout", "PoolTimeout"])
def test_a_timeout_of_every_phase(seen: Seen, phase: str) -> None:
    """Whatever took too long, the caller gets `openai.APITimeoutError`, and so does the span; each try is counted."""

    def answer(request: Any) -> Any:
        raise getattr(LIBRARY, phase)("too long", request=request)

    with LIBRARY.Client(transport=LIBRARY.MockTransport(answer)) as http_client:
        own = openai.OpenAI(base_url="http://test/v1", api_key="test", http_client=http_client, max_retries=1)
        with pytest.raises(openai.APITimeoutError) as caught:
            own.chat.completions.create(model="gpt-5", messages=ASK)
    (span,) = seen.spans
    (retries,) = seen.points("otel_llm.client.retries")

    assert phase == type(caught.value.__cause__).__name__
    assert ("error", "openai.APITimeoutError") == (span["status"], span["attributes"][names.ERROR_TYPE])
    assert (1, "timeout") == (retries["value"], retries["attributes"][names.OTEL_LLM_RETRY_REASON])


def test_a_coroutine_that_is_closed(seen: Seen) -> None:
    """A call that waits for its answer and is closed ends at once, with `GeneratorExit`; the context is as it was."""

    async def answer(request: Any) -> Any:
        await asyncio.get_running_loop().create_future()

    async def call() -> bool:
        async with LIBRARY.AsyncClient(transport=LIBRARY.MockTransport(answer)) as http_client:
            own = openai.AsyncOpenAI(base_url="http://test/v1", api_key="test", http_client=http_client)
            before = trace.get_current_span()
            waiting = own.chat.completions.create(model="gpt-5", messages=ASK)
            waiting.send(None)
            waiting.close()
            return before is trace.get_current_span()

    same = asyncio.run(call())
    (span,) = seen.spans

    assert (True, "GeneratorExit") == (same, span["attributes"][names.ERROR_TYPE])
    assert [0] == [point["value"] for point in seen.points("otel_llm.client.active")]


class _Events(LIBRARY.AsyncByteStream):  # type: ignore[misc]  # whichever library the client has
    async def __aiter__(self) -> AsyncIterator[bytes]:
        for text in ("Par", "is"):
            yield b'data: {"id": "1", "model": "m", "choices": [{"index": 0, "delta": {"content": "%b"}}]}\n\n' % (
                text.encode()
            )
        yield b'data: {"id": "1", "model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}\n\n'
        yield b"data: [DONE]\n\n"


def test_a_stream_read_in_a_later_loop(seen: Seen) -> None:
    """A stream that one event loop opened and another one reads is recorded once, when it is read."""

    def answer(request: Any) -> Any:
        return LIBRARY.Response(200, headers={"content-type": "text/event-stream"}, stream=_Events())

    http_client = LIBRARY.AsyncClient(transport=LIBRARY.MockTransport(answer))
    own = openai.AsyncOpenAI(base_url="http://test/v1", api_key="test", http_client=http_client)

    async def open_one() -> Any:
        return await own.chat.completions.create(model="gpt-5", messages=ASK, stream=True)

    async def read(stream: Any) -> int:
        chunks = [chunk async for chunk in stream]
        await http_client.aclose()
        return len(chunks)

    stream = asyncio.run(open_one())
    before = len(seen.spans)
    chunks = asyncio.run(read(stream))
    (span,) = seen.spans

    assert (0, 3) == (before, chunks)
    assert (3, "completed") == (
        span["attributes"][names.OTEL_LLM_STREAM_CHUNKS],
        span["attributes"][names.OTEL_LLM_STREAM_OUTCOME],
    )


NOISE = """
import asyncio, gc, sys
import openai
from contextlib import nullcontext
from otel_llm.testing import capture

async def main():
    client = openai.AsyncOpenAI(http_client=openai.DefaultAsyncHttpxClient(verify=False))
    for number in range(30):
        stream = await client.chat.completions.create(model="gpt-5", messages=[], stream=True)
        async for chunk in stream:
            break
        del stream, chunk
        if number % 10 == 9:
            gc.collect()
            await asyncio.sleep(0)
    await client.close()

with capture() if sys.argv[1] == "ours" else nullcontext():
    asyncio.run(main())
"""


def test_the_noise_of_asyncio(server: ScriptedServer) -> None:
    """Streams dropped half read make asyncio clean up, and say so, no more than without us."""
    environment = {**os.environ, "OPENAI_BASE_URL": server.base_url, "OPENAI_API_KEY": "test"}
    lines: dict[str, list[int]] = {"bare": [], "ours": []}
    # How much it says depends on chance, with us and without.
    for who in ("bare", "ours") * 4:
        done = subprocess.run(
            [sys.executable, "-c", NOISE, who],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        lines[who].append(done.stderr.count("asynchronous generator"))

    assert max(lines["ours"]) <= max(lines["bare"]), lines
