"""Read the fields of a form that is sent with files (``multipart/form-data``); the files themselves stay unread.

Source: RFC 7578; the classes of `httpx._multipart` and `httpx2._multipart`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from otel_llm.wire.fields import field, items

_LONGEST = 1024
"""The longest value that is read."""
_BOUNDARY = re.compile(r'^multipart/form-data\b.*\bboundary="?([^";]+)', re.IGNORECASE)
_NAME = re.compile(rb'\bname="([^"]*)"')
_NO_TEXT = re.compile(r"true|false|-?(0|[1-9]\d{0,14})(\.\d{1,15})?")


def fields_of_bytes(form: bytes, content_type: str) -> dict[str, Any]:
    """Return the fields of a form, or of an excerpt with a zero byte for what lies in between."""
    match = _BOUNDARY.match(content_type)
    return {} if match is None else dict(_parts(form, b"--" + match[1].encode()))


def _parts(form: bytes, boundary: bytes) -> Iterator[tuple[str, Any]]:
    for part in form.split(boundary)[1:-1]:
        head, _, value = part.partition(b"\r\n\r\n")
        name = _NAME.search(head)
        if name is not None and b"filename" not in head and b"\0" not in part and len(value) <= _LONGEST:
            yield _field(name[1].decode("utf-8", "replace"), value.removesuffix(b"\r\n").decode("utf-8", "replace"))


def fields_of_stream(stream: object) -> dict[str, Any]:
    """Return the fields of a form that httpx is about to send, of any other stream none; neither is begun."""
    found: dict[str, Any] = {}
    for part in items(field(stream, "fields")):
        name, value = field(part, "name"), field(part, "value")
        if isinstance(name, str) and isinstance(value, str) and len(value) <= _LONGEST:
            found.update([_field(name, value)])
    return found


def _field(name: str, value: str) -> tuple[str, Any]:
    """Return a field with what its text means: a form has no other way to write a number or a flag."""
    return name, json.loads(value) if name != "model" and _NO_TEXT.fullmatch(value) else value
