"""What every test starts from: nothing instrumented, faults loud, a clean environment."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import _logs, metrics, trace
from opentelemetry.util._once import Once

import otel_llm
from otel_llm import faults, sdk
from otel_llm.testing import Seen, capture
from otel_llm.testing.server import ScriptedServer

pytest_plugins = ["tests.backends.fixtures"]

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell has what it runs in the background ignore Ctrl-C; processes of tests would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _clean(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    """Undo what a test turned on, and let no fault pass in silence unless the test asks for it."""
    for name in list(os.environ):
        if name.startswith(("OTEL_", "OPENAI_", "OLLAMA_")):
            monkeypatch.delenv(name)
    monkeypatch.setattr(faults, "loud", True)
    faults.counts.clear()
    yield
    otel_llm.uninstrument()


@pytest.fixture
def unset(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have no global providers, as a new process has it, and shut down those that the test has made global."""
    for place, name in (("trace", "TRACER"), ("metrics._internal", "METER"), ("_logs._internal", "LOGGER")):
        monkeypatch.setattr(f"opentelemetry.{place}._{name}_PROVIDER", None)
        monkeypatch.setattr(f"opentelemetry.{place}._{name}_PROVIDER_SET_ONCE", Once())
    # The proxy remembers the meters it stood for.
    proxy = type(metrics.get_meter_provider())()
    monkeypatch.setattr("opentelemetry.metrics._internal._PROXY_METER_PROVIDER", proxy)
    yield
    otel_llm.uninstrument()
    # Readers that came later, the provider does not know of.
    for reader in sdk.prometheus_readers(metrics.get_meter_provider()):
        reader.shutdown()
    provider: Any
    for provider in (trace.get_tracer_provider(), metrics.get_meter_provider(), _logs.get_logger_provider()):
        if hasattr(provider, "shutdown"):
            provider.shutdown()


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
