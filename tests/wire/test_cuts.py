"""Wherever the network cuts an answer and however it is coded: the same record, and the caller's bytes untouched."""

from __future__ import annotations

import gzip
import importlib
import zlib
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from otel_llm import streams
from otel_llm.bodies.codings import inflater
from otel_llm.call import Call
from tests.wire.calls import PLAIN, STREAMED
from tests.wire.reading import read
from tests.wire.recorded import Recorded

TIMES = {
    "first_chunk_at",
    "first_text_at",
    "last_chunk_at",
    "longest_gap",
    "chunks",
    "response_headers",
    "ends",
    "error",
    "started_at",
}
ALL = {**{f"{api}, plain": recorded for api, recorded in PLAIN.items()}, **STREAMED}


def _bare_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush()


def _by(library: str, compress: Callable[[Any, bytes], bytes]) -> Callable[[bytes], bytes]:
    def code(data: bytes) -> bytes:
        try:
            return compress(importlib.import_module(library), data)
        except ImportError:
            pytest.skip(f"{library} is not installed")

    return code


CODINGS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "plain": ("", bytes),
    "gzip": ("gzip", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "bare deflate": ("deflate", _bare_deflate),
    "twice": ("deflate, x-gzip", lambda data: gzip.compress(_bare_deflate(data))),
    "br": ("br", _by("brotli", lambda library, data: library.compress(data))),
    "zstd": ("zstd", _by("zstandard", lambda library, data: library.compress(data))),
    "zstd, two frames": (
        "zstd",
        _by("zstandard", lambda library, data: library.compress(data[:99]) + library.compress(data[99:])),
    ),
}


def _record(call: Call) -> dict[str, Any]:
    told = {name: value for name, value in vars(call).items() if name not in TIMES}
    return {**told, "first chunk": call.first_chunk_at is not None, "first text": call.first_text_at is not None}


def _cut(data: bytes, at: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in at), len(data)]
    return [data[start:stop] for start, stop in pairwise(edges)]


@pytest.mark.parametrize("coding", CODINGS)
@pytest.mark.parametrize("api", ALL)
def test_any_cut(api: str, coding: str) -> None:
    """An answer in any pieces and coding is the record of the answer in one piece, and the same bytes."""
    recorded: Recorded = ALL[api]
    whole = {content: _record(read(recorded, content=content)[0]) for content in (False, True)}
    name, code = CODINGS[coding]
    wire = code(recorded.wire)

    @settings(
        derandomize=True, database=None, deadline=None, max_examples=8, suppress_health_check=[HealthCheck.too_slow]
    )
    @given(
        at=st.lists(st.integers(0, 1 << 14), max_size=30),
        asynchronous=st.booleans(),
        content=st.booleans(),
        aside=st.sampled_from([1, 2, 5, 128]),
    )
    @example(at=list(range(1 << 13)), asynchronous=False, content=False, aside=3)
    @example(at=list(range(1 << 13)), asynchronous=False, content=True, aside=128)
    def check(at: list[int], asynchronous: bool, content: bool, aside: int) -> None:
        kept, streams._MOST_ASIDE = streams._MOST_ASIDE, aside
        try:
            call, got = read(recorded, _cut(wire, at), name, asynchronous=asynchronous, content=content)
        finally:
            streams._MOST_ASIDE = kept
        assert whole[content] == _record(call)
        assert wire == got

    check()


@pytest.mark.parametrize("api", STREAMED)
def test_any_end(api: str) -> None:
    """A stream that breaks off anywhere is a record of what came, with the same bytes."""
    wire = STREAMED[api].wire

    for end in range(0, len(wire), 7):
        call, got = read(STREAMED[api], _cut(wire[:end], [end // 2]))
        assert wire[:end] == got
        assert call.chunks <= 2


@pytest.mark.parametrize("coding", ["br", "zstd", "compress", "gzip, br"])
@pytest.mark.parametrize("api", ["gemini, events", "gemini, plain"])
def test_a_coding_without_its_library(api: str, coding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes in a coding that cannot be read here reach the caller, and the call is recorded without its tokens."""

    def absent(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", absent)

    call, got = read(ALL[api], [b"\x1b\x00", b"\xff" * 9], coding)

    assert b"\x1b\x00" + b"\xff" * 9 == got
    assert (None, None, 0) == (call.input_tokens, call.output_tokens, call.chunks)
    assert "gemini-2.5-flash" == call.request_model


@given(st.sampled_from(list(CODINGS)), st.lists(st.binary(max_size=60), max_size=9))
@settings(derandomize=True, database=None, deadline=None)
def test_bytes_that_are_not_in_their_coding(coding: str, pieces: list[bytes]) -> None:
    """Bytes that are not what their header says reach the caller all the same."""
    _, got = read(STREAMED["gemini, events"], pieces, CODINGS[coding][0])

    assert b"".join(pieces) == got


@pytest.mark.parametrize("library", ["brotli", "brotlicffi", "zstandard"])
def test_the_libraries(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each library that knows a coding is used, and only those that are there."""
    found: Any = pytest.importorskip(library)
    loaded: list[str] = []

    def load(name: str) -> Any:
        loaded.append(name)
        if name != library:
            raise ImportError(name)
        return found

    monkeypatch.setattr(importlib, "import_module", load)
    inflate = inflater("zstd" if library == "zstandard" else "br")

    assert inflate is not None
    wire = found.compress(b"data: 1\n\n" * 500)
    assert b"data: 1\n\n" * 500 == inflate(wire[:9]) + inflate(wire[9:])
    assert library == loaded[-1]
