"""An answer whose status says that the request failed, of any API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from otel_llm.call import Call
from otel_llm.wire.fields import fields, items, text
from otel_llm.wire.format import Format

_LONGEST = 1024
_PLACES = ("error", "message", "detail", "msg")
_DEEPEST = 4


def _read_request(call: Call, body: Mapping[str, Any]) -> None:
    """Read nothing: the request was read in its own format."""


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


def _has_text(chunk: object) -> bool:
    return False


FAILURE = Format("", _read_request, _read_answer, _read_chunks, _has_text)
