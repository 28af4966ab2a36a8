"""Content: recorded on request only, in the form of the conventions' messages."""

from __future__ import annotations

import base64
import json
from typing import Any

import ollama
import pytest

from otel_llm.testing import answers, capture
from otel_llm.testing.ollama import THOUGHT
from otel_llm.testing.server import Reply, ScriptedServer
from otel_llm_semconv import attributes as names
from otel_llm_semconv import environment
from tests.crossing import settled
from tests.ollama.styles import ASKED, MESSAGES, drain, line, run, takes

PIXEL = base64.b64encode(b"no image").decode()
CONTENT = (
    names.GEN_AI_INPUT_MESSAGES,
    names.GEN_AI_OUTPUT_MESSAGES,
    names.GEN_AI_SYSTEM_INSTRUCTIONS,
    names.GEN_AI_TOOL_DEFINITIONS,
)
PARAMETERS: Any = {
    "type": "object",
    "required": ["city"],
    "properties": {"city": {"type": "string", "description": "Which."}},
}
TOOL = {"type": "function", "function": {"name": "weather", "description": "Tell it.", "parameters": PARAMETERS}}
WANTED = {"function": {"name": "weather", "arguments": {"city": "Paris"}}}
CALLED = {"type": "tool_call", "id": None, "name": "weather", "arguments": {"city": "Paris"}}
HISTORY: list[dict[str, Any]] = [
    {"role": "system", "content": "Be brief."},
    {**MESSAGES[0], "images": [PIXEL]},
    {"role": "assistant", "content": "", "tool_calls": [WANTED]},
    {"role": "tool", "content": "sunny"},
]
THINKS = takes("chat", "think")


def text(content: str) -> dict[str, Any]:
    """Return a part."""
    return {"type": "text", "content": content}


def content_of(server: ScriptedServer, mode: str, api: str, *, stream: bool, **more: Any) -> dict[str, Any]:
    """Make one call, and return the content on its span."""

    async def call(own: Any) -> None:
        made = await settled(getattr(own, api)(**{**ASKED[api][1], **more}, **({"stream": True} if stream else {})))
        if stream:
            await drain(made)

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(environment.OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT, "SPAN_AND_EVENT")
        with capture() as seen:
            run(server, mode, call)
            (span,) = seen.spans
            assert 1 == len(seen.events)
    return {name: json.loads(value) for name, value in span["attributes"].items() if name in CONTENT}


MODES = pytest.mark.parametrize(
    ("mode", "stream"), [("sync", False), ("async", False), ("sync", True), ("async", True)]
)


@MODES
def test_chat(server: ScriptedServer, mode: str, stream: bool) -> None:
    """Messages of every kind are told, tools by name; of an image, that there was one."""
    found = content_of(server, mode, "chat", stream=stream, messages=HISTORY, tools=[TOOL])

    assert [
        {"role": "system", "parts": [text("Be brief.")]},
        {
            "role": "user",
            "parts": [text(MESSAGES[0]["content"]), {"type": "blob", "modality": "image", "content": ""}],
        },
        {"role": "assistant", "parts": [CALLED]},
        {"role": "tool", "parts": [{"type": "tool_call_response", "id": None, "response": "sunny"}]},
    ] == found[names.GEN_AI_INPUT_MESSAGES]
    assert [{"role": "assistant", "parts": [text(answers.WORDS)]}] == found[names.GEN_AI_OUTPUT_MESSAGES]
    assert [{"type": "function", "name": "weather"}] == found[names.GEN_AI_TOOL_DEFINITIONS]
    assert PIXEL not in str(found)


@MODES
def test_a_tool_is_called(server: ScriptedServer, mode: str, stream: bool) -> None:
    """A tool that the model wants called is part of what it said."""
    found = content_of(server, mode, "chat", stream=stream, tools=[TOOL])

    assert [{"role": "assistant", "parts": [CALLED]}] == found[names.GEN_AI_OUTPUT_MESSAGES]


@MODES
@pytest.mark.skipif(not THINKS, reason="this client's models do not think")
@pytest.mark.parametrize("api", ["chat", "generate"])
def test_thinking(server: ScriptedServer, api: str, mode: str, stream: bool) -> None:
    """What the model thought is kept apart from what it said."""
    found = content_of(server, mode, api, stream=stream, think=True)
    parts = [{"type": "reasoning", "content": THOUGHT}, text(answers.WORDS)]

    assert [{"role": "assistant", "parts": parts}] == found[names.GEN_AI_OUTPUT_MESSAGES]


@MODES
def test_generate(server: ScriptedServer, mode: str, stream: bool) -> None:
    """A prompt is the message of a user, its system text an instruction; what is to follow comes after the prompt."""
    more = {"system": "Be brief.", "suffix": "!", "images": [PIXEL]}
    if hasattr(ollama.Client, "_request_stream"):
        more["images"] = [b"no image"]  # type: ignore[list-item]  # where only bytes are taken as they are
    found = content_of(server, mode, "generate", stream=stream, **more)
    prompt = [text(MESSAGES[0]["content"]), {"type": "blob", "modality": "image", "content": ""}, text("!")]

    assert {
        names.GEN_AI_INPUT_MESSAGES: [{"role": "user", "parts": prompt}],
        names.GEN_AI_SYSTEM_INSTRUCTIONS: [text("Be brief.")],
        names.GEN_AI_OUTPUT_MESSAGES: [{"role": "assistant", "parts": [text(answers.WORDS)]}],
    } == found


def test_a_stream_left_early(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a stream that breaks, what came until then is told, from the first chunk to the last."""
    pieces = [line("chat", str(number)) for number in range(20)]
    server.script(Reply(chunks=[*pieces, '{"error": "x"}\n']))

    async def call(own: Any) -> None:
        with pytest.raises(ollama.ResponseError):
            list(own.chat(**ASKED["chat"][1], stream=True))

    monkeypatch.setenv(environment.OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT, "SPAN_ONLY")
    with capture() as seen:
        run(server, "sync", call)
        (span,) = seen.spans
    (said,) = json.loads(span["attributes"][names.GEN_AI_OUTPUT_MESSAGES])

    assert [text("".join(map(str, range(20))))] == said["parts"]


@MODES
def test_nothing_unless_it_is_asked_for(server: ScriptedServer, mode: str, stream: bool) -> None:
    """Without the setting nothing of what was said is anywhere."""

    async def call(own: Any) -> None:
        made = await settled(own.chat(**{**ASKED["chat"][1], "messages": HISTORY, "tools": [TOOL]}, stream=stream))
        if stream:
            await drain(made)

    with capture() as seen:
        run(server, mode, call)
        told = f"{seen.all_spans}{seen.events}{seen.metrics}"

    assert [] == [word for word in ("Be brief", "capital", "sunny", "weather", PIXEL) if word in told]
