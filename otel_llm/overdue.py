"""Ends that came at a bad moment, such as inside a garbage collection, and are done a little later."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

_ends: deque[Callable[[], None]] = deque()


def put_off(end: Callable[[], None]) -> None:
    """Keep an end for the next call, scrape, collection or flush; takes no lock."""
    _ends.append(end)


def settle() -> None:
    """Do what was put off."""
    while _ends:
        try:
            end = _ends.popleft()
        except IndexError:
            return
        end()
