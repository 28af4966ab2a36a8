"""Close what a test opened; a server of websockets."""

from __future__ import annotations

import gc
from collections.abc import Generator
from typing import TYPE_CHECKING

import pytest

from tests.openai.styles import opened

if TYPE_CHECKING:
    from tests.openai.websocket_server import SocketServer


@pytest.fixture(autouse=True)
def _closed() -> Generator[None]:  # pyright: ignore[reportUnusedFunction]
    """Close the clients, so that no socket is left for the collector to warn of."""
    # What is there already is no business of the collector's: a collection takes a millisecond instead of a hundred.
    gc.freeze()
    yield
    while opened:
        opened.pop().close()
    gc.collect()


@pytest.fixture
def sockets() -> Generator[SocketServer]:
    """A server of websockets."""
    from tests.openai.websocket_server import SocketServer

    with SocketServer() as server:
        yield server
