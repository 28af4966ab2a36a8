"""Bodies read from passing bytes: however they are cut and coded, the same events and the same answer."""

from __future__ import annotations

import gzip
import json
import zlib
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from otel_llm.wire.body import HEAD, TAIL, WHOLE, Body

EVENTS = [b'{"id": 1}', b'{"text": "a\\u00e9b"}', b"two\nlines", b'{"usage": {"prompt_tokens": 1}}']
CODINGS: dict[str, Any] = {"": bytes, "identity": bytes, "gzip": gzip.compress, "deflate": zlib.compress}


def _stream(newline: bytes) -> bytes:
    lines: list[bytes] = [b": a comment", b"retry: 10", b""]
    for event in EVENTS:
        lines += [b"event: x", *(b"data: " + line for line in event.split(b"\n")), b""]
    lines += [b"data:[DONE]", b"", b""]
    return newline.join(lines)


def _cut(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


@given(
    st.lists(st.integers(0, 10_000), max_size=40),
    st.sampled_from([b"\n", b"\r\n", b"\r"]),
    st.sampled_from(list(CODINGS)),
)
def test_events(cuts: list[int], newline: bytes, coding: str) -> None:
    """Events are the same wherever the bytes are cut, whatever ends the lines, compressed or not."""
    body = Body("text/event-stream; charset=utf-8", coding)
    events = [event for chunk in _cut(CODINGS[coding](_stream(newline)), cuts) for event in body.feed(chunk)]

    assert EVENTS == events
    assert body.finished


@given(st.lists(st.integers(0, 10_000), max_size=20), st.sampled_from(list(CODINGS)))
def test_answer(cuts: list[int], coding: str) -> None:
    """A JSON answer is the same wherever the bytes are cut."""
    answer = {"id": "1", "usage": {"prompt_tokens": 7}, "text": "é" * 200}
    body = Body("application/json", coding)
    for chunk in _cut(CODINGS[coding](json.dumps(answer).encode()), cuts):
        assert [] == body.feed(chunk)

    assert answer == body.answer()


@given(st.binary(max_size=200), st.sampled_from(["text/event-stream", "application/json"]), st.text(max_size=8))
def test_any_bytes(data: bytes, content_type: str, coding: str) -> None:
    """No bytes, content type or coding make it raise."""
    body = Body(content_type, coding)
    body.feed(data)
    body.feed(data)
    body.answer()


def test_a_large_answer() -> None:
    """Of a body too large to keep, the usage at its end is still read, and memory is bounded."""
    usage = {"prompt_tokens": 7, "completion_tokens": 3}
    answer = json.dumps({"id": "1", "data": ["x" * 1000] * 10_000, "usage": usage}).encode()
    assert len(answer) > 2 * WHOLE
    body = Body("application/json", "")
    for start in range(0, len(answer), 65_536):
        body.feed(answer[start : start + 65_536])
        assert len(body._kept) <= WHOLE + HEAD + TAIL + 65_536

    assert {"usage": usage} == body.answer()


def test_an_unknown_coding_is_left_alone() -> None:
    """Bytes in a coding that is not known here tell nothing, and break nothing."""
    body = Body("text/event-stream", "br")

    assert [] == body.feed(b"data: {}\n\n")
    assert body.answer() is None


def test_a_line_that_never_ends() -> None:
    """A stream without line ends does not grow in memory."""
    body = Body("text/event-stream", "")
    for _ in range(100):
        body.feed(b"x" * 100_000)

    assert len(body._line) <= WHOLE + 100_000
