"""Split a streamed body into its events, wherever the bytes are cut: one class for each way of writing a stream.

Each takes the next bytes with `feed`, returns the events that they complete, and reads an event with `decode`, so that
only those that somebody asks for are read. `rest` returns what the stream ended with, if it means something.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import Any, Protocol
from zlib import crc32

from otel_llm.bodies.excerpt import WHOLE, Excerpt, decoded


class Splitter(Protocol):
    """What the classes below have in common."""

    finished: bool
    """Whether the stream said that it is done."""

    def feed(self, data: bytes) -> list[Any]:
        """Take the next bytes and return the events that they complete."""
        ...

    def skim(self, data: bytes, last: int) -> list[Any]:
        """Take the next bytes and return the last few of the events that they complete."""
        ...

    def rest(self) -> list[Any]:
        """Return the event that the stream ended with, without its end mark."""
        ...

    def decode(self, event: Any) -> object:
        """Return what an event says, or None."""
        ...


class _Marked:
    """Events that end in a mark."""

    _mark = b"\n"

    def __init__(self) -> None:
        self.finished = False
        self._pending = Excerpt()

    def _ended(self, data: bytes) -> bytes:
        """Take the next bytes and return everything up to the last mark."""
        pending = self._pending
        mark = self._mark
        if not len(pending) and data.endswith(mark):
            return data
        before = pending.last(len(mark) - 1)  # where the mark may have begun
        end = (before + data).rfind(mark)
        if end < 0:
            pending.add(data)
            return b""
        end += len(mark) - len(before)
        ended = pending.take() + data[:end]
        pending.add(data[end:])
        return ended


_DATA = re.compile(rb"(?:\A|(?<=\n\n))data: ?([^\n\[ ][^\n]*)\n\n")
_EVENT_AND_DATA = re.compile(rb"(?:\A|(?<=\n\n))event:[^\n]*\ndata: ?([^\n\[ ][^\n]*)\n\n")


class Events(_Marked):
    """Server-sent events (HTML standard, "Server-sent events")."""

    _mark = b"\n\n"

    def __init__(self) -> None:
        super().__init__()
        self._after_cr = False
        self._begun = False

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes and return the data of the events that they complete."""
        return self._events_of(self._text(data))

    def skim(self, data: bytes, last: int) -> list[bytes]:
        """Take the next bytes and return the last few of the events that they complete."""
        text = self._text(data)
        ends = text.rsplit(b"\n\n", last + 2)[-last - 2 : -1]
        lone = [event for event in map(_lone, ends) if event]
        if self.finished or len(lone) == len(ends):
            return [] if self.finished else lone[-last:]
        events = self._events_of(b"\n\n".join([*ends, b""]))
        if len(events) < last:  # others stand between them
            self.finished = False
            events = self._events_of(text)
        return events[-last:]

    def _text(self, data: bytes) -> bytes:
        """Take the next bytes and return the lines of the events that they complete."""
        if not self._begun and data:
            self._begun = True
            data = data.removeprefix(codecs.BOM_UTF8)
        if self._after_cr or b"\r" in data:
            data = self._with_newlines(data)
        return self._ended(data)

    def _events_of(self, text: bytes) -> list[bytes]:
        if not text or self.finished:
            return []
        # Most streams are nothing but such events, and are split without a look at each line.
        named = text.startswith(b"event:")
        events: list[bytes] = (_EVENT_AND_DATA if named else _DATA).findall(text)
        if len(events) * (3 if named else 2) == text.count(b"\n"):
            return events
        events = _data_of(text)
        for index, event in enumerate(events):
            if event.startswith(b"[DONE]"):
                self.finished = True
                return events[:index]
        return events

    def rest(self) -> list[bytes]:
        """Return the data of an event without an empty line after it, if it came whole."""
        events = self.feed(b"\n\n")
        return events if events and _is_json(events[-1]) else events[:-1]

    def decode(self, event: bytes) -> object:
        """Return the JSON of an event, or what is known of it."""
        return decoded(event)

    def _with_newlines(self, data: bytes) -> bytes:
        if self._after_cr and data:
            self._after_cr = False
            data = data.removeprefix(b"\n")
        if data:
            self._after_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")


def _lone(event: bytes) -> bytes | None:
    """Return the data of an event that is an object on one line, with a name or without; else None."""
    if event.startswith(b"data: {"):
        return None if b"\n" in event else event[6:]
    name, _, data = event.partition(b"\ndata: {")
    return b"{" + data if name.startswith(b"event: ") and data and b"\n" not in name + data else None


def _data_of(text: bytes) -> list[bytes]:
    """Return the data of each event of a text that ends with an empty line."""
    events: list[bytes] = []
    data: list[bytes] = []
    for line in text.split(b"\n"):
        if line.startswith(b"data:"):
            data.append(line[6:] if line.startswith(b"data: ") else line[5:])
        elif not line and data:
            events.append(b"\n".join(data))
            data.clear()
    return events


class Lines(_Marked):
    """One JSON value on each line (NDJSON, JSON lines)."""

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes and return the lines that they complete, but for empty ones."""
        return _full(self._ended(data).split(b"\n"))

    def skim(self, data: bytes, last: int) -> list[bytes]:
        """Take the next bytes and return the last few of the lines that they complete."""
        text = self._ended(data)
        lines = text.rsplit(b"\n", last + 1)[-last - 1 : -1]
        return lines if all(line.startswith(b"{") for line in lines) else _full(text.split(b"\n"))[-last:]

    def rest(self) -> list[bytes]:
        """Return a last line without an end, if it came whole."""
        return [line for line in self.feed(b"\n") if _is_json(line)]

    def decode(self, event: bytes) -> object:
        """Return the JSON of a line, or what is known of it."""
        return decoded(event)


def _full(lines: list[bytes]) -> list[bytes]:
    return [line for line in lines if len(line) > 1]


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


_SCANNER = json.JSONDecoder()
_BETWEEN = re.compile(r"[\[\s,]*")


_OFTEN = 4 * 1024
"""Characters up to which an element is tried with every piece."""


class Elements:
    """The elements of one JSON array that is sent bit by bit, as Gemini does it."""

    def __init__(self) -> None:
        self.finished = False
        self._text = codecs.getincrementaldecoder("utf-8")("replace")
        self._pieces: list[str] = []
        self._length = 0
        self._wanted = 0
        """Characters before it is worth another try, which begins with the element."""
        self._excerpt: Excerpt | None = None

    def feed(self, data: bytes) -> list[object]:
        """Take the next bytes and return the elements that they complete, decoded."""
        if self._excerpt is not None:
            self._excerpt.add(data)
            return []
        self._pieces.append(self._text.decode(data))
        self._length += len(data)
        if self._length < self._wanted or (b"}" not in data and b"]" not in data):  # nothing ends here
            self._bound()
            return []
        elements = self._read()
        self._bound()
        return elements

    def _read(self) -> list[object]:
        """Return the elements that are complete, and keep the rest."""
        text = "".join(self._pieces)
        elements: list[object] = []
        at = 0
        while True:
            begin = _end_of(_BETWEEN, text, at)
            if not text.startswith("{", begin):
                self.finished = self.finished or text.startswith("]", begin)
                break
            try:
                element, at = _SCANNER.raw_decode(text, begin)
            except (ValueError, RecursionError):
                break
            elements.append(element)
        text = text[at:]
        self._pieces = [text]
        self._length = len(text)
        self._wanted = self._length + self._length // 4 if self._length > _OFTEN else 0
        return elements

    def skim(self, data: bytes, last: int) -> list[object]:
        """Take the next bytes and return the last few of the elements that they complete."""
        return self.feed(data)[-last:]

    def rest(self) -> list[object]:
        """Return the elements that were not tried again, or what is known of one too large to keep."""
        if self._excerpt is None:
            return self._read() if self._wanted else []
        known = decoded(self._excerpt.take().rstrip().removesuffix(b"]"))
        return [] if known is None else [known]

    def decode(self, event: object) -> object:
        """Return the element as it is."""
        return event

    def _bound(self) -> None:
        if self._length > WHOLE:
            self._excerpt = Excerpt()
            self._excerpt.add("".join(self._pieces).lstrip("[ \t\r\n,").encode("utf-8", "replace"))
            self._pieces = []


def _end_of(pattern: re.Pattern[str], text: str, at: int) -> int:
    match = pattern.match(text, at)
    return match.end() if match else at


_PRELUDE = 12
"""Bytes of the lengths of a message and its headers, and of their checksum."""
_CHECKSUM = 4
_SIZES = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Bytes of a header's value by its type; those of types 6 and 7 begin with their own length."""


class Frames:
    """Messages of Amazon's event stream, ``application/vnd.amazon.eventstream``.

    A message is decoded to an object with one member: under the type of the event, its payload.

    Source: Smithy specification, "Amazon Event Stream Specification"; AWS SDKs, vnd.amazon.eventstream.
    """

    def __init__(self) -> None:
        self.finished = False
        self._kept = bytearray()
        self._skip = 0

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes and return the messages that they complete."""
        if self.finished:
            return []
        if self._skip:
            skipped = min(self._skip, len(data))
            self._skip -= skipped
            data = data[skipped:]
        kept = self._kept
        kept += data
        messages: list[bytes] = []
        at = 0
        while len(kept) - at >= _PRELUDE:
            length = int.from_bytes(kept[at : at + 4], "big")
            checksum = int.from_bytes(kept[at + 8 : at + 12], "big")
            if length < _PRELUDE + _CHECKSUM or crc32(kept[at : at + 8]) != checksum:
                self.finished = True  # this is no event stream, or no longer
                kept.clear()
                return messages
            if length > WHOLE:
                messages.append(b"")
                self._skip = max(0, at + length - len(kept))
                at = min(at + length, len(kept))
                continue
            if len(kept) - at < length:
                break
            messages.append(bytes(kept[at : at + length]))
            at += length
        del kept[:at]
        return messages

    def skim(self, data: bytes, last: int) -> list[bytes]:
        """Take the next bytes and return the last few of the messages that they complete."""
        return self.feed(data)[-last:]

    def rest(self) -> list[bytes]:
        """Return nothing: a message that is cut off tells nothing."""
        return []

    def decode(self, event: bytes) -> object:
        """Return ``{type: payload}`` of a message, or None."""
        end = _PRELUDE + int.from_bytes(event[4:8], "big")
        headers = _headers(event[_PRELUDE:end])
        kind = headers.get("exception-type") or headers.get("event-type")
        if kind is None:
            code = headers.get("error-code")
            return None if code is None else {"error": {"code": code, "message": headers.get("error-message")}}
        return {kind: decoded(event[end:-_CHECKSUM])}


def _headers(data: bytes) -> dict[str, str]:
    """Return the headers that are texts, without the colon that the reserved ones begin with."""
    headers: dict[str, str] = {}
    at = 0
    while at < len(data):
        start = at + 1
        at = start + data[at]
        name = data[start:at]
        if at >= len(data):
            break
        kind = data[at]
        at += 1
        size = _SIZES.get(kind)
        if size is None:
            size = int.from_bytes(data[at : at + 2], "big")
            at += 2
        if kind == 7:
            headers[name.decode("utf-8", "replace").lstrip(":")] = data[at : at + size].decode("utf-8", "replace")
        at += size
    return headers
