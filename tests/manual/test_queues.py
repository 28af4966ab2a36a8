"""Instrumented limiters do what they did, and tell who waits, how long, who is at work and who was turned away."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import gc
import inspect
import json
import logging
import os
import pickle
import queue
import signal
import threading
import time
import weakref
from collections.abc import AsyncGenerator, Callable
from concurrent.futures import CancelledError, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from types import SimpleNamespace
from typing import Any, cast

import anyio
import pytest
import trio

import otel_llm
from otel_llm import faults, overdue, runtime
from otel_llm.manual import lines, telling
from otel_llm.testing import Seen, capture
from tests.manual.pages import rows

NAMES = {
    "size": "otel_llm.queue.size",
    "wait": "otel_llm.queue.wait.duration",
    "workers": "otel_llm.queue.workers",
    "requests": "otel_llm.queue.requests",
    "rejected": "otel_llm.queue.rejected",
}


def told(seen: Seen) -> dict[str, float]:
    """Return the sum over the points of each metric, of times how many there are; what was never told is absent."""
    found: dict[str, float] = {}
    for short, name in NAMES.items():
        points = seen.points(name)
        if points:
            found[short] = sum([point["value"] if "value" in point else point["count"] for point in points])
    return found


def eventually(expected: dict[str, float], seen: Seen) -> None:
    """Wait until this is told: what an executor's futures tell comes after their results."""
    for _ in range(500):
        if told(seen) == expected:
            return
        time.sleep(0.01)
    assert expected == told(seen)


# limiters of coroutines

LIMITERS: dict[str, tuple[Callable[[], Any], str]] = {
    "asyncio": (lambda: asyncio.Semaphore(1), "asyncio"),
    "asyncio, bounded": (lambda: asyncio.BoundedSemaphore(1), "asyncio"),
    "anyio on asyncio": (lambda: anyio.Semaphore(1), "asyncio"),
    "anyio on asyncio, fast": (lambda: anyio.Semaphore(1, fast_acquire=True), "asyncio"),
    "anyio limiter on asyncio": (lambda: anyio.CapacityLimiter(1), "asyncio"),
    "anyio on trio": (lambda: anyio.Semaphore(1), "trio"),
    "anyio limiter on trio": (lambda: anyio.CapacityLimiter(1), "trio"),
    "trio": (lambda: trio.Semaphore(1), "trio"),
    "trio limiter": (lambda: trio.CapacityLimiter(1), "trio"),
}
each_limiter = pytest.mark.parametrize("name", LIMITERS)


@pytest.mark.parametrize("early", [False, True], ids=["in the loop", "before the loop"])
@each_limiter
def test_limiters(name: str, early: bool, seen: Seen) -> None:
    """Who waits, who is at work and who has waited is told at every moment; those who come first are served first."""
    make, backend = LIMITERS[name]
    made = otel_llm.instrument_queue(make()) if early and "trio" not in name.split()[0] else None
    order: list[int] = []
    moments: list[dict[str, float]] = []

    async def main() -> None:
        limiter = made or otel_llm.instrument_queue(make())

        async def work(number: int) -> None:
            async with limiter:
                order.append(number)
                await anyio.sleep(0.02)

        async with anyio.create_task_group() as tasks:
            for number in range(3):
                tasks.start_soon(work, number)
                await anyio.sleep(0.002)
            moments.append(told(seen))
        moments.append(told(seen))

    anyio.run(main, backend=backend)

    assert [0, 1, 2] == order or backend == "trio"
    assert [
        {"size": 2, "wait": 1, "workers": 1, "requests": 3},
        {"size": 0, "wait": 3, "workers": 0, "requests": 3},
    ] == moments
    (wait,) = seen.points("otel_llm.queue.wait.duration")
    assert 0.03 < wait["sum"] < 5


@each_limiter
def test_explicit_calls(name: str, seen: Seen) -> None:
    """`acquire()` and `release()` count once each, and so do those for somebody else."""
    make, backend = LIMITERS[name]

    async def main() -> None:
        limiter = otel_llm.instrument_queue(make())
        assert not await limiter.acquire() or "asyncio" in name
        assert {"size": 0, "wait": 1, "workers": 1, "requests": 1} == told(seen)
        limiter.release()
        assert {"size": 0, "wait": 1, "workers": 0, "requests": 1} == told(seen)
        if hasattr(limiter, "acquire_on_behalf_of"):
            await limiter.acquire_on_behalf_of("me")
            assert {"size": 0, "wait": 2, "workers": 1, "requests": 2} == told(seen)
            limiter.release_on_behalf_of("me")
            assert {"size": 0, "wait": 2, "workers": 0, "requests": 2} == told(seen)

    anyio.run(main, backend=backend)


@pytest.mark.parametrize("make", [anyio.CapacityLimiter, trio.CapacityLimiter])
def test_given_back_once(make: Callable[[int], Any], seen: Seen) -> None:
    """Of two at work one is left where one place is given back, though a limiter has methods of its own for it."""

    async def main() -> None:
        limiter = otel_llm.instrument_queue(make(2))
        await limiter.acquire_on_behalf_of("me")
        await limiter.acquire()
        assert 2 == told(seen)["workers"]
        limiter.release()
        assert 1 == told(seen)["workers"]
        async with limiter:
            assert 2 == told(seen)["workers"]
        assert 1 == told(seen)["workers"]

    anyio.run(main, backend="trio" if make is trio.CapacityLimiter else "asyncio")


@each_limiter
def test_without_waiting(name: str, seen: Seen) -> None:
    """Who would have to wait, and does not want to, was turned away."""
    make, backend = LIMITERS[name]
    if not hasattr(make(), "acquire_nowait") and "anyio" not in name:
        pytest.skip("waits always")

    async def main() -> None:
        limiter = otel_llm.instrument_queue(make())
        limiter.acquire_nowait()
        again, *who = limiter.acquire_nowait, "me"
        if hasattr(limiter, "acquire_on_behalf_of_nowait"):
            again = limiter.acquire_on_behalf_of_nowait
        else:
            who.clear()
        with pytest.raises((anyio.WouldBlock, trio.WouldBlock)):
            again(*who)
        assert {"size": 0, "wait": 1, "workers": 1, "requests": 2, "rejected": 1} == told(seen)

    anyio.run(main, backend=backend)


@each_limiter
def test_cancelled_while_waiting(name: str, seen: Seen) -> None:
    """Who is cancelled while he waits is in no queue any more, got nothing and was not turned away; others go on."""
    make, backend = LIMITERS[name]

    async def main() -> None:
        limiter = otel_llm.instrument_queue(make())
        async with limiter:
            with anyio.move_on_after(0.01) as scope:
                async with limiter if "limiter" not in name else _other(limiter):
                    pass
            assert scope.cancelled_caught
            assert {"size": 0, "wait": 1, "workers": 1, "requests": 2} == told(seen)
        async with limiter:
            pass
        assert {"size": 0, "wait": 2, "workers": 0, "requests": 3} == told(seen)

    anyio.run(main, backend=backend)


@contextlib.asynccontextmanager
async def _other(limiter: Any) -> AsyncGenerator[None]:
    """Borrow for somebody else: a task gets one token of a limiter only."""
    borrower = object()
    await limiter.acquire_on_behalf_of(borrower)
    yield
    limiter.release_on_behalf_of(borrower)


@pytest.mark.parametrize("when", ["it is free", "its turn has come"])
@pytest.mark.parametrize("make", [lambda: anyio.Semaphore(2), lambda: anyio.CapacityLimiter(2)])
async def test_cancelled_while_it_gets_a_place(make: Callable[[], Any], when: str, seen: Seen) -> None:
    """Who is cancelled on its way in was never at work, though a limiter gives its place back as others do."""
    limiter = otel_llm.instrument_queue(make())
    leaves, waits = asyncio.Event(), asyncio.Event()

    async def work(until: asyncio.Event) -> None:
        async with limiter:
            await until.wait()

    tasks = [asyncio.create_task(work(waits))]
    if when != "it is free":
        tasks.append(asyncio.create_task(work(leaves)))
    await asyncio.sleep(0.01)
    late = asyncio.create_task(work(waits))
    if when == "it is free":
        await asyncio.sleep(0)
    else:
        await asyncio.sleep(0.01)
        leaves.set()
        await asyncio.sleep(0)
    late.cancel()
    with pytest.raises(asyncio.CancelledError):
        await late
    assert (0, 1) == (told(seen)["size"], told(seen)["workers"])
    waits.set()
    await asyncio.gather(*tasks)
    assert (0, 0) == (told(seen)["size"], told(seen)["workers"])


@each_limiter
def test_what_a_limiter_is(name: str) -> None:
    """An instrumented limiter is the same object, of a class that is named and made like its own."""
    make, backend = LIMITERS[name]

    async def main() -> None:
        limiter = make()
        kind = cast("Any", type)(limiter)
        plain = {*dir(limiter), "__slots__"}
        assert otel_llm.instrument_queue(limiter, model="m") is limiter
        first = cast("Any", type)(limiter)
        assert otel_llm.instrument_queue(limiter, model="n") is limiter
        assert first is type(limiter)
        assert isinstance(limiter, kind)
        assert (kind.__name__, kind.__qualname__, kind.__module__, kind.__doc__) == (
            first.__name__,
            first.__qualname__,
            first.__module__,
            first.__doc__,
        )
        assert plain == {*dir(limiter), "__slots__"}
        assert inspect.iscoroutinefunction(limiter.acquire)
        assert inspect.signature(limiter.acquire) == inspect.signature(make().acquire)
        seen = weakref.ref(limiter)
        del limiter
        assert seen() is None, "freed without the collector"

    gc.disable()
    try:
        anyio.run(main, backend=backend)
    finally:
        gc.enable()


async def test_bounded_semaphore(seen: Seen) -> None:
    """What a limiter raises goes on as it is, and counts as nothing."""
    limiter = otel_llm.instrument_queue(asyncio.BoundedSemaphore(1))
    with pytest.raises(ValueError, match="released too many times"):
        limiter.release()

    assert {} == told(seen)


async def test_more_given_than_taken(seen: Seen) -> None:
    """A semaphore may be given more than was taken from it; nobody is less than nobody at work."""
    limiter = otel_llm.instrument_queue(asyncio.Semaphore(0))
    limiter.release()
    async with limiter:
        pass

    assert {"size": 0, "wait": 1, "workers": 0, "requests": 1} == told(seen)


class Plain(asyncio.Semaphore):
    """Has an `acquire()` that is no coroutine function, and returns what one returns."""

    def acquire(self) -> Any:
        return super().acquire()


async def test_coroutines_of_plain_methods(seen: Seen) -> None:
    """Who waits by a coroutine waits until that has ended, whatever has made it, and from when it has begun."""
    limiter = otel_llm.instrument_queue(Plain(1))
    assert not inspect.iscoroutinefunction(limiter.acquire)
    early = limiter.acquire()
    assert ("acquire", "Semaphore.acquire") == (early.__name__, early.__qualname__)
    assert {} == told(seen)
    assert await early
    late, never = [asyncio.create_task(limiter.acquire()) for _ in range(2)]
    await asyncio.sleep(0)
    assert {"size": 2, "wait": 1, "workers": 1, "requests": 3} == told(seen)
    never.cancel()
    limiter.release()
    assert await late
    assert {"size": 0, "wait": 2, "workers": 1, "requests": 3} == told(seen)
    limiter.release()
    async with limiter:
        assert {"size": 0, "wait": 3, "workers": 1, "requests": 4} == told(seen)
    assert {"size": 0, "wait": 3, "workers": 0, "requests": 4} == told(seen)


async def test_other_awaitables_of_plain_methods(seen: Seen) -> None:
    """What is awaited and is no coroutine is the same object as before; nobody hears of it."""
    task = asyncio.ensure_future(asyncio.sleep(0, True))

    class Eager(asyncio.Semaphore):
        def acquire(self) -> Any:
            return task

    limiter = otel_llm.instrument_queue(Eager(1))
    assert limiter.acquire() is task
    assert await task
    assert {} == told(seen)


@pytest.mark.parametrize("make", [asyncio.Semaphore, asyncio.BoundedSemaphore, asyncio.Queue, asyncio.PriorityQueue])
def test_copies(make: Callable[[int], Any], seen: Seen) -> None:
    """Copies and pickles are what those of the limiter were: its own class with its state, and not instrumented."""
    limiter = otel_llm.instrument_queue(make(2))
    if "Queue" in make.__name__:
        limiter.put_nowait(1)
    before = told(seen)
    copies = [pickle.loads(pickle.dumps(limiter, protocol)) for protocol in range(pickle.HIGHEST_PROTOCOL + 1)]
    for other in (*copies, copy.copy(limiter), copy.deepcopy(limiter)):
        assert make is cast("Any", type)(other)
        assert other.__dict__.keys() == limiter.__dict__.keys()
        assert getattr(other, "_value", None) == getattr(limiter, "_value", None)
    if "Queue" in make.__name__:
        assert [1] * len(copies) == [other.get_nowait() for other in copies]
    assert before == told(seen)


def test_copies_that_reduce_themselves() -> None:
    """A class that says itself how it is copied is copied so."""

    class Own(threading.Semaphore):
        def __init__(self, value: int = 1) -> None:
            super().__init__(value)
            self.value = value

        def __reduce__(self) -> Any:
            return (type(self), (self.value,))

    class Named(threading.Semaphore):
        def __reduce__(self) -> str:
            return "named"

    other = copy.copy(otel_llm.instrument_queue(Own(3)))
    assert (Own, 3) == (type(other), other.value)
    named = otel_llm.instrument_queue(Named())
    assert copy.copy(named) is named


def test_errors_of_ones_own() -> None:
    """What a method raises is the same object, with the same cause and context."""
    cause, error = KeyError("cause"), StopIteration("mine")

    class Mine(threading.Semaphore):
        def acquire(self, blocking: bool = True, timeout: float | None = None, *, line: int = 1) -> bool:
            raise error from cause

    limiter = otel_llm.instrument_queue(Mine())
    with pytest.raises(StopIteration) as caught:
        limiter.acquire(line=2)
    assert caught.value is error
    assert (cause, None) == (error.__cause__, error.__context__)


# limiters that are dropped


@pytest.mark.parametrize("cycle", [False, True], ids=["at once", "by the collector"])
def test_dropped(cycle: bool, seen: Seen) -> None:
    """Nobody waits in a queue and nobody holds a semaphore that is no more."""
    limiter = otel_llm.instrument_queue(threading.Semaphore(2), model="m")
    limiter.acquire()
    own = otel_llm.instrument_queue(queue.Queue[int](), model="m")
    own.queue.append(0)
    own.put(1)
    other = otel_llm.instrument_queue(queue.Queue[int](), model="m")
    other.put(1)
    full = queue.Queue[int]()
    full.put(1)
    otel_llm.instrument_queue(full)
    if cycle:
        for each in (limiter, own, full):
            each.__dict__["me"] = each
        del each
    assert {"size": 4, "wait": 1, "workers": 1, "requests": 3} == told(seen)
    del limiter, own, full
    if cycle:
        gc.collect()

    assert {"size": 1, "wait": 1, "workers": 0, "requests": 3} == told(seen)


def test_dropped_inside_of_telemetry(seen: Seen) -> None:
    """What the collector drops where telemetry may hold a lock is told a little later."""
    box = [otel_llm.instrument_queue(queue.Queue[int]()) for _ in range(2)]
    box[0].put(1)
    assert 1 == told(seen)["size"]
    exec("box.clear()", {"__name__": "otel_llm.ledger", "box": box})
    assert 1 == len(overdue.ends), "of the one that was not empty"

    assert 0 == told(seen)["size"]
    assert not overdue.ends


# limiters of threads


def test_threading_semaphore(seen: Seen) -> None:
    """A semaphore of threads: with, without and with too little waiting."""
    limiter = otel_llm.instrument_queue(threading.Semaphore(1), model="m", priority="high")
    with limiter:
        assert {"size": 0, "wait": 1, "workers": 1, "requests": 1} == told(seen)
        assert False is limiter.acquire(blocking=False)
        assert False is limiter.acquire(timeout=0.01)

        def wait() -> None:
            with limiter:
                pass

        waiting = threading.Thread(target=wait)
        waiting.start()
        eventually({"size": 1, "wait": 1, "workers": 1, "requests": 4, "rejected": 2}, seen)
    waiting.join()
    limiter.acquire()
    limiter.release(3)

    assert {"size": 0, "wait": 3, "workers": 0, "requests": 5, "rejected": 2} == told(seen)
    assert {'tinyllm_queue_requests_total{priority="high"}': 5, "tinyllm_queue_requests_rejected_total": 2} == rows(
        "tinyllm", "tinyllm_queue_requests"
    )
    assert {'llm_queue_size{model="m"}': 0} == rows("local_llm", "llm_queue_size")


def test_a_class_of_ones_own(seen: Seen) -> None:
    """A subclass whose `with` statement goes by its own methods is counted once."""

    class Mine(threading.Semaphore):
        def __enter__(self) -> bool:  # type: ignore[override]
            return self.acquire()

        def acquire(self, *args: Any, **kwargs: Any) -> bool:
            return super().acquire(*args, **kwargs)

    limiter = otel_llm.instrument_queue(Mine(1))
    with limiter:
        assert {"size": 0, "wait": 1, "workers": 1, "requests": 1} == told(seen)

    assert {"size": 0, "wait": 1, "workers": 0, "requests": 1} == told(seen)


def test_many_threads(seen: Seen) -> None:
    """With many threads at once nobody is lost, and nobody stays."""
    limiter = otel_llm.instrument_queue(threading.BoundedSemaphore(3))

    def work() -> None:
        for _ in range(100):
            with limiter:
                pass

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {"size": 0, "wait": 800, "workers": 0, "requests": 800} == told(seen)


def test_several_limiters(seen: Seen) -> None:
    """What several limiters tell of the same model adds up."""
    limiters = [otel_llm.instrument_queue(threading.Semaphore(1), model="m") for _ in range(2)]
    for limiter in limiters:
        limiter.acquire()

    assert {"tinyllm_queue_active_workers": 2} == rows("tinyllm", "tinyllm_queue_active")
    assert [2] == [point["value"] for point in seen.points("otel_llm.queue.workers")]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forks(seen: Seen) -> None:
    """Who waits and works in the parent does neither in a child, which counts its own."""
    limiter = otel_llm.instrument_queue(threading.Semaphore(3))
    otel_llm.set_queue_size("m", 5)
    limiter.acquire()
    limiter.acquire()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(10)
            limiter.release()
            with limiter:
                inside = rows("tinyllm", "tinyllm_queue_active")
            limiter.release()
            after = rows("tinyllm", "tinyllm_queue_active", "tinyllm_queue_size")
            right = {"tinyllm_queue_active_workers": 0, 'tinyllm_queue_size{priority="normal"}': 0}
            code = 0 if (1, right) == (*inside.values(), after) else 2
        finally:
            os._exit(code)

    assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert {"size": 5, "wait": 2, "workers": 2, "requests": 2} == told(seen)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_forks_of_queues(seen: Seen) -> None:
    """A child tells what its copy of a queue holds from the first change on, and nothing of its parent's requests."""
    own = otel_llm.instrument_queue(queue.Queue[int]())
    for number in range(3):
        own.put(number)
    let_go = threading.Event()
    pool = otel_llm.instrument_queue(ThreadPoolExecutor(1))
    first, waiting = [pool.submit(let_go.wait, 10) for _ in range(2)]
    eventually({"size": 4, "wait": 1, "workers": 1, "requests": 5}, seen)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.alarm(10)
            waiting.cancel()
            assert not rows("local_llm", "llm_queue_size")
            sizes: list[float] = []
            for change in (own.get, lambda: own.put(4), own.get, own.get, own.get):
                change()
                sizes += rows("local_llm", "llm_queue_size").values()
            code = 0 if sizes == [2, 3, 2, 1, 0] else 2
        finally:
            os._exit(code)

    assert 0 == os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert {"size": 4, "wait": 1, "workers": 1, "requests": 5} == told(seen)
    let_go.set()
    assert first.result()
    pool.shutdown()


# executors


def square(number: int) -> int:
    """Return the square; for another process."""
    return number * number


def fail() -> None:
    """Fail; in another process."""
    raise LookupError("in the pool")


def _threads() -> Executor:
    return ThreadPoolExecutor(1)


def _processes() -> Executor:
    return ProcessPoolExecutor(1, mp_context=get_context("spawn"))


@pytest.mark.parametrize("make", [_threads, _processes])
def test_executors(make: Callable[[], Executor], seen: Seen) -> None:
    """What is submitted waits, is at work and is done; results and exceptions are the same."""
    pool = otel_llm.instrument_queue(make(), model="m")
    with pool:
        assert [0, 1, 4, 9] == list(pool.map(square, range(4)))
        assert 25 == pool.submit(square, number=5).result()
        with pytest.raises(LookupError, match="in the pool"):
            pool.submit(fail).result()
    eventually({"size": 0, "wait": 6, "workers": 0, "requests": 6}, seen)
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(square, 1)

    assert {"size": 0, "wait": 6, "workers": 0, "requests": 7, "rejected": 1} == told(seen)


def test_threads_of_a_pool(seen: Seen) -> None:
    """Work that waits is seen, and work that is cancelled before it began is gone from the queue, and never ran."""
    let_go = threading.Event()
    with otel_llm.instrument_queue(ThreadPoolExecutor(1)) as pool:
        first = pool.submit(let_go.wait, 10)
        others = [pool.submit(square, number) for number in range(3)]
        eventually({"size": 3, "wait": 1, "workers": 1, "requests": 4}, seen)
        assert isinstance(first, Future)
        assert "Future" == type(first).__name__
        assert others[0].cancel()
        assert {"size": 2, "wait": 1, "workers": 1, "requests": 4} == told(seen)
        let_go.set()
    assert [True, False, False] == [other.cancelled() for other in others]
    with pytest.raises(CancelledError):
        others[0].result()

    eventually({"size": 0, "wait": 3, "workers": 0, "requests": 4}, seen)


def test_work_that_cannot_be(seen: Seen) -> None:
    """What a pool was not asked for properly is no request."""
    with otel_llm.instrument_queue(ThreadPoolExecutor(1)) as pool:
        with pytest.raises(TypeError):
            pool.submit()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
        assert 4 == pool.submit(square, 2).result()

    eventually({"size": 0, "wait": 1, "workers": 0, "requests": 1}, seen)


class Later(Executor):
    """Works when it is told to, and returns futures of a given kind."""

    def __init__(self, kind: Callable[[], Any]) -> None:
        self.kind = kind
        self.futures: list[Any] = []

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        """Return a future that nothing is done for."""
        self.futures.append(self.kind())
        return self.futures[-1]


def test_futures_of_a_class_of_their_own(seen: Seen) -> None:
    """Futures of a subclass say when their work begins and ends; to several pools if they come from several."""

    class Mine(Future[int]):
        pass

    class Outer(Later):
        def submit(self, *args: Any, **kwargs: Any) -> Any:
            return pool.submit(*args, **kwargs)

    pool = otel_llm.instrument_queue(Later(Mine))
    future = otel_llm.instrument_queue(Outer(Mine)).submit(square, 2)
    assert (True, "Mine") == (isinstance(future, Mine), type(future).__name__)
    assert {"size": 2, "requests": 2} == told(seen)
    assert future.set_running_or_notify_cancel()
    assert {"size": 0, "wait": 2, "workers": 2, "requests": 2} == told(seen)
    future.set_result(4)
    assert {"size": 0, "wait": 2, "workers": 0, "requests": 2} == told(seen)
    other = pool.submit(square, 2)
    assert type(other) is type(future)
    assert other.cancel()
    assert not other.set_running_or_notify_cancel()
    assert {"size": 0, "wait": 2, "workers": 0, "requests": 3} == told(seen)


def test_futures_of_other_kinds(seen: Seen) -> None:
    """What can only be heard to end waits until then; what says nothing at all came, and nobody knows more."""

    class Ends:
        def __init__(self) -> None:
            self.callbacks: list[Callable[[Any], None]] = []

        def add_done_callback(self, callback: Callable[[Any], None]) -> None:
            self.callbacks.append(callback)

    pool = otel_llm.instrument_queue(Later(Ends))
    future = pool.submit(square, 2)
    assert isinstance(future, Ends)
    assert {"size": 1, "requests": 1} == told(seen)
    for callback in future.callbacks:
        callback(future)
    assert {"size": 0, "requests": 1} == told(seen)
    assert "4" == otel_llm.instrument_queue(Later(lambda: "4")).submit(square, 2)
    assert {"size": 0, "requests": 2} == told(seen)


async def test_run_in_executor(seen: Seen) -> None:
    """An event loop uses an instrumented pool as any other."""
    with otel_llm.instrument_queue(ThreadPoolExecutor(2)) as pool:
        loop = asyncio.get_running_loop()
        assert [1, 4] == await asyncio.gather(*[loop.run_in_executor(pool, square, number) for number in (1, 2)])

    eventually({"size": 0, "wait": 2, "workers": 0, "requests": 2}, seen)


def test_pools_are_freed() -> None:
    """A pool that is dropped stops its threads, as without us."""
    gc.disable()
    try:
        pool = otel_llm.instrument_queue(ThreadPoolExecutor(1))
        (thread,) = [pool.submit(threading.current_thread).result()]
        seen = weakref.ref(pool)
        del pool
        thread.join(10)
        assert seen() is None
        assert not thread.is_alive()
    finally:
        gc.enable()


# queues


@pytest.mark.parametrize("kind", [queue.Queue, queue.LifoQueue, queue.PriorityQueue])
def test_queues(kind: type[queue.Queue[int]], seen: Seen) -> None:
    """What is in a queue waits; what is taken out has waited; what does not fit was turned away."""
    own = otel_llm.instrument_queue(kind(2))
    own.put(2)
    own.put_nowait(1)
    with pytest.raises(queue.Full):
        own.put_nowait(3)
    with pytest.raises(queue.Full):
        own.put(3, timeout=0.01)
    assert {"size": 2, "requests": 4, "rejected": 2} == told(seen)
    assert {1, 2} == {own.get(), own.get_nowait()}
    with pytest.raises(queue.Empty):
        own.get_nowait()

    assert {"size": 0, "wait": 2, "requests": 4, "rejected": 2} == told(seen)


async def test_asyncio_queue(seen: Seen) -> None:
    """The same with a queue of coroutines, where a put that waits for room is not turned away."""
    own = otel_llm.instrument_queue(asyncio.Queue[int](1))
    own.put_nowait(1)
    waiting = asyncio.ensure_future(own.put(2))
    await asyncio.sleep(0)
    with pytest.raises(asyncio.QueueFull):
        own.put_nowait(3)
    assert {"size": 1, "requests": 2, "rejected": 1} == told(seen)
    assert [1, 2] == [await own.get(), await own.get()]
    await waiting

    assert {"size": 0, "wait": 2, "requests": 3, "rejected": 1} == told(seen)


class Ring(queue.Queue[Any]):
    """Has room for two, and drops the oldest for the newest."""

    def _put(self, item: Any) -> None:
        if self._qsize() == 2:
            self._get_oldest()
        super()._put(item)

    def _get_oldest(self) -> None:
        self.queue.popleft()


class Unique(queue.Queue[Any]):
    """Holds nothing twice."""

    def _init(self, maxsize: int) -> None:
        self.queue: Any = dict[Any, None]()

    def _put(self, item: Any) -> None:
        self.queue[item] = None

    def _get(self) -> Any:
        return self.queue.popitem()[0]


class Written(queue.Queue[Any]):
    """Holds what is put in it as text."""

    def _put(self, item: Any) -> None:
        super()._put(json.dumps(item))

    def _get(self) -> Any:
        return json.loads(super()._get())


def test_queues_that_drop_things(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a queue drops of its own has not waited for anything, and nothing is kept for it."""
    now = 0.0
    monkeypatch.setattr(lines, "time", SimpleNamespace(perf_counter=lambda: now))
    own = otel_llm.instrument_queue(Ring())
    for _ in range(201):
        now += 1
        own.put(object())
    assert {"size": 2, "requests": 201} == told(seen)
    assert 2 >= len([each for each in gc.get_objects() if type(each).__name__ == "Turn" and each.waits])
    own.get()
    own.get()
    assert {"size": 0, "wait": 2, "requests": 201} == told(seen)
    assert 1 == seen.points("otel_llm.queue.wait.duration")[0]["sum"]


def test_the_same_thing_again(seen: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a thing that was put in a queue several times, the wait that is dropped is the one that was."""
    now = 0.0
    monkeypatch.setattr(lines, "time", SimpleNamespace(perf_counter=lambda: now))
    own = otel_llm.instrument_queue(Ring())
    for item in ("a", "b", "a", "c"):
        now += 1
        own.put(item)
    assert ["a", "c"] == [own.get() for _ in range(2)]
    assert {"size": 0, "wait": 2, "requests": 4} == told(seen)
    assert 1 == seen.points("otel_llm.queue.wait.duration")[0]["sum"]


def test_queues_that_hold_other_things(seen: Seen) -> None:
    """What a queue makes something else of, or nothing, is told as it says how much it holds."""
    unique = otel_llm.instrument_queue(Unique())
    unique.put("same")
    unique.put("same")
    assert {"size": 1, "requests": 2} == told(seen)
    assert "same" == unique.get()
    assert {"size": 0, "wait": 1, "requests": 2} == told(seen)
    written = otel_llm.instrument_queue(Written())
    for number in range(3):
        written.put([number])
    assert [[0], [1], [2]] == [written.get() for _ in range(3)]
    assert {"size": 0, "wait": 4, "requests": 5} == told(seen)


@pytest.mark.parametrize("make", [queue.Queue, asyncio.Queue])
def test_changes_past_a_queue(make: Callable[[], Any], seen: Seen) -> None:
    """What leaves or comes past its methods is told with the next change; what has left that way has not waited."""
    own = otel_llm.instrument_queue(make())
    held = own.queue if hasattr(own, "queue") else own._queue
    for number in range(5):
        own.put_nowait(number)
    held.clear()
    own.put_nowait(5)
    assert {"size": 1, "requests": 6} == told(seen)
    held.appendleft(6)
    held.appendleft(7)
    assert 7 == own.get_nowait()
    assert {"size": 2, "requests": 6} == told(seen)
    assert [6, 5] == [own.get_nowait() for _ in range(2)]
    assert {"size": 0, "wait": 1, "requests": 6} == told(seen)


@pytest.mark.parametrize("make", [queue.Queue, asyncio.Queue])
def test_filled_before(make: Callable[[], Any], seen: Seen) -> None:
    """What is in a queue when it is instrumented counts at once, without labels of who did that, and has no wait."""
    own = make()
    own.put_nowait(1)
    own.put_nowait(2)
    with otel_llm.labels(priority="high"):
        otel_llm.instrument_queue(own, model="m")
    assert {"size": 2} == told(seen)
    assert {'tinyllm_queue_size{priority="normal"}': 2} == rows("tinyllm", "tinyllm_queue_size")
    own.put_nowait(3)
    assert {"size": 3, "requests": 1} == told(seen)
    for _ in range(3):
        own.get_nowait()
    assert {"size": 0, "wait": 1, "requests": 1} == told(seen)


def test_others_of_its_class(seen: Seen) -> None:
    """A queue that is made by the class of another is not taken for it."""
    own = otel_llm.instrument_queue(queue.Queue[int]())
    own.put(1)
    other = type(own)()
    other.put(1)
    other.put(2)
    other.get()
    assert {"size": 1, "requests": 1} == told(seen)


def test_a_queue_that_cannot_say(quiet: None, seen: Seen) -> None:
    """A fault of ours, or of the size that we ask for, is none of the queue's."""

    class Broken(queue.Queue[Any]):
        broken = True

        def _qsize(self) -> int:
            if self.broken:
                raise LookupError("how many")
            return super()._qsize()

        def _put(self, item: Any) -> None:
            super()._put(item)
            self.broken = True

        def _get(self) -> Any:
            self.broken = True
            return super()._get()

    own = otel_llm.instrument_queue(Broken())
    own.broken = False
    own.put(1)
    own.broken = False
    assert 1 == own.get()
    assert 3 == sum(faults.counts.values())


@pytest.mark.skipif(not hasattr(queue, "ShutDown"), reason="no shutdown here")
async def test_shut_down(seen: Seen) -> None:
    """What is thrown away with a queue has not waited; who comes later, or waits for room, is turned away."""
    own: Any = otel_llm.instrument_queue(queue.Queue[int]())
    own.put(1)
    own.put(2)
    own.shutdown(immediate=True)
    with pytest.raises(queue.ShutDown):  # type: ignore[attr-defined]  # pyright: ignore
        own.put(3)
    assert {"size": 0, "requests": 3, "rejected": 1} == told(seen)
    other: Any = otel_llm.instrument_queue(asyncio.Queue[int](1))
    other.put_nowait(1)
    waiting = asyncio.ensure_future(other.put(2))
    await asyncio.sleep(0)
    other.shutdown()
    with pytest.raises(asyncio.QueueShutDown):  # type: ignore[attr-defined]  # pyright: ignore
        await waiting
    assert {"size": 1, "requests": 5, "rejected": 2} == told(seen)
    assert 1 == await other.get()
    assert {"size": 0, "wait": 1, "requests": 5, "rejected": 2} == told(seen)


# turned on and off


def test_queues_turned_off_and_on() -> None:
    """What was put in a queue while nobody listened, or somebody else, is told to who listens at its next change."""
    own = otel_llm.instrument_queue(queue.Queue[int]())
    own.put(1)
    for size in (2, 3):
        with capture() as seen:
            assert {} == told(seen)
            own.put(size)
            assert {"size": size, "requests": 1} == told(seen)
    with capture() as seen:
        own.get()
        assert {"size": 2} == told(seen)
        own.put(4)
        otel_llm.uninstrument()
        otel_llm.instrument(tracer_provider=seen.tracer_provider, meter_provider=seen.meter_provider, serve=False)
        own.put(5)
        assert {"size": 4, "requests": 2} == told(seen), "what went on is told once"


def test_instrumented_early(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """To instrument a limiter before anything is turned on loses nothing, and the log does not say so."""
    monkeypatch.setattr(telling, "_warned", False)
    monkeypatch.setattr(runtime, "was_on", False)
    own = queue.Queue[int]()
    own.put(1)
    with caplog.at_level(logging.WARNING, "otel_llm"):
        for limiter in (own, threading.Semaphore(1), ThreadPoolExecutor(1)):
            otel_llm.instrument_queue(limiter)
        assert [] == caplog.messages
        own.get()
        assert 1 == len(caplog.messages)


async def test_turned_off_and_on() -> None:
    """A limiter is silent where nothing is on, goes on working, and tells again when we come back."""
    limiter = otel_llm.instrument_queue(asyncio.Semaphore(2))
    async with limiter:
        with capture() as seen:
            assert {} == told(seen)
            await limiter.acquire()
            assert {"size": 0, "wait": 1, "workers": 1, "requests": 1} == told(seen)
            otel_llm.uninstrument()
            limiter.release()
            async with limiter:
                pass
    assert 2 == limiter._value
