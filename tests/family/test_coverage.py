"""Every call style of every client, with whatever happens to it and however it is left, sync and async."""

from __future__ import annotations

from typing import Any

import pytest

from otel_llm.errors import error_type
from otel_llm.testing import capture
from otel_llm.testing.server import ScriptedServer, sse
from otel_llm_semconv import attributes as names
from otel_llm_semconv import metrics
from tests import crossing
from tests.crossing import CANCELLED, Cell, Got, cancel, put_down, scripted
from tests.family.clients import CLIENTS, HERE, STYLES, Style, run
from tests.openai.styles import WAYS, treat

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
MODES = ("sync", "async")

pytestmark = pytest.mark.skipif(not HERE, reason="none of the clients is installed; see tests/matrix.py")


def _is_possible(cell: Cell) -> bool:
    """Return whether there can be such a call, and it is not the same as another one."""
    style: Style = cell.style
    if cell.mode == "sync" and cell.happens in CANCELLED:
        return False
    if cell.way != "consumed" and (cell.happens != "answered" or not style.streams):
        return False
    if style.form == "streaming response, bytes" and (cell.way == "closed" or cell.happens != "answered"):
        return False
    return not (cell.way == "broken" and style.form.startswith(("streaming response", "helper")))


CELLS = [
    cell
    for style in STYLES
    for happens in HAPPENS
    for way in WAYS
    for mode in MODES
    if _is_possible(cell := Cell(style, happens, way, mode))
]


ENDS = {**crossing.ENDS, "odd body": "event: message_delta\ndata: {no json\n\n"}


def _made(cell: Cell, server: ScriptedServer) -> Got:
    """Make the call of a cell and return what the caller gets."""
    style: Style = cell.style
    early = sse(*style.answer[:EARLY], done=False) if style.streams else None
    server.script(*scripted(cell.happens, early, ENDS))
    got = Got([], [])
    # A ping may be among the events.
    wanted = EARLY - 1 if style.streams and cell.happens == "cancelled inside" else 0

    def call(own: Any) -> Any:
        treating = treat(style, own, cell.way, got.pieces)  # type: ignore[arg-type]  # it has what is needed
        if cell.happens not in CANCELLED:
            return put_down(got, treating)
        return cancel(got, treating, lambda: bool(server.requests) and len(got.pieces) >= wanted)

    run(style.client, server, cell.mode, call)
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
