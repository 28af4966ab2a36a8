"""Keep of something large its beginning and its end, and read from them what JSON tells there."""

from __future__ import annotations

import json
import re
from typing import Any

HEAD = 64 * 1024
"""Bytes kept of the beginning of what is too large to keep."""
TAIL = 64 * 1024
"""Bytes kept of its end, where usage stands."""
WHOLE = 4 * 1024 * 1024
"""Bytes that are kept whole."""


class Excerpt:
    """Bytes that are kept whole up to `WHOLE`; of more, the first `HEAD` and the last `TAIL`."""

    def __init__(self) -> None:
        self._head = b""
        self._kept = bytearray()

    def __len__(self) -> int:
        return len(self._head) + len(self._kept)

    def add(self, data: bytes) -> None:
        """Keep more bytes."""
        kept = self._kept
        kept += data
        if self._head:
            del kept[:-TAIL]
        elif len(kept) > WHOLE:
            self._head = bytes(kept[:HEAD])
            del kept[:-TAIL]

    def first(self, count: int) -> bytes:
        """Return the first few bytes."""
        return self._head[:count] or bytes(self._kept[:count])

    def last(self, count: int) -> bytes:
        """Return the last few bytes."""
        return bytes(self._kept[-count:]) if count else b""

    def take(self) -> bytes:
        """Return what was kept, and begin again."""
        # What lies in between is not there; with a zero in its place nothing can be read across it.
        taken = self._head + b"\0" + bytes(self._kept) if self._head else bytes(self._kept)
        self._head = b""
        self._kept.clear()
        return taken


_MEMBER = re.compile(r'[\s{]*"((?:[^"\\]|\\.)*)"\s*:\s*')
_NAME = re.compile(r'"\w+"\s*:')
_COMMA = re.compile(r"\s*,")
_SCANNER = json.JSONDecoder()
_MOST_TRIES = 16
"""Places in a text from which nothing can be read before it is given up."""


def decoded(text: bytes) -> object:
    """Return decoded JSON; of an object of which only an excerpt was kept, the members found there; or None."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return outline(text) if len(text) > HEAD else None


def outline(text: bytes) -> dict[str, Any] | None:
    """Return the members of an object at its beginning, and those at its end."""
    source = text.decode("utf-8", "replace").rstrip()
    found, _ = _members(source, 0)
    stop = len(source[:-1].rstrip()) if source.endswith("}") else -1
    at = max(0, len(source) - TAIL)
    tries = _MOST_TRIES
    while tries and (match := _NAME.search(source, at)):
        # Members that go on until the object ends are its own: those of an object inside it end before.
        last, end = _members(source, match.start())
        if end == stop:
            return found | last
        if not last:
            tries -= 1  # it may have been read to the end of the text, and down to the deepest level
        at = max(end, match.end())
    return found or None


def _members(source: str, at: int) -> tuple[dict[str, Any], int]:
    """Return the members that stand one after the other from a place on, and where they end."""
    members: dict[str, Any] = {}
    while match := _MEMBER.match(source, at):
        try:
            members[match[1]], at = _SCANNER.raw_decode(source, match.end())
        except (ValueError, RecursionError):
            break
        comma = _COMMA.match(source, at)
        if comma is None:
            break
        at = comma.end()
    return members, at
