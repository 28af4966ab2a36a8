"""Whether a request shows the model an image, in the words of every API.

Only what can be read again is looked at: an iterator is left for the client that has to send it. An image is told by
its kind, never by its data, so that a long conversation of plain texts costs a few hundredths of a microsecond each.

Source: OpenAI API reference, "Chat", "Responses", "Runs"; Anthropic API reference, "Messages"; Gemini API reference,
"Content"; Amazon Bedrock API reference, "ContentBlock"; Cohere API reference, "Chat"; Ollama's API documentation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from otel_llm.wire.fields import fields

_KINDS = ("image_url", "input_image", "image", "image_file", "computer_screenshot")
"""The ``type`` of what is an image."""
_MEDIA = ("inlineData", "inline_data", "fileData", "file_data")
"""Where Gemini's parts have a medium of any type."""
_MIME_TYPES = ("mimeType", "mime_type")
_INNER = ("content", "output", "source", "parts", "toolResult", "functionResponse")
"""Where a message, a part of it or a tool's result has parts of its own."""
_DEEPEST = 5

_TYPED = re.compile(rb'"type"\s*:\s*"(?:' + "|".join(_KINDS).encode() + rb')"')
_WRITTEN = {
    "gemini": re.compile(rb'"mime(?:_t|T)ype"\s*:\s*"image/'),
    "ollama": re.compile(rb'"images"\s*:\s*\[\s*"'),
    "bedrock": re.compile(rb'"image"\s*:\s*\{|' + _TYPED.pattern),
}
"""An image as it stands in a body, by the API that has a way of its own. In a text its quotes would be escaped."""


def has_image(messages: Any) -> bool:
    """Whether messages or items have an image among their parts, or are one; never raises."""
    each: Sequence[Any] = messages if messages.__class__ is list else _each(messages)
    try:
        for message in each:
            content = message.get("content") if message.__class__ is dict else fields(message).get("content")
            if content.__class__ is not str and _is_shown(message, _DEEPEST):
                return True
    except Exception:  # an object of the caller's that is odd
        return False
    return False


def has_images(messages: Any) -> bool:
    """Whether messages have images beside their texts, as Ollama has them; never raises."""
    each: Sequence[Any] = messages if messages.__class__ is list else _each(messages)
    try:
        for message in each:
            images = message.get("images") if message.__class__ is dict else fields(message).get("images")
            if images is not None and any_of(images):
                return True
    except Exception:
        return False
    return False


def any_of(images: Any) -> bool:
    """Whether there are any images in a list of them."""
    return next(iter(_each(images)), None) is not None


def written(content: bytes, api: str) -> bool:
    """Whether an image stands in a body that is too large to be decoded, of an API by its name in `formats.NAMES`."""
    return _WRITTEN.get(api, _TYPED).search(content) is not None


def _each(value: Any) -> Sequence[Any]:
    """Return a sequence; nothing in place of anything else."""
    if isinstance(value, (str, bytes, bytearray, memoryview)) or not isinstance(value, Sequence):
        return ()
    each: Sequence[Any] = value  # pyright: ignore[reportUnknownVariableType]
    return each


def _is_shown(part: object, depth: int) -> bool:
    """Whether a part is an image or has one inside."""
    own = fields(part)
    kind = own.get("type")
    if isinstance(kind, str):
        if kind in _KINDS:
            return True
    elif own.get("image") is not None or any(_is_image(own.get(name)) for name in _MEDIA):
        return True
    return depth > 0 and any(_is_inside(own[name], depth) for name in _INNER if name in own)


def _is_inside(inner: Any, depth: int) -> bool:
    if inner is None or isinstance(inner, str):
        return False
    if isinstance(inner, Sequence):
        return any(_is_shown(part, depth - 1) for part in _each(inner))
    return _is_shown(inner, depth - 1)


def _is_image(media: object) -> bool:
    """Whether a medium of Gemini's is an image."""
    own: Mapping[str, Any] = fields(media)
    return any(str(own.get(name)).startswith("image/") for name in _MIME_TYPES)
