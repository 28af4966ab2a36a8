"""The page over HTTP: what it answers, and that it ends."""

from __future__ import annotations

import gc
import gzip
import http.client
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from http.client import HTTPResponse
from urllib.parse import urlsplit

import pytest
from prometheus_client import CollectorRegistry, Metric, generate_latest
from prometheus_client.registry import Collector

from otel_llm.prometheus import PrometheusReader
from otel_llm.prometheus.reader import page as families
from otel_llm.prometheus.web.answer import Site
from otel_llm.prometheus.web.server import Page, address, start
from otel_llm.prometheus.writer import choose

from .prometheus_pages import close_all, parsed, provider, warnings

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.fixture(autouse=True)
def _close() -> Iterator[None]:  # pyright: ignore[reportUnusedFunction]
    """Leave no page behind, and no socket."""
    yield
    close_all()
    gc.collect()


@pytest.fixture
def registry() -> CollectorRegistry:
    """A registry with a counter and a histogram."""
    registry = CollectorRegistry()
    meter = provider(PrometheusReader(registry=registry)).get_meter("s")
    meter.create_counter("c").add(1)
    meter.create_histogram("h").record(1)
    return registry


def shown(registry: CollectorRegistry) -> Site:
    """Return what shows a registry of its own at any path."""

    def render(path: str, accept: str, names: Sequence[str]) -> tuple[str, bytes]:
        format = choose(accept)
        return format.content_type, format.write(families(registry, names or None))

    return Site(render)


@pytest.fixture
def page(registry: CollectorRegistry) -> Iterator[Page]:
    """A page on a free port."""
    page = Page("127.0.0.1", 0, site=shown(registry))
    yield page
    page.close()


def ask(page: Page, path: str = "/metrics", method: str = "GET", **headers: str) -> tuple[HTTPResponse, bytes]:
    """Return the answer and its body."""
    place = urlsplit(page.url)
    connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=10)
    try:
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def refuses(page: Page) -> bool:
    """Whether nothing listens at the address of a page."""
    place = urlsplit(page.url)
    try:
        socket.create_connection((str(place.hostname), place.port or 0), timeout=5).close()
    except ConnectionRefusedError:
        return True
    return False


def test_the_page(page: Page, registry: CollectorRegistry) -> None:
    """The page is the text of its registry, at the address it names and at any path."""
    assert urlsplit(page.url).port != 0
    for path in ("/metrics", "/", "/other?x=1"):
        response, body = ask(page, path)
        assert (response.status, body) == (200, generate_latest(registry))
        assert response.headers["Content-Type"] == TEXT
        assert int(response.headers["Content-Length"]) == len(body)


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", TEXT),
        ("text/plain;version=0.0.4", TEXT),
        ("text/html", TEXT),
        ("application/openmetrics-text", OPENMETRICS),
        ("application/openmetrics-text; version=1.0.0", OPENMETRICS),
        (PROMETHEUS_3, OPENMETRICS),
    ],
)
def test_the_format_that_is_asked_for(page: Page, accept: str, kind: str) -> None:
    """Who asks for OpenMetrics, as Prometheus does, gets it; all others get the text format."""
    response, body = ask(page, Accept=accept)
    assert response.headers["Content-Type"].startswith(kind)
    assert body.endswith(b"# EOF\n") == (kind == OPENMETRICS)
    if kind == OPENMETRICS:
        assert parsed(body.decode().splitlines()).keys() == {"target", "c", "h"}


def test_compression(page: Page) -> None:
    """Who takes gzip gets it, who does not does not."""
    _, plain = ask(page)
    response, body = ask(page, Accept_Encoding="gzip, deflate")
    assert response.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(body) == plain
    response, body = ask(page, Accept_Encoding="identity")
    assert response.headers["Content-Encoding"] is None
    assert body == plain


def test_head(page: Page) -> None:
    """HEAD is answered like GET, without the body."""
    got, body = ask(page)
    response, nothing = ask(page, method="HEAD")
    assert (response.status, nothing) == (200, b"")
    assert response.headers["Content-Type"] == got.headers["Content-Type"]
    assert response.headers["Content-Length"] == str(len(body))


@pytest.mark.parametrize(("method", "status"), [("POST", 405), ("DELETE", 405), ("OPTIONS", 200)])
def test_other_methods(page: Page, method: str, status: int) -> None:
    """A page is only read."""
    response, _ = ask(page, method=method)
    assert response.status == status


def test_chosen_names(page: Page) -> None:
    """`name[]` picks samples by name, with the description of their family, and picks none of any other name."""
    _, body = ask(page, "/metrics?name[]=c_total&name[]=h_count&name[]=h&name[]=unknown")
    lines = body.decode().splitlines()
    assert [line.split("{")[0] for line in lines] == [
        "# HELP c_total ",
        "# TYPE c_total counter",
        "c_total",
        "# HELP h ",
        "# TYPE h histogram",
        "h_count",
    ]
    assert ask(page, "/metrics?name[]=unknown")[1] == b""


def test_closing(registry: CollectorRegistry) -> None:
    """A page that is closed answers no more, its port is free and its thread gone; closing it again does nothing."""
    page = Page("127.0.0.1", 0, site=shown(registry))
    ask(page)
    port = urlsplit(page.url).port or 0
    began = time.monotonic()
    page.close()
    assert time.monotonic() - began < 5
    page.close()
    assert refuses(page)
    assert not [thread for thread in threading.enumerate() if thread.name == "otel_llm page"]
    again = Page("127.0.0.1", port, site=shown(registry))
    assert again.url == page.url
    again.close()


def test_closing_while_a_client_does_nothing(registry: CollectorRegistry) -> None:
    """A connection over which nothing comes keeps neither others from the page nor the page from closing."""
    page = Page("127.0.0.1", 0, site=shown(registry))
    place = urlsplit(page.url)
    with socket.create_connection(("127.0.0.1", place.port or 0), timeout=5):
        assert ask(page)[0].status == 200
        page.close()
        assert refuses(page)


def test_a_client_that_hangs_up(page: Page, capfd: pytest.CaptureFixture[str]) -> None:
    """A client that goes away is nothing to write home about."""
    place = urlsplit(page.url)
    for sent in (b"GET /metrics HTTP/1.1\r\n\r\n", b"GET /met", b"\x16\x03\x01", b""):
        with socket.create_connection(("127.0.0.1", place.port or 0), timeout=5) as connection:
            # Reset rather than closed.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            connection.sendall(sent)
    assert ask(page)[0].status == 200
    assert capfd.readouterr() == ("", "")


def test_a_page_that_fails(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> None:
    """A page that cannot be made is an answer that says so and an error in the log, and the next one can be right."""

    class Broken(Collector):
        broken = True

        def describe(self) -> Iterable[Metric]:
            return ()

        def collect(self) -> Iterable[Metric]:
            if self.broken:
                raise RuntimeError("secret")
            return ()

    registry, collector = CollectorRegistry(), Broken()
    registry.register(collector)
    page = Page("127.0.0.1", 0, site=shown(registry))
    response, body = ask(page)
    assert response.status == 500
    assert b"secret" not in body
    assert warnings(caplog) == ["otel_llm: the Prometheus page failed"]
    collector.broken = False
    assert ask(page)[0].status == 200
    page.close()
    assert capfd.readouterr() == ("", "")


def test_a_taken_port(page: Page, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture) -> None:
    """A port that is taken raises where the caller asked for it, and is one line in the log where not."""
    port = urlsplit(page.url).port or 0
    with pytest.raises(OSError, match="in use") as raised:
        start(("127.0.0.1", port), explicit=True)
    assert raised.value.__notes__ == [f"otel_llm: no Prometheus page on 127.0.0.1:{port}"]
    assert not warnings(caplog)
    assert start(("127.0.0.1", port), explicit=False) is None
    (line,) = warnings(caplog)
    assert line.startswith(f"otel_llm: no Prometheus page on 127.0.0.1:{port}: ")


@pytest.mark.parametrize("host", ["no.such.host.invalid", "a" * 70, "a..b"])
def test_a_host_that_is_none(host: str, registry: CollectorRegistry) -> None:
    """A name that is no host's is an `OSError`, in whichever way it is none."""
    with pytest.raises(OSError, match=r"\w"):
        Page(host, 0)


def test_version_6(registry: CollectorRegistry) -> None:
    """A page can be on an IPv6 address, and its URL is one."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 here")
    page = Page("::1", 0, site=shown(registry))
    assert page.url.startswith("http://[::1]:")
    assert ask(page)[0].status == 200
    page.close()
    assert refuses(page)


@pytest.mark.parametrize(
    ("serve", "environ", "expected"),
    [
        (None, {}, ("localhost", 9464)),
        (None, {"OTEL_EXPORTER_PROMETHEUS_HOST": " 0.0.0.0 ", "OTEL_EXPORTER_PROMETHEUS_PORT": " 0 "}, ("0.0.0.0", 0)),
        (None, {"OTEL_EXPORTER_PROMETHEUS_HOST": "", "OTEL_EXPORTER_PROMETHEUS_PORT": ""}, ("localhost", 9464)),
        ("localhost:8000", {"OTEL_EXPORTER_PROMETHEUS_PORT": "1"}, ("localhost", 8000)),
        (":8000", {}, ("localhost", 8000)),
        ("8000", {}, ("localhost", 8000)),
        ("[::1]:8000", {}, ("::1", 8000)),
        ("::1:8000", {}, ("::1", 8000)),
    ],
)
def test_addresses(serve: str | None, environ: dict[str, str], expected: tuple[str, int]) -> None:
    """The address is the caller's, else that of the standard variables, else the specification's."""
    assert address(serve, environ) == expected


@pytest.mark.parametrize(
    ("serve", "environ", "said"),
    [
        ("localhost", {}, "serve='localhost'"),
        ("localhost:", {}, "serve='localhost:'"),
        ("localhost:99999", {}, "serve='localhost:99999'"),
        ("localhost:-1", {}, "serve='localhost:-1'"),
        (None, {"OTEL_EXPORTER_PROMETHEUS_PORT": "65536"}, "OTEL_EXPORTER_PROMETHEUS_PORT='65536'"),
        (None, {"OTEL_EXPORTER_PROMETHEUS_PORT": "http"}, "OTEL_EXPORTER_PROMETHEUS_PORT='http'"),
    ],
)
def test_addresses_that_are_none(serve: str | None, environ: dict[str, str], said: str) -> None:
    """A port that is none is refused, by the name of the setting."""
    with pytest.raises(ValueError, match=f"^{said}: expected"):
        address(serve, environ)


FORK = """
import os, signal, socket, sys
from opentelemetry.sdk.metrics import MeterProvider
from otel_llm.prometheus.reader import AutoPrometheusReader
from urllib.request import ProxyHandler, build_opener

signal.alarm(30)
reader = AutoPrometheusReader()
provider = MeterProvider([reader])
provider.get_meter("s").create_counter("c").add(1)
page = reader._page
read, write = os.pipe()
child = os.fork()
if not child:
    signal.alarm(30)
    os.read(read, 1)
    try:
        build_opener(ProxyHandler({})).open(page.url, timeout=5)
    except OSError as error:
        print("in the child:", error.reason.strerror, flush=True)
    sys.exit(3)
with build_opener(ProxyHandler({})).open(page.url, timeout=5) as answer:
    print("in the parent:", answer.status, flush=True)
provider.shutdown()
os.write(write, b"x")
_, status = os.waitpid(child, 0)
print("the child ended:", os.waitstatus_to_exitcode(status))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_fork() -> None:
    """A forked child ends by itself, leaves the parent's page alone, and does not keep its port when that is closed."""
    run = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", FORK],
        env={**os.environ, "OTEL_EXPORTER_PROMETHEUS_PORT": "0"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (run.stdout, run.stderr) == (
        "in the parent: 200\nin the child: Connection refused\nthe child ended: 3\n",
        "",
    )
