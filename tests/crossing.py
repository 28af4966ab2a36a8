"""What tests share that cross every way to call a client with what may happen; what they tell is `docs/coverage.md`.

One async body does for sync and async clients: with a sync one it never waits, so `finish` runs it without a loop.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import json
import re
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from opentelemetry.trace import SpanContext

from otel_llm.testing import Seen
from otel_llm.testing.server import DROP, STALL, TRUNCATE, Chunk, Reply, ScriptedServer, error
from otel_llm_semconv import attributes as names
from otel_llm_semconv import metrics

PAGE = Path(__file__).parents[1] / "docs" / "coverage.md"
END: Any = object()
"""What `take` returns after the last item."""


async def settled(value: Any) -> Any:
    """Return the value, or what it stands for if it has to be awaited."""
    return await value if inspect.isawaitable(value) else value


async def take(iterator: Any) -> Any:
    """Return the next item of an iterator of either kind, or `END`."""
    return await anext(iterator, END) if hasattr(iterator, "__anext__") else next(iterator, END)


def finish(coroutine: Any) -> Any:
    """Run a coroutine that never waits, outside of any loop."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("a sync client made its caller wait")


def run(
    client: Callable[[], AbstractContextManager[Any]],
    aclient: Callable[[], AbstractAsyncContextManager[Any]],
    mode: str,
    make: Callable[[Any], Coroutine[Any, Any, Any]],
) -> Any:
    """Run a coroutine with a client, the async one where that is the mode, and collect what it dropped."""

    async def main() -> Any:
        async with aclient() as own:
            try:
                return await make(own)
            finally:
                gc.collect()
                await asyncio.sleep(0)

    if mode == "async":
        result = asyncio.run(main())
    else:
        with client() as own:
            result = finish(make(own))
            gc.collect()
    gc.collect()
    return result


class Got(NamedTuple):
    """What the caller got."""

    pieces: list[Any]
    raised: list[BaseException]

    def account(self) -> list[Any]:
        """Return everything of it that can be compared."""
        found: list[Any] = [(type(piece), repr(piece), getattr(piece, "_request_id", None)) for piece in self.pieces]
        return found + [
            (type(raised), str(raised), type(raised.__cause__), type(raised.__context__), sorted(vars(raised)))
            for raised in self.raised
        ]


async def put_down(got: Got, treating: Awaitable[None]) -> None:
    """Await what makes a call and treats its answer, and put down what it raises."""
    try:
        await treating
    except Exception as raised:
        got.raised.append(raised)


async def cancel(got: Got, treating: Coroutine[Any, Any, None], is_time: Callable[[], bool]) -> None:
    """Cancel the task of a call when it is time, and put down that it was cancelled."""
    task = asyncio.create_task(treating)
    while not is_time() and not task.done():  # noqa: ASYNC110  # the server is in another thread
        await asyncio.sleep(0.002)
    # By then a body that comes in one piece is half there; a call that waits, waits.
    await asyncio.sleep(0.02)
    task.cancel()
    try:
        await task
    except asyncio.CancelledError as raised:
        got.raised.append(raised)


class Cell(NamedTuple):
    """One call of a table."""

    style: Any
    """How it is made: a tuple of words."""
    happens: str
    way: str
    """How its answer is left."""
    mode: str

    def __repr__(self) -> str:
        return ", ".join((*self.style, self.happens, self.way, self.mode))


BEFORE = (
    "status 400",
    "status 404",
    "status 500",
    "status 503",
    "no server",
    "no answer",
    "timeout",
    "cancelled before",
)
"""What happens before there is an answer."""
CANCELLED = ("cancelled before", "cancelled inside")


ENDS: dict[str, Chunk] = {"lost": TRUNCATE, "cancelled inside": STALL, "odd body": "data: {no json\n\n"}
"""What comes in the middle of a stream where something happens there."""


def scripted(happens: str, early: Reply | None, ends: Mapping[str, Chunk] = ENDS) -> list[Reply]:
    """Return the answer that makes it happen, or none where the server's own does.

    Args:
        happens: what is to happen.
        early: the beginning of a stream, up to where it happens; None for an answer without a stream.
        ends: what comes then.
    """
    if happens in ("answered", "no server"):
        return []
    if happens.startswith("status"):
        return [error(int(happens[-3:]), message="no")]
    if happens == "no answer":
        return [DROP]
    if happens in ("timeout", "cancelled before"):
        return [Reply(delay=30)]
    if early is not None:
        return [replace(early, chunks=[*(early.chunks or ()), ends[happens]])]
    headers = {"content-type": "application/json"}
    if happens == "odd body":
        return [Reply(body=b"{no json", headers=headers)]
    return [Reply(chunks=[json.dumps({"id": 1})[:5], ends[happens]], headers=headers)]


Points = dict[tuple[str, frozenset[tuple[str, Any]]], Any]
"""Values of metric points by metric and attributes."""
TIMES = (names.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK, names.OTEL_LLM_TIME_TO_FIRST_TEXT)


class Expected(NamedTuple):
    """What must be recorded for one cell; a time is 0.0, since nobody knows it."""

    attributes: dict[str, Any]
    points: Points

    @property
    def label(self) -> str:
        """How the page says it."""
        failed = self.attributes.get(names.ERROR_TYPE)
        said = f"error `{failed}`" if failed else f"`{self.attributes.get(names.OTEL_LLM_STREAM_OUTCOME, 'ok')}`"
        return said + (", tokens" if names.GEN_AI_USAGE_INPUT_TOKENS in self.attributes else "")


def point(metric: metrics.Metric, value: Any, attributes: Mapping[str, Any], **more: Any) -> Points:
    """Return one point."""
    return {(metric.name, frozenset({**attributes, **more}.items())): value}


def points_of_any(
    start: dict[str, Any],
    series: dict[str, Any],
    error_type: str | None,
    usage: dict[str, int],
    chunks: int,
    text: bool,
) -> Points:
    """Return the points that a call of any client must give.

    Args:
        start: attributes that are known when it begins.
        series: attributes of its series when it ends, without the error.
        error_type: the error, if it is one.
        usage: tokens by kind.
        chunks: how many chunks of a stream were read.
        text: whether text was among them.
    """
    failed = {names.ERROR_TYPE: error_type} if error_type else {}
    points = point(metrics.GEN_AI_CLIENT_OPERATION_DURATION, 1, {**series, **failed})
    points |= point(metrics.OTEL_LLM_CLIENT_ACTIVE, 0, start)
    for kind, tokens in usage.items():
        if kind in ("input", "output"):
            points |= point(metrics.GEN_AI_CLIENT_TOKEN_USAGE, (1, tokens), {**series, names.GEN_AI_TOKEN_TYPE: kind})
        points |= point(metrics.OTEL_LLM_CLIENT_TOKENS, tokens, {**series, names.OTEL_LLM_TOKEN_KIND: kind})
    if chunks:
        points |= point(metrics.GEN_AI_CLIENT_OPERATION_TIME_TO_FIRST_CHUNK, 1, series)
        if text:
            points |= point(metrics.OTEL_LLM_CLIENT_TIME_TO_FIRST_TEXT, 1, series)
        if "output" in usage:
            points |= point(metrics.OTEL_LLM_CLIENT_OUTPUT_RATE, 1, series)
    if chunks > 1:
        points |= point(metrics.OTEL_LLM_CLIENT_CHUNK_GAP, 1, series)
        points |= point(metrics.OTEL_LLM_CLIENT_CHUNK_GAP_MAX, 1, series)
    return points


def points_of_limits(start: dict[str, Any], server: ScriptedServer) -> Points:
    """Return the points of the limits that the scripted server tells in the headers of its first answer."""
    left = 30_000 - len(server.requests[0].body) // 4
    return {
        **point(metrics.OTEL_LLM_CLIENT_RATELIMIT_REQUESTS_LIMIT, 500, start),
        **point(metrics.OTEL_LLM_CLIENT_RATELIMIT_REQUESTS_REMAINING, 499, start),
        **point(metrics.OTEL_LLM_CLIENT_RATELIMIT_TOKENS_LIMIT, 30_000, start),
        **point(metrics.OTEL_LLM_CLIENT_RATELIMIT_TOKENS_REMAINING, left, start),
    }


def check(seen: Seen, parent: SpanContext, expected: Expected, got: Got) -> None:
    """Check that there is one span below the parent, and that it and the points are what is expected."""
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
    assert (parent.trace_id, parent.span_id) == (span["trace_id"], span["parent_id"])
    if names.ERROR_TYPE in expected.attributes:
        assert ("error", str(got.raised[0])) == (span["status"], span["description"])
    else:
        assert ("unset", None) == (span["status"], span["description"])
    points: Points = {}
    for found in seen.metrics:
        value = found.get("value", found.get("count"))
        if found["name"] == metrics.GEN_AI_CLIENT_TOKEN_USAGE.name:
            value = (found["count"], found["sum"])
        points[found["name"], frozenset(found["attributes"].items())] = value
    assert expected.points == points
    (duration,) = seen.points(metrics.GEN_AI_CLIENT_OPERATION_DURATION.name)
    assert seconds == pytest.approx(duration["sum"], abs=1e-6)


class Told:
    """What the cells of a table told, as a part of the page says it."""

    def __init__(self, part: str, modes: Sequence[str], never: Callable[[Cell], str | None]) -> None:
        self._part = part
        self._modes = modes
        self._never = never
        self._reasons: list[str] = []
        self.labels: dict[Cell, str] = {}
        """What was recorded for each cell of this run."""

    def _cell(self, style: Any, happens: str, way: str) -> str:
        """Return what was recorded in each mode, or a mark for why there is nothing."""
        modes: dict[str, list[str]] = {}
        for mode in self._modes:
            cell = Cell(style, happens, way, mode)
            reason = self._never(cell)
            if reason is None:
                said = self.labels[cell]
            else:
                if reason not in self._reasons:
                    self._reasons.append(reason)
                said = f"- ({self._reasons.index(reason) + 1})"
            modes.setdefault(said, []).append(mode)
        if len(modes) == 1:
            return next(iter(modes))
        return "; ".join(f"{', '.join(which)}: {said}" for said, which in modes.items())

    def _table(self, columns: Mapping[str, tuple[str, str]], styles: Sequence[Any]) -> str:
        """Return a table with a row for each style; *columns* gives for each title what happens and how it is left."""
        lines = ["| call | " + " | ".join(columns) + " |", "| --- |" + " --- |" * len(columns)]
        for style in styles:
            cells = [self._cell(style, happens, way) for happens, way in columns.values()]
            lines.append(f"| {', '.join(style)} | " + " | ".join(cells) + " |")
        return "\n".join(lines)

    def check(self, happens: Mapping[str, str], styles: Sequence[Any], ways: Iterable[str], about: str) -> None:
        """Check that the part of the page, up to the next mark, is what was told; rewrite it where it is not.

        Args:
            happens: what may happen, and how the page says it.
            styles: how calls are made.
            ways: how answers are left.
            about: what the ways are.
        """
        left = [name for name in happens if name not in BEFORE and name != "cancelled inside"]
        paragraphs = [
            "### The call raises",
            self._table({title: (name, "consumed") for name, title in happens.items() if name not in left}, styles),
            "### There is an answer to leave",
            about.strip(),
        ]
        for name in left:
            paragraphs += [f"#### {happens[name]}", self._table({way: (name, way) for way in ways}, styles)]
        reasons = "\n".join(f"{number}. {reason}" for number, reason in enumerate(self._reasons, 1))
        text = "\n\n".join((*paragraphs, "### What cannot be", reasons))
        page = PAGE.read_text("utf-8")
        part = re.compile(rf"(?<=<!-- {self._part} -->\n\n).*?(?=\n\n<!-- |\n\Z)", re.DOTALL)
        (before,) = part.findall(page)
        if text != before:
            PAGE.write_text(part.sub(lambda _: text, page), "utf-8")
        assert text == before, f"{PAGE.name} is rewritten: look at the difference, and commit it if it is meant"
