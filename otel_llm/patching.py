"""Replace attributes of other people's classes, and give the very same objects back.

Nothing is imported for it: a patch of a module that is not there yet waits until somebody imports it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from functools import update_wrapper
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

from otel_llm import faults

Make = Callable[[Callable[..., Any]], Callable[..., Any]]
"""Makes the replacement of a function out of the original."""
Hook = Callable[[ModuleType], None]
"""Called with a module that is imported."""

_waiting: dict[str, list[Hook]] = {}


class Replaced(NamedTuple):
    """One attribute of one class or wrapper, as it was and as it is."""

    owner: Any
    name: str
    original: Any
    replacement: Any


class Patches:
    """The replacements of one instrumentor, undone as one."""

    def __init__(self) -> None:
        self._replaced: list[Replaced] = []
        self.active = False
        """Whether the replacements do anything; one that could not be taken out again passes calls through."""

    def replace(self, owner: type | ModuleType, name: str, make: Make) -> bool:
        """Replace a method that the class, or a function that the module has itself; say whether it was there."""
        original = owner.__dict__.get(name)
        if not callable(original) or not hasattr(original, "__get__"):
            return False
        replacement = make(_plain(original))
        update_wrapper(replacement, original)
        setattr(owner, name, replacement)
        self._replaced.append(Replaced(owner, name, original, replacement))
        return True

    def replace_beneath(self, wrapper: Any, make: Make) -> bool:
        """Replace what a wrapper of wrapt's calls, as if it had come after us; say whether it is one."""
        if not hasattr(type(wrapper), "__wrapped__"):  # pyright: ignore[reportUnknownArgumentType]
            return False
        original = wrapper.__wrapped__
        replacement = make(original)
        update_wrapper(replacement, original)
        wrapper.__wrapped__ = replacement
        self._replaced.append(Replaced(wrapper, "__wrapped__", original, replacement))
        return True

    def have_replaced(self, owner: type | ModuleType) -> bool:
        """Whether anything of this class or module is replaced."""
        return any(owner is each.owner for each in self._replaced)

    def restore(self) -> None:
        """Put every original back, but leave alone what somebody else wrapped after us."""
        self.active = False
        for owner, name, original, replacement in reversed(self._replaced):
            if not isinstance(owner, type):
                if getattr(owner, name) is replacement:
                    setattr(owner, name, original)
                continue
            # Who wrapped a subclass after us has left ours there when they went.
            for cls in (owner, *subclasses(owner)):
                if cls.__dict__.get(name) is replacement:
                    setattr(cls, name, original)
        self._replaced.clear()


def subclasses(cls: type[Any]) -> Iterator[type[Any]]:
    """Yield every class below this one."""
    for subclass in cls.__subclasses__():
        yield subclass
        yield from subclasses(subclass)


def _plain(original: Callable[..., Any]) -> Callable[..., Any]:
    """Return what can be called with the instance first: a wrapper of wrapt's has to be bound to it before."""
    if type(original) is FunctionType:  # a wrapper says of itself that it is an instance of it
        return original
    descriptor: Any = original

    def bound(self: Any, *args: Any, **kwargs: Any) -> Any:
        return descriptor.__get__(self, type(self))(*args, **kwargs)

    return bound


def when_imported(module: str, hook: Hook) -> None:
    """Call *hook* with the module at once if it is imported, else as soon as it is. What it raises is a fault."""
    if sys.modules.get(module) is not None:
        # Another thread may be in the middle of this import: then this waits for its end.
        _call(hook, importlib.import_module(module))
        return
    waiting = _waiting.get(module)
    if waiting is None:
        import wrapt

        _waiting[module] = [hook]
        wrapt.register_post_import_hook(_imported, module)
    elif hook not in waiting:
        waiting.append(hook)


def _imported(module: ModuleType) -> None:
    for hook in _waiting.pop(module.__name__, ()):
        _call(hook, module)


def _call(hook: Hook, module: ModuleType) -> None:
    try:
        hook(module)
    except Exception:
        faults.fault(f"patch {module.__name__}")
