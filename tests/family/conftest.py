"""Keep the collector from what was there before the test."""

from __future__ import annotations

import gc

import pytest


@pytest.fixture(autouse=True)
def _frozen() -> None:  # pyright: ignore[reportUnusedFunction]
    """Freeze what is there already: a collection takes a millisecond instead of a hundred."""
    gc.freeze()
