"""Ends that came at a bad moment, such as inside a garbage collection, and are done a little later."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

ends: deque[Callable[[], None]] = deque()
"""What was put off, in order."""


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
        end()
