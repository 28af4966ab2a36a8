"""A page to be served, and ways to ask for it."""

from __future__ import annotations

import http.client
import socket
import ssl
import time
from base64 import b64encode
from collections.abc import Callable, Sequence
from http.client import HTTPResponse
from typing import Any
from urllib.parse import urlsplit

import pytest

from otel_llm.prometheus.web.answer import Site
from otel_llm.prometheus.web.server import Page

TEXT = "text/plain; version=0.0.4; charset=utf-8"
GET = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n"
LONG = b"# a line\n" * 200
NAMES = ("/metrics", "/metrics/aegis")


def render(path: str, accept: str, names: Sequence[str]) -> tuple[str, bytes] | None:
    """Show what was asked for; there is no page `none`, and `broken` fails."""
    if path == "/metrics/none":
        return None
    if path == "/metrics/broken":
        raise RuntimeError("secret")
    return TEXT, f"{path} {accept} {','.join(names)}\n".encode() + (LONG if path == "/metrics/long" else b"")


SITE = Site(render, lambda: NAMES)


def serve(site: Site = SITE, **options: Any) -> Page:
    """Serve the page on a free port."""
    return Page("127.0.0.1", 0, site=site, **options)


def place(page: Page) -> tuple[str, int]:
    """Return where a page listens."""
    url = urlsplit(page.url)
    assert url.hostname
    assert url.port
    return url.hostname, url.port


def ask(
    page: Page, path: str = "/metrics", method: str = "GET", tls: ssl.SSLContext | None = None, **headers: str
) -> tuple[HTTPResponse, bytes]:
    """Return the answer and its body."""
    connection: http.client.HTTPConnection
    if tls is None:
        connection = http.client.HTTPConnection(*place(page), timeout=10)
    else:
        connection = http.client.HTTPSConnection("localhost", place(page)[1], timeout=10, context=tls)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def connect(page: Page) -> socket.socket:
    """Return a connection over which nothing has been said."""
    return socket.create_connection(place(page), timeout=10)


def all_of(connection: socket.socket) -> bytes:
    """Return what comes until the end, be that a reset."""
    found = b""
    try:
        while received := connection.recv(1 << 16):
            found += received
    except ConnectionResetError:
        pass
    return found


def until(reached: Callable[[], object], seconds: float = 10) -> None:
    """Wait for something to be so."""
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.01)


def refuses(page: Page) -> bool:
    """Whether nothing listens where the page was."""
    try:
        connect(page).close()
    except ConnectionRefusedError:
        return True
    return False


def basic(user: str, password: str) -> str:
    """Return the header of a user."""
    return "Basic " + b64encode(f"{user}:{password}".encode()).decode()


def hashed(password: str, cost: int = 4) -> str:
    """Return the bcrypt hash of a password, by default one that costs next to nothing."""
    bcrypt = pytest.importorskip("bcrypt")
    found: bytes = bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost))
    return found.decode()
