"""The page over HTTP, in a thread of its own."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from threading import Thread
from typing import Any
from wsgiref.simple_server import WSGIServer

from prometheus_client import REGISTRY, CollectorRegistry, start_http_server

from otel_llm_semconv import environment as variables

logger = logging.getLogger("otel_llm")

DEFAULT_HOST = "localhost"
DEFAULT_PORT = 9464


class Page:
    """A page being served."""

    def __init__(self, host: str, port: int, registry: CollectorRegistry = REGISTRY) -> None:
        server: WSGIServer
        thread: Thread
        server, thread = start_http_server(port, addr=host, registry=registry)
        self._server: Any = server
        self._thread = thread
        self._pid = os.getpid()
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{server.server_port}/metrics"

    def close(self) -> None:
        """Stop serving and free the port; in a forked child there is nothing to stop."""
        server, self._server = self._server, None
        if server is None:
            return
        if self._pid == os.getpid():
            server.shutdown()
            self._thread.join()
        server.server_close()


def address(serve: str | None, environ: Mapping[str, str] = os.environ) -> tuple[str, int]:
    """Return host and port from ``"host:port"``, else from the ``OTEL_EXPORTER_PROMETHEUS_*`` variables.

    Raises:
        ValueError: the port is no number from 0 to 65535; the message names the setting.
    """
    if serve is None:
        host = environ.get(variables.OTEL_EXPORTER_PROMETHEUS_HOST, "").strip() or DEFAULT_HOST
        source = variables.OTEL_EXPORTER_PROMETHEUS_PORT
        written = environ.get(source, "").strip() or str(DEFAULT_PORT)
    else:
        source = "serve"
        host, _, written = serve.rpartition(":")
        host = host.strip("[]") or DEFAULT_HOST
    if not (written.isdecimal() and int(written) <= 65535):
        expected = "a port from 0 to 65535" if serve is None else '"host:port" with a port from 0 to 65535'
        raise ValueError(f"{source}={serve if serve is not None else written!r}: expected {expected}")
    return host, int(written)


def start(bind: tuple[str, int], registry: CollectorRegistry, *, explicit: bool) -> Page | None:
    """Serve a registry; an address that cannot be bound raises only where the user asked for this very one.

    Raises:
        OSError: the address cannot be bound and is *explicit*.
    """
    host, port = bind
    try:
        return Page(host, port, registry)
    except OSError as error:
        if explicit:
            raise
        logger.error("otel_llm: no Prometheus page on %s:%s: %s", host, port, error)
        return None
