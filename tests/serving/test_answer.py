"""What is answered, whichever server asks."""

from __future__ import annotations

import gzip
import logging
from collections.abc import Sequence

import pytest

from otel_llm.prometheus.web.answer import answer, path_below, takes_gzip

from .clients import LONG, NAMES, TEXT, render


def test_a_page() -> None:
    """The page that the path names, with its type, its length, and what the answer depends on."""
    status, headers, body = answer("GET", "/metrics/aegis", "", {"accept": "text/plain"}, render)

    assert 200 == status
    assert b"/metrics/aegis text/plain \n" == body
    assert {
        "Content-Type": TEXT,
        "Content-Length": str(len(body)),
        "Vary": "Accept, Accept-Encoding",
    } == dict(headers)


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", ""),
        ("name[]=a&name[]=b_total", "a,b_total"),
        ("name%5B%5D=a%3Ab&x=1", "a:b"),
        ("name=a", ""),
        ("&&=%zz", ""),
    ],
)
def test_names(query: str, names: str) -> None:
    """`name[]` picks names, however often and however escaped."""
    assert f"/metrics  {names}\n".encode() == answer("GET", "/metrics", query, {}, render).body


@pytest.mark.parametrize("path", ["/metrics", "/metrics/long", "/metrics/none", "/metrics/broken"])
@pytest.mark.parametrize("encoding", ["", "gzip"])
def test_head(path: str, encoding: str) -> None:
    """HEAD is answered like GET, without the body."""
    got = answer("GET", path, "", {"accept-encoding": encoding}, render)

    assert got._replace(body=b"") == answer("HEAD", path, "", {"accept-encoding": encoding}, render)
    assert str(len(got.body)) == dict(got.headers)["Content-Length"]


def test_gzip() -> None:
    """A long page is compressed for who takes that; a short one stays as it is."""
    _, plain, page = answer("GET", "/metrics/long", "", {}, render)
    _, headers, body = answer("GET", "/metrics/long", "", {"accept-encoding": "gzip"}, render)

    assert "Content-Encoding" not in dict(plain)
    assert page.endswith(LONG)
    assert page == gzip.decompress(body)
    assert ("gzip", str(len(body))) == (dict(headers)["Content-Encoding"], dict(headers)["Content-Length"])
    assert "Content-Encoding" not in dict(answer("GET", "/metrics", "", {"accept-encoding": "gzip"}, render).headers)


@pytest.mark.parametrize(
    ("accept_encoding", "taken"),
    [
        ("", False),
        ("gzip", True),
        ("GZip", True),
        ("x-gzip", True),
        ("deflate, gzip;q=0.5", True),
        ("*", True),
        ("br;q=1.0, *;q=0.1", True),
        ("gzip;q=0", False),
        ("gzip;q=0.000, *", False),
        ("*;q=0", False),
        ("identity", False),
        ("gzip;q=0.5, identity;q=0.8", False),
        ("gzip; q=1.0, identity; q=0.5", True),
        ("gzip;q=x", False),
        ("gzipped", False),
        (",;,;q=", False),
    ],
)
def test_who_takes_gzip(accept_encoding: str, taken: bool) -> None:
    """The weights of `Accept-Encoding` count."""
    assert taken == takes_gzip(accept_encoding)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "TRACE", "get", "X"])
def test_other_methods(method: str) -> None:
    """Who wants to write is told what may be done."""
    status, headers, _ = answer(method, "/metrics", "", {}, render)

    assert (405, "GET, HEAD, OPTIONS") == (status, dict(headers)["Allow"])


def test_no_such_page() -> None:
    """Who asks for a page that is not there is told those that are."""
    status, _, body = answer("GET", "/metrics/none", "", {}, render, lambda: NAMES)

    assert (404, b"No such page. There are:\n/metrics\n/metrics/aegis\n") == (status, body)


def test_a_page_that_fails(caplog: pytest.LogCaptureFixture) -> None:
    """A page that fails is one line in the log, and tells the client nothing of why."""
    status, _, body = answer("GET", "/metrics/broken", "", {}, render)

    assert (500, b"The page failed; the log says why.\n") == (status, body)
    ((_, level, message),) = caplog.record_tuples
    assert (logging.ERROR, "otel_llm: the Prometheus page failed") == (level, message)


def test_names_that_fail(caplog: pytest.LogCaptureFixture) -> None:
    """So is a list of pages that fails."""

    def names() -> Sequence[str]:
        raise RuntimeError("secret")

    assert 500 == answer("GET", "/metrics/none", "", {}, render, names).status
    assert 1 == len(caplog.records)


@pytest.mark.parametrize(
    ("mount", "path", "expected"),
    [
        ("/metrics", "/metrics", "/metrics"),
        ("/metrics", "/metrics/", "/metrics"),
        ("/metrics", "/metrics/aegis", "/metrics/aegis"),
        ("/metrics", "/aegis", "/metrics/aegis"),
        ("/metrics", "", "/metrics"),
        ("/metrics/", "/metrics/aegis/", "/metrics/aegis"),
        ("/internal/llm", "/internal/llm", "/metrics"),
        ("/internal/llm", "/internal/llm/aegis", "/metrics/aegis"),
        ("/internal/llm", "/internal/llmx", "/metrics/internal/llmx"),
        ("", "/metrics/aegis", "/metrics/aegis"),
        ("", "/metricsx", "/metrics/metricsx"),
        ("", "/aegis", "/metrics/aegis"),
        ("/", "/", "/metrics"),
        ("", "", "/metrics"),
    ],
)
def test_mounts(mount: str, path: str, expected: str) -> None:
    """What is below the mount is the dialect, whether the server keeps the mount in the path or not."""
    assert expected == path_below(mount, path)
