"""HTTP/1.1 on a connection, read by the standard library, within bounds."""

from __future__ import annotations

import io
import re
from email.message import Message
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from otel_llm.prometheus.web.answer import Site
from otel_llm.prometheus.web.listener import IDLE_SECONDS, REQUEST_SECONDS, Connection

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

LONGEST_LINE = 8 * 1024
"""Bytes of a request line."""
LONGEST_REQUEST = 64 * 1024
"""Bytes of a request line and its headers."""

# RFC 9112, section 5: where others read a line otherwise, they take part of a request for the next one.
_HEADER = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+:[\t -~\x80-\xff]*\r\n")
_LENGTH = re.compile(r"[0-9]+")


class _TooLongError(Exception):
    """A request is longer than is read."""


class _MalformedError(Exception):
    """A request has a header that is none."""


class _Source(io.RawIOBase):
    """What a client sends, up to a number of bytes."""

    def __init__(self, connection: Connection) -> None:
        self._socket = connection.socket
        self.left = LONGEST_REQUEST

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        if self.left <= 0:
            raise _TooLongError
        count = self._socket.recv_into(buffer)
        self.left -= count
        return count


class _Incoming(io.BufferedReader):
    """Requests, each of which is a first line and then headers."""

    def first_line(self, size: int) -> bytes:
        return super().readline(size)

    def readline(self, size: int | None = -1, /) -> bytes:
        """Return a header, or the line that ends them; what is too long is whole nowhere."""
        line = super().readline(size)
        if line != b"\r\n" and len(line) != size and not _HEADER.fullmatch(line):
            raise _MalformedError
        return line


class Handler(BaseHTTPRequestHandler):
    """Answers what comes over a connection, until one of the two ends it or somebody is late.

    Args:
        connection: the client.
        site: makes the answers.
    """

    protocol_version = "HTTP/1.1"
    default_request_version = "HTTP/1.0"  # so that what is no HTTP is answered with a status line

    def __init__(self, connection: Connection, site: Site) -> None:
        self._connection = connection
        self._site = site
        nobody: Any = None
        super().__init__(connection.socket, ("", 0), nobody)

    def setup(self) -> None:
        """Read and write through buffers."""
        self._source = _Source(self._connection)
        self.rfile = self._incoming = _Incoming(self._source)
        self.wfile = self._connection.socket.makefile("wb")

    def handle(self) -> None:
        """Answer one request after the other."""
        try:
            while self._incoming.peek(1):
                self._answer_one()
                if self.close_connection:
                    return
                self._source.left = LONGEST_REQUEST
                self._connection.wait(IDLE_SECONDS)
                if self._incoming.peek(1):
                    self._connection.wait(REQUEST_SECONDS)
        except _TooLongError:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
        except _MalformedError:
            self._refuse(HTTPStatus.BAD_REQUEST)

    def _answer_one(self) -> None:
        self.close_connection = True
        self.raw_requestline = self._incoming.first_line(LONGEST_LINE + 1)
        if len(self.raw_requestline) > LONGEST_LINE:
            self._refuse(HTTPStatus.REQUEST_URI_TOO_LONG)
            return
        if not self.parse_request():
            self._end_early()
            return
        length, *others = self.headers.get_all("content-length", ["0"])
        length = length.strip(" \t")
        if others or not _LENGTH.fullmatch(length):
            raise _MalformedError
        options = ",".join(self.headers.get_all("connection", ())).lower()
        if "close" in [option.strip() for option in options.split(",")]:  # one of several, too
            self.close_connection = True
        self._connection.work()
        path, _, query = self._target().partition("?")
        found = self._site.answer(self.command, unquote(path), query, _lowered(self.headers))
        # The page is only read: what else comes with a request is not looked at.
        has_body = length != "0" or "transfer-encoding" in self.headers
        self.close_connection = self.close_connection or has_body
        self._connection.send()
        self.send_response_only(found.status)
        for name, value in found.headers:
            self.send_header(name, value)
        self.send_header("Date", self.date_time_string())
        self.send_header("Connection", "close" if self.close_connection else "keep-alive")
        self.end_headers()
        self.wfile.write(found.body)
        self.wfile.flush()
        if has_body:
            self._connection.drain()

    def _target(self) -> str:
        """Return path and query, also of a request that names the whole URL, as those through proxies do."""
        target = self.path.partition("#")[0]
        if target.startswith(("http://", "https://")):
            target = "/" + target.partition("://")[2].partition("/")[2]
        return target

    def _refuse(self, status: HTTPStatus) -> None:
        self.requestline, self.request_version, self.command = "", self.protocol_version, ""
        self.send_error(status)
        self._end_early()

    def _end_early(self) -> None:
        self.close_connection = True
        self.wfile.flush()
        self._connection.drain()

    def handle_expect_100(self) -> bool:
        """Let no body be sent."""
        return True

    def version_string(self) -> str:
        """Tell no versions."""
        return "otel-llm"

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: somebody scrapes every few seconds."""


def _lowered(headers: Message) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in headers.items():
        key = name.lower()
        found[key] = f"{found[key]}, {value}" if key in found else value
    return found
