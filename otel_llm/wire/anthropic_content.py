"""Messages of the Anthropic formats, in the form of the conventions' message schema.

Only lists and dicts of the caller's are read: an iterator is left for the client that has to send it.
Source: GenAI semantic conventions, "Capturing instructions, inputs, and outputs" and its message schemas.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from otel_llm.call import Call
from otel_llm.wire.fields import field, fields, integer, items, text
from otel_llm.wire.messages import Message, Part, decoded_arguments, text_message, text_part, tool_call, tool_response

_ASSISTANT = "assistant"
_MODALITIES = {"image": "image", "document": "document"}


def _parts(content: object) -> list[Part]:
    if isinstance(content, str):
        return [text_part(content)]
    return [_part(block) for block in items(content)]


def _part(block: object) -> Part:
    """Read one block of a message's content."""
    if isinstance(block, str):
        return text_part(block)
    own = fields(block)
    kind = text(own.get("type")) or ""
    if kind == "text":
        return text_part(text(own.get("text")) or "")
    if kind == "thinking":
        return {"type": "reasoning", "content": text(own.get("thinking")) or ""}
    if kind.endswith("tool_use"):  # tools of the caller's, of the server and of MCP
        return tool_call(own.get("id"), own.get("name"), own.get("input"))
    if kind.endswith("tool_result"):
        return tool_response(own.get("tool_use_id"), _result(own.get("content")))
    if kind in _MODALITIES:
        return _media(_MODALITIES[kind], own.get("source"))
    return {"type": kind or "unknown"}


def _media(modality: str, source: object) -> Part:
    own = fields(source)
    kind = own.get("type")
    if kind == "url":
        return {"type": "uri", "modality": modality, "uri": text(own.get("url")) or ""}
    if kind == "file":
        return {"type": "file", "modality": modality, "file_id": text(own.get("file_id")) or ""}
    if kind == "content":  # a document of blocks
        return {"type": modality, "content": _parts(own.get("content"))}
    if kind == "text":
        return text_part(text(own.get("data")) or "")
    data = own.get("data")
    return {
        "type": "blob",
        "modality": modality,
        "mime_type": text(own.get("media_type")),
        "content": data if isinstance(data, str) else "",
    }


def _result(content: object) -> object:
    """Return the result of a tool: a text, or the blocks it is made of as plain values."""
    return content if isinstance(content, str) else _plain(content)


def _plain(value: object) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in items(value)]  # pyright: ignore[reportUnknownArgumentType]
    own = fields(value)
    return {key: _plain(item) for key, item in own.items() if item is not None} if own else value


def _messages(messages: object) -> list[Message]:
    return [
        {"role": text(field(message, "role")) or "user", "parts": _parts(field(message, "content"))}
        for message in items(messages)
    ]


def read_messages_request(call: Call, body: Mapping[str, Any]) -> None:
    """Read ``messages``, ``system`` and ``tools``."""
    call.input_messages = _messages(body.get("messages"))
    call.system_instructions = _parts(body.get("system")) or None
    definitions = [_definition(tool) for tool in items(body.get("tools"))]
    call.tool_definitions = definitions or None


def _definition(tool: object) -> dict[str, Any]:
    kind = text(field(tool, "type"))
    kind = "function" if kind in (None, "custom") else kind
    return {"type": kind, "name": text(field(tool, "name")) or kind}


def read_message(call: Call, answer: object) -> None:
    """Read the one message of an answer."""
    call.output_messages = [{"role": _ASSISTANT, "parts": _parts(field(answer, "content"))}]


def read_message_chunks(call: Call, chunks: Sequence[object]) -> None:
    """Put the deltas of each block together; the input of a tool comes as pieces of JSON."""
    blocks: dict[int, dict[str, Any]] = {}
    inputs: dict[int, list[str]] = {}
    for chunk in chunks:
        own = fields(chunk)
        kind = own.get("type")
        index = integer(own.get("index")) or 0
        if kind == "content_block_start":
            blocks[index] = dict(fields(own.get("content_block")))
        elif kind == "content_block_delta" and index in blocks:
            delta = fields(own.get("delta"))
            for key in ("text", "thinking"):
                piece = text(delta.get(key))
                if piece:
                    blocks[index][key] = (text(blocks[index].get(key)) or "") + piece
            piece = text(delta.get("partial_json"))
            if piece:
                inputs.setdefault(index, []).append(piece)
    for index, pieces in inputs.items():
        blocks[index]["input"] = decoded_arguments("".join(pieces))
    call.output_messages = [{"role": _ASSISTANT, "parts": [_part(blocks[index]) for index in sorted(blocks)]}]


def read_complete_request(call: Call, body: Mapping[str, Any]) -> None:
    """Read ``prompt``."""
    prompt = text(body.get("prompt"))
    call.input_messages = [text_message("user", prompt)] if prompt else []


def read_completion(call: Call, answer: object) -> None:
    """Read ``completion``."""
    call.output_messages = [text_message(_ASSISTANT, text(field(answer, "completion")) or "")]


def read_completion_chunks(call: Call, chunks: Sequence[object]) -> None:
    """Put the pieces of the completion together."""
    whole = "".join([text(field(chunk, "completion")) or "" for chunk in chunks])
    call.output_messages = [text_message(_ASSISTANT, whole)]
