"""A block of code that is entered once: a context manager, sync and async, and a decorator of any function."""

from __future__ import annotations

import inspect
import sys
import time
from collections.abc import Callable
from contextvars import Token
from functools import partial, wraps
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from opentelemetry.context import Context

from otel_llm import faults
from otel_llm.context import current_context
from otel_llm.overdue import end_safely
from otel_llm.telemetry import forks

F = TypeVar("F", bound=Callable[..., Any])


class Block:
    """A block of code that is entered once and left once; as a decorator every run of the function is one of its own.

    A subclass says what happens: `enter` and `leave`. Neither can reach the code inside: their faults are swallowed.

    Args:
        function: name of the public function that makes it, for errors.
    """

    context: Context = Context()
    """What is current inside, once the block was entered and until it is left."""
    ended_at: float = 0.0
    """When the block was left, in seconds of ``time.perf_counter``."""
    wrong: TypeError | ValueError | None = None
    """What is wrong with something that was told inside, known when the block is left."""
    _entered = False
    _inside = False
    _forks = 0
    _token: Token[Context] | None = None

    def __init__(self, function: str) -> None:
        self.function = function

    def enter(self, context: Context) -> Context:
        """Begin; return the context that is to be current inside."""
        raise NotImplementedError

    def leave(self, error: BaseException | None) -> None:
        """End. It may come late and in another thread, where the collector ends a block; take no time here.

        Args:
            error: what was raised inside, or None.
        """
        raise NotImplementedError

    def _open(self) -> None:
        if self._entered:
            raise ValueError(f"otel_llm.{self.function}: this block was entered before; make one for each time")
        self._entered = self._inside = True
        self._forks = forks()
        self.context = current_context.get()
        try:
            self.context = self.enter(self.context)
        except Exception:
            faults.fault(faults.MANUAL)

    def _close(self, error: BaseException | None, *, safely: bool = False) -> None:
        """End the block; *safely* where the collector may be at work."""
        if not self._inside:
            left = "left before" if self._entered else "never entered"
            raise ValueError(f"otel_llm.{self.function}: this block was {left}")
        self._inside = False
        # What a parent began, it ends itself.
        if self._forks != forks():
            return
        self.ended_at = time.perf_counter()
        if safely or isinstance(error, GeneratorExit):
            end_safely(lambda: self._leave(error))
        else:
            self._leave(error)

    def _leave(self, error: BaseException | None) -> None:
        try:
            self.leave(error)
        except Exception:
            faults.fault(faults.MANUAL)
        finally:
            # Some blocks are in their context, a circle that only the collector would break.
            self.context = Block.context

    def __enter__(self) -> Self:
        self._open()
        self._token = current_context.set(self.context)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        token, self._token = self._token, None
        if token is not None:
            _reset(token)
        if error is None:
            self._close(None)
            # What is raised inside goes on as it is; else the application hears of its mistakes.
            if self.wrong is not None:
                raise self.wrong
        else:
            early = isinstance(error, GeneratorExit) and _in_generator()
            self._close(None if early else error, safely=early)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)

    def __call__(self, function: F) -> F:
        """Decorate a function: each of its runs is a block.

        A generator's block lasts from its first value to its end; the code that reads it is outside. One that is left
        early is no failure.

        Raises:
            TypeError: this is no function.
        """
        if not callable(function) or isinstance(function, (type, staticmethod, classmethod)):
            raise TypeError(f"otel_llm.{self.function}: expected a function to decorate, not {function!r:.200}")
        # An object that can be called is what its method is.
        ways: tuple[Any, ...] = function, type(function).__call__
        if any(map(inspect.isasyncgenfunction, ways)):
            decorate = self._async_generator
        elif any(map(inspect.isgeneratorfunction, ways)):
            decorate = self._generator
        elif any(map(inspect.iscoroutinefunction, ways)):
            decorate = self._coroutine
        else:
            decorate = self._plain
        return cast("F", decorate(function))

    def _another(self) -> Self:
        """Return a block like this one that was not entered yet."""
        block = object.__new__(type(self))
        block.__dict__.update(self.__dict__)
        block._entered = block._inside = False
        block._token = None
        return block

    def _plain(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            with self._another():
                return function(*args, **kwargs)

        return run

    def _coroutine(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        async def run(*args: Any, **kwargs: Any) -> Any:
            with self._another():
                return await function(*args, **kwargs)

        return run

    def _generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            body = function(*args, **kwargs)
            block = self._another()
            block._open()
            value: Any = None
            step, early = body.send, False
            while True:
                token = current_context.set(block.context)
                try:
                    value = step(value)
                except StopIteration as end:
                    block._step_out(token)
                    block._close(None, safely=early)
                    return end.value
                except BaseException as error:
                    block._step_out(token)
                    value = None  # or what was thrown in would hold its own traceback
                    early = isinstance(error, GeneratorExit)
                    block._close(None if early else error, safely=early)
                    raise
                block._step_out(token)
                try:
                    value = cast("Any", (yield value))
                    step = body.send
                except BaseException as thrown:
                    step, value, early = body.throw, thrown, isinstance(thrown, GeneratorExit)

        return run

    def _async_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        async def run(*args: Any, **kwargs: Any) -> Any:
            body = function(*args, **kwargs)
            block = self._another()
            block._open()
            value: Any = None
            step, early = partial(_unseen, body), False
            while True:
                token = current_context.set(block.context)
                try:
                    value = await step(value)
                except StopAsyncIteration:
                    block._step_out(token)
                    block._close(None, safely=early)
                    return
                except BaseException as error:
                    block._step_out(token)
                    value = None  # or what was thrown in would hold its own traceback
                    early = isinstance(error, GeneratorExit)
                    block._close(None if early else error, safely=early)
                    raise
                block._step_out(token)
                try:
                    value = cast("Any", (yield value))
                    step = body.asend
                except BaseException as thrown:
                    step, value, early = body.athrow, thrown, isinstance(thrown, GeneratorExit)

        return run

    def _step_out(self, token: Token[Context]) -> None:
        """Give the reader of a generator his context back, and keep that of its body for its next step."""
        self.context = current_context.get()
        _reset(token)


def _unseen(body: Any, value: object) -> Any:
    """Return the first step of an async generator, of which no event loop takes note.

    At their end, loops close the generators that they know, all at once: this one is closed by the one that reads it.
    """
    hooks = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(None, None)
    try:
        return body.asend(value)
    finally:
        sys.set_asyncgen_hooks(*hooks)


def _in_generator() -> bool:
    """Whether the code that leaves a block is a generator's: one that is left early does not fail."""
    frame = sys._getframe(2)
    while frame.f_back is not None and f"{frame.f_globals.get('__name__')}.".startswith(("otel_llm.", "contextlib.")):
        frame = frame.f_back
    return bool(frame.f_code.co_flags & (inspect.CO_GENERATOR | inspect.CO_ASYNC_GENERATOR))


def _reset(token: Token[Context]) -> None:
    try:
        current_context.reset(token)
    except (ValueError, RuntimeError):  # a generator or a coroutine may be closed in a context that is not its own
        pass
