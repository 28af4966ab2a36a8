"""Close what a test opened."""

from __future__ import annotations

import gc
from collections.abc import Generator

import pytest

from tests.ollama.styles import opened


@pytest.fixture(autouse=True)
def _closed() -> Generator[None]:  # pyright: ignore[reportUnusedFunction]
    """Close the clients, so that no socket is left for the collector to warn of."""
    # What is there already is no business of the collector's: a collection takes a millisecond instead of a hundred.
    gc.freeze()
    yield
    while opened:
        opened.pop()._client.close()
    gc.collect()
