"""Certificates, for all tests of serving."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from otel_llm.prometheus.web.server import Page

from .clients import serve


class Pki(NamedTuple):
    """Files with certificates, and what trusts them."""

    folder: Path

    def __getattr__(self, name: str) -> Path:
        return self.folder / f"{name}.pem"

    def client(self, certificate: str | None = None) -> ssl.SSLContext:
        """Return a client that trusts the server, and may show a certificate."""
        context = ssl.create_default_context(cafile=self.folder / "ca.pem")
        if certificate is not None:
            context.load_cert_chain(self.folder / f"{certificate}.pem")
        return context


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """The certificates of a server and of clients: a known one, one of a stranger, one that has expired."""
    trustme = pytest.importorskip("trustme")
    folder = tmp_path_factory.mktemp("pki")
    ours, other = trustme.CA(), trustme.CA()
    ours.cert_pem.write_to_path(folder / "ca.pem")
    other.cert_pem.write_to_path(folder / "other_ca.pem")
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    issued = {
        "server": ours.issue_cert("localhost", "127.0.0.1"),
        "renewed": ours.issue_cert("localhost", "127.0.0.1"),
        "outdated": ours.issue_cert("localhost", not_after=yesterday),
        "client": ours.issue_cert("scraper.example", "10.0.0.1"),
        "expired": ours.issue_cert("scraper.example", not_after=yesterday),
        "stranger": other.issue_cert("scraper.example"),
    }
    for name, certificate in issued.items():
        certificate.private_key_and_cert_chain_pem.write_to_path(folder / f"{name}.pem")
        certificate.private_key_pem.write_to_path(folder / f"{name}_key.pem")
        certificate.cert_chain_pems[0].write_to_path(folder / f"{name}_cert.pem")
    (folder / "junk.pem").write_text("no certificate\n")
    return Pki(folder)


@pytest.fixture
def page() -> Iterator[Page]:
    """The page on a free port."""
    with serve() as page:
        yield page
