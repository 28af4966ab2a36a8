"""Bare and ours in one process: the instrumented attributes of the client are swapped in and out."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

_CLIENTS = frozenset({"openai", "ollama", "httpx", "httpx2"})

_Functions = dict[tuple[Any, str], Any]


class Swap:
    """What *instrument* changes in the client, to be put in and taken out at will."""

    def __init__(self, instrument: Callable[[], object]) -> None:
        before = _functions()
        instrument()
        after = _functions()
        changed = [place for place, function in before.items() if after.get(place) is not function]
        self._places = [(owner, name, before[owner, name], after[owner, name]) for owner, name in changed]

    def into(self, instrumented: bool) -> None:
        """Put the instrumented or the bare attributes in; always sets each, so that both cost the same caches."""
        for owner, name, bare, ours in self._places:
            setattr(owner, name, ours if instrumented else bare)


def _functions() -> _Functions:
    """Return what stands where the clients have functions: in their modules and their classes."""
    found: _Functions = {}
    for name, module in list(sys.modules.items()):
        client = name.partition(".")[0]
        if client in _CLIENTS:
            classes = [
                value
                for value in vars(module).values()
                if isinstance(value, type) and value.__module__.partition(".")[0] == client
            ]
            for owner in (module, *classes):
                found |= {(owner, key): value for key, value in vars(owner).items() if callable(value)}
    return found
