"""Threads that answer requests in somebody else's server: few of them, and few who wait."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextvars import Context, copy_context
from threading import Lock, Thread
from typing import Any, TypeVar
from weakref import WeakSet

from otel_llm import forked

T = TypeVar("T")

_pools: WeakSet[Pool] = WeakSet()


class Pool:
    """Threads that are there while there is something to do, and keep no process from ending.

    Args:
        threads: how many there may be.
        queue: how many may wait for one.
    """

    def __init__(self, threads: int, queue: int) -> None:
        self._most = threads
        self._queue = queue
        self.renew()
        _pools.add(self)

    def renew(self) -> None:
        """Forget what was under way: a forked child has neither the threads nor those who wait."""
        self._lock = Lock()
        self._running = 0
        self._waiting: deque[tuple[Future[Any], Context, Callable[[], Any]]] = deque()

    def submit(self, work: Callable[[], T]) -> Future[T] | None:
        """Have it done, in the context of whoever asks; None if too many wait."""
        future: Future[T] = Future()
        with self._lock:
            more = self._running < self._most
            if not more and len(self._waiting) >= self._queue:
                return None
            if more:
                self._running += 1
            entry = (future, copy_context(), work)
            self._waiting.append(entry)
        if more:
            try:
                # A thread serves others, too: it has the context of none.
                Context().run(Thread(target=self._run, name="otel_llm mounted page", daemon=True).start)
            except RuntimeError:  # no more threads, or the interpreter is ending
                with self._lock:
                    self._running -= 1
                    if entry in self._waiting:
                        self._waiting.remove(entry)
                        return None
        return future

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._running -= 1
                    return
                future, context, work = self._waiting.popleft()
            if future.set_running_or_notify_cancel():
                try:
                    found = context.run(work)
                except BaseException as error:
                    future.set_exception(error)
                else:
                    future.set_result(found)


def _renew_all() -> None:
    for each in list(_pools):
        each.renew()


forked.in_child(renew=_renew_all)
