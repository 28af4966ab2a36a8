"""Queues and limiters of the application: how many wait and for how long, how many are at work, who was turned away.

The limiter stays what it is. Its class becomes a subclass of its own, whose methods do what they did and take note: so
it goes when it would have gone, and what its methods return and raise is untouched.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from contextvars import ContextVar
from functools import lru_cache, partial, wraps
from typing import Any, ClassVar, TypeAlias, TypeVar, cast
from weakref import finalize

from otel_llm import faults
from otel_llm.manual import arguments
from otel_llm.manual.lines import FUNCTION, Line, Turn

T = TypeVar("T")

Original: TypeAlias = Callable[[Any], Any]
"""Finds the method that another stands for, as a call would: somebody may have replaced it since."""
Shell: TypeAlias = Callable[[Line, Original, bool], Callable[..., Any]]
"""Makes such another; the last says whether it waits as a coroutine does."""

_inside: ContextVar[Line | None] = ContextVar("otel_llm_line", default=None)
"""The line in which a request stands already: what a limiter calls of its own is no other one."""
_giving: ContextVar[Line | None] = ContextVar("otel_llm_giving", default=None)
"""The line in which a place is being given back, or of which all is thrown away."""


class _Act:
    """One call of a limiter's method, and what it means for the line."""

    __slots__ = ("line", "token")

    variable: ClassVar[ContextVar[Line | None]] = _inside
    """Tells what the method calls that it is part of this."""

    def __init__(self, line: Line, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.line = line

    @classmethod
    def is_part(cls, line: Line) -> bool:
        """Whether a call that comes now is part of another one."""
        return _inside.get() is line

    def __enter__(self) -> None:
        self.token = self.variable.set(self.line)

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        try:
            self.variable.reset(self.token)
        except (ValueError, RuntimeError):  # a coroutine may be closed in a context that is not its own
            pass
        if error is None:
            self.done()
        else:
            self.failed(refused=type(error).__name__ in _REFUSALS)

    def done(self) -> None:
        """Take note of its end."""

    def failed(self, *, refused: bool) -> None:
        """Take note that it raised something, perhaps because it *refused*."""


class _Asking(_Act):
    """Get a place."""

    __slots__ = ("turn",)

    def __enter__(self) -> None:
        self.turn = self.line.ask()
        super().__enter__()

    def done(self) -> None:
        if self.turn.got():
            self.line.at_work.append(self.turn)

    def failed(self, *, refused: bool) -> None:
        self.turn.left(refused=refused)


class _Releasing(_Act):
    """Give places back."""

    __slots__ = ("number",)

    variable = _giving

    def __init__(self, line: Line, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.line = line
        self.number: Any = args[0] if args else kwargs.get("n", 1)

    @classmethod
    def is_part(cls, line: Line) -> bool:
        # Who is cancelled while he gets a place gives it back before he has it.
        return _giving.get() is line or _inside.get() is line

    def done(self) -> None:
        self.line.release(self.number if type(self.number) is int else 1)


class _Putting(_Act):
    """Put something in a queue, which may refuse it; where it takes it, it says so elsewhere."""

    __slots__ = ()

    def failed(self, *, refused: bool) -> None:
        if refused:
            self.line.ask().left(refused=True)


def _doing(act: type[_Act], line: Line, original: Original, waits: bool) -> Callable[..., Any]:
    """Return a method that takes note of what it does, unless it does it for another one."""

    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        if act.is_part(line):
            return original(self)(*args, **kwargs)
        doing = act(line, args, kwargs)
        if waits:
            waiting = original(self)(*args, **kwargs)
            # Of what is no coroutine nobody knows when it has waited.
            return _during(doing, waiting) if inspect.iscoroutine(waiting) else waiting
        with doing:
            result = original(self)(*args, **kwargs)
            if result is False and isinstance(doing, _Asking):
                doing.turn.left(refused=True)
        return result

    return method


def _during(doing: _Act, waiting: Any) -> Any:
    """Return a coroutine that is like another, and takes note."""
    result: Any = _wait(doing, waiting)
    result.__name__, result.__qualname__ = waiting.__name__, waiting.__qualname__
    return result


async def _wait(doing: _Act, waiting: Any) -> Any:
    with doing:
        return await waiting


def _coming(line: Line, original: Original, waits: bool) -> Callable[..., Any]:
    """Return the method by which a queue takes what is put in it."""

    def come(self: Any, item: Any) -> Any:
        result = original(self)(item)
        line.came(item, self)
        return result

    return come


def _going(line: Line, original: Original, waits: bool) -> Callable[..., Any]:
    """Return the method by which a queue gives away what it has."""

    def go(self: Any) -> Any:
        item = original(self)()
        line.went(item, self, thrown=_giving.get() is line)
        return item

    return go


def _submitting(line: Line, original: Original, waits: bool) -> Callable[..., Any]:
    """Return a method that takes work on."""

    def submit(self: Any, *args: Any, **kwargs: Any) -> Any:
        turn = Turn(line)
        turn.wait()
        try:
            future = original(self)(*args, **kwargs)
        except BaseException as error:
            refused = isinstance(error, RuntimeError)
            turn.note("queue_requests", int(refused))
            turn.left(refused=refused)
            raise
        turn.note("queue_requests", 1)
        try:
            _watch(future, turn)
        except Exception:
            turn.ended(future)
            faults.fault(faults.MANUAL)
        return future

    return submit


def _watch(future: Any, turn: Turn) -> None:
    """Have a future say when its work begins and ends; of one that cannot, nobody knows more than that it came."""
    kind = cast("Any", type)(future)
    if issubclass(kind, Future):
        future.__dict__.setdefault(_TURNS, []).append(turn)
        if not issubclass(kind, _Instrumented):
            with suppress(TypeError):
                future.__class__ = _watched(future.__class__)
    running = getattr(future, "running", None)
    if running is not None and (running() or (future.done() and not future.cancelled())):
        turn.got()
    if hasattr(future, "add_done_callback"):
        future.add_done_callback(turn.ended)
    else:
        turn.ended(future)


@lru_cache
def _watched(kind: Any) -> type[Any]:
    """Return a subclass of futures that say when their work begins."""

    def set_running_or_notify_cancel(self: Any) -> bool:
        runs: bool = cast("Any", super)(made, self).set_running_or_notify_cancel()
        if runs:
            for turn in self.__dict__[_TURNS]:
                turn.got()
        return runs

    made = _subclass(kind, {"set_running_or_notify_cancel": set_running_or_notify_cancel})
    return made


_TURNS = "_otel_llm_turns"
_ASKS, _RELEASES, _PUTS = partial(_doing, _Asking), partial(_doing, _Releasing), partial(_doing, _Putting)
_METHODS: dict[str, dict[str, Shell]] = {
    "acquire": {
        **dict.fromkeys(("acquire", "acquire_nowait", "acquire_on_behalf_of", "acquire_on_behalf_of_nowait"), _ASKS),
        **dict.fromkeys(("release", "release_on_behalf_of"), _RELEASES),
        # `with` statements need not go by way of those.
        **dict.fromkeys(("__enter__", "__aenter__"), _ASKS),
        **dict.fromkeys(("__exit__", "__aexit__"), _RELEASES),
    },
    "submit": {"submit": _submitting},
    "_get": {"put": _PUTS, "put_nowait": _PUTS, "shutdown": _RELEASES, "_put": _coming, "_get": _going},
}
"""What methods do besides, by their names, by the one that shows what they are of; each class has some of them."""
_REFUSALS = frozenset({"Full", "QueueFull", "QueueShutDown", "ShutDown", "WouldBlock"})
"""Names of the exceptions by which a request is turned away."""
_ACCEPTED = (
    ("asyncio", "Semaphore"),
    ("threading", "Semaphore"),
    ("anyio", "Semaphore"),
    ("anyio", "CapacityLimiter"),
    ("trio", "Semaphore"),
    ("trio", "CapacityLimiter"),
    ("concurrent.futures", "Executor"),
    ("asyncio", "Queue"),
    ("queue", "Queue"),
)
"""Where the classes are found, if their modules are loaded at all."""


class _Instrumented:
    """Marks what is instrumented."""

    __slots__ = ()


class _Plain:
    """As any class without slots is laid out."""


def instrument_queue(limiter: T, *, model: str | None = None, priority: str | None = None) -> T:
    """Instrument a limiter or a pool of the application's: who waits, how long, who is at work, who was turned away.

    Its metrics are ``otel_llm.queue.size``, ``.wait.duration`` in seconds, ``.workers``, ``.requests``, ``.rejected``.
    A request is turned away where it does not want to wait and would have to, where its own ``timeout`` is over, or
    where an executor is shut down; one that is cancelled is not. To do it twice is to do it once.

    Args:
        limiter: an `asyncio.Semaphore`, a `threading.Semaphore`, a ``Semaphore`` or ``CapacityLimiter`` of `anyio` or
            `trio`, an executor of `concurrent.futures`, or an `asyncio.Queue` or `queue.Queue`, of which only what
            is in it counts.
        model: the model that its requests are for.
        priority: their priority.

    Returns:
        the same object.

    Raises:
        TypeError: *limiter* is none of these, or another argument is no string.
    """
    model = arguments.maybe(FUNCTION, "model", model)
    priority = arguments.maybe(FUNCTION, "priority", priority)
    found: Any = [getattr(sys.modules.get(module), name, ()) for module, name in _ACCEPTED]
    if not isinstance(limiter, tuple(found)):
        accepted = ", ".join([f"{module}.{name}" for module, name in _ACCEPTED])
        raise TypeError(f"otel_llm.{FUNCTION}: limiter must be one of {accepted}, not {type(limiter).__name__}")
    if not isinstance(limiter, _Instrumented):
        line = Line(limiter, model, priority)
        if hasattr(limiter, "_get"):
            # What comes between this and the next is seen at the next change.
            line.look(limiter)
        limiter.__class__ = _class_for(cast("type[Any]", type(limiter)), line)
        finalize(limiter, line.gone).atexit = False
    return limiter


def _class_for(kind: type[Any], line: Line) -> type[Any]:
    """Return a subclass whose methods take note, one for each limiter."""

    def stands_for(name: str) -> Original:
        def find(self: Any) -> Any:
            return getattr(cast("Any", super)(made, self), name)

        return find

    def reduce(self: Any, protocol: Any) -> Any:
        """Copies and pickles are of the limiter's own class."""
        reduced = cast("Any", super)(made, self).__reduce_ex__(protocol)
        if isinstance(reduced, str):
            return reduced
        function, given, *more = reduced
        given = tuple([kind if each is made else each for each in given])
        # Of `copyreg.__newobj__` itself the class would have to be the one of what is pickled.
        return (kind if function is made else partial(function), given, *more)

    namespace: dict[str, Any] = {"__reduce_ex__": reduce}
    for shows, methods in _METHODS.items():
        for name, make in methods.items() if hasattr(kind, shows) else ():
            present = getattr(kind, name, None)
            if present is not None:
                # Some return a coroutine where those they stand for are one.
                waits = any(inspect.iscoroutinefunction(vars(base).get(name)) for base in kind.__mro__)
                method = make(line, stands_for(name), waits)
                namespace[name] = wraps(present)(_async(method) if inspect.iscoroutinefunction(present) else method)
    made = _subclass(kind, namespace)
    return made


def _async(method: Callable[..., Any]) -> Callable[..., Any]:
    async def awaits(self: Any, *args: Any, **kwargs: Any) -> Any:
        return await method(self, *args, **kwargs)

    return awaits


def _subclass(kind: type[Any], namespace: dict[str, Any]) -> type[Any]:
    """Return a subclass that looks like its class."""
    metaclass: Any = type(kind)
    namespace = {
        "__slots__": (),
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__doc__": kind.__doc__,
        **namespace,
    }
    try:
        # Some classes want no subclasses, or take note of them: this way they do not hear of it.
        made = metaclass(kind.__name__, (_Plain,), namespace)
        made.__bases__ = (kind, _Instrumented)
    except TypeError:  # one with slots
        made = metaclass(kind.__name__, (kind, _Instrumented), namespace)
    return cast("type[Any]", made)
