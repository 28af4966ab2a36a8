"""What tests of families by hand have in common: nothing is told, and nothing is left of what they told."""

from __future__ import annotations

import sys
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import pytest
from prometheus_client import REGISTRY

import otel_llm.compat
from otel_llm import serving
from otel_llm.prometheus import by_hand, pages, verbs

DROP_INS = ("local_llm", "aegis", "tinyllm")


@contextmanager
def untold(monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """Begin with no drop-in, no family that was fed and no settings, and end as it was before."""
    monkeypatch.setattr(by_hand, "_given", dict[str, Any]())
    monkeypatch.setattr(by_hand, "_of_functions", dict[str, Any]())
    monkeypatch.setattr(verbs, "_read", dict[Any, Any]())
    monkeypatch.setattr(serving, "shown", None)
    monkeypatch.setattr(pages, "_told", set[str]())
    before = set(REGISTRY._collector_to_names)
    forget()
    yield
    forget()
    for collector in set(REGISTRY._collector_to_names) - before:
        REGISTRY.unregister(collector)


def forget() -> None:
    """Have the drop-ins imported anew."""
    for name in DROP_INS:
        if sys.modules.pop(f"otel_llm.compat.{name}", None) is not None:
            delattr(otel_llm.compat, name)


def drop_in(name: str) -> Any:
    """Import a drop-in."""
    return import_module(f"otel_llm.compat.{name}")


def rows(page: bytes | str, *prefixes: str) -> dict[str, float]:
    """Return the samples of a page, by name and labels as written."""
    text = page.decode() if isinstance(page, bytes) else page
    found: dict[str, float] = {}
    for line in text.splitlines():
        if line and not line.startswith("#") and line.startswith(prefixes or ""):
            key, _, value = line.rpartition(" ")
            assert key not in found, line
            found[key] = float(value)
    return found
