"""The whole table: every style of call, whatever happens to it, however its answer is left, sync and async.

Each cell is made twice, without and with us. The caller must get the same, and there must be one whole span and whole
metric points. The run of the whole table writes its part of ``docs/coverage.md``.
"""

from __future__ import annotations

from typing import Any

import openai
import pytest

from otel_llm.testing import answers, capture
from otel_llm.testing.server import ScriptedServer, sse
from otel_llm_semconv import attributes as names
from tests.crossing import (
    BEFORE,
    CANCELLED,
    TIMES,
    Cell,
    Expected,
    Got,
    Told,
    cancel,
    check,
    points_of_any,
    points_of_limits,
    put_down,
    scripted,
)
from tests.openai.styles import OUTPUT_TOKENS, PROMPT_TOKENS, STYLES, WAYS, Style, has, run, treat

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
EARLY = 3
"""Events that come before a stream breaks."""


def _never(cell: Cell) -> str | None:
    """Return why this cannot be, or None."""
    if cell.mode == "sync" and cell.happens in CANCELLED:
        return "a sync call cannot be cancelled"
    if cell.way == "consumed":
        return None
    if cell.happens in BEFORE:
        return "the call raises, so there is no answer to leave"
    if cell.happens == "cancelled inside":
        return "only a reader who waits can be cancelled"
    if cell.style.opens or (cell.style.form, cell.way, cell.happens) in (
        ("raw", "never read", "answered"),
        ("raw", "never read", "odd body"),
    ):
        return None
    return "the client has read the body before the caller gets the answer"


MODES = ("sync", "async")
TABLE = [Cell(style, happens, way, mode) for happens in HAPPENS for style in STYLES for way in WAYS for mode in MODES]
CELLS = [cell for cell in TABLE if _never(cell) is None]
told = Told("openai", MODES, _never)


def _events(style: Style) -> list[Any]:
    """Return what the answer would stream."""
    found: Any = answers.answer("POST", PATHS[style.api], {**style.asked, "stream": True}, 1)
    return list(found)


def _made(cell: Cell, server: ScriptedServer) -> Got:
    """Make the call of a cell and return what the caller gets."""
    style: Style = cell.style
    server.script(*scripted(cell.happens, sse(*_events(style)[:EARLY], done=False) if style.streams else None))
    got = Got([], [])
    wanted = EARLY if style.streams and cell.happens == "cancelled inside" else 0

    def call(own: Any) -> Any:
        treating = treat(style, own, cell.way, got.pieces)
        if cell.happens not in CANCELLED:
            return put_down(got, treating)
        return cancel(got, treating, lambda: bool(server.requests) and len(got.pieces) >= wanted)

    run(server, cell.mode, call)
    return got


def _read(cell: Cell) -> int:
    """How many chunks of its stream the caller reads."""
    if cell.way != "consumed":
        return 0 if cell.way == "never read" else 1
    if cell.happens != "answered":
        return EARLY
    return len([event for event in _events(cell.style) if event != "[DONE]"])


def _outcome(cell: Cell, failed: bool) -> str | None:
    """What becomes of the stream, if there is one that does not fail."""
    if not cell.style.streams or failed:
        return None
    if cell.way == "never read":
        # Helpers and streaming responses are context managers, which close.
        return "closed" if cell.style.form in ("helper", "streaming response, streamed") else "abandoned"
    return {"consumed": "completed", "dropped": "abandoned"}.get(cell.way, "closed")


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

    points = points_of_any(start, series, error_type, usage, chunks, text)
    if answered:
        points |= points_of_limits(start, server)
    return Expected(attributes, points)


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
        check(seen, parent.get_span_context(), expected, got)
    told.labels[cell] = expected.label


WAYS_HEAD = """
The ways to treat an answer: *consumed* is read to its end; *closed* is closed after its first piece; *broken* is a
`with` block left after the first piece; *dropped* is let go after the first piece, without `with` or close; *never
read* is what it says.
"""


def test_the_page_says_what_was_recorded() -> None:
    """The page in the repository is what the whole table told; a run that differs rewrites it and fails."""
    if len(told.labels) < len(CELLS) or openai.__version__ < "3":
        pytest.skip("only the whole table, on the newest client, tells the page")

    told.check(HAPPENS, STYLES, WAYS, WAYS_HEAD)
