"""Replacing other people's attributes, before and after their modules are there."""

from __future__ import annotations

import importlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import wrapt

from otel_llm import faults
from otel_llm.patching import Patches, when_imported


class Client:
    """Somebody else's class."""

    def call(self, word: str) -> str:
        """Return what it was given."""
        return word


class Derived(Client):
    """A class that inherits what it does not define."""


def louder(original: Callable[..., Any]) -> Callable[..., Any]:
    """Make a replacement that shows."""

    def call(self: Any, word: str) -> str:
        return f"{original(self, word)}!"

    return call


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Return the name of a module that can be imported, and is not yet."""
    name = f"somebodys_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text("import time\nstate = 'half'\ntime.sleep(0.2)\nstate = 'whole'\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    yield name
    sys.modules.pop(name, None)


def test_the_original_comes_back() -> None:
    """A replacement looks like the original, and gives it back by identity."""
    original = Client.__dict__["call"]
    patches = Patches()

    assert patches.replace(Client, "call", louder)
    assert Client().call("hi") == "hi!"
    assert Client.call.__doc__ == original.__doc__
    patches.restore()
    assert Client.__dict__["call"] is original


def test_only_what_the_class_itself_defines_is_replaced() -> None:
    """A name that is not there, or is inherited, is left alone, and the caller is told."""
    patches = Patches()

    assert not patches.replace(Derived, "call", louder)
    assert not patches.replace(Client, "missing", louder)
    patches.restore()
    assert "call" not in vars(Derived)


def test_several_layers_come_off_in_order() -> None:
    """The same attribute patched twice is the original again in the end."""
    original = Client.__dict__["call"]
    patches = Patches()
    patches.replace(Client, "call", louder)
    patches.replace(Client, "call", louder)

    assert Client().call("hi") == "hi!!"
    patches.restore()
    assert Client.__dict__["call"] is original


def test_what_somebody_wrapped_later_stays() -> None:
    """The outer wrapper is not ours to take off; ours is told that it is off."""
    original = Client.__dict__["call"]
    patches = Patches()
    patches.active = True
    patches.replace(Client, "call", louder)
    outer = louder(Client.__dict__["call"])
    Client.call = outer  # type: ignore[method-assign]  # as another instrumentation does
    try:
        patches.restore()
        assert Client.__dict__["call"] is outer
        assert not patches.active
    finally:
        Client.call = original  # type: ignore[method-assign]  # see above


def test_what_somebody_wrapped_before_still_knows_its_instance() -> None:
    """A wrapper of wrapt's beneath ours is bound, as Python would have done it."""
    original = Client.__dict__["call"]
    instances: list[object] = []

    def theirs(wrapped: Any, instance: object, args: Any, kwargs: Any) -> Any:
        instances.append(instance)
        return wrapped(*args, **kwargs)

    wrapt.wrap_function_wrapper(Client, "call", theirs)
    wrapper = Client.__dict__["call"]
    patches = Patches()
    patches.replace(Client, "call", louder)
    client = Client()
    try:
        assert client.call("hi") == "hi!"
        assert instances == [client]
        patches.restore()
        assert Client.__dict__["call"] is wrapper
    finally:
        Client.call = original  # type: ignore[method-assign]  # as it was


def test_a_hook_is_called_at_once_for_a_module_that_is_there() -> None:
    """And each time."""
    seen: list[ModuleType] = []
    when_imported("json", seen.append)
    when_imported("json", seen.append)

    assert seen == [sys.modules["json"]] * 2


def test_a_hook_waits_for_the_import_and_is_called_once(module: str) -> None:
    """However often it was registered; nothing is imported for it."""
    seen: list[str] = []

    def hook(loaded: ModuleType) -> None:
        seen.append(loaded.state)

    for _ in range(3):
        when_imported(module, hook)
    assert module not in sys.modules
    importlib.import_module(module)
    assert seen == ["whole"]

    del sys.modules[module]
    importlib.import_module(module)
    assert seen == ["whole"]
    del sys.modules[module]
    when_imported(module, hook)
    importlib.import_module(module)
    assert seen == ["whole"] * 2


def test_a_hook_waits_for_an_import_that_another_thread_has_begun(module: str) -> None:
    """A module that is half imported is not patched by halves."""
    seen: list[str] = []
    thread = threading.Thread(target=importlib.import_module, args=(module,))
    thread.start()
    while module not in sys.modules:
        time.sleep(0.001)
    when_imported(module, lambda loaded: seen.append(loaded.state))
    thread.join(10)

    assert seen == ["whole"]


@pytest.mark.usefixtures("quiet")
def test_a_hook_that_fails_is_a_fault_and_nothing_else(module: str) -> None:
    """The import goes on, and the other hooks are called."""
    seen: list[str] = []

    def broken(loaded: ModuleType) -> None:
        raise AttributeError("no such class in this version")

    when_imported(module, broken)
    when_imported(module, lambda loaded: seen.append(loaded.state))
    importlib.import_module(module)

    assert seen == ["whole"]
    assert faults.counts == {f"patch {module}": 1}
