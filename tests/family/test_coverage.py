"""Every call style of every client, with whatever happens to it and however it is left, sync and async."""

from __future__ import annotations

import asyncio
import gc
import json
from typing import Any, NamedTuple

import pytest

from otel_llm.errors import error_type
from otel_llm.testing import capture
from otel_llm.testing.server import DROP, STALL, TRUNCATE, Reply, ScriptedServer, error, sse
from otel_llm_semconv import attributes as names
from otel_llm_semconv import metrics
from tests.family.clients import CLIENTS, HERE, STYLES, Style, run_async
from tests.openai.styles import Got, finish, treat

EARLY = 4
"""Events that come before something happens inside a stream."""
HAPPENS = (
    "answered",
    "status 400",
    "status 503",
    "no answer",
    "lost",
    "odd body",
    "cancelled before",
    "cancelled inside",
)
WAYS = ("consumed", "closed", "broken", "dropped", "never read")
MODES = ("sync", "async")

pytestmark = pytest.mark.skipif(not HERE, reason="none of the clients is installed; see tests/matrix.py")


class Cell(NamedTuple):
    """One call."""

    style: Style
    happens: str
    way: str
    mode: str

    @property
    def is_possible(self) -> bool:
        """Whether there can be such a call, and it is not the same as another one."""
        if self.happens.startswith("cancelled") and self.mode == "sync":
            return False
        if self.way != "consumed" and (self.happens != "answered" or not self.style.streams):
            return False
        if self.style.form == "streaming response, bytes" and (self.way == "closed" or self.happens != "answered"):
            return False
        return not (self.way == "broken" and self.style.form.startswith(("streaming response", "helper")))

    def __repr__(self) -> str:
        return "-".join((*self.style, self.happens, self.way, self.mode)).replace(", ", "-").replace(" ", "-")


CELLS = [
    cell
    for style in STYLES
    for happens in HAPPENS
    for way in WAYS
    for mode in MODES
    if (cell := Cell(style, happens, way, mode)).is_possible
]


def _scripted(style: Style, happens: str) -> Reply | None:
    """Return the answer that makes it happen, or None for the server's own."""
    if happens.startswith("status"):
        return error(int(happens[-3:]), message="no")
    if happens == "no answer":
        return DROP
    if happens == "cancelled before":
        return Reply(delay=30)
    if happens == "answered":
        return None
    if style.streams:
        then: Any = {"lost": TRUNCATE, "cancelled inside": STALL, "odd body": {"type": "message_delta", "delta": 1}}
        events = style.answer[:EARLY]
        if happens == "odd body":
            return Reply(
                chunks=[*(sse(*events, done=False).chunks or ()), "event: message_delta\ndata: {no json\n\n"],
                headers={"content-type": "text/event-stream"},
            )
        return sse(*events, then[happens], done=False)
    headers = {"content-type": "application/json"}
    if happens == "odd body":
        return Reply(body=b"{no json", headers=headers)
    half = json.dumps({"id": 1})[:5]
    return Reply(chunks=[half, TRUNCATE if happens == "lost" else STALL], headers=headers)


def _made(cell: Cell, server: ScriptedServer) -> Got:
    """Make the call of a cell and return what the caller gets."""
    reply = _scripted(cell.style, cell.happens)
    if reply is not None:
        server.script(reply)
    got = Got([], [])

    async def call(own: Any) -> None:
        try:
            await treat(cell.style, own, cell.way, got.pieces)  # type: ignore[arg-type]  # it has what is needed
        except Exception as raised:
            got.raised.append(raised)

    async def cancelled(own: Any) -> None:
        task = asyncio.create_task(call(own))
        wanted = (
            EARLY - 1 if cell.style.streams and cell.happens == "cancelled inside" else 0
        )  # a ping may be among them
        while not task.done() and (not server.requests or len(got.pieces) < wanted):  # noqa: ASYNC110  # the server is in another thread
            await asyncio.sleep(0.002)
        await asyncio.sleep(0.02)
        task.cancel()
        try:
            await task
        except asyncio.CancelledError as raised:
            got.raised.append(raised)

    if cell.mode == "sync":
        with CLIENTS[cell.style.client].sync(server) as own:
            finish(call(own))
            gc.collect()
    else:
        run_async(cell.style.client, cancelled if cell.happens.startswith("cancelled") else call, server)
    return got


def _outcome(cell: Cell) -> str | None:
    if not cell.style.streams:
        return None
    if cell.way == "never read":
        return "abandoned" if cell.style.form in ("stream", "raw, streamed") else "closed"
    return {"consumed": "completed", "dropped": "abandoned"}.get(cell.way, "closed")


@pytest.mark.filterwarnings("ignore:The model:DeprecationWarning")
@pytest.mark.parametrize("cell", CELLS, ids=repr)
def test_cell(cell: Cell) -> None:
    """The caller gets what he gets without us; there is one whole span under its parent, and whole points."""
    with ScriptedServer() as server:
        bare = _made(cell, server)

    with ScriptedServer() as server, capture() as seen:
        with seen.tracer_provider.get_tracer("application").start_as_current_span("parent") as parent:
            got = _made(cell, server)

        assert bare.account() == got.account()
        assert 1 == len(server.requests)
        theirs = [span for span in seen.all_spans if names.GEN_AI_PROVIDER_NAME in span["attributes"]]
        (span,) = theirs
        assert seen.spans == theirs
        assert parent.get_span_context().span_id == span["parent_id"]
        operation = "text_completion" if cell.style.api == "completions" else "chat"
        assert (f"{operation} llama", "client") == (span["name"], span["kind"])
        attributes = span["attributes"]
        assert CLIENTS[cell.style.client].provider == attributes[names.GEN_AI_PROVIDER_NAME]
        assert ("127.0.0.1", server.port) == (attributes[names.SERVER_ADDRESS], attributes[names.SERVER_PORT])

        # What `parse()` raises in the caller's hands comes after the call.
        late = cell.style.form == "raw" and cell.happens == "odd body"
        failed = error_type(got.raised[0]) if got.raised and not late else None
        assert failed == attributes.get(names.ERROR_TYPE)
        assert ("error" if failed else "unset") == span["status"]
        if not failed:
            assert _outcome(cell) == attributes.get(names.OTEL_LLM_STREAM_OUTCOME)

        whole = cell.happens == "answered" and cell.way == "consumed"
        tells = cell.style.client != "anthropic" or cell.style.api == "messages"
        assert (whole and tells) == (names.GEN_AI_USAGE_OUTPUT_TOKENS in attributes)
        if whole:
            assert ("stop",) == attributes[names.GEN_AI_RESPONSE_FINISH_REASONS]
            assert (
                attributes[names.GEN_AI_RESPONSE_ID].endswith("_00000001")
                or "-" in attributes[names.GEN_AI_RESPONSE_ID]
            )
            if cell.style.streams and cell.style.form not in ("streaming response, bytes", "helper"):
                assert cell.style.read == attributes[names.OTEL_LLM_STREAM_CHUNKS]

        (duration,) = seen.points(metrics.GEN_AI_CLIENT_OPERATION_DURATION.name)
        assert (1, failed) == (duration["count"], duration["attributes"].get(names.ERROR_TYPE))
        assert [0] == [point["value"] for point in seen.points(metrics.OTEL_LLM_CLIENT_ACTIVE.name)]
        counted = {
            point["attributes"][names.OTEL_LLM_TOKEN_KIND]: point["value"]
            for point in seen.points(metrics.OTEL_LLM_CLIENT_TOKENS.name)
        }
        for kind, name in (("input", names.GEN_AI_USAGE_INPUT_TOKENS), ("output", names.GEN_AI_USAGE_OUTPUT_TOKENS)):
            assert counted.get(kind) == attributes.get(name)
