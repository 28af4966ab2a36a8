"""Every test begins without a drop-in."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from tests.by_hand import untold


@pytest.fixture(autouse=True)
def _untold(monkeypatch: pytest.MonkeyPatch, unset: None) -> Generator[None]:  # pyright: ignore[reportUnusedFunction]
    """See `untold`."""
    with untold(monkeypatch):
        yield
