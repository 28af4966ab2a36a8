"""Messages of the Gemini formats, in the form of the conventions' message schema.

Source: GenAI semantic conventions, "Capturing instructions, inputs, and outputs"; Gemini API reference, "Content".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from otel_llm.call import Call
from otel_llm.wire.fields import field, fields, integer, items, text
from otel_llm.wire.messages import Message, Part, text_part, tool_call, tool_response

_CAPITAL = re.compile("[A-Z]")
_ROLES = {"model": "assistant", "function": "tool"}


def either(value: object, name: str) -> Any:
    """Return a field by its name in the reference or by its name with underscores: the server takes both."""
    own = fields(value)
    found = own.get(name)
    return own.get(with_underscores(name)) if found is None else found


def with_underscores(name: str) -> str:
    """Return the other name of a field."""
    return _CAPITAL.sub(lambda capital: f"_{capital[0].lower()}", name)


def _part(part: object) -> Part:
    own = fields(part)
    said = own.get("text")
    if isinstance(said, str):
        return {"type": "reasoning", "content": said} if own.get("thought") else text_part(said)
    called = either(part, "functionCall")
    if called is not None:
        return tool_call(field(called, "id"), field(called, "name"), field(called, "args"))
    answered = either(part, "functionResponse")
    if answered is not None:
        identifier = field(answered, "id") or field(answered, "name")
        return tool_response(identifier, field(answered, "response"))
    blob = either(part, "inlineData")
    if blob is not None:
        kind = text(either(blob, "mimeType")) or ""
        data = text(field(blob, "data")) or ""
        return {"type": "blob", "modality": _modality(kind), "mime_type": kind, "content": data}
    file = either(part, "fileData")
    if file is not None:
        kind = text(either(file, "mimeType")) or ""
        uri = text(either(file, "fileUri")) or ""
        return {"type": "uri", "modality": _modality(kind), "mime_type": kind, "uri": uri}
    return {"type": next(iter(own), "unknown")}


def _modality(mime_type: str) -> str:
    kind = mime_type.partition("/")[0]
    return kind if kind in ("image", "audio", "video") else "document"


def _parts(content: object) -> list[Part]:
    if isinstance(content, str):
        return [text_part(content)]
    return [_part(part) for part in items(field(content, "parts"))]


def _message(content: object) -> Message:
    role = text(field(content, "role")) or "user"
    parts = _parts(content)
    if parts and parts[0]["type"] == "tool_call_response":
        role = "tool"
    return {"role": _ROLES.get(role, role), "parts": parts}


def read_request(call: Call, body: Mapping[str, Any]) -> None:
    """Read ``contents``, ``systemInstruction`` and ``tools``."""
    contents: object = body.get("contents")
    given: list[Any] = items(contents)
    if not given and contents:
        given = [contents]
    call.input_messages = [_message(content) for content in given]
    instruction = either(body, "systemInstruction")
    if instruction is not None:
        call.system_instructions = _parts(instruction) or None
    definitions: list[dict[str, Any]] = []
    for tool in items(body.get("tools")):
        declared = items(either(tool, "functionDeclarations"))
        definitions += [{"type": "function", "name": text(field(each, "name")) or ""} for each in declared]
        definitions += [
            {"type": name, "name": name}
            for name in fields(tool)
            if name not in ("functionDeclarations", "function_declarations")
        ]
    call.tool_definitions = definitions or None


def read_answer(call: Call, answer: object) -> None:
    """Read one message for each candidate."""
    read_chunks(call, [answer])


def read_chunks(call: Call, chunks: Sequence[object]) -> None:
    """Put the parts of each candidate together; texts of the same kind that follow each other are one."""
    messages: dict[int, list[Part]] = {}
    for chunk in chunks:
        for position, candidate in enumerate(items(field(chunk, "candidates"))):
            index = integer(field(candidate, "index"))
            parts = messages.setdefault(position if index is None else index, [])
            for part in _parts(field(candidate, "content")):
                last = parts[-1] if parts else None
                if last is not None and last["type"] == part["type"] and part["type"] in ("text", "reasoning"):
                    last["content"] += part["content"]
                else:
                    parts.append(part)
    call.output_messages = [{"role": "assistant", "parts": parts} for _, parts in sorted(messages.items())]
