"""Captured content: messages of requests, of answers and of streams, in the form of the conventions."""

from __future__ import annotations

import json
from typing import Any

import pytest

from otel_llm.wire import bedrock, cohere, gemini
from tests.wire.calls import PLAIN, STREAMED
from tests.wire.reading import asked, read
from tests.wire.recorded import FRAMES, JSON, SSE, Recorded
from tests.wire.writing import frames, lines, sse

SAID = {
    "gemini": "In Zürich kostet es 5 € 🗼",
    "llama.cpp": "Hellö you",
    "tgi": "Hellö",
    "cohere": "Hello yöu",
    "cohere, version 1": "Hello you",
    "mistral fim": "a):",
    "converse": "Hello yöu",
    "invoke claude": "Hi yoü",
    "invoke nova": "Hello yöu",
    "invoke titan": "Yo you",
    "invoke llama": "Yo",
    "invoke mistral": "Yo",
}


@pytest.mark.parametrize("api", [api for api in STREAMED if api.partition(",")[0] in SAID])
def test_streamed(api: str) -> None:
    """The texts of a stream are put together as the one message of its one choice."""
    call, _ = read(STREAMED[api], content=True)

    said = SAID.get(api) or SAID.get(api.removesuffix(", typed as JSON")) or SAID[api.partition(",")[0]]
    assert [{"role": "assistant", "parts": [{"type": "text", "content": said}]}] == call.output_messages


PLAINLY = {
    "gemini": " 5 € 🗼",
    "llama.cpp": "Hello you all",
    "tgi": "Hello",
    "cohere": "Hello yöu",
    "cohere, version 1": "Hello you",
    "cohere generate": "Hello",
    "mistral fim": "a):",
    "converse": "Hello yöu",
    "invoke claude": "Hi yoü",
    "invoke titan": "Yo",
    "invoke llama": "Yo",
    "invoke mistral": "Yo",
}
ASKED = {"gemini": "Wie teuer?", "mistral fim": "def f("}


@pytest.mark.parametrize("api", PLAINLY)
def test_plain(api: str) -> None:
    """What was asked and what was said are kept, each as a message."""
    call, _ = read(PLAIN[api], content=True)

    assert [{"role": "assistant", "parts": [{"type": "text", "content": PLAINLY[api]}]}] == [
        {"role": message["role"], "parts": message["parts"]} for message in call.output_messages or []
    ]
    question = {"type": "text", "content": ASKED.get(api, "Hi")}
    assert [{"role": "user", "parts": [question]}] == call.input_messages


@pytest.mark.parametrize("api", [api for api in PLAIN if "embed" in api or "rerank" in api or "count" in api])
def test_nothing(api: str) -> None:
    """Operations that are not inference have no messages."""
    call, _ = read(PLAIN[api], content=True)

    assert (None, None) == (call.input_messages, call.output_messages)


def _recorded(format: Any, request: dict[str, Any], answer: Any = None) -> Recorded:
    return Recorded(format, request, JSON, json.dumps(answer).encode(), {})


def test_gemini() -> None:
    """Tools, thoughts, media and instructions of Gemini are told, by either spelling of their names."""
    request: dict[str, Any] = {
        "system_instruction": {"parts": [{"text": "Be brief."}]},
        "contents": [
            {"parts": [{"inlineData": {"mimeType": "image/png", "data": "aGk="}}]},
            {"role": "model", "parts": [{"functionCall": {"id": "c1", "name": "f", "args": {"x": 1}}}]},
            {"role": "user", "parts": [{"functionResponse": {"id": "c1", "name": "f", "response": {"y": 2}}}]},
            {"role": "user", "parts": [{"file_data": {"mime_type": "video/mp4", "file_uri": "gs://b/v.mp4"}}]},
        ],
        "tools": [{"functionDeclarations": [{"name": "f"}]}, {"googleSearch": {}}],
    }
    parts = [{"text": "Hm", "thought": True}, {"text": "Yes"}, {"executableCode": {"code": "1"}}]
    answer = {"candidates": [{"content": {"parts": parts, "role": "model"}, "finishReason": "STOP"}]}

    call, _ = read(_recorded(gemini.GENERATE_CONTENT, request, answer), content=True)

    assert [{"type": "text", "content": "Be brief."}] == call.system_instructions
    image = {"type": "blob", "modality": "image", "mime_type": "image/png", "content": "aGk="}
    film = {"type": "uri", "modality": "video", "mime_type": "video/mp4", "uri": "gs://b/v.mp4"}
    assert [
        {"role": "user", "parts": [image]},
        {"role": "assistant", "parts": [{"type": "tool_call", "id": "c1", "name": "f", "arguments": {"x": 1}}]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": {"y": 2}}]},
        {"role": "user", "parts": [film]},
    ] == call.input_messages
    assert [
        {"type": "function", "name": "f"},
        {"type": "googleSearch", "name": "googleSearch"},
    ] == call.tool_definitions
    told = [{"type": "reasoning", "content": "Hm"}, {"type": "text", "content": "Yes"}, {"type": "executableCode"}]
    assert [{"role": "assistant", "parts": told}] == call.output_messages


def test_candidates_of_gemini() -> None:
    """A stream of several candidates gives one message for each."""
    chunks = [
        {"candidates": [{"index": index, "content": {"parts": [{"text": word}]}}]}
        for index, word in ((0, "a"), (1, "x"), (0, "b"), (1, "y"))
    ]
    recorded = Recorded(gemini.GENERATE_CONTENT, {"stream": True}, SSE, sse(*chunks), {})

    call, _ = read(recorded, content=True)

    assert ["ab", "xy"] == [message["parts"][0]["content"] for message in call.output_messages or []]


def test_cohere() -> None:
    """Tools of Cohere, plans, thoughts and images are told, and put together from a stream."""
    function = {"name": "f", "arguments": '{"x": 1}'}
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGk="}}
    request = {
        "stream": True,
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Look"}, image]},
            {"role": "assistant", "tool_calls": [{"id": "c1", "type": "function", "function": function}]},
            {"role": "tool", "tool_call_id": "c1", "content": "2"},
        ],
        "tools": [{"type": "function", "function": {"name": "f"}}],
    }
    deltas: list[tuple[str, dict[str, Any]]] = [
        ("tool-plan-delta", {"tool_plan": "I will "}),
        ("tool-plan-delta", {"tool_plan": "ask."}),
        ("content-delta", {"content": {"thinking": "Hm"}}),
        ("tool-call-start", {"tool_calls": {"id": "c2", "function": {"name": "f", "arguments": ""}}}),
        ("tool-call-delta", {"tool_calls": {"function": {"arguments": '{"x":'}}}),
        ("tool-call-delta", {"tool_calls": {"function": {"arguments": " 2}"}}}),
    ]
    events = [{"type": kind, "index": 0, "delta": {"message": message}} for kind, message in deltas]
    recorded = Recorded(cohere.CHAT, request, SSE, sse(*events, named=True), {})

    call, _ = read(recorded, content=True)

    blob = {"type": "blob", "modality": "image", "mime_type": "image/png", "content": "aGk="}
    assert [
        {"role": "user", "parts": [{"type": "text", "content": "Look"}, blob]},
        {"role": "assistant", "parts": [{"type": "tool_call", "id": "c1", "name": "f", "arguments": {"x": 1}}]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "2"}]},
    ] == call.input_messages
    assert [{"type": "function", "name": "f"}] == call.tool_definitions
    told = [
        {"type": "reasoning", "content": "I will ask."},
        {"type": "reasoning", "content": "Hm"},
        {"type": "tool_call", "id": "c2", "name": "f", "arguments": {"x": 2}},
    ]
    assert [{"role": "assistant", "parts": told}] == call.output_messages


def test_cohere_version_1() -> None:
    """The history, the preamble and the message of the first version are told in their order."""
    history = [{"role": "USER", "message": "Hi"}, {"role": "CHATBOT", "message": "Yes?"}]
    request = {"preamble": "Be brief.", "chat_history": history, "message": "Go"}

    call = asked(_recorded(cohere.CHAT, request), content=True)

    assert [("user", "Hi"), ("assistant", "Yes?"), ("user", "Go")] == [
        (message["role"], message["parts"][0]["content"]) for message in call.input_messages or []
    ]
    assert [{"type": "text", "content": "Be brief."}] == call.system_instructions


def test_converse() -> None:
    """Tools, thoughts, media and instructions of converse are told, and put together from a stream."""
    picture = {"image": {"format": "png", "source": {"bytes": "aGk="}}}
    paper = {"document": {"format": "pdf", "name": "n", "source": {"s3Location": {"uri": "s3://b/d.pdf"}}}}
    request = {
        "stream": True,
        "system": [{"text": "Be brief."}],
        "messages": [
            {"role": "user", "content": [picture, paper]},
            {"role": "assistant", "content": [{"toolUse": {"toolUseId": "t1", "name": "f", "input": {"x": 1}}}]},
            {"role": "user", "content": [{"toolResult": {"toolUseId": "t1", "content": [{"text": "2"}]}}]},
        ],
        "toolConfig": {"tools": [{"toolSpec": {"name": "f"}}, {"cachePoint": {"type": "default"}}]},
    }
    tool = {"toolUseId": "t2", "name": "f"}
    deltas: list[tuple[int, dict[str, Any]]] = [
        (0, {"reasoningContent": {"text": "H"}}),
        (0, {"reasoningContent": {"text": "m"}}),
        (1, {"text": "Yes"}),
        (2, {"toolUse": {"input": '{"x":'}}),
        (2, {"toolUse": {"input": " 2}"}}),
    ]
    events: list[dict[str, Any]] = [
        {"contentBlockStart": {"contentBlockIndex": 2, "start": {"toolUse": tool}}},
        *({"contentBlockDelta": {"contentBlockIndex": index, "delta": delta}} for index, delta in deltas),
    ]
    recorded = Recorded(bedrock.CONVERSE, request, FRAMES, frames(events), {})

    call, _ = read(recorded, content=True)

    blob = {"type": "blob", "modality": "image", "mime_type": "image/png", "content": "aGk="}
    uri = {"type": "uri", "modality": "document", "uri": "s3://b/d.pdf"}
    response = {"type": "tool_call_response", "id": "t1", "response": [{"text": "2"}]}
    assert [
        {"role": "user", "parts": [blob, uri]},
        {"role": "assistant", "parts": [{"type": "tool_call", "id": "t1", "name": "f", "arguments": {"x": 1}}]},
        {"role": "tool", "parts": [response]},
    ] == call.input_messages
    assert [{"type": "text", "content": "Be brief."}] == call.system_instructions
    assert [{"type": "function", "name": "f"}] == call.tool_definitions
    told = [
        {"type": "reasoning", "content": "Hm"},
        {"type": "text", "content": "Yes"},
        {"type": "tool_call", "id": "t2", "name": "f", "arguments": {"x": 2}},
    ]
    assert [{"role": "assistant", "parts": told}] == call.output_messages


def test_cohere_generate() -> None:
    """The texts of a stream of generations are put together, each by its number."""
    texts = [{"index": index, "text": said, "is_finished": False} for index, said in ((0, "He"), (1, "Yo"), (0, "llo"))]
    response = {"id": "g1", "generations": list[Any]()}
    last: dict[str, Any] = {"is_finished": True, "finish_reason": "COMPLETE", "response": response}
    recorded = Recorded(
        cohere.GENERATE, {"prompt": "Hi", "stream": True}, "application/stream+json", lines(*texts, last), {}
    )

    call, _ = read(recorded, content=True)

    assert ["Hello", "Yo"] == [message["parts"][0]["content"] for message in call.output_messages or []]
