"""Keep our own mistakes out of the user's call: one guard, one log line, one count."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

P = ParamSpec("P")

logger = logging.getLogger("otel_llm")

counts: dict[str, int] = {}
"""Faults so far by the place where they happened; observed by ``otel_llm.internal.faults``."""

MANUAL = "manual"
"""The place of what applications tell by hand."""
_HOOKS = frozenset({"call_hook", "content_hook", "set_function"})
"""Places that are the user's own code."""

loud = False
"""Whether faults are raised instead of swallowed; only the project's own tests set it."""


def fault(place: str) -> None:
    """Count the exception being handled and log the first one of each place."""
    if loud:
        raise
    first = place not in counts
    counts[place] = counts.get(place, 0) + 1
    if first:
        logger.warning(
            "otel_llm: %s; your call is not affected, its telemetry may be incomplete",
            f"your {place} failed" if place in _HOOKS else f"internal fault in {place}",
            exc_info=True,  # noqa: LOG014  # called while an exception is handled
        )


def guarded(function: Callable[P, None]) -> Callable[P, None]:
    """Swallow what *function* raises. It must return nothing, so that no value of the user's can pass through it."""
    place = function.__qualname__

    @wraps(function)
    def guard(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            function(*args, **kwargs)
        except Exception:
            fault(place)

    return guard
