"""Ways out of a call that the table of `test_coverage` has not: each ends its record once, and is as without us."""

from __future__ import annotations

import asyncio
import base64
import gc
import gzip
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import openai
import pytest
from opentelemetry import trace

from otel_llm.testing import Seen, capture
from otel_llm.testing.server import STALL, Reply, ScriptedServer, sse
from otel_llm_semconv import attributes as names
from tests.crossing import Got, finish, settled
from tests.openai.styles import ASK, OUTPUT_TOKENS, PROMPT_TOKENS, Style, aclient, client, has, run_async, treat

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


def test_a_stream_dropped_as_the_loop_ends(server: ScriptedServer, seen: Seen) -> None:
    """What asyncio cancels when its loop ends, half read and dropped, was left; it is no error."""
    chunk = {"id": "1", "model": "m", "choices": [{"index": 0, "delta": {"content": "x"}}]}
    server.script(sse(chunk, 0.01, chunk, STALL, done=False))

    async def read_one() -> None:
        own = aclient(server)
        async for _ in await own.chat.completions.create(model="gpt-5", messages=ASK, stream=True):
            break

    asyncio.run(read_one())
    gc.collect()

    (span,) = seen.spans
    assert ("abandoned", "unset") == (span["attributes"][names.OTEL_LLM_STREAM_OUTCOME], span["status"])


NOISE = """
import asyncio, gc, sys
elsewhere = [bytearray(997 * int(sys.argv[2])) for _ in range(101 * int(sys.argv[2]))]
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

    def said(who: str, shift: int) -> int:
        done = subprocess.run(
            [sys.executable, "-c", NOISE, who, str(shift)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        return done.stderr.count("asynchronous generator")

    # It cleans up in the order of addresses, so that how much it says depends on where in memory things lie.
    with ThreadPoolExecutor(2) as pool:
        lines = {who: list(pool.map(partial(said, who), range(7))) for who in ("bare", "ours")}

    assert max(lines["ours"]) <= max(lines["bare"]), lines


class _Struck(LIBRARY.SyncByteStream):  # type: ignore[misc]  # whichever library the client has
    """Bytes between which somebody presses Ctrl-C."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        for piece in self._stream:
            yield piece
            signal.raise_signal(signal.SIGINT)

    def close(self) -> None:
        self._stream.close()


class _Transport(LIBRARY.HTTPTransport):  # type: ignore[misc]  # whichever library the client has
    def handle_request(self, request: Any) -> Any:
        response = LIBRARY.HTTPTransport.handle_request(self, request)
        response.stream = _Struck(response.stream)
        return response


@pytest.mark.parametrize(
    "form",
    ["plain", "raw", "streaming response", "stream", "raw, streamed", "streaming response, streamed", "helper"],
)
def test_ctrl_c_in_the_middle_of_a_body(server: ScriptedServer, form: str) -> None:
    """Ctrl-C while a body is read ends the call as an error; the caller gets what he gets without us."""
    style = Style("chat", form)
    if not has(style.needs):
        pytest.skip(f"this client has no {style.needs}")
    chunk = {"id": "1", "model": "m", "choices": [{"index": 0, "delta": {"content": "x"}}]}
    reply = sse(chunk, STALL) if style.streams else Reply(chunks=['{"id": ', STALL])

    def interrupted() -> list[Any]:
        server.script(reply)
        got = Got([], [])
        own = client(server, http_client=LIBRARY.Client(transport=_Transport(verify=False)))
        try:
            finish(treat(style, own, "consumed", got.pieces))
        except KeyboardInterrupt as raised:
            got.raised.append(raised)
        own.close()
        return got.account()

    bare = interrupted()
    with capture() as seen:
        got = interrupted()

        (span,) = seen.spans
        (active,) = seen.points("otel_llm.client.active")

    assert bare == got
    assert KeyboardInterrupt in bare[-1]
    assert ("error", "KeyboardInterrupt", 0) == (span["status"], span["attributes"][names.ERROR_TYPE], active["value"])
    assert (1 if style.streams else None) == span["attributes"].get(names.OTEL_LLM_STREAM_CHUNKS)


def test_a_stream_class_that_refuses_its_stream(server: ScriptedServer, seen: Seen) -> None:
    """A stream class of the caller's that looks at the first chunk and raises fails the call; the chunk is recorded."""
    refused = ValueError("not this one")

    class Picky(openai.Stream[Any]):
        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            next(self)
            raise refused

    body = {"model": "gpt-5", "messages": ASK, "stream": True}
    with pytest.raises(ValueError, match="not this one") as caught:
        client(server).post("/chat/completions", cast_to=object, body=body, stream=True, stream_cls=Picky)
    (span,) = seen.spans
    attributes = span["attributes"]

    assert refused is caught.value
    assert ("error", "ValueError", 1) == (
        span["status"],
        attributes[names.ERROR_TYPE],
        attributes[names.OTEL_LLM_STREAM_CHUNKS],
    )
    assert attributes[names.GEN_AI_RESPONSE_ID]
    assert 1 == len(seen.points("gen_ai.client.operation.time_to_first_chunk"))
    assert [0] == [point["value"] for point in seen.points("otel_llm.client.active")]


def _large() -> bytes:
    """Return an event stream that is larger than 10 MB even when it is compressed."""
    noise = random.Random(1)
    chunk = {"id": "1", "model": "m", "choices": [{"index": 0, "delta": {"content": "x"}}]}
    events = [{**chunk, "noise": base64.b64encode(noise.randbytes(9_000)).decode()} for _ in range(1200)]
    usage = {"prompt_tokens": 7, "completion_tokens": 1200, "total_tokens": 1207}
    return "".join(
        f"data: {event}\n\n" for event in [*map(json.dumps, [*events, {**chunk, "usage": usage}]), "[DONE]"]
    ).encode()


@pytest.fixture(scope="module")
def large() -> dict[str, Any]:
    """What each way to read the large stream has to give."""
    text = _large()
    packed = gzip.compress(text, 1, mtime=0)
    assert len(packed) > 10_000_000
    return {"iter_raw": packed, "iter_bytes": text, "iter_lines": text.decode().splitlines()}


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("way", ["iter_raw", "iter_bytes", "iter_lines", "iter_text"])
def test_a_large_compressed_stream(
    server: ScriptedServer, seen: Seen, large: dict[str, Any], way: str, mode: str
) -> None:
    """10 MB of gzip reach the reader whole, in any form, and the usage at their end is read."""
    headers = {"content-type": "text/event-stream", "content-encoding": "gzip"}
    server.script(Reply(body=large["iter_raw"], headers=headers))
    asked = Style("chat", "stream").asked

    async def read(own: Any) -> list[Any]:
        async with own.chat.completions.with_streaming_response.create(**asked) as response:
            reading = response.http_response.aiter_raw() if way == "iter_raw" else getattr(response, way)()
            return [piece async for piece in reading]

    if mode == "sync":
        with client(server).chat.completions.with_streaming_response.create(**asked) as response:
            pieces = list(response.http_response.iter_raw() if way == "iter_raw" else getattr(response, way)())
    else:
        pieces = run_async(read, server)
    (span,) = seen.spans

    if way == "iter_lines":
        assert large[way] == pieces
    elif way == "iter_text":
        assert large["iter_bytes"].decode() == "".join(pieces)
    else:
        assert large[way] == b"".join(pieces)
    assert (7, 1200, "completed") == tuple(
        span["attributes"][name]
        for name in (
            names.GEN_AI_USAGE_INPUT_TOKENS,
            names.GEN_AI_USAGE_OUTPUT_TOKENS,
            names.OTEL_LLM_STREAM_OUTCOME,
        )
    )


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("form", ["raw", "streaming response", "raw, streamed", "streaming response, streamed"])
def test_a_response_that_is_parsed_twice(form: str, mode: str) -> None:
    """Who parses a response twice gets what he gets without us, and its tokens are counted once."""
    style = Style("chat", form)

    async def parsed(response: Any) -> list[Any]:
        found = [await settled(response.parse()) for _ in range(2)]
        got: list[Any] = [found[0] is found[1]]
        for one in found:
            if not style.streams:
                got.append(repr(one))
            elif hasattr(one, "__anext__"):
                got += [repr(chunk) async for chunk in one]
            else:
                got += [repr(chunk) for chunk in one]
        return got

    async def call(own: Any) -> list[Any]:
        made = await settled(style.make(own))
        if form.startswith("raw"):
            return await parsed(made)
        if mode == "async":
            async with made as response:
                return await parsed(response)
        with made as response:
            return await parsed(response)

    def parse_twice() -> Any:
        # Ids count the requests of a server.
        with ScriptedServer() as own:
            try:
                return finish(call(client(own))) if mode == "sync" else run_async(call, own)
            except Exception as raised:
                return type(raised), str(raised)

    bare = parse_twice()
    with capture() as seen:
        got = parse_twice()

        assert bare == got
        (span,) = seen.spans
        assert ("unset", OUTPUT_TOKENS) == (span["status"], span["attributes"][names.GEN_AI_USAGE_OUTPUT_TOKENS])
        tokens = [point["sum"] for point in seen.points("gen_ai.client.token.usage")]
        assert sorted([PROMPT_TOKENS, OUTPUT_TOKENS]) == sorted(tokens)
