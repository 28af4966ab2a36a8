"""What a page answers to a request, whichever server took it: one body beneath all shells."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from http import HTTPStatus
from itertools import chain
from typing import NamedTuple
from urllib.parse import parse_qs

from otel_llm.prometheus.web.auth import Gate, RateLimit

logger = logging.getLogger("otel_llm")

Headers = Sequence[tuple[str, str]]
Body = bytes | Iterable[bytes]
"""A page at once or in parts: compressed one by one, they are never all there."""
Render = Callable[[str, str, Sequence[str]], tuple[str, Body] | None]
"""Makes a page of a path, an ``Accept`` header and the names that were asked for: content type and body, or None."""

MAIN = "/metrics"
TEXT = "text/plain; charset=utf-8"
COMPRESSED_FROM = 1024
"""Bytes; what is shorter fits into one packet as it is."""
_GZIP = 31  # the format of gzip, with the largest window
_LEVEL = 1  # a page shrinks to a twelfth, and with twice the effort to a fourteenth


class Answer(NamedTuple):
    """What goes back; the body of an answer to HEAD is empty, and its ``Content-Length`` that of GET's."""

    status: HTTPStatus
    headers: Headers
    body: bytes


def answer(
    method: str,
    path: str,
    query_string: str,
    headers: Mapping[str, str],
    render: Render,
    names: Callable[[], Sequence[str]] = tuple,
) -> Answer:
    """Answer a request for a page.

    Args:
        method: as in the request line.
        path: percent-decoded, from the root: ``/metrics/aegis``.
        query_string: without the question mark; ``name[]=``, which may be repeated, picks samples.
        headers: by name in lower case; ``accept`` and ``accept-encoding`` are looked at.
        render: makes the page; what it raises is one line in the log and an answer with status 500.
        names: tells the paths that are there, for those who ask for another one.
    """
    if method == "OPTIONS":
        return Answer(HTTPStatus.OK, [("Allow", "GET, HEAD, OPTIONS"), ("Content-Length", "0")], b"")
    if method not in ("GET", "HEAD"):
        refused = plain(HTTPStatus.METHOD_NOT_ALLOWED, "A page is only read.")
        return refused._replace(headers=[("Allow", "GET, HEAD, OPTIONS"), *refused.headers])
    try:
        rendered = render(path, headers.get("accept", ""), parse_qs(query_string).get("name[]", ()))
        if rendered is None:
            found = plain(HTTPStatus.NOT_FOUND, "\n".join(["No such page. There are:", *names()]))
        else:
            found = _page(*rendered, headers.get("accept-encoding", ""))
    except Exception:
        logger.exception("otel_llm: the Prometheus page failed")
        found = plain(HTTPStatus.INTERNAL_SERVER_ERROR, "The page failed; the log says why.")
    return found._replace(body=b"") if method == "HEAD" else found


def plain(status: HTTPStatus, text: str, *headers: tuple[str, str]) -> Answer:
    """Return a short answer in plain text."""
    body = f"{text}\n".encode()
    return Answer(status, [("Content-Type", TEXT), ("Content-Length", str(len(body))), *headers], body)


def _page(content_type: str, page: Body, accept_encoding: str) -> Answer:
    headers = [("Content-Type", content_type), ("Vary", "Accept, Accept-Encoding")]
    blocks = iter([page] if isinstance(page, bytes) else page)
    body = b""
    if takes_gzip(accept_encoding):
        for block in blocks:
            body += block
            if len(body) >= COMPRESSED_FROM:
                body = _compressed(chain([body], blocks))
                headers.append(("Content-Encoding", "gzip"))
                break
    else:
        body = b"".join(blocks)
    return Answer(HTTPStatus.OK, [*headers, ("Content-Length", str(len(body)))], body)


def _compressed(blocks: Iterable[bytes]) -> bytes:
    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    return b"".join([*map(compressor.compress, blocks), compressor.flush()])


def takes_gzip(accept_encoding: str) -> bool:
    """Whether a client takes gzip and does not rather have none (RFC 9110, section 12.5.3)."""
    weights: dict[str, float] = {}
    for entry in accept_encoding.lower().split(","):
        coding, *parameters = (part.strip() for part in entry.split(";"))
        weight = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    weight = float(parameter.removeprefix("q="))
                except ValueError:
                    weight = 0.0
        weights[coding] = weight
    gzipped = weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0)))
    return gzipped > 0 and gzipped >= weights.get("identity", 0.0)


def path_below(mount: str, path: str) -> str:
    """Return the path of a page, where an application is mounted at a path of somebody else's server.

    Below a mount, ``/aegis`` is ``/metrics/aegis``, and nothing is ``/metrics``. From the root, paths are as they are.

    Args:
        mount: the path it is mounted at, ``""`` for the root.
        path: what was asked for, with the mount or without.
    """
    mount = mount.rstrip("/")
    if mount and (path == mount or path.startswith(f"{mount}/")):
        path = path[len(mount) :]
    path = path.rstrip("/")
    return path if path == MAIN or path.startswith(f"{MAIN}/") else MAIN + path


class Site(NamedTuple):
    """A page and who may see it: what every shell has.

    Args:
        render: makes the pages.
        names: tells the paths of those that are there.
        gate: lets in who may read them; None lets in everybody.
        rate_limit: how often that may be; None for any number of times.
        headers: what every answer carries besides.
    """

    render: Render
    names: Callable[[], Sequence[str]] = tuple
    gate: Gate | None = None
    rate_limit: RateLimit | None = None
    headers: Headers = ()

    def answer(self, method: str, path: str, query_string: str, headers: Mapping[str, str]) -> Answer:
        """Answer a request; arguments as those of the function, and ``authorization`` among the headers."""
        found = self._refusal(headers)
        if found is None:
            found = answer(method, path, query_string, headers, self.render, self.names)
        elif method == "HEAD":
            found = found._replace(body=b"")
        return self._headed(found)

    def busy(self, method: str) -> Answer:
        """Tell a client to come back."""
        found = plain(HTTPStatus.SERVICE_UNAVAILABLE, "Too many requests at once.", ("Retry-After", "1"))
        return self._headed(found._replace(body=b"") if method == "HEAD" else found)

    def hashes(self, headers: Mapping[str, str]) -> bool:
        """Whether it takes a while to find out who asks."""
        return self.gate is not None and self.gate.hashes(headers.get("authorization", ""))

    def _headed(self, found: Answer) -> Answer:
        return found._replace(headers=[*found.headers, *self.headers]) if self.headers else found

    def _refusal(self, headers: Mapping[str, str]) -> Answer | None:
        if self.rate_limit is not None and not self.rate_limit.allows():
            return plain(HTTPStatus.TOO_MANY_REQUESTS, "Too many requests.")
        if self.gate is None:
            return None
        admitted = self.gate.admits(headers.get("authorization", ""))
        if admitted is None:
            return plain(HTTPStatus.SERVICE_UNAVAILABLE, "Too many passwords to check.", ("Retry-After", "1"))
        if not admitted:
            wanted = [("WWW-Authenticate", challenge) for challenge in self.gate.challenges]
            return plain(HTTPStatus.UNAUTHORIZED, "Unauthorized.", *wanted)
        return None


def own_site(gate: Gate | None = None, rate_limit: RateLimit | None = None, headers: Headers = ()) -> Site:
    """Return the site with our own pages."""
    from otel_llm import serving
    from otel_llm.prometheus import pages

    serving.ask()
    return Site(pages.render, pages.names, gate, rate_limit, headers)
