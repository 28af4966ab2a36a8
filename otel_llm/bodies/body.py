"""Put an answer together from the bytes that pass by: JSON or a stream of events, plain or compressed.

For callers who read the body themselves (raw and streaming responses, other clients). Every chunk is handed on as it
came; what is kept of it is bounded.
"""

from __future__ import annotations

from collections.abc import Callable
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
        data = self._inflated(chunk)
        if not data:
            return []
        if self._split is None:
            self._whole.add(data)
            return self._guess(data) if self._guesses else []
        return self._noted(self._split.feed(data))

    def skim(self, chunks: bytes, last: int) -> tuple[int, list[Any]]:
        """Take the next bytes and return how many events they complete, and the last few of them: `feed` in bulk."""
        if self._split is None or self._lone is not None:
            events = self.feed(chunks)
            return len(events), events[-last:]
        return self._split.skim(self._inflated(chunks), last)

    def _inflated(self, data: bytes) -> bytes:
        if self._inflate is None:
            return b""
        try:
            return self._inflate(data)
        except Exception:  # each library has errors of its own
            self._inflate = None
            return b""

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
