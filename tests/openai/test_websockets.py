"""Responses over websockets, realtime and not, sync and async: one whole record each."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import threading
from typing import Any

import pytest
from opentelemetry.instrumentation.utils import suppress_instrumentation

from otel_llm.testing import Seen, capture
from otel_llm_openai import OpenAIInstrumentor
from otel_llm_semconv import attributes as names

pytest.importorskip("websockets")


from tests.openai import websocket_server as ws
from tests.openai.websocket_server import (
    Caller,
    Event,
    SocketServer,
    answering,
    ask,
    both,
    create,
    events_of,
    every,
    last_of,
    realtime_only,
    responses_only,
    run,
)

READERS = ["recv", "recv_bytes", "iteration", "dispatch"]


async def read(caller: Caller, reader: str, last: str) -> list[str]:
    """Read to the last event of a response and return the types of all."""
    kinds: list[str] = []
    if reader == "recv":
        kinds = [event.type for event in await caller.until(last)]
    elif reader == "recv_bytes":
        while last not in kinds:
            data = await caller.recv_bytes()
            assert isinstance(data, bytes)
            kinds.append(caller.connection.parse_event(data).type)
    elif reader == "iteration":
        async for event in caller.events():
            kinds.append(event.type)
            if event.type == last:
                break
    else:

        class Enough(Exception):
            pass

        def note(event: Any) -> None:
            kinds.append(event.type)
            if event.type == last:
                raise Enough

        caller.connection.on("event", note)
        with pytest.raises(Enough):
            await caller.dispatch_events()
    return kinds


@both
@every
@pytest.mark.parametrize("reader", READERS)
def test_response(sockets: SocketServer, seen: Seen, api: str, mode: str, reader: str) -> None:
    """A response is one span and one point of each metric, under the caller's span, however its events are read."""
    first, *rest = events_of(api)
    answering(sockets, 0.03, first, *rest)

    async def scenario(caller: Caller) -> list[str] | None:
        if reader == "dispatch" and not hasattr(caller.connection, "dispatch_events"):
            return None
        with seen.tracer_provider.get_tracer("test").start_as_current_span("caller"):
            await caller.send(create(api))
        return await read(caller, reader, last_of(api))

    kinds = run(scenario, sockets, api, mode)
    if kinds is None:
        pytest.skip("this client has no dispatch_events")

    assert [event["type"] for event in (first, *rest) if event["type"] != "rate_limits.updated"] == [
        kind for kind in kinds if kind != "session.created"
    ]
    (span,) = seen.spans
    (parent,) = (span for span in seen.all_spans if span["name"] == "caller")
    assert parent["span_id"] == span["parent_id"]
    assert ("client", "unset") == (span["kind"], span["status"])
    attributes = span["attributes"]
    expected: dict[str, Any] = {
        names.GEN_AI_PROVIDER_NAME: "openai",
        names.SERVER_ADDRESS: "127.0.0.1",
        names.SERVER_PORT: sockets.port,
        names.GEN_AI_REQUEST_STREAM: True,
        names.GEN_AI_RESPONSE_ID: "resp_1",
        names.GEN_AI_RESPONSE_FINISH_REASONS: ("stop",),
        names.GEN_AI_USAGE_INPUT_TOKENS: 18,
        names.GEN_AI_USAGE_OUTPUT_TOKENS: 12,
        names.GEN_AI_USAGE_CACHE_READ_INPUT_TOKENS: 4,
        names.OTEL_LLM_STREAM_OUTCOME: "completed",
        names.OTEL_LLM_STREAM_CHUNKS: 4,
    }
    if "realtime" in api:
        assert "generate_content gpt-realtime" == span["name"]
        expected |= {
            names.GEN_AI_OPERATION_NAME: "generate_content",
            names.GEN_AI_REQUEST_MODEL: "gpt-realtime",
            names.GEN_AI_REQUEST_MAX_TOKENS: 50,
            names.GEN_AI_OUTPUT_TYPE: "speech",
            names.GEN_AI_RESPONSE_MODEL: ws.REALTIME,
            names.GEN_AI_CONVERSATION_ID: "conv_1",
            names.GEN_AI_USAGE_TEXT_INPUT_TOKENS: 8,
            names.GEN_AI_USAGE_AUDIO_INPUT_TOKENS: 10,
            names.GEN_AI_USAGE_TEXT_OUTPUT_TOKENS: 5,
            names.GEN_AI_USAGE_AUDIO_OUTPUT_TOKENS: 7,
            names.GEN_AI_USAGE_TEXT_CACHE_READ_INPUT_TOKENS: 1,
            names.GEN_AI_USAGE_AUDIO_CACHE_READ_INPUT_TOKENS: 3,
        }
    else:
        assert "chat gpt-5" == span["name"]
        expected |= {
            names.GEN_AI_OPERATION_NAME: "chat",
            names.GEN_AI_REQUEST_MODEL: "gpt-5",
            names.GEN_AI_RESPONSE_MODEL: ws.RESPONSES,
            names.GEN_AI_USAGE_REASONING_OUTPUT_TOKENS: 5,
            names.OPENAI_API_TYPE: "responses",
        }
    first_chunk = attributes.pop(names.GEN_AI_RESPONSE_TIME_TO_FIRST_CHUNK)
    first_text = attributes.pop(names.OTEL_LLM_TIME_TO_FIRST_TEXT)
    assert expected == attributes
    duration = (span["end_ns"] - span["start_ns"]) / 1e9
    assert 0.03 <= first_chunk < first_text <= duration < 10
    for name, value in (
        ("gen_ai.client.operation.duration", duration),
        ("gen_ai.client.operation.time_to_first_chunk", first_chunk),
        ("otel_llm.client.time_to_first_text", first_text),
    ):
        (point,) = seen.points(name)
        assert 1 == point["count"]
        assert value == pytest.approx(point["sum"], abs=1e-5)
    tokens = {
        point["attributes"][names.GEN_AI_TOKEN_TYPE]: (point["count"], point["sum"])
        for point in seen.points("gen_ai.client.token.usage")
    }
    assert {"input": (1, 18), "output": (1, 12)} == tokens
    (active,) = seen.points("otel_llm.client.active")
    assert 0 == active["value"]


@both
@realtime_only
def test_begun_by_the_server(sockets: SocketServer, seen: Seen, api: str, mode: str) -> None:
    """A response that the server starts when somebody has stopped speaking is a call from its first event on."""
    spoken = {"type": "input_audio_buffer.speech_stopped", "event_id": "e", "item_id": "i", "audio_end_ms": 1}
    sockets.answer = lambda event: [spoken, *ws.realtime("resp_1"), spoken, *ws.realtime("resp_2")]

    async def scenario(caller: Caller) -> None:
        await caller.send({"type": "input_audio_buffer.append", "audio": "AAAA"})
        await caller.until("response.done", times=2)

    run(scenario, sockets, api, mode)

    assert ["resp_1", "resp_2"] == [span["attributes"][names.GEN_AI_RESPONSE_ID] for span in seen.spans]
    for span in seen.spans:
        assert "gpt-realtime" == span["attributes"][names.GEN_AI_REQUEST_MODEL]
        assert 18 == span["attributes"][names.GEN_AI_USAGE_INPUT_TOKENS]
        assert 4 == span["attributes"][names.OTEL_LLM_STREAM_CHUNKS]


@both
@every
def test_nothing_but_responses(sockets: SocketServer, seen: Seen, api: str, mode: str) -> None:
    """Events that are no part of a response make no record, nor do answers of odd shape."""
    odd: list[Event] = [
        {"type": "session.updated", "session": None},
        {"type": "input_audio_buffer.committed", "event_id": "e", "item_id": "i"},
        {"type": "response.output_text.delta", "response_id": "unknown", "delta": "x"},
        {"type": "response.done", "response": {"id": ["odd"]}},
        {"type": "response.done", "response": "odd"},
        {"type": ["odd"]},
        {"type": "error", "error": "odd"},
        {},
    ]
    sockets.answer = lambda event: [*odd, {"type": "conversation.item.done", "event_id": "e"}]

    async def scenario(caller: Caller) -> None:
        await caller.send({"type": "conversation.item.create", "item": {"type": "message", "role": "user"}})
        while b"conversation.item.done" not in await caller.recv_bytes():
            pass

    run(scenario, sockets, api, mode)

    assert [] == seen.spans
    assert [] == seen.metrics


@both
@realtime_only
def test_at_once(sockets: SocketServer, seen: Seen, api: str, mode: str) -> None:
    """Responses under way at once are told apart by their ids, each under the span that asked for it."""
    several = [ws.realtime(f"resp_{number}")[:4] for number in range(4)]
    asked: list[Event] = []

    def answer(event: Event) -> list[Event]:
        asked.append(event)
        # One after the other they begin; then they go on in turns, and end in the other order.
        if len(asked) < len(several):
            return []
        created, first, second, done = (list(events) for events in zip(*several, strict=True))
        return [*created, *first, *second[1:], *reversed(done)]

    sockets.answer = answer
    tracer = seen.tracer_provider.get_tracer("test")

    async def scenario(caller: Caller) -> None:
        for number in range(len(several)):
            with tracer.start_as_current_span(f"caller {number}"):
                await caller.send(create(api))
        await caller.until("response.done", times=len(several))

    run(scenario, sockets, api, mode)

    parents = {span["span_id"]: span["name"] for span in seen.all_spans}
    assert [
        ("resp_3", "caller 3", 4),
        ("resp_2", "caller 2", 4),
        ("resp_1", "caller 1", 4),
        ("resp_0", "caller 0", 3),
    ] == [
        (
            span["attributes"][names.GEN_AI_RESPONSE_ID],
            parents[span["parent_id"]],
            span["attributes"][names.OTEL_LLM_STREAM_CHUNKS],
        )
        for span in seen.spans
    ]
    (point,) = seen.points("gen_ai.client.operation.duration")
    assert len(several) == point["count"]


@both
@responses_only
def test_streams_of_one_connection(sockets: SocketServer, seen: Seen, api: str, mode: str) -> None:
    """Responses of several streams of one connection are told apart, though most events name only the stream."""
    asked: list[str] = []

    def answer(event: Event) -> list[Event]:
        asked.append(event["stream_id"])
        if len(asked) < 2:
            return []
        one, two = ws.responses("resp_a", stream_id="a"), ws.responses("resp_b", stream_id="b")
        # The answers come in another order than the requests.
        return [two[0], one[0], one[1], two[1], two[3], one[2], one[3]]

    sockets.answer = answer

    async def scenario(caller: Caller) -> None:
        await caller.send(create(api, stream_id="a", model="for-a"))
        await caller.send(create(api, stream_id="b", model="for-b"))
        await caller.until("response.completed", times=2)

    run(scenario, sockets, api, mode)

    assert [("resp_b", "for-b", 3), ("resp_a", "for-a", 4)] == [
        (
            span["attributes"][names.GEN_AI_RESPONSE_ID],
            span["attributes"][names.GEN_AI_REQUEST_MODEL],
            span["attributes"][names.OTEL_LLM_STREAM_CHUNKS],
        )
        for span in seen.spans
    ]


@both
def test_lanes(sockets: SocketServer, seen: Seen, mode: str) -> None:
    """The client's own lanes, which send past the connection and read its bytes, make one call for each response."""
    try:
        lanes: Any = importlib.import_module("openai.lib.responses_websocket")
    except ImportError:
        pytest.skip("this client has no lanes")
    sockets.answer = lambda event: ws.responses("resp_" + event["stream_id"], stream_id=event["stream_id"])
    limits = lanes.ResponsesWebSocketLimits(
        max_lanes=4, max_events_per_lane=64, max_events=128, max_bytes_per_lane=2**20, max_bytes=2**21
    )

    async def scenario(caller: Caller) -> None:
        if mode == "sync":
            with lanes.ResponsesWebSocketSession(caller.connection, limits=limits) as session:
                for name in ("a", "b"):
                    lane = session.lane(name)
                    lane.send(create("responses"))
                    assert f"resp_{name}" == lane.get_final_response(timeout=10).id
        else:
            async with lanes.AsyncResponsesWebSocketSession(caller.connection, limits=limits) as session:
                for name in ("a", "b"):
                    lane = session.lane(name)
                    await lane.send(create("responses"))
                    assert f"resp_{name}" == (await lane.get_final_response()).id

    run(scenario, sockets, "responses", mode)

    assert ["resp_a", "resp_b"] == [span["attributes"][names.GEN_AI_RESPONSE_ID] for span in seen.spans]
    assert {"completed"} == {span["attributes"][names.OTEL_LLM_STREAM_OUTCOME] for span in seen.spans}
    assert {"gpt-5"} == {span["attributes"][names.GEN_AI_REQUEST_MODEL] for span in seen.spans}


@both
@every
@pytest.mark.parametrize("form", ["resource", "typed", "keyword", "raw text", "raw bytes"])
def test_ways_to_send(sockets: SocketServer, seen: Seen, api: str, form: str, mode: str) -> None:
    """The request is one call in whatever form it is sent."""
    got: list[Event] = []

    def answer(event: Event) -> list[Event]:
        got.append(event)
        return events_of(api)

    sockets.answer = answer

    async def scenario(caller: Caller) -> bool:
        connection, event = caller.connection, create(api)
        result: Any = None
        if form == "resource":
            result = connection.response.create(**{key: event[key] for key in event if key != "type"})
        elif form == "typed":
            typed = _typed(api)
            result = connection.send(event if typed is None else typed.construct(**event))
        elif form == "keyword":
            result = connection.send(event=event)
        elif not hasattr(connection, "send_raw"):
            return False
        elif form == "raw text":
            result = connection.send_raw(json.dumps(event))
        else:
            result = connection.send_raw(data=json.dumps(event).encode())
        if inspect.isawaitable(result):
            await result
        await caller.until(last_of(api))
        return True

    if not run(scenario, sockets, api, mode):
        pytest.skip("this client has no send_raw")

    assert ["response.create"] == [event["type"] for event in got]
    (span,) = seen.spans
    assert 4 == span["attributes"][names.OTEL_LLM_STREAM_CHUNKS]
    assert ("gpt-realtime" if "realtime" in api else "gpt-5") == span["attributes"][names.GEN_AI_REQUEST_MODEL]


def _typed(api: str) -> Any:
    """Return the class of the client's for a ``response.create`` event, if it has one."""
    if "realtime" in api:
        return importlib.import_module(f"openai.types.{api}").ResponseCreateEvent
    beta = "beta_" if "beta" in api else ""
    package = "beta" if beta else "responses"
    module = importlib.import_module(f"openai.types.{package}.{beta}responses_client_event")
    return getattr(module, "ResponseCreate", None) or getattr(module, "ResponsesClientEvent", None)


@both
@every
def test_suppressed(sockets: SocketServer, seen: Seen, api: str, mode: str) -> None:
    """What is asked for in silence makes no record, though it is read outside; what comes next does."""
    answering(sockets, *events_of(api))

    async def scenario(caller: Caller) -> None:
        with suppress_instrumentation():
            await caller.send(create(api))
        await caller.until(last_of(api))
        assert [] == seen.spans
        await ask(caller, api)

    run(scenario, sockets, api, mode)

    assert 1 == len(seen.spans)


@both
@every
def test_read_in_another_thread(sockets: SocketServer, seen: Seen, api: str, mode: str) -> None:
    """Events may be read in another thread, or task, than the one that asks."""
    answering(sockets, *events_of(api))

    async def scenario(caller: Caller) -> None:
        if mode == "sync":
            connection = caller.connection

            def reads() -> None:
                for event in connection:
                    if event.type == last_of(api):
                        break

            reader = threading.Thread(target=reads)
            reader.start()
            with seen.tracer_provider.get_tracer("test").start_as_current_span("caller"):
                await caller.send(create(api))
            reader.join()
        else:
            reading = asyncio.create_task(caller.until(last_of(api)))
            await asyncio.sleep(0)
            with seen.tracer_provider.get_tracer("test").start_as_current_span("caller"):
                await caller.send(create(api))
            await reading

    run(scenario, sockets, api, mode)

    (span,) = seen.spans
    (parent,) = (span for span in seen.all_spans if span["name"] == "caller")
    assert parent["span_id"] == span["parent_id"]


PATCHED = [
    (module, prefix + name, method)
    for module, name, methods in (
        ("openai.resources.realtime.realtime", "RealtimeConnection", "recv recv_bytes send"),
        ("openai.resources.beta.realtime.realtime", "RealtimeConnection", "recv recv_bytes send close"),
        ("openai.resources.responses.responses", "ResponsesConnection", "recv recv_bytes send"),
        ("openai.resources.beta.responses.responses", "ResponsesConnection", "recv recv_bytes send"),
        ("openai._websocket_connection", "WebSocketConnectionBase", "send_raw close"),
        ("openai.lib.responses_websocket._session", "ResponsesWebSocketLane", "send"),
    )
    for prefix in ("", "Async")
    for method in methods.split()
]


def _methods() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for module, name, method in PATCHED:
        try:
            cls = getattr(importlib.import_module(module), name)
            found[f"{module}.{name}.{method}"] = cls.__dict__[method]
        except (ImportError, AttributeError):
            continue
    return found


def test_every_original_comes_back() -> None:
    """All patched methods are replaced while on, look the same, and are the very same objects afterwards."""
    before = _methods()
    with capture():
        during = _methods()
    after = _methods()

    assert before.keys() == during.keys() == after.keys()
    assert all(during[name] is not before[name] for name in before)
    assert all(after[name] is before[name] for name in before)
    for name, method in before.items():
        assert inspect.signature(method) == inspect.signature(during[name])
        assert inspect.iscoroutinefunction(method) == inspect.iscoroutinefunction(during[name])
        assert (method.__name__, method.__doc__) == (during[name].__name__, during[name].__doc__)


@both
@every
def test_taken_out_under_a_connection(sockets: SocketServer, seen: Seen, api: str, mode: str) -> None:
    """A connection that was open before goes on after, unseen, by methods that somebody kept, too."""
    answering(sockets, *events_of(api))

    async def scenario(caller: Caller) -> None:
        await ask(caller, api)
        connection = caller.connection
        kept = {name: getattr(connection, name) for name in ("send", "recv", "close")}
        OpenAIInstrumentor().uninstrument()
        await ask(caller, api)
        for name, method in kept.items():
            setattr(connection, name, method)
        await ask(caller, api)
        await caller.close()

    run(scenario, sockets, api, mode)

    assert 1 == len(seen.spans)
