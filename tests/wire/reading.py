"""Read recorded answers as an instrumentor does, by an httpx response that passes by."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx

from otel_llm.bodies.body import Body
from otel_llm.call import Call
from otel_llm.streams import Tap, watch
from tests.wire.recorded import Recorded


class Listener:
    """Stands for the telemetry, and keeps the calls that ended."""

    def __init__(self, *, captures_content: bool = False) -> None:
        self.captures_content = captures_content
        self.ended: list[Call] = []

    def end(self, call: Call, error: BaseException | None = None, at: float | None = None) -> None:
        """Keep the call."""
        call.error = error
        self.ended.append(call)


class _Stream(httpx.SyncByteStream, httpx.AsyncByteStream):
    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = pieces

    def __iter__(self) -> Iterator[bytes]:
        yield from self._pieces

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            await asyncio.sleep(0)
            yield piece


def asked(recorded: Recorded, *, content: bool = False) -> Call:
    """Return a call whose request was read."""
    call = Call()
    call.operation = recorded.format.operation
    recorded.format.read_request(call, recorded.request)
    if content and recorded.format.read_request_content is not None:
        recorded.format.read_request_content(call, recorded.request)
    return call


def read(
    recorded: Recorded,
    pieces: list[bytes] | None = None,
    coding: str = "",
    *,
    asynchronous: bool = False,
    content: bool = False,
    leave: Callable[[bytes], bool] = lambda piece: False,
) -> tuple[Call, bytes]:
    """Return the record of a call whose answer comes in these pieces, and the bytes that the caller got."""
    call = asked(recorded, content=content)
    listener = Listener(captures_content=content)
    headers = {"content-type": recorded.type, **recorded.headers, **({"content-encoding": coding} if coding else {})}
    response = httpx.Response(200, headers=headers, stream=_Stream([recorded.wire] if pieces is None else pieces))
    call.response_headers = response.headers
    telemetry: Any = listener
    tap = Tap(telemetry, call, recorded.format)
    tap.body = Body(recorded.type, coding, asked=call.streaming)
    assert watch(response, tap)
    got: list[bytes] = []
    if asynchronous:

        async def main() -> None:
            async for piece in response.aiter_raw():
                got.append(piece)
                if leave(piece):
                    break
            await response.aclose()

        asyncio.run(main())
    else:
        for piece in response.iter_raw():
            got.append(piece)
            if leave(piece):
                break
        response.close()
    (ended,) = listener.ended
    assert ended is call
    return call, b"".join(got)
