"""Put an answer together from the bytes that pass by: JSON or a stream of events, plain or compressed.

For callers who read the body themselves (raw and streaming responses, other clients). Every chunk is handed on as it
came; what is kept of it is bounded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from otel_llm.bodies.codings import inflater
from otel_llm.bodies.excerpt import Excerpt, decoded
from otel_llm.bodies.split import Elements, Events, Frames, Lines, Splitter

_SPLITTERS: dict[str, Callable[[], Splitter]] = {
    "text/event-stream": Events,
    "application/x-ndjson": Lines,
    "application/ndjson": Lines,
    "application/jsonl": Lines,
    "application/x-jsonl": Lines,
    "application/jsonlines": Lines,
    "application/x-jsonlines": Lines,
    "application/stream+json": Lines,
    "application/vnd.amazon.eventstream": Frames,
}


_SLICE = 1024
"""Bytes that are inflated at once: what becomes of more could be large."""
_LARGE = 16 * 1024 * 1024
_SUSPECT = 50
"""A body of more than so many bytes, and of so many times its size on the wire, is not inflated any further."""


class Body:
    """Collect the bytes of one response as they come over the wire; never raises for odd ones.

    Args:
        content_type: the header of the response.
        content_encoding: that header too, or nothing if the bytes are plain already.
        asked: whether a stream was asked for; then a body of any other type may turn out to be one.
    """

    def __init__(self, content_type: str, content_encoding: str, *, asked: bool = False) -> None:
        make = _SPLITTERS.get(content_type.partition(";")[0].strip().lower())
        self._split = None if make is None else make()
        self._guesses = asked and make is None
        self._lone: list[Any] | None = None
        """The events so far of a body that is a stream if there is more than one of them."""
        self._inflate = inflater(content_encoding)
        self._is_plain = self._inflate is bytes
        self._sizes = [0, 0]
        """Bytes on the wire, and inflated, so far."""
        self._whole = Excerpt()

    @property
    def is_stream(self) -> bool:
        """Whether the body is a stream of events, as far as is known."""
        return self._split is not None and (self._lone is None or len(self._lone) > 1)

    @property
    def may_stream(self) -> bool:
        """Whether the body is a stream of events or may turn out to be one."""
        return self._split is not None or self._guesses

    @property
    def finished(self) -> bool:
        """Whether the stream said that it is done."""
        return self._split is not None and self._split.finished

    def feed(self, chunk: bytes) -> list[Any]:
        """Take the next bytes and return the stream events that they complete, for `decode`."""
        if self._is_plain:
            return self._feed(chunk)
        return [event for data in self._inflated(chunk) for event in self._feed(data)]

    def _feed(self, data: bytes) -> list[Any]:
        if not data:
            return []
        if self._split is None:
            self._whole.add(data)
            return self._guess(data) if self._guesses else []
        return self._noted(self._split.feed(data))

    def skim(self, chunks: bytes, last: int) -> list[Any]:
        """Take the next bytes and return the last few of the events that they complete: `feed` in bulk."""
        if self._split is None or self._lone is not None:
            return self.feed(chunks)[-last:]
        if self._is_plain:
            return self._split.skim(chunks, last)
        kept: list[Any] = []
        for data in self._inflated(chunks):
            kept = [*kept, *self._split.skim(data, last)][-last:]
        return kept

    def _inflated(self, chunk: bytes) -> Iterator[bytes]:
        for at in range(0, len(chunk), _SLICE):
            if self._inflate is None:
                return
            wire = chunk[at : at + _SLICE]
            try:
                data = self._inflate(wire)
            except Exception:  # each library has errors of its own
                self._inflate = None
                return
            self._sizes[0] += len(wire)
            self._sizes[1] += len(data)
            if self._sizes[1] > max(_LARGE, _SUSPECT * self._sizes[0]):
                self._inflate = None
            yield data

    def rest(self) -> list[Any]:
        """Return the event that the stream ended with, without its end mark."""
        return [] if self._split is None else self._noted(self._split.rest())

    def decode(self, event: Any) -> object:
        """Return what an event says, or None."""
        return None if self._split is None else self._split.decode(event)

    def answer(self) -> object:
        """Return the decoded JSON answer, or what is known of it, or None."""
        if self._lone:
            return self.decode(self._lone[0])
        return decoded(self._whole.take())

    def _noted(self, events: list[Any]) -> list[Any]:
        if self._lone is not None and len(self._lone) < 2:
            self._lone += events[:2]
        return events

    def _guess(self, data: bytes) -> list[Any]:
        """Find out what a body is that does not say it: its first byte, or its first line, gives it away."""
        start = self._whole.first(64).lstrip()[:1]
        if not start:
            return []
        if start == b"[":
            self._split = Elements()
        elif start in b"deir:":  # data, event, id, retry, a comment
            self._split = Events()
        elif start == b"{":
            if b"\n" not in data:
                return []
            text = self._whole.take().lstrip()
            self._whole.add(text)
            line, newline, _ = text.partition(b"\n")
            if not newline:
                return []
            if decoded(line) is not None:
                self._split = Lines()
                self._lone = []
        self._guesses = False
        return [] if self._split is None else self._noted(self._split.feed(self._whole.take()))
