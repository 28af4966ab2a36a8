"""The page on a port of its own, with clients that are slow, many, or up to no good."""

from __future__ import annotations

import gzip
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest

import otel_llm
from otel_llm.prometheus.web import handler, listener
from otel_llm.prometheus.web.answer import Site
from otel_llm.prometheus.web.server import Page, serve_metrics
from tests.documentation import ROOT

from .clients import GET, LONG, SITE, TEXT, all_of, ask, connect, place, refuses, serve, until


def test_what_is_asked_for(page: Page) -> None:
    """Path, query and headers reach the page, and its answer the client."""
    response, body = ask(page, "/metrics/a%20b?name[]=x&name[]=y", Accept="text/plain")

    assert (200, b"/metrics/a b text/plain x,y\n") == (response.status, body)
    assert TEXT == response.headers["Content-Type"]
    response, body = ask(page, "/metrics/long", Accept_Encoding="gzip")
    assert gzip.decompress(body).endswith(LONG)
    assert 404 == ask(page, "/metrics/none")[0].status


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "TRACE", "CONNECT", "BREW"])
def test_other_methods(page: Page, method: str) -> None:
    """A page is only read, by whichever method one tries."""
    response, _ = ask(page, method=method)

    assert (405, "GET, HEAD, OPTIONS") == (response.status, response.headers["Allow"])


def test_head(page: Page) -> None:
    """HEAD says how long the body would be, and the connection goes on after it."""
    with connect(page) as connection:
        connection.sendall(GET.replace(b"GET", b"HEAD") + GET.replace(b"HTTP/1.1", b"HTTP/1.0"))
        first, second, body = all_of(connection).split(b"\r\n\r\n")

    assert b"Content-Length: 11" in first.splitlines()
    assert second.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"/metrics  \n" in body


def test_the_whole_url(page: Page) -> None:
    """A request that names the whole URL, as one through a proxy does, is the same request."""
    with connect(page) as connection:
        connection.sendall(b"GET http://localhost:1/metrics?name[]=z HTTP/1.0\r\n\r\n")
        assert all_of(connection).endswith(b"\r\n\r\n/metrics  z\n")


def test_one_connection_many_requests(page: Page) -> None:
    """A connection stays open for the next request, also for several at once."""
    with connect(page) as connection:
        for count in (1, 3):
            connection.sendall(GET * count)
            received = b""
            while received.count(b"/metrics  \n") < count:
                received += connection.recv(1 << 16)
            assert count == received.count(b"Connection: keep-alive\r\n")


@pytest.mark.parametrize("header", [b"Upgrade, Close", b"keep-alive\r\nConnection: close"])
def test_who_wants_the_connection_closed(page: Page, header: bytes) -> None:
    """Who says that this is the last request, among other things, is told so and finds the end."""
    with connect(page) as connection:
        connection.sendall(GET.replace(b"\r\n\r\n", b"\r\nConnection: %s\r\n\r\n" % header))
        assert b"\r\nConnection: close\r\n" in all_of(connection)


def test_a_body_that_nobody_reads(page: Page) -> None:
    """What comes with a request is not taken for the next one."""
    smuggled = GET.replace(b"metrics", b"metrics/smuggled")
    head = b"POST /metrics HTTP/1.1\r\nHost: x\r\n"
    for request in (
        head + b"Content-Length: %d\r\n\r\n" % len(smuggled) + smuggled,
        head + b"Transfer-Encoding: chunked\r\n\r\n" + smuggled,
        head + b"Content-Length: 00\r\n\r\n" + smuggled,
        head + b"Content-Length: 0\r\nTransfer-Encoding: identity\r\n\r\n" + smuggled,
        head + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n",
        head + b"Content-Length: 10000000\r\n\r\n" + b"x" * 1_000_000,
    ):
        received = b""
        with connect(page) as connection:
            connection.sendall(request)
            while more := connection.recv(1 << 16):  # and no reset, which can overtake the answer
                received += more
        assert received.startswith(b"HTTP/1.1 405 ")
        assert 1 == received.count(b"HTTP/1.1")
        assert b"Connection: close" in received


@pytest.mark.parametrize(
    "header",
    [
        b"Content-Length: 0\r\nContent-Length: %d",
        b"Content-Length: %d\r\nContent-Length: %d",
        b"Content-Length: 0, %d",
        b"Content-Length: +%d",
        b"Content-Length: -%d",
        b"Content-Length:\r\nA: %d",
        b"Content-Length : %d",
        b"Content-Length: %d\x0b",
        b"Content-Length: 0\x0b\r\nA: %d",
        b"no header\r\nContent-Length: %d",
        b": x\r\nContent-Length: %d",
        b" Content-Length: %d",
        b"A: x\r\n Content-Length: %d",
        b"A: x\r\n\tContent-Length: %d",
        b"A: x\rContent-Length: %d",
        b"A: x\nContent-Length: %d",
        b"A: \0\r\nContent-Length: %d",
        b"Transfer-Encoding : chunked\r\nA: %d",
        b"From x\r\nContent-Length: %d",
    ],
)
def test_headers_that_are_none(page: Page, header: bytes) -> None:
    """What a proxy may read otherwise is refused, and nothing after it is taken for a request."""
    smuggled = GET.replace(b"metrics", b"metrics/smuggled")
    header = header.replace(b"%d", b"%d" % len(smuggled))
    with connect(page) as connection:
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n" + header + b"\r\n\r\n" + smuggled)
        received = all_of(connection)

    assert received.startswith(b"HTTP/1.1 400 ")
    assert 1 == received.count(b"HTTP/1.1")
    assert b"Connection: close" in received


def test_no_body(page: Page) -> None:
    """Who says that there is no body goes on, with any white space around it."""
    nothing = GET.replace(b"\r\n\r\n", b"\r\ncontent-length: \t0 \t\r\nEmpty:\r\n\r\n")
    with connect(page) as connection:
        connection.sendall(nothing + GET.replace(b"HTTP/1.1", b"HTTP/1.0"))
        assert 2 == all_of(connection).count(b" 200 OK\r\n")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"GET /metrics HTTP/1.1\r\n" + b"A: " + b"x" * 66_000 + b"\r\n\r\n", 431),
        (b"GET /metrics HTTP/1.1\r\n" + b"A: x\r\n" * 101 + b"\r\n", 431),
        (b"GET /metrics HTTP/1.1\r\n" + b"A: %s\r\n" % (b"x" * 1000) * 99 + b"\r\n", 431),
        (b"GET /metrics HTTP/2.0\r\n\r\n", 505),
        (b"GET /metrics HTTP/x\r\n\r\n", 400),
        (b"GET\r\n\r\n", 400),
        (b"\x16\x03\x01\x00\xa5\x01\x00\x00\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
    ],
)
def test_what_is_no_request(page: Page, request_: bytes, status: int) -> None:
    """What is too long or no HTTP is refused, and tells of no version but ours."""
    with connect(page) as connection:
        connection.sendall(request_)
        received = all_of(connection)

    assert received.startswith(b"HTTP/1.1 %d " % status)
    assert b"Python" not in received
    assert 200 == ask(page)[0].status


def test_a_silent_client(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that says nothing is in nobody's way, and its connection ends after a time."""
    monkeypatch.setattr(listener, "REQUEST_SECONDS", 0.3)
    with connect(page) as connection:
        assert 200 == ask(page)[0].status
        began = time.monotonic()
        assert b"" == all_of(connection)
        assert time.monotonic() - began < 5


def test_byte_by_byte(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that sends a byte now and then is no better than a silent one."""
    monkeypatch.setattr(listener, "REQUEST_SECONDS", 0.5)
    with connect(page) as connection:
        began = time.monotonic()
        with pytest.raises(OSError, match=r"reset|pipe"):  # noqa: PT012
            while time.monotonic() - began < 8:
                connection.sendall(b"G")
                time.sleep(0.05)
        assert 200 == ask(page)[0].status


def test_the_second_request_byte_by_byte(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """So is one that has been answered before."""
    monkeypatch.setattr(handler, "REQUEST_SECONDS", 0.5)
    with connect(page) as connection:
        connection.sendall(GET)
        assert connection.recv(1 << 16)
        began = time.monotonic()
        with pytest.raises(OSError, match=r"reset|pipe"):  # noqa: PT012
            while time.monotonic() - began < 8:
                connection.sendall(b"G")
                time.sleep(0.05)


def test_an_idle_connection(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection over which nothing more comes ends after a time."""
    monkeypatch.setattr(handler, "IDLE_SECONDS", 0.3)
    with connect(page) as connection:
        connection.sendall(GET)
        began = time.monotonic()
        assert all_of(connection).endswith(b"/metrics  \n")
        assert time.monotonic() - began < 5


def test_a_client_that_does_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that does not take its answer is let go, and holds up nobody meanwhile."""
    monkeypatch.setattr(listener, "ANSWER_SECONDS", 0.5)

    def huge(path: str, accept: str, names: Sequence[str]) -> tuple[str, bytes]:
        return TEXT, b"x" * (50_000_000 if path == "/metrics/huge" else 1)

    with serve(Site(huge)) as page, connect(page) as connection:
        connection.sendall(GET.replace(b"metrics", b"metrics/huge"))
        until(lambda: _requests() == 1)
        assert 200 == ask(page)[0].status
        until(lambda: _requests() == 0)


def test_a_client_that_reads_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is one that takes a little now and then waited for for ever."""
    monkeypatch.setattr(listener, "ANSWER_SECONDS", 0.5)

    def huge(path: str, accept: str, names: Sequence[str]) -> tuple[str, bytes]:
        return TEXT, b"x" * 50_000_000

    with serve(Site(huge)) as page, connect(page) as connection:
        connection.sendall(GET)
        began = time.monotonic()
        until(lambda: _requests() == 1)
        while _requests():
            assert time.monotonic() - began < 10
            connection.recv(1 << 16)
            time.sleep(0.02)
        assert 0.4 < time.monotonic() - began < 5


def _requests() -> int:
    return sum(thread.name == "otel_llm request" for thread in threading.enumerate())


def test_a_flood(page: Page) -> None:
    """However many clients come and say nothing, there are so many connections, and who asks is answered."""
    silent = [connect(page) for _ in range(listener.MOST + 40)]
    try:
        until(lambda: _requests() <= listener.MOST)
        for _ in range(3):
            assert 200 == ask(page)[0].status
        until(lambda: _requests() <= listener.MOST + 1)
        silent[0].settimeout(5)
        assert b"" == all_of(silent[0])  # the one that waited longest
    finally:
        for connection in silent:
            connection.close()


def test_pages_that_hang() -> None:
    """Pages that are never done take so many connections and no more; the others are still refused at once."""
    go_on = threading.Event()

    def stuck(path: str, accept: str, names: Sequence[str]) -> tuple[str, bytes]:
        go_on.wait(30)
        return TEXT, b"done"

    page = serve(Site(stuck))
    asking = [connect(page) for _ in range(listener.MOST)]
    try:
        for connection in asking:
            connection.sendall(GET)
        until(lambda: _requests() == listener.MOST)
        time.sleep(0.2)
        with connect(page) as connection:
            assert b"" == all_of(connection)
        assert listener.MOST == _requests()
        go_on.set()
        assert asking[0].recv(1 << 16).endswith(b"done")
    finally:
        go_on.set()
        page.close()
        for connection in asking:
            connection.close()


def test_closing() -> None:
    """A page that is closed frees its port and leaves no connection, no socket and no thread."""
    with serve() as page:
        connection = connect(page)
        connection.sendall(GET)
        assert connection.recv(1 << 16)
        began = time.monotonic()
    assert time.monotonic() - began < 1
    assert b"" == all_of(connection)
    connection.close()
    assert refuses(page)
    until(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("otel_llm")])
    Page(*place(page), site=SITE).close()


def test_ipv6() -> None:
    """A page can be on an IPv6 address, and its URL is one."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 here")
    with serve_metrics("::1", 0) as page:
        assert page.url.startswith("http://[::1]:")
        assert 200 == ask(page)[0].status


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (
            {"serve": "::1"},
            ValueError,
            re.escape("""serve='::1': expected "host:port", with an IPv6 address in brackets"""),
        ),
        ({"serve": "nohost.invalid:0"}, OSError, "host 'nohost.invalid': "),
        ({"host": "nohost.invalid", "port": 0}, OSError, "host 'nohost.invalid': "),
        ({"certfile": 3}, TypeError, "certfile must be a path, not int"),
    ],
)
@pytest.mark.usefixtures("unset")
def test_wrong_places(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    """What cannot be served is one error that names the setting, and what is wrong with it."""
    start: Any = otel_llm.instrument if "serve" in arguments else serve_metrics
    with pytest.raises(error, match=message):
        start(**arguments)


def test_no_descriptors_left(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that has run out of descriptors for a while serves again when it has some."""
    accept = socket.socket.accept
    failures = iter(range(3))

    def failing(self: socket.socket) -> object:
        if next(failures, None) is not None:
            raise OSError(24, "Too many open files")
        return accept(self)

    monkeypatch.setattr(socket.socket, "accept", failing)
    assert 200 == ask(page)[0].status


def test_no_threads_left(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    """So does one that could start no thread."""
    start = threading.Thread.start

    def failing(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", failing)
    with connect(page) as connection:
        assert b"" == all_of(connection)
    monkeypatch.setattr(threading.Thread, "start", start)
    assert 200 == ask(page)[0].status


# settings


def test_where(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not given comes from the standard variables; the default is this machine alone."""
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_HOST", "127.0.0.2")
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", "0")
    with serve_metrics() as page:
        assert page.url.startswith("http://127.0.0.2:")
    with serve_metrics("127.0.0.1") as page:
        assert page.url.startswith("http://127.0.0.1:")
    monkeypatch.setenv("OTEL_EXPORTER_PROMETHEUS_PORT", "http")
    with serve_metrics(port=0) as page:
        assert page.url.startswith("http://127.0.0.2:")
    monkeypatch.delenv("OTEL_EXPORTER_PROMETHEUS_HOST")
    with serve_metrics(port=0) as page:
        assert page.url.startswith("http://localhost:")
        assert page._server is not None
        assert page._server._socket.getsockname()[0] in ("127.0.0.1", "::1")


@pytest.mark.parametrize(
    ("host", "port", "kind", "said"),
    [
        (None, 65536, ValueError, "port=65536: expected a port from 0 to 65535"),
        (None, -1, ValueError, "port=-1: expected a port from 0 to 65535"),
        (None, "80", TypeError, "port must be a whole number, not str"),
        (None, True, TypeError, "port must be a whole number, not bool"),
        ("", 0, ValueError, "host='': expected a name or an address"),
        (5, 0, TypeError, "host must be a string, not int"),
        ("no.such.host.invalid", 0, OSError, None),
        ("a..b", 0, OSError, "is no host name"),
    ],
)
def test_places_that_are_none(host: str | None, port: int, kind: type[Exception], said: str | None) -> None:
    """Where no page can be is said at the start."""
    with pytest.raises(kind, match=said):
        serve_metrics(host, port)


def test_a_taken_port(page: Page) -> None:
    """A port that is taken raises and names the address."""
    host, port = place(page)
    with pytest.raises(OSError, match="in use") as raised:
        serve_metrics(host, port)
    assert [f"otel_llm: no Prometheus page on 127.0.0.1:{port}"] == raised.value.__notes__


# processes

FORK = """
import os, signal, socket, sys, threading
from tests.serving.clients import GET, all_of, ask, connect, refuses, serve, until

signal.alarm(30)
page = serve()
listener = page._server
kept = connect(page)
kept.sendall(GET)
assert kept.recv(1 << 16)
read, write = os.pipe()
child = os.fork()
if not child:
    signal.alarm(30)
    os.read(read, 1)
    print("in the child:", page._server, refuses(page), flush=True)
    print("its connections:", [each.socket.fileno() for each in listener._connections], flush=True)
    own = serve()
    print("of its own:", ask(own)[0].status, flush=True)
    sys.exit(3)
print("in the parent:", ask(page)[0].status, flush=True)
page.close()
print("ended:", all_of(kept), flush=True)
os.write(write, b"x")
print("the child ended:", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


def _run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_fork() -> None:
    """A forked child has neither the port nor the connections, ends by itself, and can serve a page of its own."""
    done = _run(FORK)

    assert [
        "in the parent: 200",
        "ended: b''",
        "in the child: None True",
        "its connections: [-1]",
        "of its own: 200",
        "the child ended: 3",
    ] == done.stdout.splitlines()
    assert "" == done.stderr


EXIT = """
import time
from tests.serving.clients import GET, connect, serve, until
from otel_llm.prometheus.web.answer import Site

page = serve(Site(lambda *_: time.sleep(60)))
idle, asking = connect(page), connect(page)
asking.sendall(GET)
until(lambda: len(page._server._connections) == 2)
time.sleep(0.2)
print("done")
"""


def test_exit() -> None:
    """Neither a page that is served nor a client that waits keeps a process from ending."""
    began = time.monotonic()
    done = _run(EXIT)

    assert ("done\n", "", 0) == (done.stdout, done.stderr, done.returncode)
    assert time.monotonic() - began < 20
