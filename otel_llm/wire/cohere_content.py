"""Messages of Cohere's chat of both versions, in the form of the conventions' message schema.

Source: GenAI semantic conventions, "Capturing instructions, inputs, and outputs"; Cohere API reference, "Chat".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from otel_llm.call import Call
from otel_llm.wire.fields import field, fields, integer, items, text
from otel_llm.wire.messages import (
    Message,
    Part,
    decoded_arguments,
    media,
    text_message,
    text_part,
    tool_call,
    tool_response,
)
from otel_llm.wire.openai_content import read_tools

_ROLES = {"chatbot": "assistant"}


def _part(part: object) -> Part:
    kind = text(field(part, "type")) or ""
    if kind == "text":
        return text_part(text(field(part, "text")) or "")
    if kind == "thinking":
        return {"type": "reasoning", "content": text(field(part, "thinking")) or ""}
    if kind == "image_url":
        return media("image", text(field(field(part, "image_url"), "url")) or "")
    return {"type": kind or "unknown"}


def _parts(content: object) -> list[Part]:
    if isinstance(content, str):
        return [text_part(content)] if content else []
    return [_part(part) for part in items(content)]


def _called(call: object) -> Part:
    """Read a tool call: of the second version a function, of the first its name and parameters alone."""
    function = field(call, "function")
    if function is None:
        return tool_call(field(call, "id"), field(call, "name"), field(call, "parameters"))
    return tool_call(field(call, "id"), field(function, "name"), decoded_arguments(field(function, "arguments")))


def _message(message: object, role: str | None = None) -> Message:
    own = fields(message)
    role = role or (text(own.get("role")) or "user").lower()
    if role == "tool":
        results = items(own.get("tool_results"))
        responses = [tool_response(field(field(each, "call"), "name"), each) for each in results]
        return {"role": role, "parts": responses or [tool_response(own.get("tool_call_id"), own.get("content"))]}
    parts: list[Part] = []
    plan = text(own.get("tool_plan"))
    if plan:
        parts.append({"type": "reasoning", "content": plan})
    parts += _parts(own.get("content") or own.get("message") or own.get("text"))
    parts += [_called(call) for call in items(own.get("tool_calls"))]
    return {"role": _ROLES.get(role, role), "parts": parts}


def read_chat_request(call: Call, body: Mapping[str, Any]) -> None:
    """Read ``messages``; of the first version ``preamble``, ``chat_history`` and ``message``."""
    given = [*items(body.get("messages")), *items(body.get("chat_history"))]
    call.input_messages = [_message(message) for message in given]
    asked = text(body.get("message"))
    if asked:
        call.input_messages.append(text_message("user", asked))
    preamble = text(body.get("preamble"))
    if preamble:
        call.system_instructions = [text_part(preamble)]
    call.tool_definitions = read_tools(body.get("tools"))


def read_chat_answer(call: Call, answer: object) -> None:
    """Read the message of an answer, which of the first version is the answer itself."""
    message = field(answer, "message")
    call.output_messages = [_message(answer if message is None else message, "assistant")]


def read_chat_chunks(call: Call, chunks: Sequence[object]) -> None:
    """Put the deltas together, or read the whole answer at the end of a stream of the first version."""
    plan = ""
    contents: dict[int, Part] = {}
    tools: dict[int, dict[str, str]] = {}
    for chunk in chunks:
        own = fields(chunk)
        kind = own.get("event_type")
        if kind == "stream-end":
            read_chat_answer(call, own.get("response"))
            return
        if kind == "text-generation":
            part = contents.setdefault(0, text_part(""))
            part["content"] += text(own.get("text")) or ""
            continue
        message = fields(field(own.get("delta"), "message"))
        index = integer(own.get("index")) or 0
        plan += text(message.get("tool_plan")) or ""
        said = fields(message.get("content"))
        for key, name in (("text", "text"), ("thinking", "reasoning")):
            piece = text(said.get(key))
            if piece:
                part = contents.setdefault(index, {"type": name, "content": ""})
                part["content"] += piece
        called = message.get("tool_calls")
        if called:
            tool = tools.setdefault(index, {"id": "", "name": "", "arguments": ""})
            function = field(called, "function")
            tool["id"] += text(field(called, "id")) or ""
            tool["name"] += text(field(function, "name")) or ""
            tool["arguments"] += text(field(function, "arguments")) or ""
    parts: list[Part] = [{"type": "reasoning", "content": plan}] if plan else []
    parts += [contents[index] for index in sorted(contents)]
    parts += [_called({"id": tool["id"], "function": tool}) for _, tool in sorted(tools.items())]
    call.output_messages = [{"role": "assistant", "parts": parts}]


def read_generated(call: Call, answer: object) -> None:
    """Read the text of each generation."""
    made = items(field(answer, "generations"))
    call.output_messages = [text_message("assistant", text(field(each, "text")) or "") for each in made]


def read_generated_chunks(call: Call, chunks: Sequence[object]) -> None:
    """Put the texts of each generation together."""
    texts: dict[int, str] = {}
    for chunk in chunks:
        index = integer(field(chunk, "index")) or 0
        if not field(chunk, "is_finished"):
            texts[index] = texts.get(index, "") + (text(field(chunk, "text")) or "")
    call.output_messages = [text_message("assistant", texts[index]) for index in sorted(texts)]
