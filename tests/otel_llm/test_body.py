"""Bodies read from passing bytes: however they are cut and coded, the same events and the same answer."""

from __future__ import annotations

import gzip
import json
import zlib
from itertools import pairwise
from time import perf_counter
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from otel_llm.bodies import excerpt
from otel_llm.bodies.body import Body
from otel_llm.bodies.excerpt import HEAD, TAIL, WHOLE, decoded
from otel_llm.bodies.split import Elements, Events, Lines
from tests.wire.writing import array, frame, lines, sse

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
    assert [] == body.rest()


LINES = st.sampled_from(
    [
        'data: {"a": 1}',
        'data:{"b": 2}',
        "data: [DONE]",
        "data: [1]",
        "data:  x",
        "",
        "",
        "",
        ": x",
        "event: e",
        "data",
        "retry: 1",
        "é: ü",
    ]
)


def _by_the_standard(text: str) -> list[bytes]:
    """Split events as the HTML standard says it, line by line."""
    events: list[bytes] = []
    data: list[str] = []
    for line in text.replace("\r\n", "\n").replace("\r", "\n").split("\n")[:-1]:
        if line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif not line and data:
            events.append("\n".join(data).encode())
            data = []
    ends = [index for index, event in enumerate(events) if event.startswith(b"[DONE]")]
    return events[: ends[0]] if ends else events


@given(
    st.lists(st.tuples(LINES, st.sampled_from(["\n", "\r\n", "\r"])), max_size=16),
    st.lists(st.integers(0, 1 << 8), max_size=12),
    st.integers(1, 5),
)
@example([("data: {", "\n"), ("", "\n"), ("data: {", "\n"), ("data: {", "\n"), ("", "\n")], [], 4)
@example([("event: e", "\n"), ("data: {", "\n"), ("data: }", "\n"), ("", "\n")], [], 4)
@example([("event: e", "\n"), ("data: {}", "\n"), ("", "\n"), ("event: e", "\n"), ("", "\n")], [], 4)
@example(
    [("event: e", "\n"), ("data: {}", "\n"), ("", "\n"), ("event: e", "\n"), ("data: [DONE]", "\n"), ("", "\n")], [], 1
)
@example([("data: {}", "\n"), ("", "\n"), ("data: [DONE]", "\n"), ("", "\n"), (": x", "\n"), ("", "\n")], [], 1)
def test_events_by_the_standard(written: list[tuple[str, str]], cuts: list[int], last: int) -> None:
    """Events are those of the HTML standard, and skimming them gives the last of them."""
    text = "".join(line + end for line, end in written)
    expected = _by_the_standard(text)
    body, skimmed = Body("text/event-stream", ""), Body("text/event-stream", "")
    pieces = _cut(text.encode(), cuts)

    assert expected == [event for piece in pieces for event in body.feed(piece)]
    kept = [event for piece in pieces for event in skimmed.skim(piece, last)]
    if "data" not in text.partition("[DONE]")[2]:  # what comes after the end is not looked for
        assert expected[-last:] == kept[-last:]


@given(
    st.lists(st.sampled_from([b'{"a": 1}', b"[2]", b"", b" "]), max_size=9), st.lists(st.integers(0, 99), max_size=9)
)
@example([b'{"a": 1}', b"", b'{"a": 2}', b'{"a": 3}'], [])
def test_skimmed_lines(written: list[bytes], cuts: list[int]) -> None:
    """Skimming lines gives the last of them."""
    text = b"".join(line + b"\n" for line in written)
    expected = Lines().feed(text)
    skimmed = Lines()
    kept = [line for piece in _cut(text, cuts) for line in skimmed.skim(piece, 2)]

    assert [line for line in written if len(line) > 1] == expected
    assert expected[-2:] == kept[-2:]


@pytest.mark.parametrize("named", [False, True])
def test_a_stream_is_skimmed_without_being_split(named: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the streams of the large APIs only the end is split, with or without names of events."""

    def split(self: Events, text: bytes) -> list[bytes]:
        raise AssertionError(text)

    monkeypatch.setattr(Events, "_events_of", split)
    events = [{"type": "x", "n": number} for number in range(9)]

    kept = Body("text/event-stream", "").skim(sse(*events, named=named), 2)

    assert events[-2:] == [json.loads(event) for event in kept]


VALUES: list[Any] = [
    {"id": 1, "text": 'a "quoted" {brace] \\'},
    {"text": "é東🗼", "list": [[1], {"a": []}]},
    {"usage": {"n": 1}},
]
STREAMS = {
    "ndjson": ("application/x-ndjson", lines(*VALUES), False),
    "jsonl": ("application/jsonl; charset=utf-8", lines(*VALUES, end="\r\n\r\n"), False),
    "stream+json": ("application/stream+json", lines(*VALUES).rstrip(), False),
    "lines as JSON": ("application/json", b" \n" + lines(*VALUES), True),
    "lines without a type": ("", lines(*VALUES).rstrip(), True),
    "events": ("text/event-stream", sse(*VALUES), False),
    "events without an end": ("text/event-stream", sse(*VALUES).rstrip(), False),
    "events as text": ("text/plain", b"\n: hello\n\n" + sse(*VALUES, done=True), True),
    "array": ("application/json; charset=UTF-8", array(*VALUES), True),
    "dense array": ("application/json", json.dumps(VALUES, ensure_ascii=False, separators=(",", ":")).encode(), True),
    "frames": ("application/vnd.amazon.eventstream", b"".join(frame("x", value) for value in VALUES), False),
}


@given(
    st.sampled_from(list(STREAMS)),
    st.lists(st.integers(0, 10_000), max_size=40) | st.just(list(range(1000))),
    st.sampled_from(list(CODINGS)),
)
@example("lines as JSON", [5], "")
def test_streams(kind: str, cuts: list[int], coding: str) -> None:
    """Every way of writing a stream gives the same events, wherever the bytes are cut."""
    content_type, wire, asked = STREAMS[kind]
    body = Body(content_type, coding, asked=asked)
    events = [event for chunk in _cut(CODINGS[coding](wire), cuts) for event in body.feed(chunk)]
    events += body.rest()

    assert body.is_stream
    expected: list[Any] = [{"x": value} for value in VALUES] if kind == "frames" else VALUES
    assert expected == [body.decode(event) for event in events]


def test_the_end_of_an_array() -> None:
    """An array is finished by its bracket, which may come alone."""
    body = Body("application/json", "", asked=True)

    assert 3 == len(body.feed(b'[{"a": 1}, {"a": 2}, {"a": [3]}\n'))
    assert not body.finished
    assert [] == body.feed(b"]")
    assert body.finished


@given(
    st.lists(st.integers(0, 10_000), max_size=20),
    st.sampled_from(list(CODINGS)),
    st.sampled_from([None, 1]),
    st.booleans(),
)
def test_answer(cuts: list[int], coding: str, indent: int | None, asked: bool) -> None:
    """A JSON answer is the same wherever the bytes are cut, also where a stream was asked for."""
    answer = {"id": "1", "usage": {"prompt_tokens": 7}, "text": "é" * 200}
    body = Body("application/json", coding, asked=asked)
    for chunk in _cut(CODINGS[coding](json.dumps(answer, indent=indent).encode() + b"\n"), cuts):
        body.feed(chunk)
    body.rest()

    assert not body.is_stream
    assert answer == body.answer()


@given(
    st.binary(max_size=200) | st.text('[]{}",:\\dat0\n\r ', max_size=60).map(str.encode),
    st.sampled_from(
        ["text/event-stream", "application/json", "application/x-ndjson", "application/vnd.amazon.eventstream"]
    ),
    st.sampled_from(["", "gzip", "deflate", "br", "zstd", "?"]) | st.text(max_size=8),
    st.booleans(),
)
@example(b"[" * 100_000, "application/json", "", True)
@example(b'{"a":' * 100_000, "application/x-ndjson", "", False)
def test_any_bytes(data: bytes, content_type: str, coding: str, asked: bool) -> None:
    """No bytes, content type or coding make it raise."""
    body = Body(content_type, coding, asked=asked)
    events = [*body.feed(data), *body.skim(data, 4), *body.rest()]
    for event in events:
        body.decode(event)
    body.answer()


USAGE = {"prompt_tokens": 7, "completion_tokens": 3}
LARGE: dict[str, Any] = {"id": "1", "data": [{"x": "y" * 1000}] * 10_000, "usage": USAGE, "model": "m"}


def test_a_large_answer() -> None:
    """Of a body too large to keep, what stands at its ends is still read, and memory is bounded."""
    answer = json.dumps(LARGE).encode()
    assert len(answer) > 2 * WHOLE
    body = Body("application/json", "")
    for start in range(0, len(answer), 65_536):
        body.feed(answer[start : start + 65_536])
        assert len(body._whole) <= WHOLE + HEAD + TAIL + 65_536

    assert {"id": "1", "usage": USAGE, "model": "m"} == body.answer()


@pytest.mark.parametrize(
    ("content_type", "wire"),
    [
        ("text/event-stream", sse({"first": 1}, LARGE, {"last": 1})),
        ("application/x-ndjson", lines({"first": 1}, LARGE, {"last": 1})),
    ],
)
def test_a_large_event(content_type: str, wire: bytes) -> None:
    """Of an event too large to keep, what stands at its ends is still read, and the stream goes on after it."""
    body = Body(content_type, "")
    events: list[Any] = []
    for start in range(0, len(wire), 4096):
        events += body.feed(wire[start : start + 4096])
        assert len(body._split._pending) <= WHOLE + HEAD + TAIL + 4096  # type: ignore[union-attr]

    told = {"id": "1", "usage": USAGE, "model": "m"}
    assert [{"first": 1}, told, {"last": 1}] == [body.decode(event) for event in events]


def test_a_large_element() -> None:
    """Of the last element of an array, too large to keep, what stands at its end is still read."""
    wire = array({"first": 1}, LARGE)
    body = Body("application/json", "", asked=True)
    events: list[Any] = []
    for start in range(0, len(wire), 65_536):
        events += body.feed(wire[start : start + 65_536])
    events += body.rest()

    assert {"first": 1} == body.decode(events[0])
    assert {"id": "1", "usage": USAGE, "model": "m"} == body.decode(events[1])


def test_a_large_frame() -> None:
    """A frame too large to keep is counted and skipped, and the frames after it are read."""
    wire = frame("a", LARGE) + frame("b", {"n": 1})
    body = Body("application/vnd.amazon.eventstream", "")
    events = [event for start in range(0, len(wire), 65_536) for event in body.feed(wire[start : start + 65_536])]

    assert [None, {"b": {"n": 1}}] == [body.decode(event) for event in events]


def test_an_excerpt_of_something_else() -> None:
    """What a text says inside of strings and of other objects is not taken for members of the answer."""
    inner = {"usage": {"prompt_tokens": 1}, "text": '"usage": {"prompt_tokens": 2}}'}
    large = json.dumps({"data": ["x" * HEAD, [inner] * 9]}).encode()

    assert decoded(large[:HEAD] + b"\0" + large[-300:]) is None
    flat = b'{"a": "' + b"x" * HEAD + b'", "b": {' + b'"c": 1, ' * 9000 + b'"d": 2}, "e": 3'
    begun = perf_counter()
    assert {"e": 3} == decoded(flat[:9] + b"\0" + flat[9:] + b"}")
    assert perf_counter() - begun < 3  # each member is read once, not once for each that stands before it


def test_an_unknown_coding_is_left_alone() -> None:
    """Bytes in a coding that is not known here tell nothing, and break nothing."""
    body = Body("text/event-stream", "compress")

    assert [] == body.feed(b"data: {}\n\n")
    assert body.answer() is None


@pytest.mark.parametrize("content_type", ["text/event-stream", "application/x-ndjson", "application/json"])
def test_a_line_that_never_ends(content_type: str) -> None:
    """A stream without line ends does not grow in memory."""
    body = Body(content_type, "", asked=True)
    for _ in range(100):
        body.feed(b'{"' + b"x" * 100_000)

    assert len(body._whole) <= WHOLE + HEAD + TAIL + 100_000
    assert body._split is None or len(body._split._pending) <= WHOLE + HEAD + TAIL + 100_000  # type: ignore[attr-defined]


def test_frames_that_are_none() -> None:
    """Bytes that only claim to be an event stream are not kept."""
    body = Body("application/vnd.amazon.eventstream", "")
    for _ in range(9):
        assert [] == body.feed(b"data: {}\n\n" * 1000)

    assert body.finished


@pytest.mark.parametrize("type", ["text/event-stream", "application/json", "application/x-ndjson"])
def test_what_grows_without_bound(type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that grows large out of little is inflated in small steps, and then no more."""
    longest = total = 0
    feed = Body._feed

    def noted(self: Body, data: bytes) -> list[Any]:
        nonlocal longest, total
        longest = max(longest, len(data))
        total += len(data)
        return feed(self, data)

    monkeypatch.setattr(Body, "_feed", noted)
    body = Body(type, "gzip")
    body.feed(gzip.compress(b"0" * 200_000_000))

    assert longest <= 2 * 1024 * 1024
    assert total <= 20 * 1024 * 1024


def test_what_cannot_be_read_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a large text that is no JSON, only a few places are tried, however it nests."""
    tries = 0
    members = excerpt._members

    def counted(source: str, at: int) -> Any:
        nonlocal tries
        tries += 1
        return members(source, at)

    monkeypatch.setattr(excerpt, "_members", counted)

    for text in (b'{"a":' * 20_000, b'{"a":[' * 20_000, b'{"a":{"b":[1,' * 9_000):
        tries = 0
        decoded(text)
        assert tries <= 18


def test_a_large_element_is_not_read_anew_with_every_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """The element of an array that comes in many pieces is tried when it has grown by a part of itself."""
    read = Elements._read
    tries = 0

    def counted(self: Elements) -> list[object]:
        nonlocal tries
        tries += 1
        return read(self)

    monkeypatch.setattr(Elements, "_read", counted)
    value = {"parts": [{"a": number} for number in range(50_000)]}
    elements = Elements()
    got = [
        element
        for piece in _cut(array(value, {"last": 1}), list(range(0, 800_000, 500)))
        for element in elements.feed(piece)
    ]

    assert [value, {"last": 1}] == [*got, *elements.rest()]
    assert tries < 60


def test_a_byte_order_mark() -> None:
    """It stands before the first event and is no part of it (HTML standard, "Parsing an event stream")."""
    assert [b"{}", b"{}"] == Body("text/event-stream", "").feed(b"\xef\xbb\xbfdata: {}\n\ndata: {}\n\n")
