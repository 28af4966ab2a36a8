"""Streams: generators like the client's own, whose request leaves, and whose call begins, at the first ``next``."""

from __future__ import annotations

import asyncio
import gc
import inspect
import os
import subprocess
import sys
import threading
import time
import types
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, closing
from functools import partial
from typing import Any

import httpx
import pytest
from opentelemetry import trace
from opentelemetry.instrumentation.utils import suppress_instrumentation

import otel_llm
from otel_llm.exchange import current_exchange
from otel_llm.generators import aopening, opening
from otel_llm.patching import Patches
from otel_llm.testing import Seen, capture
from otel_llm.testing.server import Reply, ScriptedServer
from otel_llm_ollama import OllamaInstrumentor
from otel_llm_semconv import attributes as names
from tests.crossing import settled, take
from tests.ollama.styles import ASKED, OUTPUT_TOKENS, client, close, drain, line, run

ASK = {**ASKED["chat"][1], "stream": True}
MODE = pytest.mark.parametrize("mode", ["sync", "async"])


def outcomes(seen: Seen) -> list[Any]:
    """Return what became of the streams."""
    return [span["attributes"].get(names.OTEL_LLM_STREAM_OUTCOME) for span in seen.spans]


@MODE
def test_a_generator_like_the_clients_own(server: ScriptedServer, mode: str) -> None:
    """The caller gets a generator: what `inspect` says of it is what it says without us, at each stage."""

    async def told(own: Any) -> list[Any]:
        stream = await settled(own.chat(**ASK))
        found: list[Any] = []

        def look() -> None:
            state = inspect.getgeneratorstate(stream) if mode == "sync" else stream.ag_frame is None
            found.append((state, inspect.isgenerator(stream), inspect.isasyncgen(stream), stream.__qualname__))
            found.append((isinstance(stream, Generator), isinstance(stream, AsyncGenerator), repr(stream)[:40]))
            found.append((isinstance(stream, types.AsyncGeneratorType), stream.__class__, stream.__name__))

        look()
        await take(stream)
        look()
        await drain(stream)
        look()
        return found

    bare = run(server, mode, told)
    with capture():
        assert bare == run(server, mode, told)


@MODE
def test_the_request_leaves_at_the_first_next(server: ScriptedServer, seen: Seen, mode: str) -> None:
    """The record begins when the request leaves, not when the generator is made."""

    async def call(own: Any) -> tuple[int, float, float]:
        stream = await settled(own.chat(**ASK))
        time.sleep(0.2)  # noqa: ASYNC251
        before = len(server.requests), time.time()
        await drain(stream)
        return *before, time.time()

    requests, began, ended = run(server, mode, call)
    (span,) = seen.spans

    assert (0, 1) == (requests, len(server.requests))
    assert began <= span["start_ns"] / 1e9 <= span["end_ns"] / 1e9 <= ended
    assert (span["end_ns"] - span["start_ns"]) / 1e9 <= ended - began


@MODE
def test_made_in_a_block_and_read_after_it(server: ScriptedServer, seen: Seen, mode: str) -> None:
    """A stream belongs to the block in which it is made, wherever it is read; one that is never read is no call."""

    async def call(own: Any) -> None:
        with otel_llm.track_inference("mine", graph="support"):
            stream = await settled(own.chat(**ASK))
        await drain(stream)
        with otel_llm.track_inference("other"):
            await settled(own.chat(**ASK))

    run(server, mode, call)
    after, *blocks = sorted(seen.spans, key=lambda span: span["name"])

    assert ["chat mine", "inference mine", "inference other"] == [span["name"] for span in (after, *blocks)]
    assert (blocks[0]["span_id"], "support") == (after["parent_id"], after["attributes"]["otel_llm.label.graph"])
    assert [1] == [point["count"] for point in seen.points("gen_ai.client.operation.duration")]
    page = otel_llm.generate_latest("tinyllm").decode()
    assert [f'tinyllm_tokens_output_total{{graph="support",model="mine"}} {OUTPUT_TOKENS}.0'] == [
        line for line in page.splitlines() if line.startswith("tinyllm_tokens_output_total")
    ]


@MODE
def test_current_while_the_request_leaves_only(server: ScriptedServer, seen: Seen, mode: str) -> None:
    """The span is the parent of the HTTP span, and current neither before the first chunk is asked for nor after it."""
    inside: list[Any] = []

    def note(request: Any) -> None:
        inside.append((trace.get_current_span().get_span_context().span_id, current_exchange.get() is None))

    async def anote(request: Any) -> None:
        note(request)

    async def call(own: Any) -> None:
        with seen.tracer_provider.get_tracer("app").start_as_current_span("app"):
            stream = await settled(own.chat(**ASK))
            found = [trace.get_current_span()]
            await take(stream)
            found.append(trace.get_current_span())
            await drain(stream)
            found.append(trace.get_current_span())
            assert [found[0]] * 3 == found
            assert current_exchange.get() is None

    run(server, mode, call, event_hooks={"request": [note if mode == "sync" else anote]})
    (span,) = seen.spans
    http, app = (one for one in seen.all_spans if one is not span and one["name"] != span["name"])

    assert [(span["span_id"], False)] == inside
    assert (span["span_id"], app["span_id"]) == (http["parent_id"], span["parent_id"])


@MODE
def test_closing(server: ScriptedServer, seen: Seen, mode: str) -> None:
    """A stream that is closed before its first chunk, after it, or twice, ends once; `closing` closes too."""

    async def call(own: Any) -> None:
        unread, once, managed = [await settled(own.chat(**ASK)) for _ in range(3)]
        await take(once)
        for stream in (unread, once):
            await close(stream)
            await close(stream)
            assert [] == await drain(stream)
        if mode == "sync":
            with closing(managed):
                next(managed)
        else:
            async with aclosing(managed):
                await anext(managed)

    run(server, mode, call)

    assert (["closed", "closed"], 2) == (outcomes(seen), len(server.requests))


@MODE
def test_what_is_sent_and_thrown_into_it(server: ScriptedServer, mode: str) -> None:
    """What the caller sends into a generator, or throws, does what it does without us; the call ends with it."""
    mine = ValueError("mine")

    async def call(own: Any) -> list[Any]:
        stream = await settled(own.chat(**ASK))
        got: list[Any] = []
        for value in (None, "ignored"):
            got.append(await settled(stream.send(value) if mode == "sync" else stream.asend(value)))
        with pytest.raises(ValueError, match="mine") as caught:
            await settled(stream.throw(mine) if mode == "sync" else stream.athrow(mine))
        got.append(caught.value is mine)
        got.append(await drain(stream))
        fresh = await settled(own.chat(**ASK))
        with pytest.raises(TypeError) as early:
            await settled(fresh.send(1) if mode == "sync" else fresh.asend(1))
        return [*got, str(early.value)]

    bare = run(server, mode, call)
    with capture() as seen:
        assert bare == run(server, mode, call)
        errors = [span["attributes"].get(names.ERROR_TYPE) for span in seen.spans]

    assert "ValueError" == errors[0]


@MODE
def test_the_connection_is_given_back(server: ScriptedServer, mode: str) -> None:
    """However a stream is left, its connection goes when it does without us."""

    async def call(own: Any) -> list[bool]:
        found: list[bool] = []
        for way in ("closed", "dropped", "read"):
            server.script(Reply(chunks=[line("chat"), 0.05, line("chat", done=True)]))
            stream: Any = await settled(own.chat(**ASK))
            await take(stream)
            if way == "read":
                await drain(stream)
            elif way == "closed":
                await settled(stream.aclose() if mode == "async" else stream.close())
            del stream
            found.append(bool(own._client._transport._pool.connections))
            if mode == "async":
                await asyncio.sleep(0.01)
            found.append(bool(own._client._transport._pool.connections))
        return found

    bare = run(server, mode, call)
    with capture():
        assert bare == run(server, mode, call)


class _Stuck(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that cannot be closed."""

    def __iter__(self) -> Iterator[bytes]:
        yield line("chat").encode()
        yield line("chat").encode()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self:
            yield piece

    def close(self) -> None:
        raise OSError("stuck")

    async def aclose(self) -> None:
        raise OSError("stuck")


@MODE
def test_what_a_close_raises(seen: Seen, mode: str) -> None:
    """Who closes a stream gets what its transport raises then, and the stream was closed."""
    transport = httpx.MockTransport(lambda request: httpx.Response(200, stream=_Stuck()))

    async def call(own: Any) -> None:
        stream = await settled(own.chat(**ASK))
        await take(stream)
        with pytest.raises(OSError, match="stuck"):
            await close(stream)

    run("http://test", mode, call, transport=transport)

    assert ["closed"] == outcomes(seen)


def test_read_in_another_thread(server: ScriptedServer, seen: Seen) -> None:
    """A stream that one thread begins and another one ends is one call."""
    stream = client(server.url).chat(**ASK)
    next(stream)
    thread = threading.Thread(target=lambda: list(stream))
    thread.start()
    thread.join()

    assert ["completed"] == outcomes(seen)
    assert OUTPUT_TOKENS + 1 == seen.spans[0]["attributes"][names.OTEL_LLM_STREAM_CHUNKS]


def test_dropped_in_a_circle(server: ScriptedServer, seen: Seen) -> None:
    """A stream that the garbage collector finds in a circle is abandoned, not closed."""
    own = client(server.url)
    gc.disable()  # inside a request of the same client it would lock up httpcore, with us or without
    try:
        for _ in range(2):
            stream = own.chat(**ASK)
            next(stream)
            circle = [stream]
            circle.append(circle)
            del stream, circle
        gc.collect()
    finally:
        gc.enable()

    assert ["abandoned", "abandoned"] == outcomes(seen)


def test_read_by_two_tasks_at_once(server: ScriptedServer) -> None:
    """Who asks for a chunk while another waits for it is told what he is told without us."""

    async def call(own: Any) -> list[Any]:
        server.script(Reply(chunks=[line("chat"), 0.2, line("chat"), line("chat", done=True)]))
        stream = await own.chat(**ASK)
        await anext(stream)
        found = await asyncio.gather(anext(stream), anext(stream), return_exceptions=True)
        rest = await drain(stream)
        return [*map(repr, found), len(rest)]

    bare = run(server, "async", call)
    with capture() as seen:
        assert bare == run(server, "async", call)
        assert 1 == len(seen.spans)


@MODE
def test_suppressed(server: ScriptedServer, seen: Seen, mode: str) -> None:
    """Where the user asked for silence when the stream is read, nothing is recorded, and the stream is whole."""

    async def call(own: Any) -> int:
        stream = await settled(own.chat(**ASK))
        with suppress_instrumentation():
            await settled(own.chat(**{**ASK, "stream": False}))
            await settled(own.delete("tiny"))
            return len(await drain(stream))

    assert OUTPUT_TOKENS + 1 == run(server, mode, call)
    assert [] == seen.all_spans


@MODE
def test_nobody_listens(server: ScriptedServer, unset: None, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """While the API does nothing, the caller gets the client's very own generator, and no exchange begins."""
    begun: list[Any] = []

    def begin(*args: Any, **kwargs: Any) -> None:
        begun.append(args)

    monkeypatch.setattr("otel_llm.exchange.Exchange.begin", begin)
    OllamaInstrumentor().instrument()
    try:

        async def call(own: Any) -> None:
            await settled(own.chat(**{**ASK, "stream": False}))
            stream = await settled(own.chat(**ASK))
            code = stream.gi_code if mode == "sync" else stream.ag_code
            assert "ollama" in code.co_filename
            assert mode == "sync" or types.AsyncGeneratorType is type(stream)
            await drain(stream)

        run(server, mode, call)
    finally:
        OllamaInstrumentor().uninstrument()

    assert [] == begun


NOISE = """
import asyncio, gc, sys
elsewhere = [bytearray(997 * int(sys.argv[3])) for _ in range(101 * int(sys.argv[3]))]
import ollama
from contextlib import nullcontext
from otel_llm.testing import capture

async def main(way):
    client = ollama.AsyncClient(verify=False)
    kept = []
    for number in range(30):
        stream = await client.chat(model="tiny", messages=[{"role": "user", "content": "hi"}], stream=True)
        async for chunk in stream:
            break
        if way == "kept":
            kept.append(stream)
        del stream, chunk
        if number % 10 == 9:
            gc.collect()
            await asyncio.sleep(0)
    if way != "open":
        await client._client.aclose()

with capture() if sys.argv[1] == "ours" else nullcontext():
    if sys.argv[2] == "bare loop":
        loop = asyncio.new_event_loop()
        loop.run_until_complete(main("open"))
        loop.close()
        gc.collect()
    else:
        asyncio.run(main(sys.argv[2]))
"""


@pytest.mark.parametrize("way", ["dropped", "kept", "bare loop"])
def test_the_noise_of_asyncio(server: ScriptedServer, way: str) -> None:
    """Streams dropped half read make asyncio clean up, and say so, no more than without us."""
    environment = {**os.environ, "OLLAMA_HOST": server.url}

    def said(who: str, shift: int) -> int:
        done = subprocess.run(
            [sys.executable, "-c", NOISE, who, way, str(shift)],
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=True,
        )
        return len(done.stderr.splitlines())

    # It cleans up in the order of addresses, so that how much it says depends on where in memory things lie.
    with ThreadPoolExecutor(2) as pool:
        lines = {who: list(pool.map(partial(said, who), range(2))) for who in ("bare", "ours")}

    # Without us, too, it is a matter of time whether a task is pending when a loop is closed: two lines.
    assert max(lines["ours"]) <= max(*lines["bare"], 2), lines


def test_left_open_at_exit(server: ScriptedServer) -> None:
    """A stream that is still open when the interpreter exits is recorded."""
    program = """
import ollama
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, ConsoleSpanExporter
import otel_llm
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(ConsoleSpanExporter()))
otel_llm.instrument(tracer_provider=provider, serve=False)
stream = ollama.chat(model="tiny", messages=[{"role": "user", "content": "hi"}], stream=True)
next(stream)
"""
    environment = {**os.environ, "OLLAMA_HOST": server.url}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)

    assert '"otel_llm.stream.outcome": "abandoned"' in done.stdout
    assert "" == done.stderr


def test_a_stream_that_is_no_generator(seen: Seen) -> None:
    """What is no generator, as somebody's own class may give, is handed on as it is."""
    own: Any = [1]
    telemetry: Any = None

    assert own is opening(Patches(), telemetry, print, own, runs_model=True)
    assert own is aopening(Patches(), telemetry, print, own, runs_model=True)
