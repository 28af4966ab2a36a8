"""Content of responses over websockets: in the standard modes as over HTTP, and never unless asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from otel_llm.streams import Tap
from otel_llm.testing import Seen, capture
from otel_llm_semconv import attributes as names
from otel_llm_semconv import environment as variables

pytest.importorskip("websockets")

from tests.openai import websocket_server as ws
from tests.openai.websocket_server import Caller, Event, SocketServer, both, create, every, realtime_only, run

MODE = variables.OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT
KINDS = {
    "input": names.GEN_AI_INPUT_MESSAGES,
    "output": names.GEN_AI_OUTPUT_MESSAGES,
    "instructions": names.GEN_AI_SYSTEM_INSTRUCTIONS,
    "tools": names.GEN_AI_TOOL_DEFINITIONS,
}
TOOL: Event = {"type": "function", "name": "weather", "parameters": {}}


@pytest.fixture
def on_spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[Seen]:
    """Instrument with content on spans."""
    monkeypatch.setenv(MODE, "SPAN_ONLY")
    with capture() as seen:
        yield seen


def said(role: str, content: str) -> dict[str, Any]:
    """Return a message of one text."""
    return {"role": role, "parts": [text(content)]}


def text(content: str) -> dict[str, Any]:
    """Return a part that is a text."""
    return {"type": "text", "content": content}


def content_of(span: dict[str, Any]) -> dict[str, Any]:
    """Return what a span carries of content, without what is not there."""
    attributes = span["attributes"]
    return {kind: json.loads(attributes[name]) for kind, name in KINDS.items() if name in attributes}


def message(role: str, part: Event, identifier: str = "item_u") -> Event:
    """Return an item that is a message of one part."""
    return {"id": identifier, "type": "message", "role": role, "content": [part]}


def item_event(item: Event, kind: str = "added") -> Event:
    """Return what the server tells of an item."""
    return {"type": f"conversation.item.{kind}", "event_id": "e", "previous_item_id": None, "item": item}


def heard(transcript: str, index: int = 0) -> Event:
    """Return what the server understood of the user's words."""
    return {
        "type": "conversation.item.input_audio_transcription.completed",
        "event_id": "e",
        "item_id": "item_u",
        "content_index": index,
        "transcript": transcript,
        "usage": {"type": "duration", "seconds": 1},
    }


def answer_with(*output: Event) -> list[Event]:
    """Return the events of a realtime response with these items."""
    events = ws.realtime()
    events[3]["response"]["output"] = list(output)
    return events


ANSWER = message("assistant", {"type": "output_audio", "transcript": "Paris"}, "item_a")
SPOKEN = message("user", {"type": "input_audio", "transcript": None})


async def told(caller: Caller, api: str, **request: Any) -> None:
    """Have one response to a request of the Realtime API."""
    await caller.send({"type": "response.create", "response": request})
    await caller.until("response.done")


@every
@both
@pytest.mark.parametrize(
    ("mode_of_content", "on_span", "on_event"),
    [
        (None, False, False),
        ("NO_CONTENT", False, False),
        ("span_only", True, False),
        ("EVENT_ONLY", False, True),
        ("SPAN_AND_EVENT", True, True),
    ],
)
def test_modes(
    sockets: SocketServer,
    monkeypatch: pytest.MonkeyPatch,
    api: str,
    mode: str,
    mode_of_content: str | None,
    on_span: bool,
    on_event: bool,
) -> None:
    """What was asked and answered goes where the standard variable says, else nowhere."""
    if mode_of_content is not None:
        monkeypatch.setenv(MODE, mode_of_content)
    if not (on_span or on_event):
        # Nothing is even collected.
        monkeypatch.setattr("otel_llm_openai.websockets.Conversation", None)
    output = message("assistant", {"type": "output_text", "text": "Paris", "annotations": []}, "item_a")
    question = message("user", {"type": "input_text", "text": "The capital of France?"})
    realtime = "realtime" in api
    if realtime:
        asks = {"type": "response.create", "response": {"instructions": "Be short.", "input": [question]}}
        sockets.answer = lambda event: answer_with(output)
    else:
        asks = create(api, instructions="Be short.")
        sockets.answer = lambda event: ws.responses(output=[output])

    async def scenario(caller: Caller) -> None:
        await caller.send(asks)
        await caller.until(ws.last_of(api))

    with capture() as seen:
        run(scenario, sockets, api, mode)
        (span,) = seen.spans
        expected = {
            "input": [said("user", "The capital of France?")],
            "output": [said("assistant", "Paris")],
            "instructions": [text("Be short.")],
        }
        assert (expected if on_span else {}) == content_of(span)
        details = [event["attributes"] for event in seen.events]
        assert on_event == bool(details)
        for attributes in details:
            plain = json.loads(json.dumps(attributes, default=list))
            assert expected == {kind: plain[name] for kind, name in KINDS.items() if name in plain}


@realtime_only
@both
def test_what_the_session_tells(sockets: SocketServer, on_spans: Seen, api: str, mode: str) -> None:
    """Instructions and tools of the session hold where the request has none, and its own where it has."""
    settings: Event = {"type": "realtime", "model": ws.REALTIME, "instructions": "Be kind.", "tools": [TOOL]}
    updated: Event = {"type": "session.updated", "event_id": "e", "session": settings}
    sockets.answer = lambda event: [updated] if event["type"] == "session.update" else answer_with(ANSWER)

    async def scenario(caller: Caller) -> None:
        await caller.send({"type": "session.update", "session": {"type": "realtime"}})
        await caller.until("session.updated")
        await told(caller, api)
        await told(caller, api, instructions="Be short.", tools=[{**TOOL, "name": "clock"}])

    run(scenario, sockets, api, mode)

    output = [said("assistant", "Paris")]
    assert [
        {
            "output": output,
            "instructions": [text("Be kind.")],
            "tools": [{"type": "function", "name": "weather"}],
        },
        {
            "output": output,
            "instructions": [text("Be short.")],
            "tools": [{"type": "function", "name": "clock"}],
        },
    ] == [content_of(span) for span in on_spans.spans]


@realtime_only
@both
@pytest.mark.parametrize("when", ["before", "during", "after", "never"])
def test_what_the_user_says(sockets: SocketServer, on_spans: Seen, api: str, mode: str, when: str) -> None:
    """The transcript of what was said is the input, whenever it comes before the end; sound is none."""
    created, *rest = answer_with(ANSWER)
    sockets.answer = lambda event: [
        item_event(SPOKEN),
        *([heard("To be?")] if when == "before" else ()),
        created,
        *([heard("To be?")] if when == "during" else ()),
        # What the model says comes as an item, too, and the user's item once more.
        item_event(ANSWER),
        item_event({**SPOKEN, "content": []}, "done"),
        *rest,
        *([heard("To be?")] if when == "after" else ()),
        {"type": "input_audio_buffer.cleared", "event_id": "last"},
    ]

    async def scenario(caller: Caller) -> None:
        await caller.send({"type": "input_audio_buffer.append", "audio": "AAAA"})
        await caller.until("input_audio_buffer.cleared")

    run(scenario, sockets, api, mode)

    (span,) = on_spans.spans
    part = text("To be?") if when in ("before", "during") else {"type": "audio"}
    assert {
        "input": [{"role": "user", "parts": [part]}],
        "output": [said("assistant", "Paris")],
    } == content_of(span)


@realtime_only
@both
def test_each_item_is_the_input_of_one_response(sockets: SocketServer, on_spans: Seen, api: str, mode: str) -> None:
    """Items are the input of the next response only; not those deleted before, and not if a request has its own."""
    result = {"id": "item_r", "type": "function_call_output", "call_id": "call_1", "output": "sunny"}
    call = {"id": "item_c", "type": "function_call", "call_id": "call_1", "name": "weather", "arguments": '{"at": "x"}'}
    rounds: list[list[Event]] = [
        answer_with(ANSWER),
        [item_event(result, "created"), *answer_with(ANSWER)],
        [item_event(message("user", {"type": "input_text", "text": "Other"}, "other")), *answer_with(ANSWER)],
        [
            item_event(message("user", {"type": "input_text", "text": "Gone"}, "gone")),
            {"type": "conversation.item.deleted", "event_id": "e", "item_id": "gone"},
            item_event(message("user", {"type": "input_text", "text": "Weather?"})),
            # What the model says comes as items, too, and the end of an item repeats it.
            item_event(ANSWER),
            item_event(call),
            *answer_with(call)[:3],
            item_event(message("user", {"type": "input_text", "text": "Weather?"}), "done"),
            *answer_with(call)[3:],
        ],
    ]
    sockets.answer = lambda event: rounds.pop()

    async def scenario(caller: Caller) -> None:
        await told(caller, api)
        await told(caller, api, input=[message("user", {"type": "input_text", "text": "Own"})])
        await told(caller, api)
        await told(caller, api)

    run(scenario, sockets, api, mode)

    assert [
        [said("user", "Weather?")],
        [said("user", "Own")],
        [
            said("user", "Other"),
            {"role": "tool", "parts": [{"type": "tool_call_response", "id": "call_1", "response": "sunny"}]},
        ],
        None,
    ] == [content_of(span).get("input") for span in on_spans.spans]
    called = {"type": "tool_call", "id": "call_1", "name": "weather", "arguments": {"at": "x"}}
    assert [{"role": "assistant", "parts": [called]}] == content_of(on_spans.spans[0])["output"]


@every
@both
def test_left_early(sockets: SocketServer, on_spans: Seen, api: str, mode: str) -> None:
    """What came of a response that was left early is its output so far."""
    ws.answering(sockets, *ws.events_of(api)[:3])

    async def scenario(caller: Caller) -> None:
        await caller.send(create(api))
        await caller.until(ws.events_of(api)[2]["type"])

    run(scenario, sockets, api, mode)

    (span,) = on_spans.spans
    assert [said("assistant", "Paris")] == content_of(span)["output"]


@realtime_only
@both
def test_no_sound_is_kept(
    sockets: SocketServer, on_spans: Seen, api: str, mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sound counts as a chunk, but is not kept until the end of the response."""
    ends: list[Any] = []
    events = ws.realtime()
    sockets.answer = lambda event: [events[0], *[events[1]] * 100, *events[2:]]
    complete = Tap.complete

    def spy(self: Tap) -> None:
        ends.append([getattr(event, "type", None) for event in self.tail])
        complete(self)

    monkeypatch.setattr(Tap, "complete", spy)

    run(lambda caller: ws.ask(caller, api), sockets, api, mode)

    assert [["response.created", *[None] * 100, events[2]["type"], "response.done"]] == ends
    (span,) = on_spans.spans
    assert 103 == span["attributes"][names.OTEL_LLM_STREAM_CHUNKS]


@realtime_only
@both
def test_items_without_responses(sockets: SocketServer, on_spans: Seen, api: str, mode: str) -> None:
    """In a session that only listens, such as a transcription, what is kept does not grow without end."""
    many = [message("user", {"type": "input_text", "text": f"{number}"}, f"item_{number}") for number in range(200)]
    sockets.answer = lambda event: [*map(item_event, many), *answer_with(ANSWER)]

    run(lambda caller: told(caller, api), sockets, api, mode)

    (span,) = on_spans.spans
    assert [said("user", f"{number}") for number in range(72, 200)] == content_of(span)["input"]
