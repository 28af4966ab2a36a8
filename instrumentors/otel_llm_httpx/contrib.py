"""Import contrib's package without the libraries that the application has not imported.

On its own it imports both `httpx` and `httpx2`, whichever of them the application uses. That takes time, spoils
``httpx2.alias_httpx()``, and shows a half-made library to other threads that are in the middle of calls. Who asks
contrib for a library that was kept from it gets it then.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib import import_module
from importlib.machinery import ModuleSpec
from threading import get_ident
from typing import Any

INSTRUMENTORS = {"httpx": "HTTPXClientInstrumentor", "httpx2": "HTTPX2ClientInstrumentor"}
"""Contrib's instrumentors by the library that they are for, which is also the name of their entry points."""
_TRANSPORTS = {
    "SyncOpenTelemetryTransport": ("httpx", "_SyncOpenTelemetryTransportBase", "BaseTransport"),
    "AsyncOpenTelemetryTransport": ("httpx", "_AsyncOpenTelemetryTransportBase", "AsyncBaseTransport"),
    "SyncOpenTelemetryTransportHttpx2": ("httpx2", "_SyncOpenTelemetryTransportBase", "BaseTransport"),
    "AsyncOpenTelemetryTransportHttpx2": ("httpx2", "_AsyncOpenTelemetryTransportBase", "AsyncBaseTransport"),
}
"""What contrib defines only where it has a library, and the bases of that."""
_PACKAGE = "opentelemetry.instrumentation.httpx"


def import_contrib() -> Any:
    """Return contrib's package."""
    if _PACKAGE in sys.modules:
        return import_module(_PACKAGE)
    missing = [name for name in INSTRUMENTORS if name not in sys.modules]
    finder: Any = _Finder(missing)
    sys.meta_path.insert(0, finder)
    try:
        contrib: Any = import_module(_PACKAGE)
    finally:
        sys.meta_path.remove(finder)
    for name in missing:
        getattr(contrib, INSTRUMENTORS[name])._module = _Later(name)

    def __getattr__(attribute: str) -> Any:
        # Called only for what is not there.
        name, own, base = _TRANSPORTS.get(attribute, ("", "", ""))
        if name not in missing:
            raise AttributeError(f"module {_PACKAGE!r} has no attribute {attribute!r}")
        library = import_module(name)
        bases = (getattr(contrib, own), getattr(library, base))
        transport = type(attribute, bases, {"_module": library, "__module__": _PACKAGE})
        setattr(contrib, attribute, transport)
        return transport

    contrib.__getattr__ = __getattr__
    return contrib


class _Finder:
    """Finds nothing, but keeps this thread from some modules."""

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)
        self._thread = get_ident()

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name in self._names and get_ident() == self._thread:
            raise ModuleNotFoundError(f"{name} is kept from {_PACKAGE}", name=name)
        return None


class _Later:
    """Stands for a library in a class of contrib's."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        try:
            return import_module(self._name)
        except ImportError:
            return None
