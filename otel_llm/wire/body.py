"""Put an answer together from the bytes that pass by: JSON or server-sent events, plain or compressed.

For callers who read the body themselves (raw and streaming responses, other clients). Every chunk is handed on as it
came; what is kept of it is bounded.
"""

from __future__ import annotations

import json
import zlib
from typing import Any

HEAD = 64 * 1024
"""Bytes kept of the beginning of a body that is too large to keep."""
TAIL = 64 * 1024
"""Bytes kept of its end, where usage stands."""
WHOLE = 4 * 1024 * 1024
"""Largest body kept whole."""


class Body:
    """Collect the bytes of one response as they come over the wire; never raises for odd ones."""

    def __init__(self, content_type: str, content_encoding: str) -> None:
        self.is_stream = content_type.partition(";")[0].strip().lower() == "text/event-stream"
        self.finished = False
        """Whether the stream said that it is done."""
        self._inflate = _decompressor(content_encoding)
        self._kept = bytearray()
        self._head = b""
        self._line = bytearray()
        self._data: list[bytes] = []
        self._after_cr = False

    def feed(self, chunk: bytes) -> list[bytes]:
        """Take the next bytes and return the data of the stream events that they complete."""
        if self._inflate is None:
            return []
        try:
            data = self._inflate(chunk)
        except zlib.error:
            self._inflate = None
            return []
        if self.is_stream:
            return self._split(data)
        self._keep(data)
        return []

    def answer(self) -> object:
        """Return the decoded JSON answer, or what is known of it, or None."""
        if self._head:
            return _usage_of(self._head + bytes(self._kept))
        try:
            return json.loads(bytes(self._kept))
        except ValueError:
            return None

    def _keep(self, data: bytes) -> None:
        self._kept += data
        if self._head:
            del self._kept[:-TAIL]
        elif len(self._kept) > WHOLE:
            self._head = bytes(self._kept[:HEAD])
            del self._kept[:-TAIL]

    def _split(self, data: bytes) -> list[bytes]:
        """Split events at empty lines, wherever the chunks are cut (HTML standard, "Server-sent events")."""
        completed: list[bytes] = []
        if self._after_cr and data:
            self._after_cr = False
            data = data.removeprefix(b"\n")
        if not data:
            return completed
        self._after_cr = data.endswith(b"\r")
        self._line += data
        if b"\n" not in data and b"\r" not in data:
            if len(self._line) > WHOLE:
                self._line.clear()
            return completed
        lines = bytes(self._line).replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        self._line = bytearray(lines.pop())
        for line in lines:
            if line.startswith(b"data:"):
                self._data.append(line[6:] if line.startswith(b"data: ") else line[5:])
            elif not line and self._data:
                event = b"\n".join(self._data)
                self._data.clear()
                if event.startswith(b"[DONE]"):
                    self.finished = True
                elif not self.finished:
                    completed.append(event)
        return completed


def _decompressor(content_encoding: str) -> Any:
    """Return a function from wire bytes to plain bytes, or None for a coding that is not known here."""
    coding = content_encoding.strip().lower()
    if coding in ("", "identity"):
        return bytes
    if coding in ("gzip", "x-gzip", "deflate"):
        # 32 + 15: zlib finds out by itself whether a gzip or a zlib header comes.
        return zlib.decompressobj(32 + 15).decompress
    return None


def _usage_of(text: bytes) -> dict[str, Any] | None:
    """Find the usage object in a body of which only the beginning and the end were kept."""
    decoder = json.JSONDecoder()
    source = text.decode("utf-8", "replace")
    at = source.rfind('"usage"')
    if at < 0:
        return None
    colon = source.find("{", at)
    try:
        usage, _ = decoder.raw_decode(source, colon)
    except ValueError:
        return None
    return {"usage": usage}
