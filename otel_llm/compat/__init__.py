"""Drop-in modules for systems whose functions applications call: change the import, and the page stays what it was.

    otel_llm.compat.local_llm    for ``local_llm_metrics`` of Genesis (seed 000)
    otel_llm.compat.aegis        for ``metrics`` of AEGIS (seed 001)
    otel_llm.compat.tinyllm      for ``metrics`` of TinyLLM (seed 003)

Importing one puts the families of its dialect into the default registry of `prometheus_client`, where the originals had
them. Its functions alone feed the families that they fed, and instrumented calls the others; with ``compat="calls"`` or
``OTEL_LLM_COMPAT=calls``, instrumented calls feed whatever they can, and the functions for those families do nothing.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import prometheus_client

from otel_llm.prometheus.collector import DialectCollector, dialects_in
from otel_llm.telemetry import forks

logger = logging.getLogger("otel_llm")


def show(dialect: str) -> None:
    """Put a dialect into the default registry of `prometheus_client`, once.

    Raises:
        ValueError: the registry has one of the names already; then it gets none of them.
    """
    registry = prometheus_client.REGISTRY
    if dialect in [shown.name for shown in dialects_in(registry)]:
        return
    try:
        registry.register(DialectCollector(dialect))
    except ValueError as error:
        told = "its metrics, or others of their names, are registered already, and this module takes their place"
        raise ValueError(f"otel_llm.compat.{dialect}: {told}: {error}") from None


@contextmanager
def under_way(active: Any) -> Generator[None]:
    """Tell by a gauge that something is under way; a child that was forked inside of it has nothing to take back."""
    began, counts = forks(), not active.stands_back()
    active.inc()
    try:
        yield
    finally:
        if counts and began == forks():
            active.dec()


def serve(port: int, host: str) -> None:
    """Serve the default registry of `prometheus_client`; where the address is taken, say so in the log.

    Raises:
        OSError: the address cannot be bound for another reason.
    """
    try:
        prometheus_client.start_http_server(port, host)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        logger.warning("otel_llm: port %s is in use already; metrics are supposed to be served there", port)
