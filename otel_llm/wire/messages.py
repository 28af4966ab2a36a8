"""What messages are made of, in the form of the conventions' message schema.

Source: GenAI semantic conventions, "Capturing instructions, inputs, and outputs" and its message schemas.
"""

from __future__ import annotations

import json
from typing import Any

from otel_llm.wire.fields import text

Part = dict[str, Any]
Message = dict[str, Any]


def text_part(content: str) -> Part:
    """Return the part that a text is."""
    return {"type": "text", "content": content}


def text_message(role: str, content: str) -> Message:
    """Return a message that is one text."""
    return {"role": role, "parts": [text_part(content)]}


def tool_call(identifier: object, name: object, arguments: object) -> Part:
    """Return the part that a wanted call of a tool is."""
    return {"type": "tool_call", "id": text(identifier), "name": text(name) or "", "arguments": arguments}


def tool_response(identifier: object, response: object) -> Part:
    """Return the part that the answer of a tool is."""
    return {"type": "tool_call_response", "id": text(identifier), "response": response}


def media(kind: str, url: str) -> Part:
    """Return the part for a medium by its URL, whose data may be the URL itself."""
    if not url.startswith("data:"):
        return {"type": "uri", "modality": kind, "uri": url}
    header, _, data = url[5:].partition(",")
    return {"type": "blob", "modality": kind, "mime_type": header.partition(";")[0], "content": data}


def decoded_arguments(arguments: object) -> object:
    """Return the arguments of a tool as an object where they are valid JSON, else as they came."""
    if isinstance(arguments, str):
        try:
            return json.loads(arguments)
        except (ValueError, RecursionError):
            return arguments
    return arguments
