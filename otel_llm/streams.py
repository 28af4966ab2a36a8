"""Streams: seen in place, chunk by chunk, and ended exactly once however the reader leaves them.

The client's own stream object is handed out. Its class asks `observe` for the chunks, and the byte stream below reports
when somebody closes it. What can end a stream: the last chunk, an exception while reading, a close from outside, or the
garbage collector.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from time import perf_counter
from typing import Any, cast
from weakref import WeakSet

from otel_llm import faults
from otel_llm.bodies.body import Body
from otel_llm.call import Call
from otel_llm.overdue import end_safely, put_off
from otel_llm.telemetry import Telemetry
from otel_llm.wire.format import Format
from otel_llm_semconv.values import StreamOutcome

_TAIL = 4
"""Chunks kept from the end of a stream: usage and finish reason stand there. More would only fill the caches."""
_LONGEST_MARK = 32
"""Bytes of a last piece that is no chunk: ``[DONE]`` with what stands around it, or the bracket that ends an array."""
_MOST_ASIDE = 256
"""Pieces of a stream that are put aside before they are split into events."""

_open: WeakSet[Tap] = WeakSet()


def end_open() -> None:
    """End the streams that are still open, because the interpreter is about to exit."""
    for tap in list(_open):
        tap._end_anywhere(StreamOutcome.ABANDONED)


class Tap:
    """What is seen of one streamed answer."""

    __slots__ = (
        "__weakref__",
        "_call",
        "_first",
        "_format",
        "_left_at",
        "_mark",
        "_telemetry",
        "asked",
        "body",
        "busy",
        "count",
        "hunting",
        "last_at",
        "longest_gap",
        "pieces",
        "tail",
    )

    def __init__(self, telemetry: Telemetry, call: Call, format: Format) -> None:
        self._telemetry = telemetry
        self._call: Call | None = call
        self._format = format
        keep_all = call.choice_count > 1 or (telemetry.captures_content and format.read_chunks_content is not None)
        self.tail: deque[Any] = deque(maxlen=None if keep_all else _TAIL)
        self._first: object = None
        self.hunting = True
        self._left_at = 0.0
        self._mark = False
        self.asked = False
        """Whether we asked for a chunk with usage that the caller does not expect."""
        self.body: Body | None = None
        """Reader of the bytes, where the caller reads them himself."""
        self.pieces: list[bytes] = []
        """Bytes that have not been split into events yet."""
        self.busy = False
        """Whether a read is under way, so that a close is the stream's own."""
        self.count = 0
        self.last_at = perf_counter()
        self.longest_gap = 0.0
        _open.add(self)

    def saw(self, chunk: object) -> None:
        """Take note of one chunk."""
        now = perf_counter()
        gap = now - self.last_at
        if gap > self.longest_gap:
            self.longest_gap = gap
        self.last_at = now
        self.count += 1
        self.tail.append(chunk)
        if self.hunting:
            self.hunt(chunk, now)
        self.busy = False

    def hunt(self, chunk: object, now: float) -> None:
        """Look for the first chunk and for the first text."""
        call = self._call
        if call is None:
            self.hunting = False
            return
        if call.first_chunk_at is None:
            self._first = chunk
            self.longest_gap = 0.0
            call.first_chunk_at = now
        try:
            if self._format.has_text(chunk if self.body is None else self.body.decode(chunk)):
                self.hunting = False
                call.first_text_at = now
        except Exception:
            self.hunting = False
            faults.fault("has_text")

    def passed(self, data: bytes) -> None:
        """Take note of bytes that the caller reads himself, of which each piece is a chunk, until their first text."""
        body = self.body
        if body is None:
            return
        now = perf_counter()
        try:
            events = body.feed(data)
            if events:
                self.longest_gap = max(self.longest_gap, now - self.last_at)
                self.last_at = now
                self.count += 1
            for event in events:
                self.tail.append(event)
                if self.hunting:
                    self.hunt(event, now)
            if not body.may_stream:
                self.hunting = False
        except Exception:
            self.body = None
            faults.fault("body")

    def split(self, *, over: bool = False) -> None:
        """Split the bytes that were put aside into events; where the stream is over, all of them."""
        body, pieces = self.body, self.pieces
        data = b"".join(pieces)
        self.count += len(pieces)
        self._mark = len(pieces[-1]) <= _LONGEST_MARK if pieces else self._mark
        pieces.clear()
        if body is None:
            return
        try:
            if data:
                last = self.tail.maxlen
                self.tail.extend(body.feed(data) if last is None else body.skim(data, last))
            if over:
                self.tail.extend(body.rest())
                self.count = max(self.count - (self._mark and body.finished), bool(self.tail))
        except Exception:
            self.body = None
            faults.fault("body")

    def let_go(self) -> None:
        """Have no part in the call any more, which another answer ends."""
        self._call = None

    def given_up(self, *, dropped: bool) -> None:
        """End the stream that its reader has closed, or dropped."""
        self.left()
        self._end_anywhere(StreamOutcome.ABANDONED if dropped else StreamOutcome.CLOSED)

    def left(self) -> None:
        """Take note that the reader left his loop; he may come back."""
        self._left_at = perf_counter()

    def complete(self) -> None:
        """End the stream after its last chunk."""
        self._end(StreamOutcome.COMPLETED)

    def fail(self, error: BaseException) -> None:
        """End the stream with the exception that the reader gets."""
        self._end(StreamOutcome.COMPLETED, error)

    def closed(self) -> None:
        """End the stream because it was closed, unless that is part of a read."""
        if self.busy or self._call is None:
            return
        if self.body is not None and self._was_last(self.body):
            outcome = StreamOutcome.COMPLETED
        elif isinstance(sys.exc_info()[1], GeneratorExit):
            # The generator below was dropped, not closed by hand.
            outcome = StreamOutcome.ABANDONED
        else:
            outcome = StreamOutcome.CLOSED
        self._end_anywhere(outcome)

    def _was_last(self, body: Body) -> bool:
        """Whether the last event says that the stream is done."""
        self.split()
        if body.finished:
            return True
        is_last = self._format.is_last
        try:
            return is_last is not None and bool(self.tail) and is_last(body.decode(self.tail[-1]))
        except Exception:
            faults.fault("is_last")
        return False

    def __del__(self) -> None:
        # While the interpreter shuts down there is nothing left to record with.
        if self._call is not None and not sys.is_finalizing():
            self._end_anywhere(StreamOutcome.ABANDONED)

    def _end_anywhere(self, outcome: str) -> None:
        """End the stream now, or a little later where this thread may be holding a lock of the telemetry's."""
        call, self._call = self._call, None
        if call is None:
            return
        at = perf_counter()
        if outcome == StreamOutcome.ABANDONED:
            at = max(self.last_at, self._left_at, call.started_at)

        def end() -> None:
            self._finish(call, outcome, None, at)

        try:
            end_safely(end)
        except Exception:
            put_off(end)
            faults.fault("stream")

    def _end(self, outcome: str, error: BaseException | None = None) -> None:
        call, self._call = self._call, None
        if call is not None:
            self._finish(call, outcome, error, perf_counter())

    def _finish(self, call: Call, outcome: str, error: BaseException | None, at: float) -> None:
        try:
            self._read(call, outcome if error is None else None)
        except Exception:
            faults.fault("read_chunks")
        self._telemetry.end(call, error, at)

    def _read(self, call: Call, outcome: str | None) -> None:
        body = self.body
        if body is not None:
            self.split(over=True)
            if not body.is_stream:
                call.first_chunk_at = call.first_text_at = None
                answer = body.answer()
                if answer is not None:
                    read_answer(self._telemetry, self._format, call, answer)
                elif body.may_stream:  # nothing of it was read
                    call.streamed, call.stream_outcome = True, outcome
                return
        call.chunks = self.count
        call.last_chunk_at = self.last_at
        call.longest_gap = self.longest_gap
        call.streamed = True
        call.stream_outcome = outcome
        chunks = list(self.tail)
        if chunks and self._first is not None and chunks[0] is not self._first:
            chunks.insert(0, self._first)
        if body is not None:
            chunks = [body.decode(chunk) for chunk in chunks]
        self._format.read_chunks(call, chunks)
        if self._telemetry.captures_content and self._format.read_chunks_content is not None:
            self._format.read_chunks_content(call, chunks)


def read_answer(telemetry: Telemetry, format: Format, call: Call, answer: object) -> None:
    """Read a whole answer, and its content where content is captured."""
    format.read_answer(call, answer)
    if telemetry.captures_content and format.read_answer_content is not None:
        format.read_answer_content(call, answer)


class _Watch:
    """Stands in for the byte stream of a response and reports when it is closed."""

    def __init__(self, stream: Any, tap: Tap) -> None:
        self._stream = stream
        self.tap = tap

    def __getattr__(self, name: str) -> Any:
        if name == "_stream":  # not there yet, as in a copy
            raise AttributeError(name)
        return getattr(self._stream, name)

    def _bytes(self) -> Iterator[bytes]:
        """Hand on the bytes; each piece is read at once until the first text, then only its time is taken."""
        tap = self.tap
        pieces = tap.pieces
        try:
            stream = iter(self._stream)
            for data in stream:
                tap.passed(data)
                yield data
                if not tap.hunting:
                    break
            if not tap.hunting:
                last, longest = tap.last_at, tap.longest_gap
                for data in stream:
                    now = perf_counter()
                    if now - last > longest:
                        tap.longest_gap = longest = now - last
                    tap.last_at = last = now
                    pieces.append(data)
                    if len(pieces) == _MOST_ASIDE:
                        tap.split()
                    yield data
        except BaseException as error:
            if not tap.busy and not isinstance(error, GeneratorExit):
                tap.fail(error)
            raise
        if not tap.busy:
            tap.complete()

    async def _abytes(self) -> AsyncIterator[bytes]:
        """Hand on the bytes; `_bytes` for asyncio."""
        tap = self.tap
        pieces = tap.pieces
        try:
            stream = aiter(self._stream)
            async for data in stream:
                tap.passed(data)
                yield data
                if not tap.hunting:
                    break
            if not tap.hunting:
                last, longest = tap.last_at, tap.longest_gap
                async for data in stream:
                    now = perf_counter()
                    if now - last > longest:
                        tap.longest_gap = longest = now - last
                    tap.last_at = last = now
                    pieces.append(data)
                    if len(pieces) == _MOST_ASIDE:
                        tap.split()
                    yield data
        except BaseException as error:
            # What is thrown in here, and comes from no frame below, is for a generator whose end was to be awaited.
            below = getattr(error.__traceback__, "tb_next", None) is not None
            if below and not tap.busy and not isinstance(error, GeneratorExit):
                tap.fail(error)
            raise
        if not tap.busy:
            tap.complete()


class _SyncWatch(_Watch):
    def __iter__(self) -> Iterator[bytes]:
        return iter(self._stream) if self.tap.body is None else self._bytes()

    def close(self) -> None:
        try:
            self._stream.close()
        finally:
            self.tap.closed()


class _AsyncWatch(_Watch):
    def __aiter__(self) -> AsyncIterator[bytes]:
        stream: AsyncIterator[bytes] = self._stream.__aiter__() if self.tap.body is None else self._abytes()
        return stream

    async def aclose(self) -> None:
        try:
            await self._stream.aclose()
        finally:
            self.tap.closed()


_SHAPES: dict[str, type[_Watch]] = {"SyncByteStream": _SyncWatch, "AsyncByteStream": _AsyncWatch}
_watches: dict[tuple[type, ...], type[_Watch]] = {}


def watch(response: Any, tap: Tap) -> bool:
    """Put a watch in place of the response's byte stream, and say whether that could be done.

    The watch is of the same base classes as the stream, which httpx and httpx2 check for; they are found by name, so
    that neither library has to be imported. A body that is there already is a stream of both kinds.
    """
    stream = response.stream
    bases = tuple([base for base in type(stream).__mro__ if base.__name__ in _SHAPES])
    if not bases:
        return False
    kind = _watches.get(bases)
    if kind is None:
        shapes = tuple([_SHAPES[base.__name__] for base in bases])
        kind = _watches[bases] = cast("type[_Watch]", type("WatchedStream", (*shapes, *bases), {}))
    response.stream = kind(stream, tap)
    return True


def tap_of(response: object) -> Tap | None:
    """Return the tap of a response whose stream is watched, be it below a stream of the client's own."""
    stream = getattr(response, "stream", None)
    if isinstance(stream, _Watch):
        return stream.tap
    # So does `anthropic` 2 keep it, where it ends a span of its own with the stream.
    below = getattr(stream, "_body", None) or getattr(stream, "_async_body", None)
    return below.tap if isinstance(below, _Watch) else None


# What stands in place of the client's own loops. Nothing here touches a chunk on its way to the reader. The two
# generators do what `Tap.saw` does themselves: for a chunk, a frame is a fifth of the cost.


def observe(tap: Tap, chunks: Iterator[Any]) -> Iterator[Any]:
    """Hand on the chunks and tell the tap of each."""
    tap.body = None
    keep = tap.tail.append
    tap.busy = True
    try:
        for chunk in chunks:
            now = perf_counter()
            gap = now - tap.last_at
            if gap > tap.longest_gap:
                tap.longest_gap = gap
            tap.last_at = now
            tap.count += 1
            keep(chunk)
            if tap.hunting:
                tap.hunt(chunk, now)
            tap.busy = False
            yield chunk
            tap.busy = True
    except GeneratorExit:
        tap.left()
        raise
    except BaseException as error:
        tap.fail(error)
        raise
    tap.complete()


async def aobserve(tap: Tap, chunks: AsyncIterator[Any]) -> AsyncIterator[Any]:
    """Hand on the chunks and tell the tap of each; `observe` for asyncio."""
    tap.body = None
    keep = tap.tail.append
    tap.busy = True
    try:
        async for chunk in chunks:
            now = perf_counter()
            gap = now - tap.last_at
            if gap > tap.longest_gap:
                tap.longest_gap = gap
            tap.last_at = now
            tap.count += 1
            keep(chunk)
            if tap.hunting:
                tap.hunt(chunk, now)
            tap.busy = False
            yield chunk
            tap.busy = True
    except GeneratorExit:
        tap.left()
        raise
    except BaseException as error:
        # asyncio cancels at the ``yield`` what was dropped half read when its loop ended.
        if tap.busy or type(error).__name__ != "CancelledError":
            tap.fail(error)
        else:
            tap.left()
        raise
    tap.complete()


def observe_next(tap: Tap, step: Callable[[], Any]) -> Any:
    """Return the chunk that a step of the client's gives, and tell the tap of it."""
    tap.body = None
    tap.busy = True
    try:
        chunk = step()
    except StopIteration:
        tap.complete()
        raise
    except BaseException as error:
        tap.fail(error)
        raise
    tap.saw(chunk)
    return chunk


async def aobserve_next(tap: Tap, step: Callable[[], Awaitable[Any]]) -> Any:
    """Return the chunk that a step of the client's gives, and tell the tap of it; `observe_next` for asyncio."""
    tap.body = None
    tap.busy = True
    try:
        chunk = await step()
    except StopAsyncIteration:
        tap.complete()
        raise
    except GeneratorExit:
        # The waiting coroutine was dropped, perhaps by the collector; the stream ends when it is dropped itself.
        tap.busy = False
        tap.left()
        raise
    except BaseException as error:
        tap.fail(error)
        raise
    tap.saw(chunk)
    return chunk
