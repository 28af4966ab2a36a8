"""What an instrumentor needs to know of one API format."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from otel_llm.call import Call


class Format(NamedTuple):
    """The readers of one API format, each filling in a `Call`."""

    operation: str
    """Value of ``gen_ai.operation.name``."""
    read_request: Callable[[Call, Mapping[str, Any]], None]
    """Read the request body."""
    read_answer: Callable[[Call, object], None]
    """Read a whole answer."""
    read_chunks: Callable[[Call, Sequence[object]], None]
    """Read a stream from its first and last few chunks, or from all of them."""
    has_text: Callable[[object], bool]
    """Whether a chunk carries text for the reader of the answer."""
    read_request_content: Callable[[Call, Mapping[str, Any]], None] | None = None
    """Read the messages of the request, where content is captured."""
    read_answer_content: Callable[[Call, object], None] | None = None
    """Read the messages of a whole answer."""
    read_chunks_content: Callable[[Call, Sequence[object]], None] | None = None
    """Put the messages of a stream together from all its chunks."""
    is_last: Callable[[object], bool] | None = None
    """Whether a chunk says that the stream is done, where the bytes do not."""
