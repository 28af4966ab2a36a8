"""Message content: never unless asked for, in the standard modes, and never past the redaction hook."""

from __future__ import annotations

import json
from typing import Any

import pytest

from otel_llm import Content
from otel_llm.testing import Seen, capture
from otel_llm.testing.server import Reply, ScriptedServer, sse
from otel_llm_semconv import attributes as names
from otel_llm_semconv import environment as variables
from tests.openai.styles import ASK, client, has

MODE = variables.OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT
CONTENT = (
    names.GEN_AI_INPUT_MESSAGES,
    names.GEN_AI_OUTPUT_MESSAGES,
    names.GEN_AI_SYSTEM_INSTRUCTIONS,
    names.GEN_AI_TOOL_DEFINITIONS,
)
TEXT = "The capital of France is Paris, of course."
INPUT = [{"role": "user", "parts": [{"type": "text", "content": "What is the capital of France?"}]}]
OUTPUT = [{"role": "assistant", "parts": [{"type": "text", "content": TEXT}]}]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("mode", "on_span", "on_event"),
    [
        (None, False, None),
        ("NO_CONTENT", False, None),
        ("span_only", True, None),
        ("EVENT_ONLY", False, True),
        ("SPAN_AND_EVENT", True, True),
    ],
)
def test_modes(
    server: ScriptedServer,
    monkeypatch: pytest.MonkeyPatch,
    mode: str | None,
    on_span: bool,
    on_event: bool | None,
    streamed: bool,
) -> None:
    """Content goes where the standard variable says: JSON on spans, structures on events, else nowhere."""
    if mode is not None:
        monkeypatch.setenv(MODE, mode)
    with capture() as seen:
        made = client(server).chat.completions.create(model="gpt-5", messages=ASK, stream=streamed)
        if streamed:
            list(made)
        (span,) = seen.spans
        on = {name: json.loads(value) for name, value in span["attributes"].items() if name in CONTENT}
        assert ({names.GEN_AI_INPUT_MESSAGES: INPUT, names.GEN_AI_OUTPUT_MESSAGES: OUTPUT} if on_span else {}) == on
        if on_event is None:
            assert [] == seen.events
        else:
            (event,) = seen.events
            assert ("gen_ai.client.inference.operation.details", "DEBUG") == (event["name"], event["severity"])
            assert (span["trace_id"], span["span_id"]) == (event["trace_id"], event["span_id"])
            plain = json.loads(json.dumps(event["attributes"], default=list))
            assert INPUT == plain[names.GEN_AI_INPUT_MESSAGES]
            assert OUTPUT == plain[names.GEN_AI_OUTPUT_MESSAGES]
            assert "gpt-5" == plain[names.GEN_AI_REQUEST_MODEL]


def test_a_failed_call_has_an_exception_event(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """With events on, the exception that ended a call is an event of its own."""
    from otel_llm.testing.server import error

    monkeypatch.setenv(MODE, "EVENT_ONLY")
    server.script(error(400, message="no"))
    with capture() as seen:
        with pytest.raises(Exception, match="no"):
            client(server).chat.completions.create(model="gpt-5", messages=ASK)

        assert ["gen_ai.client.inference.operation.details", "gen_ai.client.operation.exception"] == [
            event["name"] for event in seen.events
        ]
        assert "openai.BadRequestError" == seen.events[1]["attributes"][names.EXCEPTION_TYPE]


def _redact(content: Content) -> Content | None:
    return content._replace(input_messages=[{"role": "user", "parts": []}], output_messages=None)


def _refuse(content: Content) -> Content | None:
    return None


def _broken(content: Content) -> Content | None:
    raise RuntimeError("injected")


EMPTY: Any = [{"role": "user", "parts": []}]


@pytest.mark.parametrize(
    ("hook", "kept"),
    [(_redact, EMPTY), (_refuse, None), (_broken, None)],
    ids=["redacts", "refuses", "breaks"],
)
def test_redaction(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, quiet: None, hook: Any, kept: Any) -> None:
    """The hook decides what is kept; where it fails nothing is."""
    monkeypatch.setenv(MODE, "SPAN_AND_EVENT")
    with capture(content_hook=hook) as seen:
        client(server).chat.completions.create(model="gpt-5", messages=ASK)

        (span,) = seen.spans
        found = span["attributes"].get(names.GEN_AI_INPUT_MESSAGES)
        assert kept == (None if found is None else json.loads(found))
        assert names.GEN_AI_OUTPUT_MESSAGES not in span["attributes"]
        assert names.GEN_AI_OUTPUT_MESSAGES not in seen.events[0]["attributes"]


@pytest.fixture
def on_spans(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Capture content on spans."""
    monkeypatch.setenv(MODE, "SPAN_ONLY")
    with capture() as seen:
        yield seen


def _content(seen: Seen, name: str) -> Any:
    return json.loads(seen.spans[-1]["attributes"][name])


def test_every_part_of_a_chat(server: ScriptedServer, on_spans: Seen) -> None:
    """Images, audio, files, tool calls and tool results have the parts of the message schema."""
    messages: Any = [
        {"role": "developer", "content": "Be brief."},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "Look"},
                {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
                {"type": "input_audio", "input_audio": {"data": "BBBB", "format": "mp3"}},
                {"type": "file", "file": {"file_id": "file-1"}},
            ],
        },
        {
            "role": "assistant",
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "look_up", "arguments": '{"city": "Paris"}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "2 million"},
    ]
    tool: Any = {"type": "function", "function": {"name": "look_up", "description": "secret", "parameters": {}}}
    client(server).chat.completions.create(model="gpt-5", messages=messages, tools=[tool])

    assert [
        {"role": "developer", "parts": [{"type": "text", "content": "Be brief."}]},
        {
            "role": "user",
            "parts": [
                {"type": "text", "content": "Look"},
                {"type": "uri", "modality": "image", "uri": "https://example.com/a.png"},
                {"type": "blob", "modality": "image", "mime_type": "image/png", "content": "AAAA"},
                {"type": "blob", "modality": "audio", "mime_type": "audio/mp3", "content": "BBBB"},
                {"type": "file", "modality": "document", "file_id": "file-1"},
            ],
        },
        {
            "role": "assistant",
            "parts": [{"type": "tool_call", "id": "c1", "name": "look_up", "arguments": {"city": "Paris"}}],
        },
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "2 million"}]},
    ] == _content(on_spans, names.GEN_AI_INPUT_MESSAGES)
    assert [{"type": "function", "name": "look_up"}] == _content(on_spans, names.GEN_AI_TOOL_DEFINITIONS)


def test_streamed_tool_calls(server: ScriptedServer, on_spans: Seen) -> None:
    """Parallel tool calls of a stream are put together, also where the server leaves the index out."""

    def chunk(*calls: dict[str, Any]) -> dict[str, Any]:
        return {"id": "1", "model": "m", "choices": [{"index": 0, "delta": {"tool_calls": list(calls)}}]}

    server.script(
        sse(
            chunk({"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x"'}}),
            chunk({"index": 0, "function": {"arguments": ": 1}"}}),
            chunk({"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}}),
            chunk({"index": None, "id": "c", "type": "function", "function": {"name": "h", "arguments": "not json"}}),
            {"id": "1", "model": "m", "choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]},
        )
    )

    list(client(server).chat.completions.create(model="gpt-5", messages=ASK, stream=True))

    (message,) = _content(on_spans, names.GEN_AI_OUTPUT_MESSAGES)
    assert [("a", "f", {"x": 1}), ("b", "g", {}), ("c", "h", "not json")] == [
        (part["id"], part["name"], part["arguments"]) for part in message["parts"]
    ]
    assert ("tool_calls",) == on_spans.spans[0]["attributes"][names.GEN_AI_RESPONSE_FINISH_REASONS]


@pytest.mark.skipif(not has("responses"), reason="this client has no responses")
@pytest.mark.parametrize("streamed", [False, True])
def test_responses(server: ScriptedServer, on_spans: Seen, streamed: bool) -> None:
    """Instructions, input items and the output of a response are captured, streamed or not."""
    items: Any = [
        {"role": "user", "content": "Hi"},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "ok"},
    ]
    made = client(server).responses.create(model="gpt-5", input=items, instructions="Be brief.", stream=streamed)
    if streamed:
        list(made)

    assert [{"type": "text", "content": "Be brief."}] == _content(on_spans, names.GEN_AI_SYSTEM_INSTRUCTIONS)
    assert [
        {"role": "user", "parts": [{"type": "text", "content": "Hi"}]},
        {"role": "assistant", "parts": [{"type": "tool_call", "id": "c1", "name": "f", "arguments": {}}]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "ok"}]},
    ] == _content(on_spans, names.GEN_AI_INPUT_MESSAGES)
    assert OUTPUT == _content(on_spans, names.GEN_AI_OUTPUT_MESSAGES)


def test_completions(server: ScriptedServer, on_spans: Seen) -> None:
    """Prompts and texts of legacy completions are messages too."""
    client(server).completions.create(model="gpt-5", prompt=["What is the capital of France?"])

    assert INPUT == _content(on_spans, names.GEN_AI_INPUT_MESSAGES)
    assert OUTPUT == _content(on_spans, names.GEN_AI_OUTPUT_MESSAGES)


def test_a_generator_is_left_for_the_client(server: ScriptedServer, on_spans: Seen) -> None:
    """With capture on, an iterator of messages still reaches the API unconsumed."""
    client(server).chat.completions.create(model="gpt-5", messages=(message for message in ASK))

    assert ASK == server.requests[0].json["messages"]


def test_odd_messages(server: ScriptedServer, on_spans: Seen) -> None:
    """Messages of odd shapes are sent as they are and break nothing."""
    odd: Any = [7, "x", None, {"role": 3, "content": 4}, {"content": [None, 7, {"type": 1}]}]
    server.script(Reply(json={"id": "1", "choices": [{"message": {"tool_calls": [None, 7]}}]}))

    client(server).chat.completions.create(model="gpt-5", messages=odd, tools=odd)

    assert odd == server.requests[0].json["messages"]
    assert 1 == len(on_spans.spans)
