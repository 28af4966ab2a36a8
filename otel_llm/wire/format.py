"""What an instrumentor needs to know of one API format."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from otel_llm.call import Call


def read_nothing(call: Call, said: object) -> None:
    """Read nothing of a request, an answer or chunks."""


def no_text(chunk: object) -> bool:
    """Say that no chunk carries text."""
    return False


class Format(NamedTuple):
    """The readers of one API format, each filling in a `Call`."""

    operation: str
    """Value of ``gen_ai.operation.name``."""
    read_request: Callable[[Call, Mapping[str, Any]], None]
    """Read the request body."""
    read_answer: Callable[[Call, object], None]
    """Read a whole answer."""
    read_chunks: Callable[[Call, Sequence[object]], None] = read_nothing
    """Read a stream from its first and last few chunks, or from all of them."""
    has_text: Callable[[object], bool] = no_text
    """Whether a chunk carries text for the reader of the answer."""
    read_request_content: Callable[[Call, Mapping[str, Any]], None] | None = None
    """Read the messages of the request, where content is captured."""
    read_answer_content: Callable[[Call, object], None] | None = None
    """Read the messages of a whole answer."""
    read_chunks_content: Callable[[Call, Sequence[object]], None] | None = None
    """Put the messages of a stream together from all its chunks."""
    is_last: Callable[[object], bool] | None = None
    """Whether a chunk says that the stream is done, where the bytes do not."""

    def reading(self, more: Callable[[Call, object], None]) -> Format:
        """Return the format with one more reader, of whole answers and of each chunk."""

        def read_answer(call: Call, answer: object) -> None:
            self.read_answer(call, answer)
            more(call, answer)

        def read_chunks(call: Call, chunks: Sequence[object]) -> None:
            self.read_chunks(call, chunks)
            for chunk in chunks:
                more(call, chunk)

        return self._replace(read_answer=read_answer, read_chunks=read_chunks)
