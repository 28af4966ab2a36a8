"""Import a module so that no other thread meets it half made.

The `openai` client 3.x looks at ``sys.modules["httpx"]`` in every call and takes what it finds there for the whole
library. Contrib's package imports `httpx` and `httpx2`, whichever of them the application uses; where that happens
while calls are under way in other threads, they would fail on attributes that are not there yet.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from threading import Event, get_ident
from types import ModuleType
from typing import Any

_PATIENCE = 10.0
"""Seconds after which a thread no longer waits for an import of another."""


def import_whole(name: str) -> None:
    """Import a top-level module, if it is installed; other threads that look at it wait until it is whole."""
    if name in sys.modules:
        return
    finder: Any = _Finder(name)
    sys.meta_path.insert(0, finder)
    try:
        with suppress(ImportError):
            import_module(name)
    finally:
        sys.meta_path.remove(finder)
        module: Any = sys.modules.get(name)
        if type(module) is finder.kind:
            module.__class__ = ModuleType
        finder.done.set()


class _Finder:
    """Finds what the other finders find, and has the module made as one that can be waited for."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._searching = False
        self._importer = 0
        self.done = Event()
        finder = self

        class Unfinished(ModuleType):
            def __getattr__(self, attribute: str) -> Any:
                # Called only for what is not there.
                if get_ident() != finder._importer:
                    finder.done.wait(_PATIENCE)
                return ModuleType.__getattribute__(self, attribute)

        self.kind = Unfinished

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name != self._name or self._searching:
            return None
        self._searching = True
        try:
            spec = find_spec(name)
        finally:
            self._searching = False
        if spec is not None and spec.loader is not None:
            loader: Any = spec.loader
            loader.create_module = self._create_module
        return spec

    def _create_module(self, spec: ModuleSpec) -> ModuleType:
        self._importer = get_ident()
        return self.kind(spec.name)
