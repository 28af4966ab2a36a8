"""A block of code as a decorator: of functions, coroutine functions, and generators of both kinds."""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import AbstractContextManager
from functools import partial, wraps
from typing import Any, Protocol, TypeVar, cast

F = TypeVar("F", bound=Callable[..., Any])


class Block(Protocol):
    """What a ``with`` statement runs, and what can be left for a while, as where a generator yields."""

    def __enter__(self) -> object:
        """Enter the block."""
        ...

    def __exit__(self, kind: Any, error: Any, trace: Any, /) -> bool | None:
        """Leave the block."""
        ...

    def outside(self) -> AbstractContextManager[object]:
        """Return what makes the context around the block the current one meanwhile."""
        ...


def decorated(function: F, block: Callable[[], Block]) -> F:
    """Return a function each run of which is in a block of its own; of a generator, from its first step to its last.

    Args:
        function: of any kind.
        block: makes the block of one run.

    Raises:
        TypeError: *function* is none.
    """
    if not callable(function):
        raise TypeError(f"expected a function to decorate, not {type(function).__name__}")
    if inspect.isasyncgenfunction(function):
        make = _agenerator
    elif inspect.isgeneratorfunction(function):
        make = _generator
    elif inspect.iscoroutinefunction(function):
        make = _coroutine
    else:
        make = _plain
    return cast("F", wraps(function)(make(function, block)))


def _plain(function: Callable[..., Any], block: Callable[[], Block]) -> Callable[..., Any]:
    def plain(*args: Any, **kwargs: Any) -> Any:
        with block():
            return function(*args, **kwargs)

    return plain


def _coroutine(function: Callable[..., Any], block: Callable[[], Block]) -> Callable[..., Any]:
    async def coroutine(*args: Any, **kwargs: Any) -> Any:
        with block():
            return await function(*args, **kwargs)

    return coroutine


def _generator(function: Callable[..., Any], block: Callable[[], Block]) -> Callable[..., Any]:
    def generator(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        own = block()
        with own:
            inner = function(*args, **kwargs)
            step = partial(next, inner)
            while True:
                try:
                    value = step()
                except StopIteration as stop:
                    return stop.value
                try:
                    with own.outside():
                        given = yield value
                except GeneratorExit:
                    inner.close()
                    raise
                except BaseException as error:
                    step = partial(inner.throw, error)
                else:
                    step = partial(inner.send, given)

    return generator


def _agenerator(function: Callable[..., Any], block: Callable[[], Block]) -> Callable[..., Any]:
    async def agenerator(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        own = block()
        with own:
            inner = function(*args, **kwargs)
            step = partial(anext, inner)
            while True:
                try:
                    value = await step()
                except StopAsyncIteration:
                    return
                try:
                    with own.outside():
                        given = yield value
                except GeneratorExit:
                    await inner.aclose()
                    raise
                except BaseException as error:
                    step = partial(inner.athrow, error)
                else:
                    step = partial(inner.asend, given)

    return agenerator
