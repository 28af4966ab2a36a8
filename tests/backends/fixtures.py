"""Offer the real servers as fixtures to every test; where one is not installed, its tests skip and say why.

With `TESTS_REQUIRE_BACKENDS=1` they fail instead, so that a machine meant to have the servers cannot pass without.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import pytest

from .servers import Collector, Missing, Ollama, OtlpSink, Prometheus, collector, ollama, prometheus

_T = TypeVar("_T")


class StartPrometheus(Protocol):
    """Start a Prometheus that scrapes the given targets and lives until the test ends."""

    def __call__(self, *targets: str | dict[str, Any], scrape_interval: str = "1s") -> Prometheus: ...


def unavailable(reason: Missing) -> BaseException:
    """Return what skips a test for want of a server, or what fails it where the servers are required."""
    if os.environ.get("TESTS_REQUIRE_BACKENDS") == "1":
        return pytest.fail.Exception(f"TESTS_REQUIRE_BACKENDS=1, but {reason}", pytrace=False)
    return pytest.skip.Exception(str(reason))


@contextmanager
def offered(server: AbstractContextManager[_T]) -> Generator[_T]:
    """Run a server for the tests that want it, if it is installed."""
    with ExitStack() as stack:
        try:
            started = stack.enter_context(server)
        except Missing as reason:
            raise unavailable(reason) from None
        yield started


@pytest.fixture(scope="session")
def ollama_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ollama]:
    """Offer one Ollama with the model `tiny` to all tests."""
    with offered(ollama(tmp_path_factory.mktemp("ollama"))) as server:
        yield server


@pytest.fixture(scope="session")
def session_sink() -> Iterator[OtlpSink]:
    """Keep the sink behind `collector_server`, which lives as long as that does; tests use `otlp_sink`."""
    with OtlpSink() as sink:
        yield sink


@pytest.fixture(scope="session")
def collector_server(tmp_path_factory: pytest.TempPathFactory, session_sink: OtlpSink) -> Iterator[Collector]:
    """Offer one Collector to all tests, forwarding to `otlp_sink`."""
    with offered(collector(tmp_path_factory.mktemp("collector"), forward_to=session_sink.url)) as server:
        yield server


@pytest.fixture
def otlp_sink(session_sink: OtlpSink) -> OtlpSink:
    """Offer the sink `collector_server` forwards to, empty when the test begins."""
    session_sink.clear()
    return session_sink


@pytest.fixture
def prometheus_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StartPrometheus]:
    """Offer a function that starts a Prometheus for this test."""
    with ExitStack() as stack:

        def start(*targets: str | dict[str, Any], scrape_interval: str = "1s") -> Prometheus:
            folder: Path = tmp_path_factory.mktemp("prometheus")
            return stack.enter_context(offered(prometheus(folder, targets, scrape_interval)))

        yield start
