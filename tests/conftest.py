"""What every test starts from: nothing instrumented, faults loud, a clean environment."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

import otel_llm
from otel_llm import faults
from otel_llm.testing import Seen, capture
from otel_llm.testing.server import ScriptedServer


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    """Undo what a test turned on, and let no fault pass in silence unless the test asks for it."""
    for name in list(os.environ):
        if name.startswith(("OTEL_", "OPENAI_", "OLLAMA_")) and not name.startswith("OTEL_LLM_BACKENDS"):
            monkeypatch.delenv(name)
    monkeypatch.setattr(faults, "loud", True)
    faults.counts.clear()
    yield
    otel_llm.uninstrument()


@pytest.fixture
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Swallow faults, as in production."""
    monkeypatch.setattr(faults, "loud", False)


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    """The scripted server."""
    with ScriptedServer() as server:
        yield server


@pytest.fixture
def seen() -> Iterator[Seen]:
    """Instrument with everything kept in memory."""
    with capture() as seen:
        yield seen
