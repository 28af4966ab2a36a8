"""Streams that are generators: two shells, sync and async, that stand for a client's own.

The request of such a stream leaves at the first ``next``, and there its call begins: one that is never read begins
nothing. What can end it: the last chunk, an exception, ``close()``, or the garbage collector.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Generator
from functools import partial
from itertools import chain
from operator import attrgetter
from types import AsyncGeneratorType, GeneratorType
from typing import Any, TypeAlias
from weakref import ref

from otel_llm.context import BLOCK_KEY, current_context
from otel_llm.exchange import Exchange
from otel_llm.faults import fault
from otel_llm.patching import Patches
from otel_llm.streams import Tap, aobserve, aobserve_next, observe
from otel_llm.telemetry import Telemetry

Begin: TypeAlias = Callable[[Exchange], None]
"""Begins the exchange, or leaves it alone; it may raise."""


def opening(patches: Patches, telemetry: Telemetry, begin: Begin, chunks: Any, *, runs_model: bool) -> Any:
    """Return a generator that stands for the client's *chunks* and has *begin* begin the call at its first ``next``."""
    if chunks.__class__ is not GeneratorType or not _is_on(patches, telemetry):
        return chunks
    request = _Request(patches, telemetry, begin, runs_model=runs_model)
    reader: Any = _read(request, chunks)
    reader.__name__, reader.__qualname__ = chunks.__name__, chunks.__qualname__
    request.reader = ref(reader)
    return reader


def aopening(patches: Patches, telemetry: Telemetry, begin: Begin, chunks: Any, *, runs_model: bool) -> Any:
    """Return an async generator that stands for the client's *chunks*; `opening` for asyncio."""
    if chunks.__class__ is not AsyncGeneratorType or not _is_on(patches, telemetry):
        return chunks
    return _AsyncReader(_Request(patches, telemetry, begin, runs_model=runs_model), chunks)


def _is_on(patches: Patches, telemetry: Telemetry) -> bool:
    return patches.active and (not telemetry.asleep or telemetry.wakes())


class _Request:
    """The request of one stream, which nobody has asked for yet."""

    reader: ref[Any]
    """The generator that stands for the client's. One that is dropped is closed, too, but dead here by then."""

    def __init__(self, patches: Patches, telemetry: Telemetry, begin: Begin, *, runs_model: bool) -> None:
        self.exchange = Exchange()
        self.exchange.telemetry = telemetry
        # What is made inside of a block belongs there, wherever it is read.
        context = current_context.get()
        block: Any = context.get(BLOCK_KEY) if context and runs_model else None
        if block is not None:
            self.exchange.within = context
            block.step_back()
        self._patches = patches
        self._begin = begin

    def begin(self) -> None:
        """Begin the call, or step aside."""
        try:
            if self._patches.active:
                self._begin(self.exchange)
        except Exception:
            fault("begin")
        except BaseException as error:
            self.exchange.failed(error)
            raise
        if self.exchange.idle:
            self.exchange.step_aside()


def _read(request: _Request, chunks: Any) -> Generator[Any, Any, Any]:
    request.begin()
    try:
        first = [next(chunks)]
    except StopIteration:
        first = []
    except BaseException as error:
        request.exchange.failed(error)
        raise
    tap = request.exchange.opened()
    try:
        yield from _all(first, chunks) if tap is None else observe(tap, chain(first, chunks))
    except GeneratorExit:
        if tap is not None:
            tap.given_up(dropped=request.reader() is None)
        raise
    finally:
        chunks.close()


def _all(first: list[Any], chunks: Any) -> Generator[Any, Any, Any]:
    yield from first
    yield from chunks


class _Anext(property):
    """An attribute that is called in place of a method, which would cost each chunk a frame."""

    def __call__(self, reader: _AsyncReader) -> Any:
        """Step on, for those who take the method from the type."""
        return reader._step()


class _AsyncReader:
    """Stands for an async generator, and passes for one.

    It is none: asyncio cleans up those that are dropped half read, in public, and one more would be noticed.
    """

    def __init__(self, request: _Request, chunks: Any) -> None:
        self._request: _Request | None = request
        self._chunks = chunks
        self._tap: Tap | None = None

    # What `isinstance` asks.
    __class__: Any = AsyncGeneratorType  # pyright: ignore[reportIncompatibleMethodOverride]

    def __getattr__(self, name: str) -> Any:
        if name == "_chunks":  # not there yet, as in a copy
            raise AttributeError(name)
        return getattr(self._chunks, name)

    def __repr__(self) -> str:
        return repr(self._chunks)

    def __aiter__(self) -> Any:
        return self

    __anext__ = _Anext(attrgetter("_step"))

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self._chunks.__reduce_ex__(protocol)

    def asend(self, value: Any) -> Any:
        step = partial(self._chunks.asend, value)
        refused = self._chunks.ag_running or (self._request is not None and value is not None)
        return step() if refused else self._advance(step)

    def athrow(self, *error: Any) -> Any:
        step = partial(self._chunks.athrow, *error)
        if self._request is not None or self._chunks.ag_running:
            self._request = None  # what is thrown in at the beginning ends it there
            return step()
        return self._advance(step)

    def _step(self) -> Awaitable[Any]:
        """Open the stream, and then go on in a generator of ours, which asyncio does not get to know of."""
        own: dict[str, Any] = vars(self)
        if "_step" in own:  # somebody kept the method
            return self._step()
        if self._request is not None or self._tap is None:
            return self._advance(self._chunks.__anext__)
        own["_step"] = step = aobserve(self._tap, self._chunks).__anext__
        hooks = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(None, None)
        try:
            return step()
        finally:
            sys.set_asyncgen_hooks(*hooks)

    async def _advance(self, step: Callable[[], Awaitable[Any]]) -> Any:
        request, self._request = self._request, None
        if request is not None:
            return await self._open(request, step)
        tap = self._tap
        return await step() if tap is None else await aobserve_next(tap, step)

    async def _open(self, request: _Request, step: Callable[[], Awaitable[Any]]) -> Any:
        request.begin()
        try:
            chunk = await step()
        except StopAsyncIteration:
            tap = request.exchange.opened()
            if tap is not None:
                tap.complete()
            raise
        except BaseException as error:
            request.exchange.failed(error)
            raise
        self._tap = request.exchange.opened()
        if self._tap is not None:
            self._tap.saw(chunk)
        return chunk

    async def aclose(self) -> None:
        refused = self._chunks.ag_running
        if not refused:
            self._request = None
        try:
            await self._chunks.aclose()
        finally:
            if self._tap is not None and not refused:
                self._tap.given_up(dropped=False)
