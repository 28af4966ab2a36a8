"""Streams: in each style, left in each way, sync and async, they end exactly once and tell what was seen."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
from collections.abc import Callable
from typing import Any

import openai
import pytest

import otel_llm
from otel_llm.testing import Seen, capture
from otel_llm.testing.server import RESET, TRUNCATE, ScriptedServer, sse
from otel_llm_semconv import attributes as names
from tests.openai.styles import ASK, EXITS, OUTCOMES, OUTPUT_TOKENS, PROMPT_TOKENS, client, has, run_async

USAGE = {"include_usage": True}


def _chat(client: Any) -> Any:
    return client.chat.completions.create(model="gpt-5", messages=ASK, stream=True, stream_options=USAGE)


def _completions(client: Any) -> Any:
    return client.completions.create(model="gpt-5", prompt=ASK[0]["content"], stream=True, stream_options=USAGE)


def _responses(client: Any) -> Any:
    return client.responses.create(model="gpt-5", input=ASK[0]["content"], stream=True)


STREAMS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "chat": (_chat, "chat.completions"),
    "completions": (_completions, "completions"),
    "responses": (_responses, "responses"),
}


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("left", EXITS)
@pytest.mark.parametrize("api", STREAMS)
def test_stream(server: ScriptedServer, seen: Seen, api: str, left: str, mode: str) -> None:
    """However a stream is left, there is one span, without error, with the outcome and what was read until then."""
    make, needs = STREAMS[api]
    if not has(needs):
        pytest.skip(f"this client has no {needs}")
    use, ause = EXITS[left]

    if mode == "sync":
        own = client(server)
        stream = make(own)
        assert isinstance(stream, openai.Stream)
        use(stream)
        del stream
        gc.collect()
        own.close()
    else:

        async def main(own: Any) -> None:
            stream = await make(own)
            assert isinstance(stream, openai.AsyncStream)
            await ause(stream)

        run_async(main, server)

    (span,) = seen.spans
    attributes = span["attributes"]
    outcome = OUTCOMES[left]
    assert "unset" == span["status"]
    assert outcome == attributes[names.OTEL_LLM_STREAM_OUTCOME]
    assert True is attributes[names.GEN_AI_REQUEST_STREAM]
    assert names.ERROR_TYPE not in attributes
    read = 0 if left == "never read" else 1
    duration = (span["end_ns"] - span["start_ns"]) / 1e9
    assert 0 < duration < 30
    if outcome == "completed":
        assert ("stop",) == attributes[names.GEN_AI_RESPONSE_FINISH_REASONS]
        assert PROMPT_TOKENS == attributes[names.GEN_AI_USAGE_INPUT_TOKENS]
        assert OUTPUT_TOKENS == attributes[names.GEN_AI_USAGE_OUTPUT_TOKENS]
        assert attributes[names.OTEL_LLM_STREAM_CHUNKS] > OUTPUT_TOKENS
        first_chunk = attributes[names.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK]
        assert 0 < first_chunk <= attributes[names.OTEL_LLM_TIME_TO_FIRST_TEXT] <= duration
        for name in (
            "otel_llm.client.time_to_first_text",
            "otel_llm.client.chunk.gap",
            "otel_llm.client.chunk.gap.max",
            "otel_llm.client.output.rate",
        ):
            (point,) = seen.points(name)
            assert 1 == point["count"]
    else:
        assert read == attributes[names.OTEL_LLM_STREAM_CHUNKS]
        assert names.GEN_AI_USAGE_INPUT_TOKENS not in attributes
        assert [] == seen.points("gen_ai.client.token.usage")
    if read:
        assert attributes[names.GEN_AI_RESPONSE_ID]
        assert "gpt-5-2026-10-01" == attributes[names.GEN_AI_RESPONSE_MODEL]
    (point,) = seen.points("gen_ai.client.operation.duration")
    assert 1 == point["count"]
    assert duration == pytest.approx(point["sum"], abs=1e-6)
    assert read == len(seen.points("gen_ai.client.operation.time_to_first_chunk"))
    (active,) = seen.points("otel_llm.client.active")
    assert 0 == active["value"]


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("left", ["consumed", "left"])
@pytest.mark.parametrize("api", ["chat", "responses"])
def test_stream_helper(server: ScriptedServer, seen: Seen, api: str, left: str, mode: str) -> None:
    """The ``.stream()`` helpers are one call each, read to the end or left early."""
    needs = "responses.stream" if api == "responses" else "beta.chat.completions.stream"
    if not has(needs):
        pytest.skip(f"this client has no {needs}")

    def manager(own: Any) -> Any:
        if api == "responses":
            return own.responses.stream(model="gpt-5", input=ASK[0]["content"])
        chat = own.chat.completions if hasattr(own.chat.completions, "stream") else own.beta.chat.completions
        return chat.stream(model="gpt-5", messages=ASK, stream_options=USAGE)

    if mode == "sync":
        with manager(client(server)) as stream:
            for _ in stream:
                if left == "left":
                    break
    else:

        async def main(own: Any) -> None:
            async with manager(own) as stream:
                async for _ in stream:
                    if left == "left":
                        break

        run_async(main, server)

    (span,) = seen.spans
    assert {"consumed": "completed", "left": "closed"}[left] == span["attributes"][names.OTEL_LLM_STREAM_OUTCOME]
    assert (PROMPT_TOKENS if left == "consumed" else None) == span["attributes"].get(names.GEN_AI_USAGE_INPUT_TOKENS)


READERS: dict[str, tuple[Callable[[Any], Any], Callable[[Any], Any]]] = {
    "lines": (lambda raw: list(raw.iter_lines()), lambda raw: _all(raw.iter_lines())),
    "bytes": (lambda raw: list(raw.iter_bytes()), lambda raw: _all(raw.iter_bytes())),
    "read": (lambda raw: raw.read(), lambda raw: raw.read()),
    "parse": (lambda raw: raw.parse(), lambda raw: raw.parse()),
}


async def _all(lines: Any) -> list[Any]:
    return [line async for line in lines]


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("streamed", [False, True])
def test_streaming_response(server: ScriptedServer, seen: Seen, streamed: bool, reader: str, mode: str) -> None:
    """``with_streaming_response`` tells tokens and finish reason however the caller reads the body."""
    read, aread = READERS[reader]
    more: dict[str, Any] = {"stream": True, "stream_options": USAGE} if streamed else {}

    if mode == "sync":
        with client(server).chat.completions.with_streaming_response.create(model="gpt-5", messages=ASK, **more) as raw:
            got = read(raw)
            if streamed and reader == "parse":
                got = list(got)
    else:

        async def main(own: Any) -> Any:
            making = own.chat.completions.with_streaming_response.create(model="gpt-5", messages=ASK, **more)
            async with making as raw:
                got = await aread(raw)
                return [chunk async for chunk in got] if streamed and reader == "parse" else got

        got = run_async(main, server)

    assert got
    (span,) = seen.spans
    attributes = span["attributes"]
    assert ("stop",) == attributes[names.GEN_AI_RESPONSE_FINISH_REASONS]
    assert PROMPT_TOKENS == attributes[names.GEN_AI_USAGE_INPUT_TOKENS]
    assert OUTPUT_TOKENS == attributes[names.GEN_AI_USAGE_OUTPUT_TOKENS]
    assert ("completed" if streamed else None) == attributes.get(names.OTEL_LLM_STREAM_OUTCOME)


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_raw_stream(server: ScriptedServer, seen: Seen, mode: str) -> None:
    """A raw response of a stream keeps its headers, and its ``parse()`` is seen when it comes."""
    if mode == "sync":
        raw = client(server).chat.completions.with_raw_response.create(
            model="gpt-5", messages=ASK, stream=True, stream_options=USAGE
        )
        assert "req_00000001" == raw.headers["x-request-id"]
        assert [] == seen.spans
        for _ in raw.parse():
            pass
    else:

        async def main(own: Any) -> None:
            raw = await own.chat.completions.with_raw_response.create(
                model="gpt-5", messages=ASK, stream=True, stream_options=USAGE
            )
            assert "req_00000001" == raw.headers["x-request-id"]
            async for _ in raw.parse():
                pass

        run_async(main, server)

    (span,) = seen.spans
    assert OUTPUT_TOKENS == span["attributes"][names.GEN_AI_USAGE_OUTPUT_TOKENS]


def test_two_choices(server: ScriptedServer, seen: Seen) -> None:
    """Each choice of a stream has its finish reason, in order, wherever in the stream it came."""
    for _ in client(server).chat.completions.create(model="gpt-5", messages=ASK, stream=True, n=2):
        pass

    (span,) = seen.spans
    assert ("stop", "stop") == span["attributes"][names.GEN_AI_RESPONSE_FINISH_REASONS]
    assert names.GEN_AI_USAGE_INPUT_TOKENS not in span["attributes"]


def test_first_text_comes_after_the_first_chunk(server: ScriptedServer, seen: Seen) -> None:
    """Time to first text waits for text; time to first chunk does not."""

    def chunk(**delta: Any) -> dict[str, Any]:
        return {"id": "1", "model": "m", "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}

    server.script(sse(chunk(role="assistant"), 0.05, chunk(content="Paris"), 0.02, chunk(content="!")))

    for _ in client(server).chat.completions.create(model="gpt-5", messages=ASK, stream=True):
        pass

    attributes = seen.spans[0]["attributes"]
    gap = attributes[names.OTEL_LLM_TIME_TO_FIRST_TEXT] - attributes[names.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK]
    assert 0.045 < gap < 5
    (longest,) = seen.points("otel_llm.client.chunk.gap.max")
    assert longest["sum"] >= gap
    (mean,) = seen.points("otel_llm.client.chunk.gap")
    assert 0.03 < mean["sum"] < longest["sum"]


def test_read_in_two_loops_and_another_thread(server: ScriptedServer, seen: Seen) -> None:
    """A stream that is left and taken up again, in another thread too, is one call that ends at its end."""
    stream = _chat(client(server))
    for _ in stream:
        break
    next(stream)
    assert [] == seen.spans
    thread = threading.Thread(target=lambda: list(stream))
    thread.start()
    thread.join()

    (span,) = seen.spans
    assert "completed" == span["attributes"][names.OTEL_LLM_STREAM_OUTCOME]
    assert OUTPUT_TOKENS + 3 == span["attributes"][names.OTEL_LLM_STREAM_CHUNKS]
    assert [] == list(stream)
    assert 1 == len(seen.spans)


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("action", [RESET, TRUNCATE], ids=["reset", "truncated"])
def test_dropped_connection(server: ScriptedServer, seen: Seen, action: Any, mode: str) -> None:
    """A connection lost in mid-stream is an error of the call, named as the caller gets it."""
    server.script(sse({"id": "1", "model": "m", "choices": []}, 0.05, action, done=False))
    caught: list[BaseException] = []

    if mode == "sync":
        stream = _chat(client(server))
        with pytest.raises(Exception) as raised:  # each client version has its own
            list(stream)
        caught.append(raised.value)
    else:

        async def main(own: Any) -> None:
            stream = await _chat(own)
            with pytest.raises(Exception) as raised:
                async for _ in stream:
                    pass
            caught.append(raised.value)

        run_async(main, server)

    (span,) = seen.spans
    error = caught[0]
    assert "error" == span["status"]
    assert type(error).__name__ == span["attributes"][names.ERROR_TYPE].rpartition(".")[2]
    (point,) = seen.points("gen_ai.client.operation.duration")
    assert span["attributes"][names.ERROR_TYPE] == point["attributes"][names.ERROR_TYPE]
    assert 1 == span["attributes"][names.OTEL_LLM_STREAM_CHUNKS]
    assert span["attributes"][names.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK] > 0
    assert names.OTEL_LLM_STREAM_OUTCOME not in span["attributes"]


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_error_event(server: ScriptedServer, seen: Seen, mode: str) -> None:
    """An error event inside a stream with status 200 is an error of the call."""
    server.script(sse({"id": "1", "model": "m", "choices": []}, {"error": {"message": "overloaded"}}, done=False))

    if mode == "sync":
        with pytest.raises(openai.APIError):
            list(_chat(client(server)))
    else:

        async def main(own: Any) -> None:
            with pytest.raises(openai.APIError):
                async for _ in await _chat(own):
                    pass

        run_async(main, server)

    (span,) = seen.spans
    assert ("error", "openai.APIError", "overloaded") == (
        span["status"],
        span["attributes"][names.ERROR_TYPE],
        span["description"],
    )


@pytest.mark.skipif(not has("responses"), reason="this client has no responses")
def test_failed_response_event(server: ScriptedServer, seen: Seen) -> None:
    """A response that failed in a stream that did not is an error of the call, by its code."""
    server.script(
        sse(
            {
                "type": "response.created",
                "sequence_number": 0,
                "response": {"id": "resp_1", "model": "m", "output": []},
            },
            {
                "type": "response.failed",
                "sequence_number": 1,
                "response": {
                    "id": "resp_1",
                    "model": "m",
                    "output": [],
                    "status": "failed",
                    "error": {"code": "server_error", "message": "no"},
                },
            },
            done=False,
        )
    )

    list(_responses(client(server)))

    (span,) = seen.spans
    assert ("error", "server_error", "no") == (
        span["status"],
        span["attributes"][names.ERROR_TYPE],
        span["description"],
    )
    assert ("error",) == span["attributes"][names.GEN_AI_RESPONSE_FINISH_REASONS]


def test_cancelled_in_mid_stream(server: ScriptedServer, seen: Seen) -> None:
    """A task cancelled while it waits for a chunk is an error, ``asyncio.CancelledError``."""
    server.script(sse({"id": "1", "model": "m", "choices": []}, 30.0))

    async def main(own: Any) -> None:
        async def read() -> None:
            async for _ in await _chat(own):
                arrived.set()

        arrived = asyncio.Event()
        task = asyncio.create_task(read())
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run_async(main, server)

    (span,) = seen.spans
    assert ("error", "asyncio.CancelledError") == (span["status"], span["attributes"][names.ERROR_TYPE])


def test_exception_in_the_callers_loop(server: ScriptedServer, seen: Seen) -> None:
    """The caller's own exception is no error of the call, and comes out as it was."""
    mine = RuntimeError("mine")

    def loop() -> None:
        with _chat(client(server)) as stream:
            for _ in stream:
                raise mine

    with pytest.raises(RuntimeError) as raised:
        loop()

    assert raised.value is mine
    (span,) = seen.spans
    assert ("unset", "closed") == (span["status"], span["attributes"][names.OTEL_LLM_STREAM_OUTCOME])


def test_the_callers_code_is_outside_the_span(server: ScriptedServer, seen: Seen) -> None:
    """Between chunks the call's span is not current: what the caller does there is no part of it."""
    from opentelemetry import trace

    for _ in _chat(client(server)):
        assert not trace.get_current_span().get_span_context().is_valid

    assert 1 == len(seen.spans)


def test_open_at_uninstrument(server: ScriptedServer) -> None:
    """A stream that is open while everything is turned off goes on and is recorded."""
    with capture() as seen:
        stream = _chat(client(server))
        next(stream)
        otel_llm.uninstrument()
        assert OUTPUT_TOKENS + 2 == len(list(stream))
        assert 0 <= len(seen.spans) <= 1


def test_the_connection_is_released(server: ScriptedServer, seen: Seen) -> None:
    """A stream that is left by ``with`` gives its connection back."""
    own = client(server)
    with _chat(own) as stream:
        for _ in stream:
            break
    response = stream.response
    assert response.is_closed
    assert response.elapsed.total_seconds() > 0


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_response_made_with_its_body(seen: Seen, mode: str) -> None:
    """A stream over a body that is there from the start, as mock transports give it, is a stream like any other."""
    base: Any = openai.DefaultHttpxClient.__mro__[1]
    library: Any = __import__(base.__module__.partition(".")[0])
    chunk = {"id": "1", "model": "m", "choices": [{"index": 0, "delta": {"content": "x"}, "finish_reason": "stop"}]}
    usage: Any = {"id": "1", "model": "m", "choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 3}}
    events: list[Any] = [chunk, usage]
    body = b"".join(b"data: %s\n\n" % json.dumps(event).encode() for event in events) + b"data: [DONE]\n\n"
    headers = {"content-type": "text/event-stream"}

    def answer(request: Any) -> Any:
        return library.Response(200, content=body, headers=headers)

    transport = library.MockTransport(answer)
    settings: dict[str, Any] = {"base_url": "http://mock.example/v1", "api_key": "test"}

    if mode == "sync":
        with openai.OpenAI(**settings, http_client=library.Client(transport=transport)) as own:
            assert 2 == len(list(_chat(own)))
            raw = own.chat.completions.with_raw_response.create(model="gpt-5", messages=ASK, stream=True)
            assert 2 == len(list(raw.parse()))
    else:

        async def main() -> None:
            async with openai.AsyncOpenAI(**settings, http_client=library.AsyncClient(transport=transport)) as own:
                assert 2 == len([chunk async for chunk in await _chat(own)])
                raw = await own.chat.completions.with_raw_response.create(model="gpt-5", messages=ASK, stream=True)
                assert 2 == len([chunk async for chunk in raw.parse()])

        asyncio.run(main())

    first, second = (span["attributes"] for span in seen.spans)
    for attributes in (first, second):
        assert (5, 3) == (attributes[names.GEN_AI_USAGE_INPUT_TOKENS], attributes[names.GEN_AI_USAGE_OUTPUT_TOKENS])
        assert 2 == attributes[names.OTEL_LLM_STREAM_CHUNKS]
    assert "completed" == first[names.OTEL_LLM_STREAM_OUTCOME]


def test_a_failed_call_leaves_no_garbage(server: ScriptedServer, seen: Seen) -> None:
    """What a failed call held is freed at once, without the collector."""
    import weakref

    from otel_llm.testing.server import error

    class Body(list[Any]):
        """A list that can be watched."""

    own = client(server)
    server.script(error(400))
    messages = Body(ASK)
    watched = weakref.ref(messages)
    gc.disable()
    try:
        try:
            own.chat.completions.create(model="gpt-5", messages=messages)
        except openai.BadRequestError:
            pass
        del messages
        before = watched()
        assert before is None
    finally:
        gc.enable()
