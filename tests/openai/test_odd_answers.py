"""Answers that no server should give, hooks, and ends that are put off: the caller gets what he gets without us."""

from __future__ import annotations

import gc
import json
from typing import Any

import openai
import pytest

import otel_llm
from otel_llm.testing import Seen, capture
from otel_llm.testing.server import Reply, ScriptedServer, sse
from otel_llm_semconv import attributes as names
from tests.openai.styles import ASK, client, run_async

WHOLE: dict[str, Any] = {
    "id": "1",
    "object": "chat.completion",
    "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "x"}}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8},
}

ODD: dict[str, dict[str, Any]] = {
    "choices weird": {"choices": ["weird"]},
    "choices null": {"choices": None},
    "choices number": {"choices": 7},
    "choice null": {"choices": [None]},
    "message null": {"choices": [{"index": 0, "message": None}]},
    "usage null": {"usage": None},
    "usage string": {"usage": "many"},
    "usage empty": {"usage": {}},
    "usage partial": {"usage": {"prompt_tokens": 5}},
    "usage strings": {"usage": {"prompt_tokens": "5", "completion_tokens": "3"}},
    "usage negative": {"usage": {"prompt_tokens": -5, "completion_tokens": -3}},
    "usage huge": {"usage": {"prompt_tokens": 10**30, "completion_tokens": 10**30}},
    "usage details odd": {"usage": {"prompt_tokens": 5, "prompt_tokens_details": "x", "completion_tokens_details": []}},
    "id list": {"id": ["1", "2"]},
    "model number": {"model": 7},
    "everything null": {"id": None, "model": None, "choices": None, "usage": None},
    "finish reason number": {"choices": [{"index": 0, "finish_reason": 7, "message": {"content": "x"}}]},
}


def _plain(server: ScriptedServer, reply: Reply) -> Any:
    server.script(reply)
    return client(server).chat.completions.create(model="gpt-5", messages=ASK)


@pytest.mark.parametrize("case", ODD)
def test_odd_answer(server: ScriptedServer, case: str) -> None:
    """An odd answer reaches the caller as it would without us, and gives one span without guesses."""
    reply = Reply(json={**WHOLE, **ODD[case]})
    bare = _plain(server, reply)

    with capture() as seen:
        result = _plain(server, reply)

        assert bare.model_dump(warnings=False) == result.model_dump(warnings=False)
        (span,) = seen.spans
        assert "unset" == span["status"]
        told = {
            name: span["attributes"].get(name)
            for name in (names.GEN_AI_USAGE_INPUT_TOKENS, names.GEN_AI_USAGE_OUTPUT_TOKENS)
        }
        expected = {"usage partial": (5, None), "usage details odd": (5, None)}.get(
            case, (None, None) if case.startswith(("usage", "everything")) else (5, 3)
        )
        assert expected == tuple(told.values())
        assert len([tokens for tokens in expected if tokens is not None]) == len(
            seen.points("gen_ai.client.token.usage")
        )


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize(
    "event",
    [
        {"choices": None},
        {"choices": ["weird"]},
        {"choices": [{"index": 0, "delta": None}]},
        {"choices": [{"index": None, "delta": {"tool_calls": [{"index": None, "function": {"name": "f"}}]}}]},
        {"usage": "many", "choices": []},
        {"id": [1], "model": None, "choices": 7},
        [],
        7,
        None,
    ],
    ids=str,
)
def test_odd_chunk(server: ScriptedServer, event: Any, mode: str) -> None:
    """An odd chunk passes to the reader as it would without us; the stream ends as one call."""
    reply = sse(json.dumps(event), {**WHOLE, "choices": []})

    def read() -> list[Any]:
        server.script(reply)
        if mode == "sync":
            stream = client(server).chat.completions.create(model="gpt-5", messages=ASK, stream=True)
            return [repr(chunk) for chunk in stream]

        async def main(own: Any) -> list[Any]:
            stream = await own.chat.completions.create(model="gpt-5", messages=ASK, stream=True)
            return [repr(chunk) async for chunk in stream]

        result: list[Any] = run_async(main, server)
        return result

    try:
        bare: Any = read()
    except Exception as error:
        bare = type(error)
    with capture() as seen:
        try:
            got: Any = read()
        except Exception as error:
            got = type(error)

        assert bare == got
        assert 1 == len(seen.spans)


@pytest.mark.parametrize(
    "reply",
    [
        Reply(body=b"{not json", headers={"content-type": "application/json"}),
        Reply(body=b"", headers={"content-type": "application/json"}),
        Reply(body=b"<html>", headers={"content-type": "text/html"}),
        Reply(body=b'"just a string"', headers={"content-type": "application/json"}),
        Reply(body=b"[]", headers={"content-type": "application/json"}),
        Reply(body=b"\xff\xfe", headers={"content-type": "application/json"}),
    ],
    ids=["bad json", "empty", "html", "string", "list", "bytes"],
)
@pytest.mark.parametrize("raw", [False, True])
def test_no_answer_at_all(server: ScriptedServer, quiet: None, reply: Reply, raw: bool) -> None:
    """A body that is no answer gives what the bare client gives, and one span."""

    def call() -> Any:
        server.script(reply)
        own = client(server).chat.completions
        made: Any = own.with_raw_response if raw else own
        try:
            result: Any = made.create(model="gpt-5", messages=ASK)
        except Exception as error:
            return type(error), str(error)
        return result.http_response.content if raw else (type(result), repr(result))

    bare = call()
    with capture() as seen:
        assert bare == call()
        assert 1 == len(seen.spans)


def test_an_abandoned_stream_collected_inside_telemetry(server: ScriptedServer, seen: Seen) -> None:
    """A stream that the collector finds while the SDK holds its locks is ended a little later, not there."""
    from opentelemetry.sdk.trace import SpanProcessor

    class Collecting(SpanProcessor):
        def on_end(self, span: Any) -> None:
            gc.collect()

    stream = client(server).chat.completions.create(model="gpt-5", messages=ASK, stream=True)
    next(stream)
    cycle: list[Any] = [stream]
    cycle.append(cycle)
    del stream, cycle
    gc.disable()
    try:
        seen.tracer_provider.add_span_processor(Collecting())
        seen.tracer_provider.get_tracer("application").start_span("x").end()
    finally:
        gc.enable()

    assert [] == seen.spans
    client(server).chat.completions.create(model="gpt-5", messages=ASK)
    assert [None, "abandoned"] == sorted(
        (span["attributes"].get(names.OTEL_LLM_STREAM_OUTCOME) for span in seen.spans), key=str, reverse=False
    )


def test_hooks(server: ScriptedServer, quiet: None) -> None:
    """A `call_hook` may add attributes and drop calls; one that fails changes nothing."""

    def hook(call: otel_llm.Call) -> None:
        call.attributes["my.attribute"] = call.operation
        if call.request_model == "secret":
            call.drop()
        if call.request_model == "odd":
            raise RuntimeError("injected")

    with capture(call_hook=hook) as seen:
        for model in ("plain", "secret", "odd"):
            client(server).chat.completions.create(model=model, messages=ASK)

        assert [("plain", "chat"), ("odd", "chat")] == [
            (span["attributes"][names.GEN_AI_REQUEST_MODEL], span["attributes"]["my.attribute"]) for span in seen.spans
        ]
        (active, *_) = seen.points("otel_llm.client.active")
        assert 0 == active["value"]
        assert 2 == sum(point["count"] for point in seen.points("gen_ai.client.operation.duration"))


def test_errors_are_the_same_objects(server: ScriptedServer, seen: Seen) -> None:
    """What the client raises is what the caller catches, with nothing chained to it."""
    server.script(Reply(status=400, json={"error": {"message": "no"}}))

    with pytest.raises(openai.BadRequestError) as raised:
        client(server).chat.completions.create(model="gpt-5", messages=ASK)

    assert raised.value.__context__ is None or not isinstance(raised.value.__context__, AttributeError)
    assert {"message": "no"} == raised.value.body


def test_an_overdue_stream_is_ended_by_a_scrape(server: ScriptedServer) -> None:
    """What was put off is done when metrics are collected, though no other call comes."""
    from otel_llm import overdue

    with capture() as seen:
        stream = client(server).chat.completions.create(model="gpt-5", messages=ASK, stream=True)
        next(stream)
        tap = stream.response.stream.tap
        call, tap._call = tap._call, None
        overdue.put_off(lambda: tap._finish(call, "abandoned", None, call.started_at + 1.0))

        (point,) = seen.points("otel_llm.client.active")
        assert 0 == point["value"]
        assert "abandoned" == seen.spans[0]["attributes"][names.OTEL_LLM_STREAM_OUTCOME]
