"""Messages of the Ollama formats, in the form of the conventions' message schema.

Images are told, but not kept: they are megabytes of text.
Source: GenAI semantic conventions, "Capturing instructions, inputs, and outputs" and its message schemas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from otel_llm.call import Call
from otel_llm.wire.fields import field, items, text
from otel_llm.wire.messages import Message, Part, text_part, tool_call, tool_response
from otel_llm.wire.openai_content import read_tools


def _message(role: str, parts: list[Part]) -> Message:
    return {"role": role, "parts": parts}


def _parts(thinking: str | None, content: str | None, images: object, calls: list[Any]) -> list[Part]:
    """Put the parts of one message together: what is said, what is shown, which tools are wanted."""
    parts: list[Part] = []
    if thinking:
        parts.append({"type": "reasoning", "content": thinking})
    if content:
        parts.append(text_part(content))
    parts.extend({"type": "blob", "modality": "image", "content": ""} for _ in items(images))
    for call in calls:
        function = field(call, "function")
        parts.append(tool_call(field(call, "id"), field(function, "name"), field(function, "arguments")))
    return parts


def _chat_message(said: object) -> Message:
    role = text(field(said, "role")) or "user"
    content = text(field(said, "content"))
    if role == "tool":
        # A message names the tool, and since 2025 the call: by ``tool_call_id``.
        return _message(role, [tool_response(field(said, "tool_call_id"), content or "")])
    calls = items(field(said, "tool_calls"))
    return _message(role, _parts(text(field(said, "thinking")), content, field(said, "images"), calls))


def read_chat_request(call: Call, body: Mapping[str, Any]) -> None:
    """Read ``messages`` and ``tools``."""
    call.input_messages = [_chat_message(said) for said in items(body.get("messages"))]
    call.tool_definitions = read_tools(body.get("tools"))


def read_chat_answer(call: Call, answer: object) -> None:
    """Read the one message."""
    call.output_messages = [{**_chat_message(field(answer, "message")), "role": "assistant"}]


def read_chat_chunks(call: Call, chunks: Sequence[object]) -> None:
    """Put the pieces of the message together; a tool call comes whole."""
    said = [field(chunk, "message") for chunk in chunks]
    calls = [wanted for piece in said for wanted in items(field(piece, "tool_calls"))]
    parts = _parts(_joined(said, "thinking"), _joined(said, "content"), None, calls)
    call.output_messages = [_message("assistant", parts)]


def read_generate_request(call: Call, body: Mapping[str, Any]) -> None:
    """Read ``prompt``, what is to follow the answer as ``suffix``, and ``system``."""
    parts = _parts(None, text(body.get("prompt")), body.get("images"), [])
    suffix = text(body.get("suffix"))
    if suffix:
        parts.append(text_part(suffix))
    call.input_messages = [_message("user", parts)]
    system = text(body.get("system"))
    if system:
        call.system_instructions = [text_part(system)]


def read_generate_answer(call: Call, answer: object) -> None:
    """Read the answer's text."""
    read_generate_chunks(call, [answer])


def read_generate_chunks(call: Call, chunks: Sequence[object]) -> None:
    """Put the pieces of the text together."""
    images = [image for chunk in chunks if (image := text(field(chunk, "image")))]
    parts = _parts(_joined(chunks, "thinking"), _joined(chunks, "response"), images, [])
    call.output_messages = [_message("assistant", parts)]


def _joined(pieces: Sequence[object], name: str) -> str:
    return "".join([text(field(piece, name)) or "" for piece in pieces])
