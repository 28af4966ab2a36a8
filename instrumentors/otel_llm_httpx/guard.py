"""Keep what goes wrong around a request out of it, and do what contrib leaves undone.

Contrib's wrappers call the transport in the middle of their own work and let out whatever fails there: a processor, a
sampler, a propagator or a meter of the application's, or they themselves. So what the transport gave is kept here, and
handed on whatever becomes of the rest. A request is sent once, with a span or without.

They record no duration of a request that nobody answered, and nothing of one that was cancelled; that is done here, on
their own instrument and their own span.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from time import perf_counter
from types import TracebackType
from typing import Any

from opentelemetry import propagate
from opentelemetry.context import Context
from opentelemetry.instrumentation.utils import is_http_instrumentation_enabled
from opentelemetry.trace import StatusCode, get_current_span

from otel_llm.context import current_context
from otel_llm.exchange import owner
from otel_llm.faults import fault, guarded
from otel_llm_semconv import attributes as names
from otel_llm_semconv.values import HTTP_METHODS, OTHER_HTTP_METHOD

_PLACE = "http"
_HISTOGRAM = "duration_histogram_new"
"""Name of the argument by which a wrapper gets the instrument of the stable conventions, or None."""


@contextmanager
def guarding(instrumentor: Any, *, silent: bool) -> Generator[None]:
    """Have the contrib instrumentor that is switched on in this block put guarded wrappers in place.

    Args:
        instrumentor: an instrumentor of contrib's.
        silent: whether requests inside LLM calls have no spans and no metrics.

    Raises:
        AttributeError: its wrappers are not where we know them. Then it is better left off.
    """
    guards = {name: guard(getattr(instrumentor, name), silent) for name, guard in _GUARDS.items()}
    for name, wrapper in guards.items():
        setattr(instrumentor, name, wrapper)
    try:
        yield
    finally:
        for name in guards:
            delattr(instrumentor, name)


class _Attempt:
    """What the transport made of one request; it stands in for the instrument, to see whether that is used."""

    sent = False
    response: Any = None
    error: BaseException | None = None
    traceback: TracebackType | None = None
    context: BaseException | None = None
    began_at = 0.0
    ended_at = 0.0
    current: Context | None = None
    _histogram: Any
    _recorded = False

    def __init__(self, options: dict[str, Any]) -> None:
        self._outer = current_context.get()
        self._histogram = options.get(_HISTOGRAM)
        if self._histogram is not None:
            options[_HISTOGRAM] = self

    def record(self, *args: Any, **kwargs: Any) -> None:
        """Record for contrib."""
        self._recorded = True
        self._histogram.record(*args, **kwargs)

    def begin(self) -> None:
        """Take the time."""
        self.sent = True
        self.began_at = perf_counter()

    def keep(self, error: BaseException) -> None:
        """Keep what the transport raises, as it is now."""
        self.ended_at = perf_counter()
        self.current = current_context.get()
        self.error, self.traceback, self.context = error, error.__traceback__, error.__context__
        if not isinstance(error, Exception):
            self._tell_span(error)

    @guarded
    def _tell_span(self, error: BaseException) -> None:
        """Mark the span of a request that was cancelled or interrupted, as contrib marks those that failed."""
        if not isinstance(error, GeneratorExit) and self.current is not self._outer:
            span = get_current_span()
            span.set_attribute(names.ERROR_TYPE, type(error).__qualname__)
            span.set_status(StatusCode.ERROR)

    def outlive(self, error: BaseException) -> None:
        """Take what came out of the wrapper, while it is handled, for a fault if the transport did not raise it."""
        if error is not self.error:
            if not isinstance(error, Exception):
                raise
            fault(_PLACE)

    @guarded
    def count(self, args: Any, options: dict[str, Any]) -> None:
        """Record how long a request took that was not answered, unless contrib did or was not to."""
        current, self.current = self.current, None
        if self._histogram is None or self._recorded or isinstance(self.error, (type(None), GeneratorExit)):
            return
        request = args[0]
        excluded = options.get("excluded_urls")
        if not is_http_instrumentation_enabled() or (excluded and excluded.url_disabled(str(request.url))):
            return
        method: str = request.method
        attributes: dict[str, str | int] = {
            names.HTTP_REQUEST_METHOD: method if method in HTTP_METHODS else OTHER_HTTP_METHOD,
            names.ERROR_TYPE: type(self.error).__qualname__,
        }
        if request.url.host:
            attributes[names.SERVER_ADDRESS] = request.url.host
        if request.url.port:
            attributes[names.SERVER_PORT] = request.url.port
        self._histogram.record(self.ended_at - self.began_at, attributes, current)

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


def _is_ours() -> bool:
    """Whether a request is sent inside an LLM call that is observed."""
    exchange = owner()
    return exchange is not None and not exchange.idle


@guarded
def _propagate(args: Any) -> None:
    """Tell the server of the trace all the same."""
    request = args[0]
    headers = type(request.headers)(request.headers)
    propagate.inject(headers)
    request.headers = headers


def _guard(wrapper: Callable[..., Any], silent: bool) -> Callable[..., Any]:
    def handle(wrapped: Any, instance: Any, args: Any, kwargs: Any, **options: Any) -> Any:
        if silent and _is_ours():
            _propagate(args)
            return wrapped(*args, **kwargs)
        attempt = _Attempt(options)

        def send(*args: Any, **kwargs: Any) -> Any:
            attempt.begin()
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
            attempt.count(args, options)
        attempt.reraise()
        return response if attempt.sent else wrapped(*args, **kwargs)

    return handle


def _aguard(wrapper: Callable[..., Any], silent: bool) -> Callable[..., Any]:
    async def handle(wrapped: Any, instance: Any, args: Any, kwargs: Any, **options: Any) -> Any:
        if silent and _is_ours():
            _propagate(args)
            return await wrapped(*args, **kwargs)
        attempt = _Attempt(options)

        async def send(*args: Any, **kwargs: Any) -> Any:
            attempt.begin()
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
            attempt.count(args, options)
        attempt.reraise()
        return response if attempt.sent else await wrapped(*args, **kwargs)

    return handle


_GUARDS = {"_handle_request_wrapper": _guard, "_handle_async_request_wrapper": _aguard}
"""Guards by the name of contrib's wrapper."""
