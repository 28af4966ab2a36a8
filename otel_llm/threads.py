"""Threads go on in the OpenTelemetry context in which they were started, with its labels and its span."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Thread
from typing import Any

from opentelemetry.context import Context

from otel_llm import faults
from otel_llm.context import current_context
from otel_llm.patching import Patches

NAME = "threading"
"""Entry point of contrib's instrumentor, which does the same: by this name either is switched off."""
_INTERPRETERS = "concurrent.futures.interpreter"
"""Module of the pool of interpreters, which gets what it can pickle."""
_CONTRIB = "opentelemetry.instrumentation.threading"

_patches = Patches()


def carry() -> None:
    """Have threads and what is submitted to thread pools carry the context, unless contrib's instrumentor does."""
    if _patches.active or _by_contrib():
        return
    _patches.replace(Thread, "start", _start)
    _patches.replace(ThreadPoolExecutor, "submit", _submit)
    _patches.active = True


def leave() -> None:
    """Leave threads as they were."""
    _patches.restore()


def _by_contrib() -> bool:
    instrumentor: Any = getattr(sys.modules.get(_CONTRIB), "ThreadingInstrumentor", None)
    return instrumentor is not None and bool(instrumentor().is_instrumented_by_opentelemetry)


def _start(start: Callable[..., Any]) -> Callable[..., Any]:
    def start_with_context(self: Thread) -> None:
        context = current_context.get()
        if context and _patches.active:
            _run_in(self, context)
        try:
            start(self)
        except BaseException:
            # It may be started again elsewhere.
            if getattr(self.__dict__.get("run"), "__module__", None) == __name__:
                self.__dict__.pop("run", None)
            raise

    return start_with_context


@faults.guarded
def _run_in(thread: Thread, context: Context) -> None:
    """Have the thread run in a context, by whichever class its method is."""
    run = thread.run

    def run_with_context() -> None:
        # Gone before it runs: the thread is not to keep its own method, and through it the context.
        thread.__dict__.pop("run", None)
        current_context.set(context)
        run()

    if "run" not in thread.__dict__ and thread.ident is None:
        thread.__dict__["run"] = run_with_context


def _submit(submit: Callable[..., Any]) -> Callable[..., Any]:
    def submit_with_context(self: ThreadPoolExecutor, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
        context = current_context.get()
        if not context or not _patches.active or type(self).__module__ == _INTERPRETERS:
            return submit(self, fn, *args, **kwargs)

        def with_context(*args: Any, **kwargs: Any) -> Any:
            token = current_context.set(context)
            try:
                return fn(*args, **kwargs)
            finally:
                current_context.reset(token)

        # The pool may start a thread for it, which serves others later.
        token = current_context.set(Context())
        try:
            return submit(self, with_context, *args, **kwargs)
        finally:
            current_context.reset(token)

    return submit_with_context
