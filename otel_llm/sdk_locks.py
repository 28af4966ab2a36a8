"""In a forked child: new locks for OpenTelemetry, in place of those that threads of the parent held at the fork.

Those threads are not in the child, and nobody there lets go of what they held. The SDK renews some of its locks itself,
but none that a measurement takes: the first one in the child would wait for ever, and the user's call with it.
Source: issue 4345 of opentelemetry-python; to be removed when the SDK does it, as its pull request 4767 proposes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import suppress
from threading import Lock, RLock
from typing import Any
from weakref import WeakSet

from otel_llm import forked
from otel_llm.faults import guarded

_providers: WeakSet[Any] = WeakSet()
"""Those that we record with, or did."""

_SHARED = (
    # They may come when we are on already; the SDK counts what it does there, and contrib the requests inside of calls.
    ("opentelemetry.metrics._internal", "_METER_PROVIDER"),
    ("opentelemetry.trace", "_TRACER_PROVIDER"),
    ("opentelemetry._logs._internal", "_LOGGER_PROVIDER"),
    # Locks of classes.
    ("opentelemetry.sdk.metrics._internal.exponential_histogram.mapping.exponent_mapping", "ExponentMapping"),
    ("opentelemetry.sdk.metrics._internal.exponential_histogram.mapping.logarithm_mapping", "LogarithmMapping"),
)
"""Where the API and the SDK keep what the whole process shares."""

_PARTS = frozenset(
    {
        "_meters",
        "_measurement_consumer",
        "_reader_storages",
        "_instrument_view_instrument_matches",
        "_active_span_processor",
        "_span_processors",
        "_multi_log_record_processor",
        "_log_record_processors",
        "_batch_processor",
        "_exporter",
        "span_exporter",
        "_shutdown_once",
    }
)
"""Attributes that lead to more locks, from the providers down to each metric and each exporter."""

_LOCK: type[Any] = type(Lock())
_NEW: dict[type[Any], Any] = {_LOCK: Lock, type(RLock()): RLock}
"""How a lock is made, by its type."""


def renew_for(providers: Iterable[object]) -> None:
    """Have the locks of these providers renewed in each child, as long as they are there; None is left out."""
    for provider in providers:
        if provider is not None:
            with suppress(TypeError):  # somebody's own, of which no weak references can be made
                _providers.add(provider)


@guarded
def _renew_locks() -> None:
    """Go from the providers to all that they consist of."""
    waiting = [*_providers, *(getattr(sys.modules.get(module), name, None) for module, name in _SHARED)]
    seen: set[int] = set()
    while waiting:
        owner = waiting.pop()
        if isinstance(owner, (list, tuple)):
            waiting += owner
        elif isinstance(owner, dict):
            waiting += owner.values()
        elif id(owner) not in seen:
            seen.add(id(owner))
            _renew_those_of(owner, waiting)


@guarded
def _renew_those_of(owner: object, waiting: list[Any]) -> None:
    """Renew the locks of one, and have its parts wait."""
    for name, value in list(getattr(owner, "__dict__", {}).items()):
        if type(value) in _NEW:
            _renew(owner, name, value)
        elif name == "_attributes_aggregation":
            _renew_those_of_series(list(value.values()))
        elif name in _PARTS:
            waiting.append(value)
            if name == "_reader_storages":
                waiting += value  # the readers


def _renew_those_of_series(series: Iterable[object]) -> None:
    """There may be tens of thousands of these, and who forks waits for it."""
    for each in series:
        for owner in (each, getattr(each, "_reservoir", None)):
            lock: Any = getattr(owner, "_lock", None)
            # `locked` does not know of a thread that has taken the lock and waits for the interpreter's.
            if type(lock) is _LOCK and lock.acquire(False):
                lock.release()
            else:
                _renew(owner, "_lock", lock)


@guarded
def _renew(owner: object, name: str, lock: Any) -> None:
    """Put a new lock in the place of one that is held.

    Where this very thread holds it, having forked in a callback or in a signal handler, it lets go of the old one as if
    nothing had happened: the SDK takes its locks by ``with`` alone, which remembers what it took.
    """
    for kind, new in _NEW.items():
        if type(lock) is kind:
            if lock.acquire(blocking=False):
                lock.release()
            else:
                setattr(owner, name, new())


forked.in_child(renew=_renew_locks)
