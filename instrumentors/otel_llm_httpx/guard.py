"""Keep what goes wrong around a request out of it.

Contrib's wrappers call the transport in the middle of their own work and let out whatever fails there: a processor, a
sampler, a propagator or a meter of the application's, or they themselves. So what the transport gave is kept here, and
handed on whatever becomes of the rest. A request is sent once, with a span or without.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import Any

from otel_llm.faults import fault

_PLACE = "http"


@contextmanager
def guarding(instrumentor: Any) -> Generator[None]:
    """Have the contrib instrumentor that is switched on in this block put guarded wrappers in place.

    Raises:
        AttributeError: its wrappers are not where we know them. Then it is better left off.
    """
    guards = {name: guard(getattr(instrumentor, name)) for name, guard in _GUARDS.items()}
    for name, wrapper in guards.items():
        setattr(instrumentor, name, wrapper)
    try:
        yield
    finally:
        for name in guards:
            delattr(instrumentor, name)


class _Attempt:
    """What the transport made of one request."""

    sent = False
    response: Any = None
    error: BaseException | None = None
    traceback: TracebackType | None = None
    context: BaseException | None = None

    def keep(self, error: BaseException) -> None:
        """Keep what the transport raises, as it is now."""
        self.error, self.traceback, self.context = error, error.__traceback__, error.__context__

    def outlive(self, error: BaseException) -> None:
        """Take what came out of the wrapper, while it is handled, for a fault if the transport did not raise it."""
        if error is not self.error:
            if not isinstance(error, Exception):
                raise
            fault(_PLACE)

    def reraise(self) -> None:
        """Raise what the transport raised, as it was then."""
        error, traceback, context = self.error, self.traceback, self.context
        if error is None:
            return
        # Neither we nor contrib's wrapper, which is done, may hold what holds the caller's frames: they would wait for
        # the garbage collector.
        self.error = self.traceback = self.context = None
        wrapper = None if traceback is None else traceback.tb_frame.f_back
        if wrapper is not None:
            with suppress(RuntimeError):
                wrapper.clear()
        try:
            raise error.with_traceback(traceback)
        finally:
            # What the caller is handling has taken its place.
            error.__context__ = context
            del error, traceback, context, wrapper


def _guard(wrapper: Callable[..., Any]) -> Callable[..., Any]:
    def handle(wrapped: Any, instance: Any, args: Any, kwargs: Any, **options: Any) -> Any:
        attempt = _Attempt()

        def send(*args: Any, **kwargs: Any) -> Any:
            attempt.sent = True
            try:
                attempt.response = response = wrapped(*args, **kwargs)
            except BaseException as error:
                attempt.keep(error)
                raise
            return response

        try:
            response = wrapper(send, instance, args, kwargs, **options)
        except BaseException as error:
            attempt.outlive(error)
            response = attempt.response
        attempt.reraise()
        return response if attempt.sent else wrapped(*args, **kwargs)

    return handle


def _aguard(wrapper: Callable[..., Any]) -> Callable[..., Any]:
    async def handle(wrapped: Any, instance: Any, args: Any, kwargs: Any, **options: Any) -> Any:
        attempt = _Attempt()

        async def send(*args: Any, **kwargs: Any) -> Any:
            attempt.sent = True
            try:
                attempt.response = response = await wrapped(*args, **kwargs)
            except BaseException as error:
                attempt.keep(error)
                raise
            return response

        try:
            response = await wrapper(send, instance, args, kwargs, **options)
        except BaseException as error:
            attempt.outlive(error)
            response = attempt.response
        attempt.reraise()
        return response if attempt.sent else await wrapped(*args, **kwargs)

    return handle


_GUARDS = {"_handle_request_wrapper": _guard, "_handle_async_request_wrapper": _aguard}
"""Guards by the name of contrib's wrapper."""
