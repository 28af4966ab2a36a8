"""However the bytes of an answer are cut and coded, the caller gets them as they are, and the record is the same."""

from __future__ import annotations

import gzip
import importlib
import json
import zlib
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from otel_llm.testing import Seen
from otel_llm_semconv import attributes as names
from tests.httpx.apis import APIS, JSON, MODES, READERS, STREAMED, Api, opened, pieces, run, streams
from tests.httpx.test_calls import each_library, told


def _raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


CODINGS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "none": ("", bytes),
    "identity": ("identity", bytes),
    "gzip": ("gzip", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "raw deflate": ("deflate", _raw_deflate),
}
for _coding, _library in (("br", "brotli"), ("zstd", "zstandard")):
    try:
        _module: Any = importlib.import_module(_library)
    except ImportError:
        continue
    CODINGS[_coding] = (_coding, _module.compress if _coding == "br" else _module.ZstdCompressor().compress)

LARGEST_CHECK = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


def _cut(data: bytes, positions: list[int]) -> list[bytes]:
    cuts = sorted({position % (len(data) + 1) for position in positions} | {0, len(data)})
    return [data[start:end] for start, end in pairwise(cuts)]


def _body(api: Api, stream: bool) -> tuple[str, bytes]:
    return (api.content_type, b"".join(api.pieces)) if stream else (JSON, json.dumps(api.answer).encode())


@each_library
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("name", "stream"),
    [*((name, False) for name in APIS), *((name, True) for name in STREAMED)],
    ids=lambda value: {True: "stream", False: "plain"}.get(value, value),
)
def test_any_bytes(seen: Seen, name: str, stream: bool, mode: str, library: Any) -> None:
    """Whatever the coding, the cuts and the way to read: the same bytes to the caller, the same record to us."""
    api = APIS[name]
    path, asked = api.request(stream=stream)
    content_type, plain = _body(api, stream)
    kind = streams(library)

    @LARGEST_CHECK
    @given(
        coding=st.sampled_from(sorted(CODINGS)),
        reader=st.sampled_from(sorted(READERS)),
        cuts=st.one_of(st.just(list(range(5000))), st.lists(st.integers(0, 5000), max_size=40)),
    )
    def check(coding: str, reader: str, cuts: list[int]) -> None:
        encoding, pack = CODINGS[coding]
        # The libraries decode deflate without a header only if it comes in one piece, and httpx2 has a zstd of its own.
        if coding == "raw deflate" or coding not in {*library._decoders.SUPPORTED_DECODERS, "identity"}:
            reader = "iter_raw"
        sent = _cut(pack(plain), cuts)

        def answer(request: Any) -> Any:
            headers = {"content-type": content_type, **({"content-encoding": encoding} if encoding else {})}
            return library.Response(200, headers=headers, stream=kind(sent))

        async def use(client: Any) -> list[Any]:
            return await pieces(await opened(client, "http://llm.test" + path, asked), reader)

        seen.clear()
        got = run(mode, library, use, transport=library.MockTransport(answer))

        if reader == "iter_raw":
            assert sent == got
        elif reader == "iter_lines":
            assert plain.decode().splitlines() == got
        else:
            assert plain == b"".join([piece.encode() if isinstance(piece, str) else piece for piece in got])
        (span,) = seen.spans
        assert api.told == told(span)
        assert "unset" == span["status"]
        if stream:
            assert "completed" == span["attributes"][names.OTEL_LLM_STREAM_OUTCOME]

    check()
