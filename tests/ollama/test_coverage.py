"""The whole table: every style of call, whatever happens to it, however its answer is left, by every kind of client.

Each cell is made twice, without and with us. The caller must get the same, and there must be one whole span and whole
metric points. The run of the whole table writes its part of ``docs/coverage.md``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import httpx
import ollama
import pytest

from otel_llm.testing import Seen, capture
from otel_llm.testing.server import TRUNCATE, Chunk, Reply, ScriptedServer
from otel_llm_semconv import attributes as names
from otel_llm_semconv import metrics
from tests import crossing
from tests.crossing import BEFORE, CANCELLED, TIMES, Cell, Expected, Got, Told, cancel, point, points_of_any, put_down
from tests.ollama.styles import (
    ASKED,
    MODES,
    OUTPUT_TOKENS,
    PROMPT_TOKENS,
    SECONDS,
    STREAMED,
    STYLES,
    WAYS,
    Style,
    line,
    refused,
    run,
    treat,
)

HAPPENS = {
    "answered": "The answer comes whole",
    "status 400": "Status 400",
    "status 404": "Status 404",
    "status 500": "Status 500",
    "no server": "No server is there",
    "no answer": "The connection is closed before an answer",
    "timeout": "The server takes too long",
    "cancelled before": "The task is cancelled while it waits for the answer",
    "error": "The server tells of an error in the middle of a stream",
    "lost": "The connection is lost in the middle of the answer",
    "odd body": "The answer is no JSON, or a stream has a line that is none",
    "cancelled inside": "The task is cancelled in the middle of the answer",
}
"""What may happen to a call, and how the page says it."""
ERRORS = {
    "no answer": "httpx.RemoteProtocolError",
    "timeout": "httpx.ReadTimeout",
    "error": "ollama.ResponseError",
    "lost": "httpx.RemoteProtocolError",
    "odd body": "json.JSONDecodeError",
}
"""What the caller gets then, where it is the same for all."""
ENDS: dict[str, Chunk] = {**crossing.ENDS, "error": '{"error": "the runner has died"}\n', "odd body": "<html>\n"}
EARLY = 3
"""Lines that come before a stream breaks."""
LOAD = names.OTEL_LLM_SERVER_LOAD_DURATION
NOWHERE = "http://127.0.0.1:1"


def _never(cell: Cell) -> str | None:
    """Return why this cannot be, or None."""
    if cell.mode != "async" and cell.happens in CANCELLED:
        return "a sync call cannot be cancelled"
    if not cell.style.streams:
        if cell.happens == "error":
            return "what comes whole is an answer, or has the status of an error"
        if cell.way != "consumed":
            return "the client has read the body before the caller gets the answer"
    if cell.happens == "cancelled inside" and WAYS[cell.way] != "completed":
        return "only a reader who waits can be cancelled"
    return None


TABLE = [Cell(style, happens, way, mode) for happens in HAPPENS for style in STYLES for way in WAYS for mode in MODES]
CELLS = [cell for cell in TABLE if _never(cell) is None]
told = Told("ollama", MODES, _never)
READS = {"closed": 1, "broken": 2, "dropped": 1}
"""How many chunks are read by those who do not read to the end."""


def _made(cell: Cell, server: ScriptedServer) -> Got:
    """Make the call of a cell and return what the caller gets."""
    style: Style = cell.style
    if cell.happens.startswith("status"):
        server.script(Reply(status=int(cell.happens[-3:]), json={"error": "model 'tiny' not found"}))
    else:
        early = Reply(chunks=[line(style.api)] * EARLY) if style.streams else None
        server.script(*crossing.scripted(cell.happens, early, ENDS))
    got = Got([], [])
    wanted = EARLY if style.streams and cell.happens == "cancelled inside" else 0

    def call(own: Any) -> Any:
        treating = treat(own, style, cell.way, got.pieces)
        if cell.happens not in CANCELLED:
            return put_down(got, treating)
        return cancel(got, treating, lambda: bool(server.requests) and len(got.pieces) >= wanted)

    options: dict[str, Any] = {"timeout": 0.05} if cell.happens == "timeout" else {}
    run(NOWHERE if cell.happens == "no server" else server, cell.mode, call, **options)
    return got


def _is_late(cell: Cell) -> bool:
    """Whether the body is read in the caller's hands, after the call; `ollama` 0.3 does so with embeddings."""
    is_old = hasattr(ollama.Client, "_request_stream")
    return is_old and cell.style.api not in STREAMED and cell.happens in ("answered", "odd body")


def _error(cell: Cell) -> str | None:
    """Return the error that the call must end with, if it does."""
    style: Style = cell.style
    if cell.happens == "answered" or _is_late(cell):
        return None
    if cell.happens not in BEFORE and style.streams and cell.way in READS:
        return None
    if cell.happens in CANCELLED:
        return "asyncio.CancelledError"
    if cell.happens.startswith("status"):
        return "ollama.ResponseError"
    if cell.happens == "no server":
        return "ConnectionError" if not style.streams and refused() is ConnectionError else "httpx.ConnectError"
    return ERRORS[cell.happens]


def _expected(cell: Cell, server: ScriptedServer) -> Expected:
    style: Style = cell.style
    api = style.api
    operation, asked = ASKED[api]
    generates = api in STREAMED
    error_type = _error(cell)
    whole = cell.happens == "answered" and cell.way not in READS
    chunks = 0
    if style.streams and cell.happens not in BEFORE:
        chunks = READS.get(cell.way, EARLY if cell.happens != "answered" else OUTPUT_TOKENS + 1)

    start = {
        names.GEN_AI_OPERATION_NAME: operation,
        names.GEN_AI_PROVIDER_NAME: "ollama",
        names.GEN_AI_REQUEST_MODEL: asked["model"],
        names.SERVER_ADDRESS: "127.0.0.1",
        names.SERVER_PORT: 1 if cell.happens == "no server" else server.port,
    }
    attributes: dict[str, Any] = dict(start)
    if generates:
        attributes |= {names.GEN_AI_REQUEST_TEMPERATURE: 0.0, names.GEN_AI_REQUEST_MAX_TOKENS: 24}
    if style.streams:
        attributes[names.GEN_AI_REQUEST_STREAM] = True
    series = dict(start)
    if chunks or (whole and api != "embeddings"):  # which tells nothing but the vector
        series[names.GEN_AI_RESPONSE_MODEL] = "tiny" if cell.happens == "answered" else "tiny:latest"
        attributes |= series
        if generates:
            attributes[names.GEN_AI_RESPONSE_FINISH_REASONS] = ("stop" if whole else "error",)
    usage: dict[str, int] = {}
    seconds: dict[str, float] = {}
    if whole and api != "embeddings":
        usage = {"input": PROMPT_TOKENS, **({"output": OUTPUT_TOKENS} if generates else {})}
        attributes[names.GEN_AI_USAGE_INPUT_TOKENS] = PROMPT_TOKENS
        seconds = {name: value for name, value in SECONDS.items() if generates or name == LOAD}
    if whole and generates:
        attributes[names.GEN_AI_USAGE_OUTPUT_TOKENS] = OUTPUT_TOKENS
        rate = OUTPUT_TOKENS / SECONDS[names.OTEL_LLM_SERVER_GENERATION_DURATION]
        seconds[names.OTEL_LLM_SERVER_OUTPUT_RATE] = rate
    attributes |= seconds
    if chunks:
        attributes |= {names.OTEL_LLM_STREAM_CHUNKS: chunks, **dict.fromkeys(TIMES, 0.0)}
        if not error_type:
            attributes[names.OTEL_LLM_STREAM_OUTCOME] = WAYS[cell.way]
    if error_type:
        attributes[names.ERROR_TYPE] = error_type

    points = points_of_any(start, series, error_type, usage, chunks, text=True)
    for metric in metrics.OWN:
        if metric.name in seconds:
            points |= point(metric, 1, series)
    if _is_late(cell):  # then the headers are seen
        attributes[names.OTEL_LLM_REQUEST_ID] = "req_00000001"
        points |= crossing.points_of_limits(start, server)
    return Expected(attributes, points)


@pytest.mark.parametrize("cell", CELLS, ids=repr)
def test_cell(cell: Cell) -> None:
    """The caller gets what he gets without us; there is one whole span under its parent, and whole points."""
    with ScriptedServer() as server:
        bare = _made(cell, server)

    with ScriptedServer() as server, capture() as seen:
        with seen.tracer_provider.get_tracer("application").start_as_current_span("parent") as parent:
            got = _made(cell, server)

        assert bare.account() == got.account()
        assert (cell.happens != "no server") == len(server.requests)
        expected = _expected(cell, server)
        if not _is_late(cell):
            assert bool(got.raised) == (names.ERROR_TYPE in expected.attributes)
        crossing.check(seen, parent.get_span_context(), expected, got)
    told.labels[cell] = expected.label


CASES = [(style, way) for style in STYLES for way in WAYS if style.streams or way == "consumed"]
CASE = pytest.mark.parametrize(("style", "way"), CASES, ids=["-".join((*style, way)) for style, way in CASES])
MODE = pytest.mark.parametrize("mode", MODES)


def both(mode: str, style: Style, way: str, reply: Reply, **options: Any) -> tuple[Got, Seen]:
    """Make one call without us and with us, check that the caller cannot tell, and return what was seen."""

    def called() -> Got:
        got = Got([], [])
        server.script(reply)
        run(server, mode, lambda own: put_down(got, treat(own, style, way, got.pieces)), **options)
        return got

    with ScriptedServer() as server:
        bare = called()
        with capture() as seen:
            got = called()
            assert bare.account() == got.account()
            _once(seen, style, got)
            return got, seen


def _once(seen: Seen, style: Style, got: Got) -> None:
    """Check what holds for every call."""
    (span,) = seen.spans
    attributes = span["attributes"]
    assert f"{ASKED[style.api][0]} tiny" == span["name"]
    assert bool(got.raised) == (span["status"] == "error") == (names.ERROR_TYPE in attributes)
    (duration,) = seen.points("gen_ai.client.operation.duration")
    assert (1, attributes.get(names.ERROR_TYPE)) == (duration["count"], duration["attributes"].get(names.ERROR_TYPE))
    assert [0] == [active["value"] for active in seen.points("otel_llm.client.active")]
    assert [] == seen.points("otel_llm.internal.faults")


@MODE
@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("how", ["error", "lost", "odd body"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("api", STREAMED)
def test_broken_early(api: str, way: str, how: str, first: int, mode: str) -> None:
    """A stream that breaks before the caller leaves it is an error of the call, with what came until then."""
    reply = Reply(chunks=[*[line(api)] * first, 0.02, ENDS[how]])
    got, seen = both(mode, Style(api, "stream"), way, reply)
    (span,) = seen.spans
    attributes = span["attributes"]
    left = first >= READS.get(way, EARLY)

    assert (first, not left) == (len(got.pieces), bool(got.raised))
    assert (None if left else ERRORS[how]) == attributes.get(names.ERROR_TYPE)
    assert (WAYS[way] if left else None) == attributes.get(names.OTEL_LLM_STREAM_OUTCOME)
    assert (None if left else str(got.raised[0])) == span["description"]
    assert (first or None) == attributes.get(names.OTEL_LLM_STREAM_CHUNKS)
    assert ("tiny:latest" if first else None) == attributes.get(names.GEN_AI_RESPONSE_MODEL)


@MODE
@CASE
def test_truncated(style: Style, way: str, mode: str) -> None:
    """A plain answer that is cut is an error, whatever the transport calls it; so is a stream without a first line."""
    got, seen = both(mode, style, way, Reply(chunks=['{"model": ', 0.05, TRUNCATE]))
    (error,) = got.raised

    assert "httpx.RemoteProtocolError" == seen.spans[0]["attributes"][names.ERROR_TYPE]
    assert isinstance(error, httpx.RemoteProtocolError)


@pytest.mark.parametrize("way", ["closed", "dropped"])
@pytest.mark.parametrize("api", STREAMED)
def test_cancelled_between_chunks(server: ScriptedServer, seen: Seen, api: str, way: str) -> None:
    """A task that is cancelled while it does something else was not cancelled by the stream, which it leaves."""
    server.script(Reply(chunks=[line(api)] * EARLY))
    got = Got([], [])

    async def treating(own: Any) -> None:
        stream = await getattr(own, api)(**ASKED[api][1], stream=True)
        got.pieces.append(await anext(stream))
        try:
            await asyncio.sleep(30)
        finally:
            if way == "closed":
                await stream.aclose()
            del stream

    run(server, "async", lambda own: cancel(got, treating(own), lambda: bool(got.pieces)))
    attributes = seen.spans[0]["attributes"]

    assert [asyncio.CancelledError] == [type(raised) for raised in got.raised]
    assert (WAYS[way], None) == (attributes[names.OTEL_LLM_STREAM_OUTCOME], attributes.get(names.ERROR_TYPE))


class _Struck(httpx.SyncByteStream):
    """A body in which somebody presses Ctrl-C."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces
        raise KeyboardInterrupt


@CASE
@pytest.mark.parametrize("mode", ["sync", "module"])
@pytest.mark.parametrize("pieces", [0, 2])
def test_interrupted(seen: Seen, style: Style, way: str, pieces: int, mode: str) -> None:
    """Ctrl-C ends a sync call as an error, before the first chunk or after it; the caller gets the very object."""
    lines = [line(style.api).encode()] * pieces if style.streams else [b'{"model": '] * pieces

    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=_Struck(lines))

    got = Got([], [])

    async def call(own: Any) -> None:
        try:
            await treat(own, style, way, got.pieces)
        except KeyboardInterrupt as raised:
            got.raised.append(raised)

    run("http://test", mode, call, transport=httpx.MockTransport(answer))
    _once(seen, style, got)
    attributes = seen.spans[0]["attributes"]
    left = style.streams and pieces == 2 and WAYS[way] != "completed"

    assert ([] if left else [KeyboardInterrupt]) == [type(raised) for raised in got.raised]
    assert (None if left else "KeyboardInterrupt") == attributes.get(names.ERROR_TYPE)
    assert (WAYS[way] if left else None) == attributes.get(names.OTEL_LLM_STREAM_OUTCOME)


@MODE
@pytest.mark.parametrize("api", STREAMED)
def test_never_read(api: str, mode: str) -> None:
    """A stream that is never read sends nothing, and begins nothing."""
    got = Got([], [])
    with ScriptedServer() as server, capture() as seen:
        run(server, mode, lambda own: put_down(got, treat(own, Style(api, "stream"), "never read", got.pieces)))

        assert ([], [], [], []) == (server.requests, seen.spans, seen.metrics, got.raised)


@MODE
@pytest.mark.parametrize("api", STREAMED)
@pytest.mark.parametrize("body", ["", "\n"])
def test_a_stream_of_nothing(api: str, body: str, mode: str) -> None:
    """A stream without a line is a call without a chunk; one with an empty line is what the client makes of it."""
    got, seen = both(mode, Style(api, "stream"), "consumed", Reply(body=body.encode()))
    attributes = seen.spans[0]["attributes"]

    assert [] == got.pieces
    if not got.raised:
        assert (0, "completed") == (
            attributes[names.OTEL_LLM_STREAM_CHUNKS],
            attributes[names.OTEL_LLM_STREAM_OUTCOME],
        )
        assert names.GEN_AI_RESPONSE_FINISH_REASONS not in attributes


WAYS_HEAD = """
A stream is a generator whose request leaves at its first `next`: there it raises, however it would have been left; one
that is never read sends nothing, and nothing is recorded. The ways to treat it: *consumed* is read to its end by a
loop, *stepped* by `next`; *closed* is closed after its first chunk; *broken* is a loop that is left while the stream is
still held; *dropped* is let go after its first chunk.
"""


def test_the_page_says_what_was_recorded() -> None:
    """The page in the repository is what the whole table told; a run that differs rewrites it and fails."""
    if len(told.labels) < len(CELLS) or version("ollama") < "0.6":
        pytest.skip("only the whole table, on the newest client, tells the page")

    told.check(HAPPENS, STYLES, WAYS, WAYS_HEAD)
