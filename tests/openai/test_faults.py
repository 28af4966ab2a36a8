"""A fault of ours at every place inside a call, and more answers that no server should give.

The caller gets the very thing that he gets without us. A fault is logged once and counted each time, and the call ends.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import openai
import pytest

from otel_llm import exchange, overdue
from otel_llm.bodies import body
from otel_llm.faults import counts
from otel_llm.testing import answers, capture
from otel_llm.testing.server import TRUNCATE, Reply, ScriptedServer, error, sse
from otel_llm_openai import patch
from otel_llm_openai.family import CLIENTS
from otel_llm_semconv import attributes as names
from tests import faults
from tests.crossing import Got, put_down
from tests.faults import Place
from tests.openai.styles import Style, has, run, treat

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

    run(server, mode, lambda own: put_down(got, treat(style, own, way, got.pieces)), max_retries=1)
    return got


def _accounts(mode: str, each: Callable[[], None]) -> dict[str, Any]:
    """Make a call of every kind and return the accounts of what the caller got."""
    found: dict[str, Any] = {}
    with ScriptedServer() as server:
        for kind, (form, way, replies) in KINDS.items():
            found[kind] = _made(server, mode, Style("chat", form), way, replies).account()
            each()
    return found


PLACES = faults.places(
    Place(patch, "server_of"),
    CLIENTS["openai"].spoken.usual,
    "/chat/completions",
    watch=Place(exchange, "watch"),
    whole_body=Place(body.Body, "answer"),
    retry_reason=Place(patch, "retry_reason"),
)


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("place", PLACES)
def test_a_fault_of_ours(
    quiet: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, place: str, mode: str
) -> None:
    """Wherever telemetry fails, the caller gets the same, one line is logged, each fault counts, each span ends."""
    faults.check(monkeypatch, caplog, place, PLACES[place], partial(_accounts, mode), inferences=len(KINDS))


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("at", ["start", "end"])
def test_a_processor_of_the_users_that_fails(quiet: None, at: str, mode: str) -> None:
    """What the pipeline of the application does wrong is no fault that its calls see."""
    # One call is sent twice.
    faults.check_processor(at, partial(_accounts, mode), requests=len(KINDS) + 1)


def test_an_end_put_off_that_fails(server: ScriptedServer, quiet: None) -> None:
    """What was put off and fails takes neither the call that meets it nor a collection with it."""
    with capture() as seen:
        overdue.put_off(faults.broken)
        _made(server, "sync", Style("chat", "plain"), "consumed", [])
        assert (1, 1) == (len(seen.spans), sum(counts.values()))

        overdue.put_off(faults.broken)
        (active,) = seen.points("otel_llm.client.active")
        assert (0, 2) == (active["value"], sum(counts.values()))


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
        attributes = faults.sane(seen)
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
        attributes = faults.sane(seen)
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
    for place in PLACES.values():
        place.put(monkeypatch)
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
