"""Replace attributes of other people's classes, and give the very same objects back.

Nothing is imported for it: a patch of a module that is not there yet waits until somebody imports it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import update_wrapper
from types import ModuleType
from typing import Any, NamedTuple

from otel_llm import faults

Make = Callable[[Callable[..., Any]], Callable[..., Any]]
"""Makes the replacement of a function out of the original."""


class Replaced(NamedTuple):
    """One attribute of one class, as it was and as it is."""

    owner: type
    name: str
    original: Any
    replacement: Any


class Patches:
    """The replacements of one instrumentor, undone as one."""

    def __init__(self) -> None:
        self._replaced: list[Replaced] = []
        self.active = False
        """Whether the replacements do anything; one that could not be taken out again passes calls through."""

    def replace(self, owner: type, name: str, make: Make) -> bool:
        """Replace a method that the class itself defines; say whether it was there to be replaced."""
        original = owner.__dict__.get(name)
        if not callable(original):
            return False
        replacement = make(original)
        update_wrapper(replacement, original)
        setattr(owner, name, replacement)
        self._replaced.append(Replaced(owner, name, original, replacement))
        return True

    def restore(self) -> None:
        """Put every original back, but leave alone what somebody else wrapped after us."""
        self.active = False
        for owner, name, original, replacement in reversed(self._replaced):
            if owner.__dict__.get(name) is replacement:
                setattr(owner, name, original)
        self._replaced.clear()


def when_imported(module: str, patch: Callable[[ModuleType], None]) -> None:
    """Call *patch* with the module at once if it is imported, else as soon as it is. What it raises is a fault."""

    def hook(loaded: ModuleType) -> None:
        try:
            patch(loaded)
        except Exception:
            faults.fault(f"patch {module}")

    if module in sys.modules:
        hook(sys.modules[module])
        return
    import wrapt

    wrapt.register_post_import_hook(hook, module)
