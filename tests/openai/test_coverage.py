"""The whole table: every style of call, whatever happens to it, however its answer is left, sync and async.

Each cell is made twice, without and with us. The caller must get the same, and there must be one whole span and whole
metric points. The run of the whole table writes ``docs/coverage.md``.
"""

from __future__ import annotations

import asyncio
import gc
import json
from pathlib import Path
from typing import Any, NamedTuple

import openai
import pytest

from otel_llm.testing import Seen, answers, capture
from otel_llm.testing.server import DROP, STALL, TRUNCATE, Reply, ScriptedServer, error, sse
from otel_llm_semconv import attributes as names
from otel_llm_semconv import metrics
from tests.openai.styles import (
    OUTPUT_TOKENS,
    PROMPT_TOKENS,
    STYLES,
    WAYS,
    Got,
    Style,
    client,
    finish,
    has,
    run_async,
    treat,
)

PAGE = Path(__file__).parents[2] / "docs" / "coverage.md"
PATHS = {
    "chat": "/chat/completions",
    "responses": "/responses",
    "completions": "/completions",
    "embeddings": "/embeddings",
}
HAPPENS = {
    "answered": "The answer comes whole",
    "status 400": "Status 400",
    "status 500": "Status 500",
    "no answer": "The connection is closed before an answer",
    "cancelled before": "The task is cancelled while it waits for the answer",
    "lost": "The connection is lost in the middle of the answer",
    "cancelled inside": "The task is cancelled in the middle of the answer",
    "odd body": "The answer is no JSON, or a stream has an event that is none",
}
"""What may happen to a call, and how the page says it."""
BEFORE = ("status 400", "status 500", "no answer", "cancelled before")
"""What happens before there is an answer."""
CANCELLED = ("cancelled before", "cancelled inside")
EARLY = 3
"""Events that come before a stream breaks."""


class Cell(NamedTuple):
    """One cell of the table."""

    style: Style
    happens: str
    way: str
    mode: str

    def __repr__(self) -> str:
        return f"{self.style.api}, {self.style.form}, {self.happens}, {self.way}, {self.mode}"

    @property
    def never(self) -> str | None:
        """Why this cannot be, or None."""
        if self.mode == "sync" and self.happens in CANCELLED:
            return "a sync call cannot be cancelled"
        if self.way == "consumed":
            return None
        if self.happens in BEFORE:
            return "the call raises, so there is no answer to leave"
        if self.happens == "cancelled inside":
            return "only a reader who waits can be cancelled"
        if self.style.opens or (self.style.form, self.way, self.happens) in (
            ("raw", "never read", "answered"),
            ("raw", "never read", "odd body"),
        ):
            return None
        return "the client has read the body before the caller gets the answer"


MODES = ("sync", "async")
TABLE = [Cell(style, happens, way, mode) for happens in HAPPENS for style in STYLES for way in WAYS for mode in MODES]
CELLS = [cell for cell in TABLE if cell.never is None]
told: dict[Cell, str] = {}
"""What was recorded for each cell of this run, as the page says it."""


def _scripted(style: Style, happens: str) -> Reply | None:
    """Return the answer that makes it happen, or None for the server's own."""
    if happens.startswith("status"):
        return error(int(happens[-3:]), message="no")
    if happens == "no answer":
        return DROP
    if happens == "cancelled before":
        return Reply(delay=30)
    made: Any = answers.answer("POST", PATHS[style.api], {**style.asked, "stream": style.streams}, 1)
    if style.streams:
        then: Any = {"lost": TRUNCATE, "cancelled inside": STALL, "odd body": "{no json"}
        return sse(*made[:EARLY], then[happens], done=False) if happens in then else None
    headers = {"content-type": "application/json"}
    if happens == "odd body":
        return Reply(body=b"{no json", headers=headers)
    half = json.dumps({"id": 1})[:5]
    ends: Any = {"lost": TRUNCATE, "cancelled inside": STALL}
    return Reply(chunks=[half, ends[happens]], headers=headers) if happens in ends else None


def _made(cell: Cell, server: ScriptedServer) -> Got:
    """Make the call of a cell and return what the caller gets."""
    reply = _scripted(cell.style, cell.happens)
    if reply is not None:
        server.script(reply)
    got = Got([], [])

    async def call(own: Any) -> None:
        try:
            await treat(cell.style, own, cell.way, got.pieces)
        except Exception as raised:
            got.raised.append(raised)

    async def cancelled(own: Any) -> None:
        task = asyncio.create_task(treat(cell.style, own, cell.way, got.pieces))
        wanted = EARLY if cell.style.streams and cell.happens == "cancelled inside" else 0
        while not server.requests or len(got.pieces) < wanted:  # noqa: ASYNC110  # the server is in another thread
            await asyncio.sleep(0.002)
        # By then a body that comes in one piece is half there; a call that waits, waits.
        await asyncio.sleep(0.02)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError as raised:
            got.raised.append(raised)

    if cell.mode == "sync":
        own = client(server)
        finish(call(own))
        gc.collect()
        own.close()
    else:
        run_async(cancelled if cell.happens in CANCELLED else call, server)
    return got


def _read(cell: Cell) -> int:
    """How many chunks of its stream the caller reads."""
    if cell.way != "consumed":
        return 0 if cell.way == "never read" else 1
    if cell.happens != "answered":
        return EARLY
    made: Any = answers.answer("POST", PATHS[cell.style.api], {**cell.style.asked, "stream": True}, 1)
    return len([event for event in made if event != "[DONE]"])


def _outcome(cell: Cell, failed: bool) -> str | None:
    """What becomes of the stream, if there is one that does not fail."""
    if not cell.style.streams or failed:
        return None
    if cell.way == "never read":
        # Helpers and streaming responses are context managers, which close.
        return "closed" if cell.style.form in ("helper", "streaming response, streamed") else "abandoned"
    return {"consumed": "completed", "dropped": "abandoned"}.get(cell.way, "closed")


class Expected(NamedTuple):
    """What must be recorded for one cell."""

    attributes: dict[str, Any]
    points: dict[tuple[str, frozenset[tuple[str, Any]]], Any]
    label: str


TIMES = (names.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK, names.OTEL_LLM_TIME_TO_FIRST_TEXT)


def _expected(cell: Cell, server: ScriptedServer, got: Got) -> Expected:
    style = cell.style
    # What `parse()` raises in the caller's hands comes after the call.
    late = style.form == "raw" and cell.happens == "odd body"
    failure = got.raised[0] if got.raised and not late else None
    error_type = f"{type(failure).__module__.partition('.')[0]}.{type(failure).__name__}" if failure else None
    answered = cell.happens not in ("no answer", "cancelled before") and (
        style.opens or cell.happens not in ("lost", "cancelled inside")
    )
    streamed = style.streams and cell.happens not in BEFORE
    chunks = _read(cell) if streamed else 0
    whole = cell.happens == "answered" and (
        cell.way == "consumed" or (not style.streams and (style.form == "raw" or cell.way != "never read"))
    )
    identified = whole or chunks > 0
    chat, responses = style.api == "chat", style.api == "responses"
    embeddings = style.api == "embeddings"

    model = style.asked["model"]
    operation = {"completions": "text_completion", "embeddings": "embeddings"}.get(style.api, "chat")
    start = {
        names.GEN_AI_OPERATION_NAME: operation,
        names.GEN_AI_PROVIDER_NAME: "openai",
        names.GEN_AI_REQUEST_MODEL: model,
        names.SERVER_ADDRESS: "127.0.0.1",
        names.SERVER_PORT: server.port,
    }
    attributes: dict[str, Any] = dict(start)
    if chat or responses:
        attributes[names.OPENAI_API_TYPE] = "chat_completions" if chat else "responses"
    if style.streams:
        attributes[names.GEN_AI_REQUEST_STREAM] = True
    if style.form == "parse":
        attributes[names.GEN_AI_OUTPUT_TYPE] = "json"
    if answered:
        attributes[names.OTEL_LLM_REQUEST_ID] = "req_00000001"
    series = dict(start)
    if identified:
        series[names.GEN_AI_RESPONSE_MODEL] = model if embeddings else "gpt-5-2026-10-01"
        attributes[names.GEN_AI_RESPONSE_MODEL] = series[names.GEN_AI_RESPONSE_MODEL]
        if not embeddings:
            prefix = {"chat": "chatcmpl-", "responses": "resp_", "completions": "cmpl-"}[style.api]
            attributes[names.GEN_AI_RESPONSE_ID] = f"{prefix}00000001"
        if chat or responses:
            attributes[names.OPENAI_RESPONSE_SERVICE_TIER] = "default"
        if chat:
            attributes[names.OPENAI_RESPONSE_SYSTEM_FINGERPRINT] = "fp_scripted"
    if identified and not embeddings:
        attributes[names.GEN_AI_RESPONSE_FINISH_REASONS] = ("stop" if whole else "error",)
    usage: dict[str, int] = {}
    if whole:
        usage = {"input": PROMPT_TOKENS}
        if not embeddings:
            output = 2 if style.form == "parse" else OUTPUT_TOKENS
            usage |= {"output": output, "cache_read": PROMPT_TOKENS // 2, "cache_write": 0, "reasoning": 0}
    for kind, name in (
        ("input", names.GEN_AI_USAGE_INPUT_TOKENS),
        ("output", names.GEN_AI_USAGE_OUTPUT_TOKENS),
        ("cache_read", names.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS),
        ("cache_write", names.GEN_AI_USAGE_CACHE_WRITE_INPUT_TOKENS),
        ("reasoning", names.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS),
    ):
        if kind in usage:
            attributes[name] = usage[kind]
    text = chunks >= {"chat": 2, "completions": 1, "responses": 5}.get(style.api, 0)
    outcome = _outcome(cell, failure is not None) if streamed else None
    if streamed:
        attributes[names.OTEL_LLM_STREAM_CHUNKS] = chunks
        if chunks:
            attributes[TIMES[0]] = 0.0
            if text:
                attributes[TIMES[1]] = 0.0
    if outcome:
        attributes[names.OTEL_LLM_STREAM_OUTCOME] = outcome
    if error_type:
        attributes[names.ERROR_TYPE] = error_type

    points: dict[tuple[str, frozenset[tuple[str, Any]]], Any] = {}

    def point(metric: metrics.Metric, value: Any, own: dict[str, Any], **more: Any) -> None:
        points[metric.name, frozenset({**own, **more}.items())] = value

    failed = {names.ERROR_TYPE: error_type} if error_type else {}
    point(metrics.GEN_AI_CLIENT_OPERATION_DURATION, 1, {**series, **failed})
    point(metrics.OTEL_LLM_CLIENT_ACTIVE, 0, start)
    for kind, tokens in usage.items():
        if kind in ("input", "output"):
            point(metrics.GEN_AI_CLIENT_TOKEN_USAGE, (1, tokens), {**series, names.GEN_AI_TOKEN_TYPE: kind})
        point(metrics.OTEL_LLM_CLIENT_TOKENS, tokens, {**series, names.OTEL_LLM_TOKEN_KIND: kind})
    if answered:
        left = 30_000 - len(server.requests[0].body) // 4
        point(metrics.OTEL_LLM_CLIENT_RATELIMIT_REQUESTS_LIMIT, 500, start)
        point(metrics.OTEL_LLM_CLIENT_RATELIMIT_REQUESTS_REMAINING, 499, start)
        point(metrics.OTEL_LLM_CLIENT_RATELIMIT_TOKENS_LIMIT, 30_000, start)
        point(metrics.OTEL_LLM_CLIENT_RATELIMIT_TOKENS_REMAINING, left, start)
    if chunks:
        point(metrics.GEN_AI_CLIENT_OPERATION_TIME_TO_FIRST_CHUNK, 1, series)
        if text:
            point(metrics.OTEL_LLM_CLIENT_TIME_TO_FIRST_TEXT, 1, series)
    if chunks > 1:
        point(metrics.OTEL_LLM_CLIENT_CHUNK_GAP, 1, series)
        point(metrics.OTEL_LLM_CLIENT_CHUNK_GAP_MAX, 1, series)
    if chunks and "output" in usage:
        point(metrics.OTEL_LLM_CLIENT_OUTPUT_RATE, 1, series)

    label = f"error `{error_type}`" if error_type else f"`{outcome or 'ok'}`"
    return Expected(attributes, points, label + (", tokens" if usage else ""))


def _points(seen: Seen) -> dict[tuple[str, frozenset[tuple[str, Any]]], Any]:
    found: dict[tuple[str, frozenset[tuple[str, Any]]], Any] = {}
    for point in seen.metrics:
        value = point.get("value", point.get("count"))
        if point["name"] == metrics.GEN_AI_CLIENT_TOKEN_USAGE.name:
            value = (point["count"], point["sum"])
        found[point["name"], frozenset(point["attributes"].items())] = value
    return found


@pytest.mark.parametrize("cell", CELLS, ids=repr)
def test_cell(cell: Cell) -> None:
    """The caller gets what he gets without us; there is one whole span under its parent, and whole points."""
    if not has(cell.style.needs):
        pytest.skip(f"this client has no {cell.style.needs}")
    with ScriptedServer() as server:
        bare = _made(cell, server)

    with ScriptedServer() as server, capture() as seen:
        with seen.tracer_provider.get_tracer("application").start_as_current_span("parent") as parent:
            got = _made(cell, server)

        assert bare.account() == got.account()
        assert 1 == len(server.requests)
        expected = _expected(cell, server, got)
        (span,) = seen.spans
        attributes = span["attributes"]
        seconds = (span["end_ns"] - span["start_ns"]) / 1e9
        for name in TIMES:
            if name in attributes:
                assert 0 < attributes[name] < seconds + 1e-6  # a span ends at a whole nanosecond
                attributes[name] = 0.0
        assert expected.attributes == attributes
        assert {name: type(value) for name, value in expected.attributes.items()} == {
            name: type(value) for name, value in attributes.items()
        }
        operation, model = attributes[names.GEN_AI_OPERATION_NAME], attributes[names.GEN_AI_REQUEST_MODEL]
        assert (f"{operation} {model}", "client") == (span["name"], span["kind"])
        assert parent.get_span_context().span_id == span["parent_id"]
        assert parent.get_span_context().trace_id == span["trace_id"]
        if names.ERROR_TYPE in expected.attributes:
            assert ("error", str(got.raised[0])) == (span["status"], span["description"])
        else:
            assert ("unset", None) == (span["status"], span["description"])
        assert expected.points == _points(seen)
        (duration,) = seen.points(metrics.GEN_AI_CLIENT_OPERATION_DURATION.name)
        assert seconds == pytest.approx(duration["sum"], abs=1e-6)
    told[cell] = expected.label


PAGE_HEAD = """# What is recorded of each call

Each cell of these tables is a test: the call is made without and with the instrumentation, the caller must get the
same, and there must be exactly one whole span and whole metric points. The words say what was recorded: `ok` is a call
without a stream that ended well; `completed`, `closed` and `abandoned` are outcomes of streams, no errors; an error is
named by its `error.type`. "tokens" means that token counts are on the span and in the metrics. Where sync and async
clients differ, both are told.

The run of `tests/openai/test_coverage.py` writes this page, with the newest client.
"""
WAYS_HEAD = """
The ways to treat an answer: *consumed* is read to its end; *closed* is closed after its first piece; *broken* is a
`with` block left after the first piece; *dropped* is let go after the first piece, without `with` or close; *never
read* is what it says.
"""


def _both(style: Style, happens: str, way: str, reasons: list[str]) -> str:
    """Return what was recorded for the sync and the async call, or a mark for why there is none."""
    said = dict.fromkeys(MODES, "")
    for mode in MODES:
        cell = Cell(style, happens, way, mode)
        if cell.never is None:
            said[mode] = told[cell]
        else:
            if cell.never not in reasons:
                reasons.append(cell.never)
            said[mode] = f"- ({reasons.index(cell.never) + 1})"
    if said["sync"] == said["async"]:
        return said["sync"]
    return "; ".join(f"{mode}: {text}" for mode, text in said.items())


def _table(columns: dict[str, tuple[str, str]], styles: list[Style], reasons: list[str]) -> list[str]:
    """Return a table with a row for each style; *columns* gives for each title what happens and how it is left."""
    lines = ["| call | " + " | ".join(columns) + " |", "| --- |" + " --- |" * len(columns)]
    for style in styles:
        cells = [_both(style, happens, way, reasons) for happens, way in columns.values()]
        lines.append(f"| {style.api}, {style.form} | " + " | ".join(cells) + " |")
    return [*lines, ""]


def _page() -> str:
    reasons: list[str] = []
    raises = (*BEFORE, "cancelled inside")
    lines = [PAGE_HEAD, "## The call raises", ""]
    lines += _table({HAPPENS[happens]: (happens, "consumed") for happens in raises}, STYLES, reasons)
    lines += ["## There is an answer to leave", WAYS_HEAD]
    for happens, title in HAPPENS.items():
        if happens not in raises:
            lines += [f"### {title}", "", *_table({way: (happens, way) for way in WAYS}, STYLES, reasons)]
    lines += ["## What cannot be", ""]
    return "\n".join(lines + [f"{number}. {reason}" for number, reason in enumerate(reasons, 1)]) + "\n"


def test_the_page_says_what_was_recorded() -> None:
    """The page in the repository is what the whole table told; a run that differs rewrites it and fails."""
    if len(told) < len(CELLS) or openai.__version__ < "3":
        pytest.skip("only the whole table, on the newest client, tells the page")

    before, page = PAGE.read_text("utf-8") if PAGE.exists() else "", _page()
    if page != before:
        PAGE.write_text(page, "utf-8")
    assert page == before, f"{PAGE.name} is rewritten: look at the difference, and commit it if it is meant"
