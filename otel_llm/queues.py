"""Queues and limiters of the application: how many wait and for how long, how many are at work, who was turned away.

The limiter stays what it is. Its class becomes a subclass of its own, whose methods do what they did and take note: so
it goes when it would have gone, and what its methods return and raise is untouched.
"""

from __future__ import annotations

import inspect
import os
import sys
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import ContextVar, Token
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast
from weakref import WeakSet

from otel_llm import arguments, faults, telling
from otel_llm.context import current_context
from otel_llm_semconv import attributes as names
from otel_llm_semconv.measures import LABELS

if TYPE_CHECKING:
    from otel_llm.state import Facts
    from otel_llm.telemetry import Telemetry

T = TypeVar("T")

Original: TypeAlias = Callable[[Any], Any]
"""Finds the method that another stands for, as a call would: somebody may have replaced it since."""

_FUNCTION = "instrument_queue"
_inside: ContextVar[Line | None] = ContextVar("otel_llm_line", default=None)
"""The line in which a request stands already: what a limiter calls of its own is no other one."""
_giving: ContextVar[Line | None] = ContextVar("otel_llm_giving", default=None)
"""The line in which a place is being given back."""


class Line:
    """Who waits at one limiter, and who is at work behind it."""

    def __init__(self, model: str | None, priority: str | None) -> None:
        self.model = model
        self.given = {} if priority is None else {LABELS[names.OTEL_LLM_QUEUE_PRIORITY]: priority}
        self.at_work: deque[Turn] = deque()
        self.waiting: dict[int, deque[Turn]] = {}
        """Of a queue, what is in it, by identity."""
        _lines.add(self)

    def ask(self) -> Turn:
        """Take note of a request that comes."""
        turn = Turn(self)
        turn.note("queue_requests", 1)
        turn.note("queue_size", 1)
        turn.waits.append(None)
        return turn

    def release(self, number: int = 1) -> None:
        """Take note that so many are done; a limiter may be given more than was taken from it."""
        for _ in range(min(number, len(self.at_work))):
            try:
                self.at_work.pop().done()
            except IndexError:
                return


class Turn:
    """One request: it waits, is at work, and is done."""

    __slots__ = ("facts", "line", "since", "telemetry", "waits", "works")

    def __init__(self, line: Line) -> None:
        self.line = line
        self.telemetry: Telemetry | None = telling.listener(_FUNCTION)
        self.facts: dict[str, Facts] = {}
        self.since = time.perf_counter()
        # Each is taken in one step of the interpreter: of two threads only one ends the wait.
        self.waits: list[None] = []
        self.works: list[None] = []

    def note(self, measure: str, amount: int) -> None:
        """Add to a measure; later of the same request the facts are the same."""
        telemetry = self.telemetry
        if telemetry is None:
            return
        try:
            telemetry.ledger.measures.add(measure, self._facts(telemetry, measure), amount)
        except Exception:
            faults.fault(faults.MANUAL)

    def _facts(self, telemetry: Telemetry, measure: str) -> Facts:
        facts = self.facts.get(measure)
        if facts is None:
            facts = telling.facts_of(telemetry, measure, self.line.given, model=self.line.model)
            self.facts[measure] = facts
        return facts

    def got(self, *, works: bool = True) -> bool:
        """End the wait, and begin to work; of several ends only the first counts."""
        if not _taken(self.waits):
            return False
        telemetry = self.telemetry
        self.note("queue_size", -1)
        if works:
            self.note("queue_workers", 1)
            self.works.append(None)
        if telemetry is not None:
            try:
                facts = self._facts(telemetry, "queue_wait")
                seconds = time.perf_counter() - self.since
                telling.record(telemetry, "queue_wait", facts, seconds, current_context.get())
            except Exception:
                faults.fault(faults.MANUAL)
        return True

    def left(self, *, refused: bool = False) -> None:
        """End the wait for nothing: given up, or *refused*."""
        if _taken(self.waits):
            self.note("queue_size", -1)
            if refused:
                self.note("queue_rejected", 1)

    def ended(self, future: Any) -> None:
        """End with a future: it was cancelled while it waited, or its work is done."""
        self.left()
        self.done()

    def done(self) -> None:
        """End the work."""
        if _taken(self.works):
            self.note("queue_workers", -1)


def _taken(token: list[None]) -> bool:
    try:
        token.pop()
    except IndexError:
        return False
    return True


_lines: WeakSet[Line] = WeakSet()


def _forked() -> None:
    """Who is at work in the parent is not here."""
    for line in list(_lines):
        line.at_work.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


# What the methods of limiters do besides.


def _asking(line: Line, original: Original, waits: bool) -> Callable[..., Any]:
    """Return a method that gets a place: a coroutine *waits*; others wait as a thread does, or say that they do not."""
    if waits:

        async def acquire(self: Any, *args: Any, **kwargs: Any) -> Any:
            if _inside.get() is line:
                return await original(self)(*args, **kwargs)
            turn, token = line.ask(), _inside.set(line)
            try:
                result = await original(self)(*args, **kwargs)
            except BaseException:
                _leave(token)
                turn.left()
                raise
            _leave(token)
            _work(line, turn)
            return result

        return acquire

    def acquire_now(self: Any, *args: Any, **kwargs: Any) -> Any:
        if _inside.get() is line:
            return original(self)(*args, **kwargs)
        turn, token = line.ask(), _inside.set(line)
        try:
            result = original(self)(*args, **kwargs)
        except BaseException as error:
            _leave(token)
            turn.left(refused=type(error).__name__ in _REFUSALS)
            raise
        _leave(token)
        if result is False:
            turn.left(refused=True)
        else:
            _work(line, turn)
        return result

    return acquire_now


def _work(line: Line, turn: Turn) -> None:
    if turn.got():
        line.at_work.append(turn)


def _leave(token: Token[Line | None]) -> None:
    try:
        token.var.reset(token)
    except (ValueError, RuntimeError):  # a coroutine may be closed in a context that is not its own
        pass


def _releasing(line: Line, original: Original, waits: bool) -> Callable[..., Any]:
    """Return a method that gives places back."""
    if waits:

        async def release_soon(self: Any, *args: Any) -> Any:
            token = _giving.set(line)
            try:
                result = await original(self)(*args)
            finally:
                _leave(token)
            line.release()
            return result

        return release_soon

    def release(self: Any, *args: Any, **kwargs: Any) -> Any:
        # Who is cancelled while he gets a place gives it back before he has it.
        if line in (_giving.get(), _inside.get()):
            return original(self)(*args, **kwargs)
        token = _giving.set(line)
        try:
            result = original(self)(*args, **kwargs)
        finally:
            _leave(token)
        number: Any = args[0] if args else kwargs.get("n", 1)
        line.release(number if type(number) is int else 1)
        return result

    return release


def _putting(line: Line, original: Original, waits: bool) -> Callable[..., Any]:
    """Return a method that puts something in a queue, or is refused."""
    if waits:
        # It waits until there is room, and then puts it there by the other one.
        async def put(self: Any, item: Any) -> Any:
            return await original(self)(item)

        return put

    def put_now(self: Any, *args: Any, **kwargs: Any) -> Any:
        if _inside.get() is line:
            return original(self)(*args, **kwargs)
        token = _inside.set(line)
        try:
            return original(self)(*args, **kwargs)
        except Exception as error:
            if type(error).__name__ in _REFUSALS:
                line.ask().left(refused=True)
            raise
        finally:
            _leave(token)

    return put_now


def _coming(line: Line, original: Original, waits: bool) -> Callable[..., Any]:
    """Return the method by which a queue takes what is put in it; it holds the queue's lock, if there is one."""

    def come(self: Any, item: Any) -> Any:
        result = original(self)(item)
        # While the queue has it, its identity is its own.
        line.waiting.setdefault(id(item), deque()).append(line.ask())
        return result

    return come


def _going(line: Line, original: Original, waits: bool) -> Callable[..., Any]:
    """Return the method by which a queue gives away what it has."""

    def go(self: Any) -> Any:
        item = original(self)()
        turns = line.waiting.get(id(item))
        if turns:
            turns.popleft().got(works=False)
            if not turns:
                del line.waiting[id(item)]
        return item

    return go


class _Watched(Future[Any]):
    """What an executor returns; says when its work begins."""

    _otel_llm_turn: Turn

    def set_running_or_notify_cancel(self) -> bool:
        runs = super().set_running_or_notify_cancel()
        if runs:
            self._otel_llm_turn.got()
        return runs


_Watched.__name__ = _Watched.__qualname__ = Future.__name__
_Watched.__module__ = Future.__module__


def _submitting(line: Line, original: Original, waits: bool) -> Callable[..., Any]:
    """Return a method that takes work on."""

    def submit(self: Any, *args: Any, **kwargs: Any) -> Any:
        turn = line.ask()
        try:
            future = original(self)(*args, **kwargs)
        except BaseException as error:
            turn.left(refused=isinstance(error, RuntimeError))
            raise
        try:
            _watch(future, turn)
        except Exception:
            faults.fault(faults.MANUAL)
        return future

    return submit


def _watch(future: Any, turn: Turn) -> None:
    if type(future) is cast("Any", Future):
        future.__dict__["_otel_llm_turn"] = turn
        future.__class__ = _Watched
    if future.running() or (future.done() and not future.cancelled()):
        turn.got()
    future.add_done_callback(turn.ended)


_METHODS = {
    "acquire": _asking,
    "acquire_on_behalf_of": _asking,
    "acquire_nowait": _asking,
    "acquire_on_behalf_of_nowait": _asking,
    "release": _releasing,
    "release_on_behalf_of": _releasing,
    "submit": _submitting,
    "put": _putting,
    "put_nowait": _putting,
    "_put": _coming,
    "_get": _going,
}
"""What each method does besides, by its name: every class has some of them."""
_BLOCKS = {"__enter__": _asking, "__aenter__": _asking, "__exit__": _releasing, "__aexit__": _releasing}
"""The same of `with` statements, which need not go by way of those."""
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
    model = arguments.maybe(_FUNCTION, "model", model)
    priority = arguments.maybe(_FUNCTION, "priority", priority)
    found: Any = [getattr(sys.modules.get(module), name, ()) for module, name in _ACCEPTED]
    if not isinstance(limiter, tuple(found)):
        accepted = ", ".join([f"{module}.{name}" for module, name in _ACCEPTED])
        raise TypeError(f"otel_llm.{_FUNCTION}: limiter must be one of {accepted}, not {type(limiter).__name__}")
    if not isinstance(limiter, _Instrumented):
        line = Line(model, priority)
        limiter.__class__ = _class_for(cast("type[Any]", type(limiter)), line)
    return limiter


def _class_for(kind: type[Any], line: Line) -> type[Any]:
    """Return a subclass whose methods take note, one for each limiter."""
    made: Any = None
    metaclass: Any = type(kind)

    def stands_for(name: str) -> Callable[[Any], Any]:
        def find(self: Any) -> Any:
            return getattr(cast("Any", super)(made, self), name)

        return find

    namespace: dict[str, Any] = {
        "__slots__": (),
        "__module__": kind.__module__,
        "__qualname__": kind.__qualname__,
        "__doc__": kind.__doc__,
    }
    for name, make in (_METHODS | _BLOCKS if hasattr(kind, "acquire") else _METHODS).items():
        present = getattr(kind, name, None)
        if present is not None:
            namespace[name] = wraps(present)(make(line, stands_for(name), inspect.iscoroutinefunction(present)))
    try:
        # Some classes want no subclasses, or take note of them: this way they do not hear of it.
        made = metaclass(kind.__name__, (_Plain,), namespace)
        made.__bases__ = (kind, _Instrumented)
    except TypeError:  # one with slots
        made = metaclass(kind.__name__, (kind, _Instrumented), namespace)
    return cast("type[Any]", made)
