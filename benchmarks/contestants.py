"""Bare and ours in one process: the instrumented attributes of the client are swapped in and out."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

_Attributes = dict[tuple[Any, str], Any]


class Swap:
    """What *instrument* changes in the client, to be put in and taken out at will."""

    def __init__(self, instrument: Callable[[], object]) -> None:
        before = _attributes()
        instrument()
        after = _attributes()
        changed = [place for place, value in after.items() if value is not before.get(place, value)]
        self._places = [(owner, name, before[owner, name], after[owner, name]) for owner, name in changed]

    def __len__(self) -> int:
        return len(self._places)

    def into(self, instrumented: bool) -> None:
        """Put the instrumented or the bare attributes in; always sets each, so that both cost the same caches."""
        for owner, name, bare, ours in self._places:
            setattr(owner, name, ours if instrumented else bare)


def _attributes() -> _Attributes:
    """Return the attributes of every module and class of the client."""
    found: _Attributes = {}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] != "openai" or not isinstance(module, ModuleType):
            continue
        for key, value in list(vars(module).items()):
            found[module, key] = value
            if isinstance(value, type) and value.__module__ == name:
                found |= {(value, key): of_class for key, of_class in vars(value).items()}
    return found
