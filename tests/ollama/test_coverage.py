"""The crossing of everything: client x API x answer x how the caller treats it. One record each, and the caller's own.

Whatever the caller gets, and whatever he is raised, is what he gets without us.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import ollama
import pytest

from otel_llm.testing import Seen, capture
from otel_llm.testing.server import STALL, TRUNCATE, Chunk, Reply, ScriptedServer
from otel_llm_semconv import attributes as names
from tests.ollama.styles import ASKED, OUTPUT_TOKENS, PROMPT_TOKENS, STREAMED, WAYS, Got, refused, run, treat

MODES = ("sync", "async")
CASES = [
    *((api, "plain", "consumed") for api in ASKED),
    *((api, "stream", way) for api in STREAMED for way in WAYS),
]
CASE = pytest.mark.parametrize(("api", "form", "way"), CASES, ids=["-".join(case) for case in CASES])
MODE = pytest.mark.parametrize("mode", MODES)


def line(api: str, text: str = "x", **more: Any) -> str:
    """Return one line of a stream."""
    said = {"message": {"role": "assistant", "content": text}} if api == "chat" else {"response": text}
    return json.dumps({"model": "tiny:latest", **said, "done": False, **more}) + "\n"


def called(server: ScriptedServer | str, mode: str, api: str, form: str, way: str, **options: Any) -> Got:
    """Make one call and return what the caller gets."""
    got = Got([], [])

    async def call(own: Any) -> None:
        try:
            await treat(own, api, form, way, got.pieces)
        except BaseException as raised:
            got.raised.append(raised)

    run(server, mode, call, **options)
    return got


def both(mode: str, api: str, form: str, way: str, *replies: Reply, **options: Any) -> tuple[Got, Seen]:
    """Make one call without us and with us, check that the caller cannot tell, and return what was seen."""
    with ScriptedServer() as server:
        server.script(*replies)
        bare = called(server, mode, api, form, way, **options)
        server.script(*replies)
        with capture() as seen:
            got = called(server, mode, api, form, way, **options)
            assert bare.account() == got.account()
            _once(seen, api, got)
            return got, seen


def _once(seen: Seen, api: str, got: Got) -> None:
    """Check what holds for every call."""
    (span,) = seen.spans
    attributes = span["attributes"]
    assert f"{ASKED[api][0]} tiny" == span["name"]
    assert bool(got.raised) == (span["status"] == "error") == (names.ERROR_TYPE in attributes)
    (point,) = seen.points("gen_ai.client.operation.duration")
    assert (1, attributes.get(names.ERROR_TYPE)) == (point["count"], point["attributes"].get(names.ERROR_TYPE))
    assert [0] == [active["value"] for active in seen.points("otel_llm.client.active")]
    assert [] == seen.points("otel_llm.internal.faults")


@MODE
@CASE
def test_answered(api: str, form: str, way: str, mode: str) -> None:
    """An answer is told as far as it was read."""
    got, seen = both(mode, api, form, way)
    (span,) = seen.spans
    attributes = span["attributes"]
    if form == "plain":
        assert names.OTEL_LLM_STREAM_OUTCOME not in attributes
        return
    assert (WAYS[way], len(got.pieces)) == (
        attributes[names.OTEL_LLM_STREAM_OUTCOME],
        attributes[names.OTEL_LLM_STREAM_CHUNKS],
    )
    assert True is attributes[names.GEN_AI_REQUEST_STREAM]
    assert "tiny" == attributes[names.GEN_AI_RESPONSE_MODEL]
    whole = WAYS[way] == "completed"
    assert ("stop" if whole else "error",) == attributes[names.GEN_AI_RESPONSE_FINISH_REASONS]
    assert (PROMPT_TOKENS if whole else None) == attributes.get(names.GEN_AI_USAGE_INPUT_TOKENS)
    assert (OUTPUT_TOKENS if whole else None) == attributes.get(names.GEN_AI_USAGE_OUTPUT_TOKENS)
    assert whole == (names.OTEL_LLM_SERVER_OUTPUT_RATE in attributes)
    assert 1 == len(seen.points("gen_ai.client.operation.time_to_first_chunk"))
    duration = (span["end_ns"] - span["start_ns"]) / 1e9
    first = attributes[names.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK]
    nanosecond = 1e-9  # to which a span's duration is cut
    assert 0 < first <= attributes[names.OTEL_LLM_TIME_TO_FIRST_TEXT] <= duration + nanosecond < 30


@MODE
@CASE
@pytest.mark.parametrize("status", [400, 404, 500])
def test_status(status: int, api: str, form: str, way: str, mode: str) -> None:
    """Any status that is no success is `ollama.ResponseError`, with the server's own words."""
    reply = Reply(status=status, json={"error": "model 'tiny' not found"})
    got, seen = both(mode, api, form, way, reply)
    (span,) = seen.spans
    (error,) = got.raised

    assert isinstance(error, ollama.ResponseError)
    assert status == error.status_code
    assert "ollama.ResponseError" == span["attributes"][names.ERROR_TYPE]
    assert str(error) == span["description"]
    assert names.OTEL_LLM_STREAM_OUTCOME not in span["attributes"]
    assert names.OTEL_LLM_STREAM_CHUNKS not in span["attributes"]
    assert [] == seen.points("gen_ai.client.token.usage")


BROKEN: dict[str, tuple[list[Chunk], str]] = {
    "error": (['{"error": "the runner has died"}\n'], "ollama.ResponseError"),
    "lost": ([0.05, TRUNCATE], "httpx.RemoteProtocolError"),
    "no JSON": (["<html>\n"], "json.JSONDecodeError"),
}
"""How a stream may break, and what the caller gets."""


@MODE
@pytest.mark.parametrize("first", [0, 1, 3])
@pytest.mark.parametrize("how", BROKEN)
@pytest.mark.parametrize("api", STREAMED)
def test_broken_in_mid_stream(api: str, how: str, first: int, mode: str) -> None:
    """A stream that breaks is an error of the call, with what came until then."""
    end, error_type = BROKEN[how]
    got, seen = both(mode, api, "stream", "consumed", Reply(chunks=[*[line(api)] * first, *end]))
    (span,) = seen.spans
    attributes = span["attributes"]

    assert (first, 1) == (len(got.pieces), len(got.raised))
    assert error_type == attributes[names.ERROR_TYPE]
    assert str(got.raised[0]) == span["description"]
    assert (first or None) == attributes.get(names.OTEL_LLM_STREAM_CHUNKS)
    assert ("tiny:latest" if first else None) == attributes.get(names.GEN_AI_RESPONSE_MODEL)
    assert names.OTEL_LLM_STREAM_OUTCOME not in attributes


@MODE
@CASE
def test_broken_after_it_was_left(api: str, form: str, way: str, mode: str) -> None:
    """What would have come after the caller left is no error of his call."""
    if form == "plain" or WAYS[way] == "completed":
        pytest.skip("read to its end")
    _, seen = both(mode, api, form, way, Reply(chunks=[line(api), line(api), '{"error": "late"}\n']))
    (span,) = seen.spans

    assert WAYS[way] == span["attributes"][names.OTEL_LLM_STREAM_OUTCOME]


@MODE
@CASE
def test_truncated(api: str, form: str, way: str, mode: str) -> None:
    """A plain answer that is cut is an error, whatever the transport calls it; so is a stream without a first line."""
    got, seen = both(mode, api, form, way, Reply(chunks=['{"model": ', 0.05, TRUNCATE]))
    (error,) = got.raised

    assert "httpx.RemoteProtocolError" == seen.spans[0]["attributes"][names.ERROR_TYPE]
    assert isinstance(error, httpx.RemoteProtocolError)


@MODE
@CASE
def test_refused(api: str, form: str, way: str, mode: str) -> None:
    """A server that is not there is what the client makes of it; a stream meets it when it is read."""
    server = ScriptedServer().start()
    server.stop()
    bare = called(server.url, mode, api, form, way)
    with capture() as seen:
        got = called(server.url, mode, api, form, way)
        _once(seen, api, got)

    assert bare.account()[0][0:2] == got.account()[0][0:2]
    expected = httpx.ConnectError if form == "stream" else refused()
    assert expected is type(got.raised[0])
    name = "httpx.ConnectError" if expected is httpx.ConnectError else "ConnectionError"
    assert name == seen.spans[0]["attributes"][names.ERROR_TYPE]


@MODE
@CASE
def test_timeout(api: str, form: str, way: str, mode: str) -> None:
    """A server that takes too long is the transport's own exception."""
    with ScriptedServer() as server, capture() as seen:
        server.script(Reply(delay=30))
        got = called(server, mode, api, form, way, timeout=0.05)
        _once(seen, api, got)

    assert isinstance(got.raised[0], httpx.ReadTimeout)
    assert "httpx.ReadTimeout" == seen.spans[0]["attributes"][names.ERROR_TYPE]


class _Struck(httpx.SyncByteStream):
    """A body in which somebody presses Ctrl-C."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces
        raise KeyboardInterrupt


@CASE
@pytest.mark.parametrize("pieces", [0, 2])
def test_interrupted(seen: Seen, api: str, form: str, way: str, pieces: int) -> None:
    """Ctrl-C ends a sync call as an error, before the first chunk or after it; the caller gets the very object."""
    lines = [line(api).encode()] * pieces if form == "stream" else [b'{"model": '] * pieces

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=_Struck(lines))

    got = called("http://test", "sync", api, form, way, transport=httpx.MockTransport(answer))
    _once(seen, api, got)
    attributes = seen.spans[0]["attributes"]
    left = form == "stream" and pieces == 2 and WAYS[way] != "completed"

    assert ([] if left else [KeyboardInterrupt]) == [type(raised) for raised in got.raised]
    assert (None if left else "KeyboardInterrupt") == attributes.get(names.ERROR_TYPE)
    assert (WAYS[way] if left else None) == attributes.get(names.OTEL_LLM_STREAM_OUTCOME)


@CASE
@pytest.mark.parametrize("when", ["at once", "in mid-stream"])
def test_cancelled(api: str, form: str, way: str, when: str) -> None:
    """A task that is cancelled while it waits is an error, `asyncio.CancelledError`."""
    if when == "in mid-stream" and (form == "plain" or WAYS[way] != "completed"):
        pytest.skip("does not wait in mid-stream")
    got = Got([], [])
    reply = Reply(delay=30) if when == "at once" else Reply(chunks=[line(api), STALL])

    async def call(own: Any) -> None:
        task = asyncio.create_task(treat(own, api, form, way, got.pieces))
        while not server.requests or (when != "at once" and not got.pieces):  # noqa: ASYNC110  # in another thread
            await asyncio.sleep(0.005)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError as raised:
            got.raised.append(raised)

    with ScriptedServer() as server, capture() as seen:
        server.script(reply)
        run(server, "async", call)
        _once(seen, api, got)

    attributes = seen.spans[0]["attributes"]
    assert [asyncio.CancelledError] == [type(raised) for raised in got.raised]
    assert "asyncio.CancelledError" == attributes[names.ERROR_TYPE]
    assert (len(got.pieces) or None) == attributes.get(names.OTEL_LLM_STREAM_CHUNKS)


@MODE
@pytest.mark.parametrize("api", STREAMED)
def test_never_read(api: str, mode: str) -> None:
    """A stream that is never read sends nothing, and begins nothing."""
    with ScriptedServer() as server, capture() as seen:
        got = called(server, mode, api, "stream", "never read")

        assert ([], [], [], []) == (server.requests, seen.spans, seen.metrics, got.raised)


@MODE
@pytest.mark.parametrize("api", STREAMED)
@pytest.mark.parametrize("body", ["", "\n"])
def test_a_stream_of_nothing(api: str, body: str, mode: str) -> None:
    """A stream without a line is a call without a chunk; one with an empty line is what the client makes of it."""
    got, seen = both(mode, api, "stream", "consumed", Reply(body=body.encode() or b"", chunks=None))
    attributes = seen.spans[0]["attributes"]

    assert [] == got.pieces
    if not got.raised:
        assert (0, "completed") == (
            attributes[names.OTEL_LLM_STREAM_CHUNKS],
            attributes[names.OTEL_LLM_STREAM_OUTCOME],
        )
        assert names.GEN_AI_RESPONSE_FINISH_REASONS not in attributes
