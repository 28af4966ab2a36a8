"""Messages of Bedrock's converse, in the form of the conventions' message schema, and texts of models without messages.

Source: GenAI semantic conventions, "Capturing instructions, inputs, and outputs"; Amazon Bedrock API reference,
"ContentBlock".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from otel_llm.call import Call
from otel_llm.wire.fields import field, fields, integer, items, text
from otel_llm.wire.messages import Message, Part, decoded_arguments, text_message, text_part, tool_call, tool_response

_MEDIA = {"image": "image", "video": "video", "audio": "audio", "document": "document"}


def _media(kind: str, media: object) -> Part:
    """Read a medium; bytes are base64 on the wire, and stay out where a client gives them as bytes."""
    source = field(media, "source")
    uri = text(field(field(source, "s3Location"), "uri"))
    if uri:
        return {"type": "uri", "modality": kind, "uri": uri}
    data = text(field(source, "bytes")) or ""
    mime_type = f"{'application' if kind == 'document' else kind}/{text(field(media, 'format')) or ''}"
    return {"type": "blob", "modality": kind, "mime_type": mime_type, "content": data}


def _part(block: object) -> Part:
    own = fields(block)
    said = own.get("text")
    if isinstance(said, str):
        return text_part(said)
    used = own.get("toolUse")
    if used is not None:
        return tool_call(field(used, "toolUseId"), field(used, "name"), field(used, "input"))
    result = own.get("toolResult")
    if result is not None:
        return tool_response(field(result, "toolUseId"), field(result, "content"))
    reasoning = own.get("reasoningContent")
    if reasoning is not None:
        thought = text(field(field(reasoning, "reasoningText"), "text"))
        return {"type": "reasoning", "content": thought or ""}
    for key, kind in _MEDIA.items():
        if own.get(key) is not None:
            return _media(kind, own[key])
    return {"type": next(iter(own), "unknown")}


def _message(message: object) -> Message:
    parts = [_part(block) for block in items(field(message, "content"))]
    role = text(field(message, "role")) or "user"
    if parts and all(part["type"] == "tool_call_response" for part in parts):
        role = "tool"
    return {"role": role, "parts": parts}


def read_converse_request(call: Call, body: Mapping[str, Any]) -> None:
    """Read ``messages``, ``system`` and ``toolConfig``."""
    call.input_messages = [_message(message) for message in items(body.get("messages"))]
    call.system_instructions = [_part(block) for block in items(body.get("system"))] or None
    tools = items(field(body.get("toolConfig"), "tools"))
    call.tool_definitions = [
        {"type": "function", "name": text(field(field(tool, "toolSpec"), "name")) or ""}
        for tool in tools
        if field(tool, "toolSpec") is not None
    ] or None


def read_converse_answer(call: Call, answer: object) -> None:
    """Read the one message of an answer."""
    message = _message(field(field(answer, "output"), "message"))
    call.output_messages = [{**message, "role": "assistant"}]


def read_converse_chunks(call: Call, chunks: Sequence[object]) -> None:
    """Put the deltas of each block together."""
    blocks: dict[int, Part] = {}
    for chunk in chunks:
        begun = field(chunk, "contentBlockStart")
        used = field(field(begun, "start"), "toolUse")
        if used is not None:
            index = integer(field(begun, "contentBlockIndex")) or 0
            blocks[index] = tool_call(field(used, "toolUseId"), field(used, "name"), "")
        event = field(chunk, "contentBlockDelta")
        delta = fields(field(event, "delta"))
        index = integer(field(event, "contentBlockIndex")) or 0
        said, thought = text(delta.get("text")), text(field(delta.get("reasoningContent"), "text"))
        if said or thought:
            block = blocks.setdefault(index, {"type": "text" if said else "reasoning", "content": ""})
            block["content"] = block.get("content", "") + (said or thought)
        asked = text(field(delta.get("toolUse"), "input"))
        if asked:
            block = blocks.setdefault(index, tool_call(None, None, ""))
            block["arguments"] = block.get("arguments", "") + asked
    parts = [blocks[index] for index in sorted(blocks)]
    for part in parts:
        if part["type"] == "tool_call":
            part["arguments"] = decoded_arguments(part["arguments"])
    call.output_messages = [{"role": "assistant", "parts": parts}]


# models that know no messages


def _said(answer: object) -> list[str]:
    own = fields(answer)
    results = items(own.get("results")) or items(own.get("outputs")) or items(own.get("generations"))
    texts: list[str] = []
    for result in results or [own]:
        made = fields(result)
        texts.append(next((said for key in ("outputText", "generation", "text") if (said := text(made.get(key)))), ""))
    return texts


def read_plain_request(call: Call, body: Mapping[str, Any]) -> None:
    """Read the prompt, by each model's name for it."""
    asked = next((said for key in ("inputText", "prompt", "message") if (said := text(body.get(key)))), None)
    if asked:
        call.input_messages = [text_message("user", asked)]


def read_plain_answer(call: Call, answer: object) -> None:
    """Read one message for each result."""
    call.output_messages = [text_message("assistant", said) for said in _said(answer)]


def read_plain_chunks(call: Call, chunks: Sequence[object]) -> None:
    """Put the texts together."""
    said = "".join([piece for chunk in chunks for piece in _said(chunk)])
    call.output_messages = [text_message("assistant", said)]
