"""A fault of ours at every place inside a call: the caller gets the very thing that he gets without us."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from typing import Any

import ollama
import pytest

from otel_llm import exchange, faults, foreign, ledger
from otel_llm.sinks import events, metrics, spans
from otel_llm.streams import Tap
from otel_llm.testing import capture
from otel_llm.testing.server import TRUNCATE, Reply, ScriptedServer
from otel_llm.wire import body
from otel_llm.wire import ollama as wire
from otel_llm_ollama import patch
from otel_llm_semconv import attributes as names
from otel_llm_semconv import environment
from tests.ollama.styles import Got, run, settled, treat
from tests.ollama.test_coverage import line

KINDS: dict[str, tuple[str, str, list[Reply]]] = {
    "plain": ("plain", "consumed", []),
    "refused": ("plain", "consumed", [Reply(status=404, json={"error": "no"})]),
    "stream": ("stream", "consumed", []),
    "stream refused": ("stream", "consumed", [Reply(status=404, json={"error": "no"})]),
    "error": ("stream", "consumed", [Reply(chunks=[line("chat"), '{"error": "no"}\n'])]),
    "lost": ("stream", "consumed", [Reply(chunks=[line("chat"), 0.01, TRUNCATE])]),
    "closed": ("stream", "closed", []),
    "dropped": ("stream", "dropped", []),
    "copy": ("copy", "consumed", []),
}
"""Calls that come through every place: form, way out of the answer, and what the server says."""


def _accounts(mode: str, each: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Make a call of every kind and return the accounts of what the caller got."""
    found: dict[str, Any] = {}
    with ScriptedServer() as server:
        for kind, (form, way, replies) in KINDS.items():
            server.script(*replies)
            got = Got([], [])

            async def call(own: Any, form: str = form, way: str = way, got: Got = got) -> None:
                try:
                    if form == "copy":
                        got.pieces.append(await settled(own.copy("tiny", "twin")))
                    else:
                        await treat(own, "chat", form, way, got.pieces)
                except Exception as raised:
                    got.raised.append(raised)

            run(server, mode, call)
            found[kind] = got.account()
            each()
    return found


PLACES: dict[str, tuple[Any, str]] = {
    "begin of the instrumentor": (patch, "_server_of"),
    "read request": (wire.CHAT, "read_request"),
    "read request content": (wire.CHAT, "read_request_content"),
    "read answer": (wire.CHAT, "read_answer"),
    "read answer content": (wire.CHAT, "read_answer_content"),
    "read chunks": (wire.CHAT, "read_chunks"),
    "read chunks content": (wire.CHAT, "read_chunks_content"),
    "first text": (wire.CHAT, "has_text"),
    "foreign": (foreign, "may_be_near"),
    "ledger begin": (ledger.Ledger, "begin"),
    "ledger end": (ledger.Ledger, "end"),
    "span begin": (spans.Spans, "begin"),
    "span attributes": (spans, "span_attributes"),
    "span content": (spans, "_content_attributes"),
    "metrics": (metrics.Metrics, "end"),
    "events": (events.Events, "end"),
    "tap": (exchange, "Tap"),
    "end of a stream": (Tap, "_read"),
    "body": (exchange, "Body"),
    "feed": (body.Body, "feed"),
}
UNSEEN = {"begin of the instrumentor", "ledger begin", "span begin"}
"""Places before the span begins: where they fail there is none."""


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("place", PLACES)
def test_a_fault_of_ours(
    quiet: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, place: str, mode: str
) -> None:
    """Wherever telemetry fails, the caller gets the same, one line is logged, each fault counts, each span ends."""
    bare = _accounts(mode)
    hits = 0

    def broken(*args: Any, **kwargs: Any) -> Any:
        nonlocal hits
        hits += 1
        raise RuntimeError("injected")

    owner, name = PLACES[place]
    if owner is wire.CHAT:
        faulty: dict[str, Any] = {name: broken}
        monkeypatch.setitem(wire.FORMATS, "/api/chat", wire.CHAT._replace(**faulty))
    else:
        monkeypatch.setattr(owner, name, broken)
    monkeypatch.setenv(environment.OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT, "SPAN_AND_EVENT")
    caplog.set_level(logging.WARNING, "otel_llm")

    with capture() as seen:
        ended: list[int] = []
        assert bare == _accounts(mode, lambda: ended.append(len(seen.spans)))

        # A place that failed may leave another without what it needs.
        assert 0 < hits <= sum(faults.counts.values())
        logged = [record for record in caplog.records if record.name == "otel_llm"]
        assert sorted(faults.counts) == sorted(
            re.findall(r"internal fault in ([^;]+);", record.message)[0] for record in logged
        )
        assert faults.counts == {
            point["attributes"][names.OTEL_LLM_FAULT_PLACE]: point["value"]
            for point in seen.points("otel_llm.internal.faults")
        }
        assert ([0] * len(KINDS) if place in UNSEEN else list(range(1, len(KINDS) + 1))) == ended
        if place not in ("ledger begin", "ledger end"):
            assert all(point["value"] == 0 for point in seen.points("otel_llm.client.active"))
        if place not in ("metrics", "begin of the instrumentor"):
            durations = seen.points("gen_ai.client.operation.duration")
            assert len(KINDS) - 1 == sum(point["count"] for point in durations)


@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_fault_before_the_call(quiet: None, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """Where not even the exchange begins, calls and streams are whole, and nothing is left in the context."""
    bare = _accounts(mode)

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("injected")

    monkeypatch.setattr(exchange.Exchange, "begin", broken)
    with capture() as seen:
        assert bare == _accounts(mode)
        assert exchange.current_exchange.get() is None
        assert len(KINDS) == faults.counts["begin"]
        assert [] == seen.spans


@pytest.mark.parametrize("form", ["plain", "stream"])
def test_what_is_raised_is_what_was_raised(quiet: None, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    """With every sink broken, an exception of the caller's own comes out as the very same object."""

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("injected")

    for owner, name in PLACES.values():
        if owner is not wire.CHAT:
            monkeypatch.setattr(owner, name, broken)
    mine = KeyboardInterrupt("now")

    def hook(request: Any) -> Any:
        raise mine

    own: Any = ollama.Client(host="http://127.0.0.1:9", event_hooks={"request": [hook]})
    made: Any = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
    with capture(), own._client, pytest.raises(KeyboardInterrupt) as raised:
        list(own.chat(**made, stream=form == "stream"))

    assert raised.value is mine
    assert raised.value.__context__ is None
