"""Whatever network and reader do: bytes cut anywhere give the same record, reads in any order end exactly once."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
import sys
import threading
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import openai
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from otel_llm.bodies.body import Body
from otel_llm.testing import Seen, answers, capture
from otel_llm_semconv import attributes as names
from tests.crossing import finish
from tests.openai.styles import Style, has, treat

LIBRARY: Any = sys.modules[openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0]]
WORDS = "In Zürich — 東京 too — it costs 5 € 🗼."
TIMES = (names.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK, names.OTEL_LLM_TIME_TO_FIRST_TEXT)
PATHS = {"chat": "/chat/completions", "responses": "/responses", "completions": "/completions"}
BYTES = ("streaming response", "streaming response, bytes")
"""The reader reads the bytes himself: of a whole answer, of a stream."""
STREAMED = [
    Style(api, form) for api in PATHS for form in ("stream", "raw, streamed", "streaming response, streamed", *BYTES)
]

same = settings(
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=40,
    # The fixtures that every test has are about the whole test, not about one example.
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
"""Deterministic: a run is the same everywhere."""


def _answer(style: Style, end: str, comments: bool) -> bytes:
    """Return the recorded answer as it goes over the wire, with these line ends."""
    made: Any = answers.answer("POST", PATHS[style.api], {**style.asked, "stream": style.streams}, 1, WORDS)
    if not style.streams:
        return json.dumps(made, ensure_ascii=False).encode()
    events: list[str] = []
    for event in made:
        kind = [f"event: {event['type']}"] if "type" in event else []
        data = event if isinstance(event, str) else json.dumps(event, ensure_ascii=False)
        more = [": a comment", "retry: 10", "id: 7"] if comments else []
        events.append(end.join([*more, *kind, f"data: {data}", "", ""]))
    return "".join(events).encode()


def _cut(data: bytes, at: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in at), len(data)]
    return [data[start:stop] for start, stop in pairwise(edges) if start < stop]


def _client(mode: str, pieces: list[bytes], headers: dict[str, str]) -> Any:
    """Return a client whose every answer comes in these pieces."""

    async def later() -> Any:
        for piece in pieces:
            await asyncio.sleep(0)
            yield piece

    def respond(request: Any) -> Any:
        return LIBRARY.Response(200, content=iter(pieces) if mode == "sync" else later(), headers=headers)

    options: dict[str, Any] = {"base_url": "http://test/v1", "api_key": "test", "max_retries": 0}
    transport = LIBRARY.MockTransport(respond)
    if mode == "sync":
        return openai.OpenAI(**options, http_client=LIBRARY.Client(transport=transport))
    return openai.AsyncOpenAI(**options, http_client=LIBRARY.AsyncClient(transport=transport))


def _headers(style: Style, coding: str) -> dict[str, str]:
    kind = "text/event-stream; charset=utf-8" if style.streams else "application/json"
    return {"content-type": kind, "x-request-id": "req_1", **({"content-encoding": coding} if coding else {})}


def _record(seen: Seen, style: Style, mode: str, pieces: list[bytes], headers: dict[str, str]) -> tuple[Any, Any]:
    """Read the answer to its end and return the record of it, but for its times, and what the caller got."""
    seen.clear()
    got: list[Any] = []
    own = _client(mode, pieces, headers)
    if mode == "sync":
        with own:
            finish(treat(style, own, "consumed", got))
    else:

        async def main() -> None:
            async with own:
                await treat(style, own, "consumed", got)

        asyncio.run(main())
    (span,) = seen.spans
    attributes = {name: name if name in TIMES else value for name, value in span["attributes"].items()}
    if style.form in BYTES:  # then a chunk is a piece
        attributes.pop(names.OTEL_LLM_STREAM_CHUNKS, None)
    return (span["name"], span["status"], attributes), [repr(piece) for piece in got]


@pytest.fixture(scope="module")
def known() -> dict[Any, Any]:
    """What each answer is recorded as when it comes whole."""
    return {}


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("style", STREAMED, ids=lambda style: f"{style.api}, {style.form}")
def test_any_chunking(style: Style, mode: str, known: dict[Any, Any]) -> None:
    """An answer cut into any pieces is the record and the result of the answer in one piece."""
    if not has(style.needs):
        pytest.skip(f"this client has no {style.needs}")
    calls = 0

    with capture() as seen:

        @same
        @given(
            at=st.lists(st.integers(0, 1 << 16), max_size=40) | st.just(list(range(1 << 13))),
            end=st.sampled_from(["\n", "\r\n", "\r"]),
            comments=st.booleans(),
            coding=st.sampled_from(["", "gzip"]),
        )
        @example(at=list(range(1 << 13)), end="\r\n", comments=True, coding="")
        @example(at=[], end="\r\n", comments=True, coding="")
        def check(at: list[int], end: str, comments: bool, coding: str) -> None:
            nonlocal calls
            data = _answer(style, end, comments)
            headers = _headers(style, coding)
            wire = gzip.compress(data, mtime=0) if coding else data
            whole = known.get((style, end, comments))
            if whole is None:
                whole = known[style, end, comments] = _record(seen, style, mode, [data], _headers(style, ""))
                calls += 1
            record, got = _record(seen, style, mode, _cut(wire, at), headers)
            calls += 1
            assert whole[0] == record
            if style.form not in BYTES:
                assert whole[1] == got

        check()

        (_, status, attributes), _ = known[style, "\r\n", True]
        assert "unset" == status
        assert 1 == len(attributes[names.GEN_AI_RESPONSE_FINISH_REASONS])
        assert attributes[names.GEN_AI_USAGE_OUTPUT_TOKENS] > 5
        assert ("completed" if style.streams else None) == attributes.get(names.OTEL_LLM_STREAM_OUTCOME)
        (active,) = seen.points("otel_llm.client.active")
        assert 0 == active["value"]
        assert calls == sum(point["count"] for point in seen.points("gen_ai.client.operation.duration"))


LINES = st.sampled_from(
    ['data: {"a": 1}', "data:2", "data: [DONE]", "", "", ": x", "event: e", "data", "retry: 1", "é: ü"]
)


@settings(parent=same, max_examples=400)
@given(
    lines=st.lists(st.tuples(LINES, st.sampled_from(["\n", "\r\n", "\r"])), max_size=12),
    at=st.lists(st.integers(0, 1 << 8), max_size=12),
)
@example(lines=[("data:2", "\r\n"), ("", "\n")], at=[7, 8])
def test_any_line_ends(lines: list[tuple[str, str]], at: list[int]) -> None:
    """Whatever ends the lines, and wherever they are cut, the events are those of the whole text."""
    data = "".join(line + end for line, end in lines).encode()
    whole = Body("text/event-stream", "").feed(data)
    body = Body("text/event-stream", "")

    assert whole == [event for piece in _cut(data, at) for event in body.feed(piece)]


CHAT = Style("chat", "stream")
ACTS = ("next", "loop", "leave", "close", "read in another", "close in another")


def _sync_act(act: str, stream: Any) -> None:
    try:
        if act == "next":
            next(stream)
        elif act == "loop":
            list(stream)
        elif act == "leave":
            for _ in stream:
                break
        elif act == "close":
            stream.close()
        else:
            inner = "next" if act.startswith("read") else "close"
            thread = threading.Thread(target=_sync_act, args=(inner, stream))
            thread.start()
            thread.join()
    except (StopIteration, *_UNREADABLE):
        pass


_UNREADABLE = (openai.OpenAIError, LIBRARY.StreamError, LIBRARY.TransportError, RuntimeError)
"""What a reader may get who reads after or during the close of another."""


async def _act(act: str, stream: Any, tasks: list[asyncio.Task[None]]) -> None:
    try:
        if act == "next":
            await anext(stream)
        elif act == "loop":
            async for _ in stream:
                pass
        elif act == "leave":
            async for _ in stream:
                break
        elif act == "close":
            await stream.close()
        else:
            inner = "loop" if act.startswith("read") else "close"
            tasks.append(asyncio.create_task(_act(inner, stream, tasks)))
            await asyncio.sleep(0)
    except (StopAsyncIteration, *_UNREADABLE):
        pass


def _once(seen: Seen) -> Iterator[bool]:
    """Say whether there is one span, and whether nothing is under way."""
    yield 1 == len(seen.spans)
    yield [0] == [point["value"] for point in seen.points("otel_llm.client.active")]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of the client, without us too
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_any_interleaving(mode: str) -> None:
    """Reads, loops and closes in any order, from other tasks and threads too, end the call exactly once."""
    pieces = _cut(_answer(CHAT, "\n", False), list(range(0, 1 << 13, 150)))
    headers = _headers(CHAT, "")
    calls = 0

    with capture() as seen:

        @settings(parent=same, max_examples=150)
        @given(acts=st.lists(st.sampled_from(ACTS), max_size=6), cancelled=st.booleans())
        def check(acts: list[str], cancelled: bool) -> None:
            nonlocal calls
            seen.clear()
            if mode == "sync":
                own = _client(mode, pieces, headers)
                stream = CHAT.make(own)
                for act in acts:
                    _sync_act(act, stream)
                del stream
                own.close()
            else:

                async def main() -> None:
                    async with _client(mode, pieces, headers) as own:
                        stream = await CHAT.make(own)
                        tasks: list[asyncio.Task[None]] = []
                        for act in acts:
                            await _act(act, stream, tasks)
                        if cancelled:
                            for task in tasks:
                                task.cancel()
                        await asyncio.gather(*tasks, return_exceptions=True)
                        tasks.clear()
                        del stream
                        gc.collect()
                        await asyncio.sleep(0)

                asyncio.run(main())
            gc.collect()
            calls += 1
            assert [True, True] == list(_once(seen)), (acts, cancelled)
            if mode == "sync":
                ends = {"loop": "completed", "close": "closed", "close in another": "closed"}
                outcome = next((ends[act] for act in acts if act in ends), "abandoned")
                assert outcome == seen.spans[0]["attributes"][names.OTEL_LLM_STREAM_OUTCOME], acts

        check()

        assert calls == sum(point["count"] for point in seen.points("gen_ai.client.operation.duration"))
