"""The page over HTTP, in a thread of its own."""

from __future__ import annotations

import logging
import os
import socket
import sys
from collections.abc import Iterable, Mapping
from socketserver import TCPServer, ThreadingMixIn
from threading import Thread
from typing import TYPE_CHECKING, Any
from weakref import WeakSet
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import (
    REGISTRY,
    CollectorRegistry,
    Metric,
    make_wsgi_app,  # pyright: ignore[reportUnknownVariableType]
)

from otel_llm_semconv import environment as variables

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

logger = logging.getLogger("otel_llm")

DEFAULT_HOST = "localhost"
DEFAULT_PORT = 9464

_open: WeakSet[Page] = WeakSet()


environment_page: Page | None = None
"""The page that a reader from the environment serves, for as long as the reader lives."""


class Page:
    """A page being served, until it is closed.

    Any path answers. ``Accept`` chooses between the text format and OpenMetrics, ``Accept-Encoding: gzip`` compresses,
    and ``?name[]=`` picks samples by their name.

    Args:
        host: name or address to listen on.
        port: 0 for any that is free.
        registry: what is shown.

    Raises:
        OSError: the address cannot be bound.
    """

    def __init__(self, host: str, port: int, registry: CollectorRegistry = REGISTRY) -> None:
        try:
            self._server: _Server | None = _listen(host, port)
        except UnicodeError as error:  # a label of the host name is empty or too long
            raise OSError(f"{host!r} is no host name: {error}") from error
        self._server.set_app(_app(registry))
        # Closing waits for the next look at whether to go on.
        self._thread = Thread(target=self._server.serve_forever, args=(0.1,), name="otel_llm page", daemon=True)
        self._thread.start()
        shown = f"[{host}]" if ":" in host else host
        self.url = f"http://{shown}:{self._server.server_port}/metrics"
        _open.add(self)

    def close(self) -> None:
        """Stop serving and free the port; does nothing the second time."""
        server, self._server = self._server, None
        if server is not None:
            server.shutdown()
            self._thread.join()
            server.server_close()

    def leave(self) -> None:
        """Let go of the port in a forked child, or it would stay taken when the parent has closed it."""
        server, self._server = self._server, None
        if server is not None:
            server.server_close()


class _Server(ThreadingMixIn, WSGIServer):
    """One thread per request, none of which keeps the process from ending."""

    daemon_threads = True
    # On Windows, SO_REUSEADDR would let two processes listen on one port.
    allow_reuse_address = os.name == "posix"

    def server_bind(self) -> None:
        """Bind, without the look-up of the host's full name, which can take seconds."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = str(self.server_address[0]), self.server_address[1]
        self.setup_environ()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what went wrong with a connection, most often that the client hung up."""
        logger.debug("otel_llm: request from %s failed", client_address, exc_info=sys.exception())


class _Handler(WSGIRequestHandler):
    timeout = 60

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: somebody scrapes every few seconds."""


def _listen(host: str, port: int) -> _Server:
    family, *_, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]

    class Server(_Server):
        address_family = family

    return Server((str(place[0]), port), _Handler)


class _Named:
    """A registry that can show the samples of some names only, among them those whose collector tells no names."""

    def __init__(self, registry: CollectorRegistry, names: frozenset[str] | None = None) -> None:
        self._registry = registry
        self._names = names

    def restricted_registry(self, names: Iterable[str]) -> _Named:
        """Return the registry with these samples only."""
        return _Named(self._registry, frozenset(names))

    def collect(self) -> Iterable[Metric]:
        """Return the families that are left with a sample."""
        for family in self._registry.collect():
            if self._names is None:
                yield family
                continue
            samples = [sample for sample in family.samples if sample.name in self._names]
            if samples:
                restricted = Metric(family.name, family.documentation, family.type, family.unit)
                restricted.samples = samples
                yield restricted


def _app(registry: CollectorRegistry) -> WSGIApplication:
    """Return the application: that of `prometheus_client`, with HEAD, and with a log line for a page that fails."""
    page: Any = make_wsgi_app(_Named(registry))  # pyright: ignore[reportUnknownVariableType]

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        answer: list[tuple[str, list[tuple[str, str]]]] = []
        head = environ["REQUEST_METHOD"] == "HEAD"
        asked = {**environ, "REQUEST_METHOD": "GET"} if head else environ

        def begin(status: str, headers: list[tuple[str, str]]) -> None:
            answer.append((status, headers))

        try:
            body = b"".join(page(asked, begin))
        except Exception:
            logger.exception("otel_llm: the Prometheus page failed")
            body = b"The page failed; the log says why.\n"
            answer = [("500 Internal Server Error", [("Content-Type", "text/plain; charset=utf-8")])]
        status, headers = answer[0]
        start_response(status, [*headers, ("Content-Length", str(len(body)))])
        return [] if head else [body]

    return app


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
            error.add_note(f"otel_llm: no Prometheus page on {host}:{port}")
            raise
        logger.error("otel_llm: no Prometheus page on %s:%s: %s", host, port, error)
        return None


def _leave_all() -> None:
    for page in list(_open):
        page.leave()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_leave_all)
