"""What went wrong, as the answers of any API tell it."""

from __future__ import annotations

from collections.abc import Sequence

from otel_llm.call import Call
from otel_llm.wire.fields import fields, items, text
from otel_llm.wire.format import Format, read_nothing
from otel_llm_semconv.errors import ErrorType

_LONGEST = 1024
_PLACES = ("error", "message", "detail", "msg")
_DEEPEST = 4


def read_error(call: Call, error: object, *kinds: str) -> None:
    """Read the error inside an answer that came with status 200; of the fields for its kind the first that tells it."""
    own = fields(error)
    call.error_type = next((kind for name in kinds if (kind := text(own.get(name)))), ErrorType.OTHER)
    call.error_message = text(own.get("message")) or text(error)


def _read_answer(call: Call, answer: object) -> None:
    """Read the message, wherever the API puts it; some put their error into a list."""
    for _ in range(_DEEPEST):
        answer = next(iter(items(answer)), answer)
        told = fields(answer)
        answer = next((told[place] for place in _PLACES if told.get(place)), answer)
    message = text(answer)
    if message:
        call.error_message = message[:_LONGEST]


def _read_chunks(call: Call, chunks: Sequence[object]) -> None:
    for chunk in chunks[:1]:
        _read_answer(call, chunk)


FAILURE = Format("", read_nothing, _read_answer, _read_chunks)
"""An answer whose status says that the request failed; the request was read in its own format."""
