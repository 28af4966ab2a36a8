"""Messages of the OpenAI formats, in the form of the conventions' message schema.

Only lists and dicts of the caller's are read: an iterator is left for the client that has to send it.
Source: GenAI semantic conventions, "Capturing instructions, inputs, and outputs" and its message schemas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from otel_llm.call import Call
from otel_llm.wire.fields import field, integer, items, text
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


def _message(role: str, parts: list[Part]) -> Message:
    return {"role": role, "parts": parts}


def _part(part: object) -> Part:
    """Read one part of a message's content list, of either API."""
    if isinstance(part, str):
        return text_part(part)
    kind = text(field(part, "type")) or ""
    if kind in ("text", "input_text", "output_text"):
        return text_part(text(field(part, "text")) or "")
    if kind == "refusal":
        return text_part(text(field(part, "refusal")) or "")
    if kind in ("image_url", "input_image"):
        image = field(part, "image_url")
        url = text(image) or text(field(image, "url"))
        if url:
            return media("image", url)
        return {"type": "file", "modality": "image", "file_id": text(field(part, "file_id")) or ""}
    if kind == "input_audio":
        audio = field(part, "input_audio")
        return {
            "type": "blob",
            "modality": "audio",
            "mime_type": f"audio/{text(field(audio, 'format')) or 'wav'}",
            "content": text(field(audio, "data")) or "",
        }
    if kind in ("file", "input_file"):
        file = field(part, "file") or part
        return {"type": "file", "modality": "document", "file_id": text(field(file, "file_id")) or ""}
    return {"type": kind or "unknown"}


def _parts(content: object) -> list[Part]:
    if isinstance(content, str):
        return [text_part(content)]
    return [_part(part) for part in items(content)]


def _tool_calls(message: object) -> list[Part]:
    parts: list[Part] = []
    for call in items(field(message, "tool_calls")):
        function = field(call, "function") or field(call, "custom")
        arguments = decoded_arguments(field(function, "arguments") or field(function, "input"))
        parts.append(tool_call(field(call, "id"), field(function, "name"), arguments))
    return parts


def _chat_message(message: object) -> Message:
    role = text(field(message, "role")) or "user"
    if role == "tool":
        return _message(role, [tool_response(field(message, "tool_call_id"), field(message, "content"))])
    parts = _parts(field(message, "content"))
    refusal = text(field(message, "refusal"))
    if refusal:
        parts.append(text_part(refusal))
    return _message(role, parts + _tool_calls(message))


def read_tools(tools: object) -> list[dict[str, Any]] | None:
    """Read type and name of each tool that a request offers; of no tools, None."""
    definitions: list[dict[str, Any]] = []
    for tool in items(tools):
        function = field(tool, "function") or tool
        kind = text(field(tool, "type")) or "function"
        definitions.append({"type": kind, "name": text(field(function, "name")) or kind})
    return definitions or None


def read_chat_request(call: Call, body: Mapping[str, Any]) -> None:
    """Read ``messages`` and ``tools``."""
    call.input_messages = [_chat_message(message) for message in items(body.get("messages"))]
    call.tool_definitions = read_tools(body.get("tools"))


def read_chat_answer(call: Call, answer: object) -> None:
    """Read one message for each choice."""
    call.output_messages = [_chat_message(field(choice, "message")) for choice in items(field(answer, "choices"))]
    for message in call.output_messages:
        message["role"] = "assistant"


def read_chat_chunks(call: Call, chunks: Sequence[object]) -> None:
    """Put the deltas of each choice together."""
    texts: dict[int, list[str]] = {}
    tools: dict[int, dict[int, Part]] = {}
    for chunk in chunks:
        for choice in items(field(chunk, "choices")):
            index = integer(field(choice, "index")) or 0
            delta = field(choice, "delta")
            pieces = texts.setdefault(index, [])
            for key in ("content", "refusal"):
                piece = text(field(delta, key))
                if piece:
                    pieces.append(piece)
            for call_delta in items(field(delta, "tool_calls")):
                slot = tools.setdefault(index, {})
                # Some servers leave the index out; an id begins the next call, anything else continues the last.
                position = integer(field(call_delta, "index"))
                if position is None:
                    position = len(slot) if field(call_delta, "id") or not slot else len(slot) - 1
                part = slot.setdefault(position, {"type": "tool_call", "id": None, "name": "", "arguments": ""})
                function = field(call_delta, "function")
                part["id"] = part["id"] or text(field(call_delta, "id"))
                part["name"] += text(field(function, "name")) or ""
                part["arguments"] += text(field(function, "arguments")) or ""
    messages: list[Message] = []
    for index, pieces in sorted(texts.items()):
        parts = [text_part("".join(pieces))] if pieces else []
        for part in tools.get(index, {}).values():
            parts.append({**part, "arguments": decoded_arguments(part["arguments"])})
        messages.append(_message("assistant", parts))
    call.output_messages = messages


def read_completion_request(call: Call, body: Mapping[str, Any]) -> None:
    """Read ``prompt``, a text or a list of texts."""
    prompt: object = body.get("prompt")
    prompts = [prompt] if isinstance(prompt, str) else [item for item in items(prompt) if isinstance(item, str)]
    call.input_messages = [text_message("user", item) for item in prompts]


def read_completion_answer(call: Call, answer: object) -> None:
    """Read the text of each choice."""
    call.output_messages = [
        text_message("assistant", text(field(choice, "text")) or "") for choice in items(field(answer, "choices"))
    ]


def read_completion_chunks(call: Call, chunks: Sequence[object]) -> None:
    """Put the texts of each choice together."""
    texts: dict[int, list[str]] = {}
    for chunk in chunks:
        for choice in items(field(chunk, "choices")):
            pieces = texts.setdefault(integer(field(choice, "index")) or 0, [])
            pieces.append(text(field(choice, "text")) or "")
    call.output_messages = [text_message("assistant", "".join(pieces)) for _, pieces in sorted(texts.items())]


def _response_item(item: object) -> Message:
    """Read one item of a response's input or output."""
    kind = text(field(item, "type")) or "message"
    if kind == "message":
        return _message(text(field(item, "role")) or "user", _parts(field(item, "content")))
    if kind in ("function_call", "custom_tool_call"):
        arguments = decoded_arguments(field(item, "arguments") or field(item, "input"))
        return _message("assistant", [tool_call(field(item, "call_id"), field(item, "name"), arguments)])
    if kind in ("function_call_output", "custom_tool_call_output"):
        return _message("tool", [tool_response(field(item, "call_id"), field(item, "output"))])
    if kind == "reasoning":
        summary = "\n".join(text(field(piece, "text")) or "" for piece in items(field(item, "summary")))
        return _message("assistant", [{"type": "reasoning", "content": summary}])
    return _message("assistant", [{"type": kind}])


def read_responses_request(call: Call, body: Mapping[str, Any]) -> None:
    """Read ``input``, ``instructions`` and ``tools``."""
    given: object = body.get("input")
    if isinstance(given, str):
        call.input_messages = [text_message("user", given)]
    else:
        call.input_messages = [_response_item(item) for item in items(given)]
    instructions = text(body.get("instructions"))
    if instructions:
        call.system_instructions = [text_part(instructions)]
    call.tool_definitions = read_tools(body.get("tools"))


def read_responses_answer(call: Call, answer: object) -> None:
    """Read the output as the one message that the conventions want for one choice."""
    parts: list[Part] = []
    for item in items(field(answer, "output")):
        parts.extend(_response_item(item)["parts"])
    call.output_messages = [_message("assistant", parts)]


def read_responses_chunks(call: Call, chunks: Sequence[object]) -> None:
    """Read the whole response from its last event, or the text so far where the stream was left early."""
    pieces: list[str] = []
    for chunk in chunks:
        kind = field(chunk, "type")
        if kind in ("response.completed", "response.incomplete", "response.failed"):
            read_responses_answer(call, field(chunk, "response"))
            return
        if kind == "response.output_text.delta":
            pieces.append(text(field(chunk, "delta")) or "")
    call.output_messages = [text_message("assistant", "".join(pieces))]
