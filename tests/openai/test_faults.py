"""A fault of ours at every place inside a call, and more answers that no server should give.

The caller gets the very thing that he gets without us. A fault is logged once and counted each time, and the call ends.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import math
import re
from collections.abc import Callable
from typing import Any

import openai
import pytest
from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.sdk.trace import SpanProcessor

from otel_llm import exchange, faults, foreign, ledger, overdue
from otel_llm.sinks import events, metrics, spans
from otel_llm.testing import Seen, answers, capture
from otel_llm.testing.server import TRUNCATE, Reply, ScriptedServer, error, sse
from otel_llm.wire import body
from otel_llm.wire import openai as wire
from otel_llm_openai import patch
from otel_llm_semconv import attributes as names
from tests.openai.styles import Got, Style, aclient, client, finish, has, treat

SOON = {"retry-after-ms": "1"}
CHUNK: dict[str, Any] = {"id": "1", "model": "m", "choices": [{"index": 0, "delta": {"content": "x"}}]}
KINDS: dict[str, tuple[str, str, list[Reply]]] = {
    "plain": ("plain", "consumed", []),
    "raw": ("raw", "consumed", []),
    "body": ("streaming response", "consumed", []),
    "stream": ("stream", "consumed", []),
    "bytes": ("streaming response, bytes", "consumed", []),
    "raw stream": ("raw, streamed", "consumed", []),
    "retried": ("plain", "consumed", [error(429, headers=SOON)]),
    "refused": ("plain", "consumed", [error(400, message="no")]),
    "lost": ("stream", "consumed", [sse(CHUNK, TRUNCATE, done=False)]),
    "closed": ("stream", "closed", []),
    "dropped": ("stream", "dropped", []),
    "never read": ("stream", "never read", []),
}
"""Calls that come through every place: form, way out of the answer, and what the server says first."""


def _made(server: ScriptedServer, mode: str, style: Style, way: str, replies: list[Reply]) -> Got:
    """Make one call and return what the caller gets."""
    server.script(*replies)
    got = Got([], [])

    async def call(own: Any) -> None:
        try:
            await treat(style, own, way, got.pieces)
        except Exception as raised:
            got.raised.append(raised)

    async def main() -> None:
        async with aclient(server, max_retries=1) as own:
            await call(own)
            gc.collect()
            await asyncio.sleep(0)

    if mode == "sync":
        own = client(server, max_retries=1)
        finish(call(own))
        gc.collect()
        own.close()
    else:
        asyncio.run(main())
    gc.collect()
    return got


def _accounts(mode: str, each: Callable[[], None] = lambda: None) -> dict[str, Any]:
    """Make a call of every kind and return the accounts of what the caller got."""
    found: dict[str, Any] = {}
    with ScriptedServer() as server:
        for kind, (form, way, replies) in KINDS.items():
            found[kind] = _made(server, mode, Style("chat", form), way, replies).account()
            each()
    return found


PLACES: dict[str, tuple[Any, str]] = {
    "begin of the instrumentor": (patch, "server_of"),
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
    "body": (exchange, "Body"),
    "feed": (body.Body, "feed"),
    "whole body": (body.Body, "answer"),
    "watch": (exchange, "watch"),
    "request id": (exchange, "read_request_id"),
    "retry reason": (patch, "retry_reason"),
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
        monkeypatch.setitem(wire.FORMATS, "/chat/completions", wire.CHAT._replace(**faulty))
    else:
        monkeypatch.setattr(owner, name, broken)
    monkeypatch.setenv("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "SPAN_AND_EVENT")
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
            assert len(KINDS) == sum(point["count"] for point in durations)


class _Broken(SpanProcessor):
    """A processor of the user's that fails."""

    def __init__(self, at: str) -> None:
        self._at = at

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self._fail("start")

    def on_end(self, span: Any) -> None:
        self._fail("end")

    def _fail(self, at: str) -> None:
        if at == self._at:
            raise RuntimeError("injected")


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("at", ["start", "end"])
def test_a_processor_of_the_users_that_fails(quiet: None, at: str, mode: str) -> None:
    """What the pipeline of the application does wrong is no fault that its calls see."""
    bare = _accounts(mode)

    with capture() as seen:
        seen.tracer_provider.add_span_processor(_Broken(at))
        assert bare == _accounts(mode)

        # One call is sent twice.
        assert {"begin" if at == "start" else "spans": len(KINDS), "http": len(KINDS) + 1} == faults.counts
        assert all(point["value"] == 0 for point in seen.points("otel_llm.client.active"))


def test_an_end_put_off_that_fails(server: ScriptedServer, quiet: None) -> None:
    """What was put off and fails takes neither the call that meets it nor a collection with it."""

    def broken() -> None:
        raise RuntimeError("injected")

    with capture() as seen:
        overdue.put_off(broken)
        _made(server, "sync", Style("chat", "plain"), "consumed", [])
        assert (1, 1) == (len(seen.spans), sum(faults.counts.values()))

        overdue.put_off(broken)
        (active,) = seen.points("otel_llm.client.active")
        assert (0, 2) == (active["value"], sum(faults.counts.values()))


BIG = "x" * 10_000_000
WHOLE: dict[str, dict[str, Any]] = {
    api: answers.answer("POST", path, Style(api, "plain").asked, 1)  # type: ignore[misc]  # a request that is answered
    for api, path in {
        "chat": "/chat/completions",
        "responses": "/responses",
        "completions": "/completions",
        "embeddings": "/embeddings",
    }.items()
}
ODD_USAGE: dict[str, Any] = {
    "null": None,
    "text": "many",
    "list": [1],
    "texts": {"prompt_tokens": "5", "completion_tokens": "3", "input_tokens": "5", "output_tokens": "3"},
    "negative": {"prompt_tokens": -5, "completion_tokens": -3, "input_tokens": -5, "output_tokens": -3},
    "huge": {"prompt_tokens": 10**30, "completion_tokens": 10**30, "input_tokens": 10**30, "output_tokens": 10**30},
    "booleans": {"prompt_tokens": True, "completion_tokens": False, "input_tokens": True, "output_tokens": False},
    "fractions": {"prompt_tokens": 1.5, "completion_tokens": 0.5, "input_tokens": 1.5, "output_tokens": 0.5},
}
"""Usage that tells nothing."""


def _json(body: Any, kind: str = "application/json") -> Reply:
    return Reply(body=json.dumps(body).encode(), headers={"content-type": kind})


ODD: dict[str, tuple[str, Reply]] = {
    **{
        f"{api}, usage {what}": (api, _json({**WHOLE[api], "usage": usage}))
        for api in ("responses", "completions", "embeddings")
        for what, usage in ODD_USAGE.items()
    },
    "chat, usage booleans": ("chat", _json({**WHOLE["chat"], "usage": ODD_USAGE["booleans"]})),
    "chat, choices missing": (
        "chat",
        _json({name: value for name, value in WHOLE["chat"].items() if name != "choices"}),
    ),
    "chat, usage missing": ("chat", _json({name: value for name, value in WHOLE["chat"].items() if name != "usage"})),
    "responses, output null": ("responses", _json({**WHOLE["responses"], "output": None})),
    "responses, output weird": ("responses", _json({**WHOLE["responses"], "output": ["weird", None, 7]})),
    "responses, status weird": ("responses", _json({**WHOLE["responses"], "status": ["weird"]})),
    "responses, failed without error": ("responses", _json({**WHOLE["responses"], "status": "failed", "error": "x"})),
    "responses, ids are lists": ("responses", _json({**WHOLE["responses"], "id": ["1"], "conversation": {"id": [1]}})),
    "completions, choices weird": ("completions", _json({**WHOLE["completions"], "choices": ["weird"]})),
    "embeddings, data null": ("embeddings", _json({**WHOLE["embeddings"], "data": None})),
    "embeddings, data weird": ("embeddings", _json({**WHOLE["embeddings"], "data": ["weird"]})),
    "embeddings, model list": ("embeddings", _json({**WHOLE["embeddings"], "model": ["m"]})),
    "chat, 10 MB": ("chat", _json({**WHOLE["chat"], "system_fingerprint": BIG})),
    "chat, says it is a stream": ("chat", _json(WHOLE["chat"], "text/event-stream")),
    "chat, says it is html": ("chat", _json(WHOLE["chat"], "text/html")),
    "chat, is a stream": ("chat", Reply(body=b"data: {}\n\n", headers={"content-type": "application/json"})),
    "chat, says it is gzip": ("chat", Reply(body=b"{}", headers={"content-encoding": "gzip"})),
    "chat, headers weird": (
        "chat",
        Reply(json=WHOLE["chat"], headers={"x-ratelimit-limit-requests": "\xb2", "x-request-id": "\xff"}),
    ),
}
"""Whole answers that are odd."""
NO_TOKENS = ("usage null", "usage text", "usage list", "negative", "huge", "booleans", "fractions", "missing")


def _sane(seen: Seen) -> dict[str, Any]:
    """Check what holds for each record, whatever was answered, and return the attributes of the one span."""
    (span,) = seen.spans
    assert encode_spans(seen._spans.get_finished_spans()).SerializeToString()
    attributes: dict[str, Any] = span["attributes"]
    for name, value in attributes.items():
        if name.startswith("gen_ai.usage."):
            assert type(value) is int
            assert 0 <= value < 1 << 63
        if type(value) is str:
            assert len(value) <= 1024 or name == names.OPENAI_RESPONSE_SYSTEM_FINGERPRINT
    for point in seen.metrics:
        assert all(math.isfinite(point[key]) for key in ("value", "sum") if key in point)
        assert all(type(value) in (str, int, bool) for value in point["attributes"].values())
    (active,) = seen.points("otel_llm.client.active")
    assert 0 == active["value"]
    assert (names.ERROR_TYPE in attributes) == (span["status"] == "error")
    return attributes


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("form", ["plain", "raw", "streaming response"])
@pytest.mark.parametrize("case", ODD)
def test_odd_answer(case: str, form: str, mode: str) -> None:
    """An odd answer is what it is without us, and leaves a record without guesses."""
    api, reply = ODD[case]
    style = Style(api, form)
    if not has(style.needs):
        pytest.skip(f"this client has no {style.needs}")
    with ScriptedServer() as server:
        bare = _made(server, mode, style, "consumed", [reply, reply])

    with ScriptedServer() as server, capture() as seen:
        got = _made(server, mode, style, "consumed", [reply, reply])

        assert bare.account() == got.account()
        attributes = _sane(seen)
        if any(word in case for word in NO_TOKENS) and "choices" not in case:
            assert not [name for name in attributes if name.startswith("gen_ai.usage.")]
            assert [] == seen.points("gen_ai.client.token.usage") == seen.points("otel_llm.client.tokens")
        if case == "chat, 10 MB":
            assert 6 == attributes[names.GEN_AI_USAGE_INPUT_TOKENS]


def _events(*texts: str) -> Reply:
    """Return a stream of these very texts, in one piece each."""
    return Reply(chunks=list(texts), headers={"content-type": "text/event-stream"})


def _data(value: Any) -> str:
    return f"data: {json.dumps(value)}\n\n"


_MADE: Any = {
    "type": "response.created",
    "sequence_number": 0,
    "response": {"id": "resp_1", "model": "m", "output": []},
}
ODD_STREAMS: dict[str, tuple[str, Reply]] = {
    **{
        f"usage {what}": ("chat", sse(CHUNK, {**CHUNK, "choices": [], "usage": usage}))
        for what, usage in ODD_USAGE.items()
    },
    "usage in every chunk": (
        "chat",
        sse(*[{**CHUNK, "usage": {"prompt_tokens": 5, "completion_tokens": n}} for n in (1, 2)]),
    ),
    "usage partial": ("chat", sse(CHUNK, {**CHUNK, "usage": {"prompt_tokens": 5}})),
    "choices missing": ("chat", sse({"id": "1"}, CHUNK)),
    "ids are lists": ("chat", sse({**CHUNK, "id": ["1"], "model": ["m"], "system_fingerprint": [1]})),
    "index weird": ("chat", sse({**CHUNK, "choices": [{"index": 10**30, "delta": {}}, {"index": "x", "delta": 7}]})),
    "no events": ("chat", _events("")),
    "only done": ("chat", _events("data: [DONE]\n\n")),
    "no done": ("chat", _events(_data(CHUNK))),
    "no empty line at the end": ("chat", _events(_data(CHUNK), _data(CHUNK).rstrip())),
    "cut in the middle of an event": ("chat", _events(_data(CHUNK), _data(CHUNK)[:20])),
    "more after done": ("chat", _events(_data(CHUNK), "data: [DONE]\n\n", _data({**CHUNK, "id": "2"}))),
    "two events in one piece": ("chat", _events(_data(CHUNK) * 2 + "data: [DONE]\n\n")),
    "comments and retries": ("chat", _events(": ping\n\n", "retry: 5\n\n", ":\n" + _data(CHUNK), "data: [DONE]\n\n")),
    "an event of 10 MB": ("chat", _events(_data({**CHUNK, "x": BIG}), _data(CHUNK))),
    "an error that is a text": ("chat", sse(CHUNK, {"error": "overloaded"}, done=False)),
    "an error that is a list": ("chat", sse(CHUNK, {"error": [1]}, done=False)),
    "says it is JSON": ("chat", Reply(body=_data(CHUNK).encode(), headers={"content-type": "application/json"})),
    "is JSON": ("chat", _json(WHOLE["chat"])),
    "is JSON, says it is a stream": ("chat", _json(WHOLE["chat"], "text/event-stream")),
    "is html": ("chat", Reply(body=b"<html>", headers={"content-type": "text/html"})),
    "response null": (
        "responses",
        sse({**_MADE, "response": None}, {**_MADE, "type": "response.completed", "response": None}),
    ),
    "response weird": ("responses", sse(_MADE, {**_MADE, "type": "response.completed", "response": "weird"})),
    "type is a list": ("responses", sse({**_MADE, "type": "x"}, '{"type": ["weird"], "sequence_number": 1}')),
    "type weird": ("responses", sse({**_MADE, "type": "response.weird"})),
    "an error event": ("responses", sse(_MADE, {"type": "error", "sequence_number": 1, "code": 7, "message": ["x"]})),
}
"""Streams that are odd."""


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("form", ["stream", "raw, streamed", "streaming response, bytes"])
@pytest.mark.parametrize("case", ODD_STREAMS)
def test_odd_stream(case: str, form: str, mode: str) -> None:
    """An odd stream is what it is without us, and leaves a record without guesses."""
    api, reply = ODD_STREAMS[case]
    style = Style(api, form)
    if not has(style.needs):
        pytest.skip(f"this client has no {style.needs}")
    # How bytes come is the network's business; what they are is not.
    whole = form.endswith("bytes")
    with ScriptedServer() as server:
        bare = _made(server, mode, style, "consumed", [reply])

    with ScriptedServer() as server, capture() as seen:
        got = _made(server, mode, style, "consumed", [reply])

        if whole:
            assert b"".join(bare.pieces) == b"".join(got.pieces)
        else:
            assert bare.account() == got.account()
        attributes = _sane(seen)
        if any(word in case for word in NO_TOKENS):
            assert not [name for name in attributes if name.startswith("gen_ai.usage.")]
        if case == "usage partial":
            assert (5, None) == (
                attributes.get(names.GEN_AI_USAGE_INPUT_TOKENS),
                attributes.get(names.GEN_AI_USAGE_OUTPUT_TOKENS),
            )
        if case == "usage in every chunk":
            assert 2 == attributes[names.GEN_AI_USAGE_OUTPUT_TOKENS]
        if case == "more after done":
            assert "1" == attributes[names.GEN_AI_RESPONSE_ID]


def test_what_is_raised_is_what_was_raised(quiet: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every sink broken, an exception of the caller's own transport comes out as the very same object."""

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("injected")

    for owner, name in PLACES.values():
        if owner is not wire.CHAT:
            monkeypatch.setattr(owner, name, broken)
    mine = KeyboardInterrupt("now")

    def respond(request: Any) -> Any:
        raise mine

    library: Any = __import__(openai.DefaultHttpxClient.__mro__[1].__module__.partition(".")[0])
    http = library.Client(transport=library.MockTransport(respond))
    own = openai.OpenAI(base_url="http://test/v1", api_key="test", http_client=http)
    with capture(), own, pytest.raises(KeyboardInterrupt) as raised:
        Style("chat", "plain").make(own)

    assert raised.value is mine
    assert raised.value.__context__ is None
