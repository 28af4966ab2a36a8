"""Undo the content codings of HTTP: gzip and deflate by Python itself, br and zstd where a library for them is there.

Source: RFC 9110, "Content Codings"; RFC 7932 (br), RFC 8878 (zstd).
"""

from __future__ import annotations

import importlib
import zlib
from collections.abc import Callable
from typing import Any

Inflate = Callable[[bytes], bytes]
"""Takes the next bytes of the wire and returns what they mean; raises anything for odd ones."""


def inflater(content_encoding: str) -> Inflate | None:
    """Return what undoes the codings of a ``Content-Encoding`` header, or None where one of them is not known here."""
    steps: list[Inflate] = []
    for coding in reversed(content_encoding.lower().split(",")):
        coding = coding.strip()
        if coding in ("", "identity"):
            continue
        make = _MAKERS.get(coding)
        try:
            if make is None:
                return None
            steps.append(make())
        except ImportError:
            return None
    if not steps:
        return bytes
    if len(steps) == 1:
        return steps[0]

    def inflate(data: bytes) -> bytes:
        for step in steps:
            data = step(data)
        return data

    return inflate


def _gzip() -> Inflate:
    # 32 + 15: zlib finds out by itself whether a gzip or a zlib header comes.
    return zlib.decompressobj(32 + 15).decompress


class _Deflate:
    """What servers call deflate: with the header of zlib, as it should be, or without."""

    def __init__(self) -> None:
        self._begin = b""
        self._object: Any = None

    def __call__(self, data: bytes) -> bytes:
        if self._object is None:
            data = self._begin + data
            if len(data) < 2:
                self._begin = data
                return b""
            # RFC 1950: the first two bytes are a method, which is 8, and a multiple of 31. Some mean gzip.
            headed = (data[0] & 15 == 8 and (data[0] * 256 + data[1]) % 31 == 0) or data[:2] == b"\x1f\x8b"
            self._object = zlib.decompressobj(32 + 15 if headed else -15)
        inflated: bytes = self._object.decompress(data)
        return inflated


def _br() -> Inflate:
    try:
        library: Any = importlib.import_module("brotli")
    except ImportError:
        library = importlib.import_module("brotlicffi")
    decompressor = library.Decompressor()
    inflate: Inflate = getattr(decompressor, "process", None) or decompressor.decompress
    return inflate


class _Zstd:
    """One frame of zstd after the other."""

    def __init__(self) -> None:
        try:
            library: Any = importlib.import_module("compression.zstd")
            self._make: Callable[[], Any] = library.ZstdDecompressor
        except ImportError:
            library = importlib.import_module("zstandard")
            self._make = lambda: library.ZstdDecompressor().decompressobj()
        self._object = self._make()

    def __call__(self, data: bytes) -> bytes:
        inflated: list[bytes] = []
        while data:
            if self._object.eof:
                self._object = self._make()
            inflated.append(self._object.decompress(data))
            data = self._object.unused_data if self._object.eof else b""
        return b"".join(inflated)


_MAKERS: dict[str, Callable[[], Inflate]] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _Deflate,
    "br": _br,
    "zstd": _Zstd,
}
