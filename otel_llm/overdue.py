"""Ends that may come at a bad moment, such as inside a garbage collection: done safely now, or a little later."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from threading import get_ident, main_thread
from types import FrameType

from otel_llm import faults

ends: deque[Callable[[], None]] = deque()
"""What was put off, in order."""

_LOCK_HOLDERS = (
    "opentelemetry.sdk",
    "opentelemetry.exporter",
    "prometheus_client",
    "otel_llm.ledger",
    "otel_llm.prometheus",
    "otel_llm.sinks",
    "otel_llm.telemetry",
    "logging",
)
"""Modules that take locks which an end takes, too."""


def end_safely(end: Callable[[], None]) -> None:
    """Do an end that may come from the collector: later where this thread may hold a lock of telemetry's, else now.

    Now means in a context of its own: the collector may have interrupted a change of the present one, and what an end
    attaches there would pull it from under the interpreter.
    """
    if _inside_telemetry():
        put_off(end)
    else:
        copy_context().run(end)


def when_free(do: Callable[[], None]) -> None:
    """Do something that takes a lock of telemetry's: later where a signal handler has interrupted one who holds it."""
    # Handlers run in the main thread, and nowhere else.
    if get_ident() == main_thread().ident and _inside_telemetry():
        put_off(do)
    else:
        do()


def put_off(end: Callable[[], None]) -> None:
    """Keep an end for the next call, scrape, collection or flush; takes no lock."""
    ends.append(end)


def settle() -> None:
    """Do what was put off."""
    while ends:
        try:
            end = ends.popleft()
        except IndexError:
            return
        try:
            end()
        except Exception:
            faults.fault("overdue")


def _inside_telemetry() -> bool:
    """Whether this thread is inside code that takes telemetry's locks, which a collector may have interrupted."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        module: object = frame.f_globals.get("__name__")
        if isinstance(module, str):
            holds = _holds.get(module)
            if holds is None:
                holds = _holds[module] = f"{module}.".startswith(tuple([f"{holder}." for holder in _LOCK_HOLDERS]))
            if holds:
                return True
        frame = frame.f_back
    return False


_holds: dict[str, bool] = {}
"""Whether a module is one of them."""
