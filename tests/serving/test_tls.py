"""The page over TLS: who gets in, who holds up whom, and certificates that change or are none."""

from __future__ import annotations

import http.client
import logging
import shutil
import socket
import ssl
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from otel_llm.prometheus.web import listener
from otel_llm.prometheus.web.server import Page, serve_metrics
from otel_llm.prometheus.web.tls import Contexts, Pem, Tls, simple

from .clients import GET, SITE, all_of, ask, connect, place
from .conftest import Pki


@contextmanager
def serving(**files: Any) -> Generator[Page]:
    """Serve the page with these certificates."""
    required = files.pop("client_auth_required", None)
    settings = simple(files, required)
    assert settings is not None
    with Page("localhost", 0, site=SITE, contexts=Contexts(settings)) as page:
        assert page.url.startswith("https://localhost:")
        yield page


def refused(page: Page, client: ssl.SSLContext) -> bool:
    """Whether a client is not let in."""
    try:
        ask(page, tls=client)
    except (ssl.SSLError, ConnectionError, http.client.BadStatusLine):
        return True
    return False


def _held(page: Page, pki: Pki) -> ssl.SSLSocket:
    return pki.client().wrap_socket(connect(page), server_hostname="localhost")


def test_tls(pki: Pki) -> None:
    """The page is served over TLS, by certificate and key in two files or in one."""
    for files in ({"certfile": pki.server}, {"certfile": pki.server_cert, "keyfile": pki.server_key}):
        with serving(**files) as page:
            response, body = ask(page, tls=pki.client())
            assert (200, b"/metrics  \n") == (response.status, body)
            with pytest.raises(ssl.SSLCertVerificationError):
                ask(page, tls=ssl.create_default_context())
            with connect(page) as connection:
                connection.sendall(GET)
                assert b"HTTP" not in all_of(connection)


def test_versions(pki: Pki) -> None:
    """TLS 1.2 and 1.3 are spoken, and nothing older; HTTP/1.1 is what is chosen."""
    client = pki.client()
    client.set_alpn_protocols(["h2", "http/1.1"])
    with serving(certfile=pki.server) as page:
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            client.minimum_version = client.maximum_version = version
            with client.wrap_socket(connect(page), server_hostname="localhost") as connection:
                assert "http/1.1" == connection.selected_alpn_protocol()
                assert version.name.replace("_", ".") == connection.version()


@pytest.mark.skipif(not shutil.which("curl"), reason="no curl here")
def test_curl(pki: Pki) -> None:
    """What is no Python gets the page, too, compressed and over one connection."""
    with serving(certfile=pki.server) as page:
        done = subprocess.run(
            ["curl", "-sS", "--compressed", "--noproxy", "*", "--cacert", pki.ca, f"{page.url}/long", page.url],
            capture_output=True,
            timeout=30,
            check=False,
        )
    assert (0, b"") == (done.returncode, done.stderr)
    assert done.stdout.startswith(b"/metrics/long")
    assert done.stdout.endswith(b"/metrics */* \n")


def test_a_handshake_that_is_not_done(pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that begin no handshake, or half of one, hold up nobody, and are let go."""
    monkeypatch.setattr(listener, "REQUEST_SECONDS", 1.0)
    hello = bytes.fromhex("16030100f8010000f40303")
    with serving(certfile=pki.server) as page:
        slow = [connect(page) for _ in range(20)]
        for connection in slow[10:]:
            connection.sendall(hello)
        assert 200 == ask(page, tls=pki.client())[0].status
        for connection in slow:
            assert b"" == all_of(connection)
            connection.close()


def test_an_idle_client_over_tls(pki: Pki) -> None:
    """A client whose handshake is done and that asks nothing holds up nobody."""
    with serving(certfile=pki.server) as page, _held(page, pki) as idle:
        assert 200 == ask(page, tls=pki.client())[0].status
        idle.sendall(GET)
        assert idle.recv(1 << 16).startswith(b"HTTP/1.1 200 OK\r\n")


def test_room_is_made_over_tls(pki: Pki, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are too many, the oldest is let go with what TLS has for it, and the newest is answered."""
    monkeypatch.setattr(listener, "MOST", 3)
    with serving(certfile=pki.server) as page:
        held = [_held(page, pki) for _ in range(5)]
        assert 200 == ask(page, tls=pki.client())[0].status
        for connection in held:
            connection.close()


# clients with certificates


def test_clients_with_certificates(pki: Pki) -> None:
    """With authorities for clients, only who shows a certificate of theirs gets in."""
    with serving(certfile=pki.server, client_ca=pki.ca) as page:
        assert 200 == ask(page, tls=pki.client("client"))[0].status
        for other in (None, "stranger", "expired"):
            assert refused(page, pki.client(other)), other
        assert 200 == ask(page, tls=pki.client("client"))[0].status


def test_clients_that_may_have_certificates(pki: Pki) -> None:
    """Where certificates are optional, who shows none gets in, and who shows a wrong one does not."""
    with serving(certfile=pki.server, client_ca=pki.ca, client_auth_required=False) as page:
        for known in (None, "client"):
            assert 200 == ask(page, tls=pki.client(known))[0].status
        for other in ("stranger", "expired"):
            assert refused(page, pki.client(other)), other


@pytest.mark.parametrize(
    ("names", "admitted"), [(["scraper.example"], True), (["x", "10.0.0.1"], True), (["other.example"], False)]
)
def test_clients_by_name(pki: Pki, names: list[str], admitted: bool) -> None:
    """Of the clients whose certificate is right, only those with one of the names get in."""
    tls = Tls(Pem("c", pki.server), None, Pem("a", pki.ca), ssl.CERT_REQUIRED, names=names)
    with Page("localhost", 0, site=SITE, contexts=Contexts(tls)) as page:
        assert admitted != refused(page, pki.client("client"))


# certificates that change


def _shown(page: Page, pki: Pki) -> bytes:
    with _held(page, pki) as connection:
        return connection.getpeercert(binary_form=True) or b""


def _der(path: Path) -> bytes:
    return ssl.PEM_cert_to_DER_cert(path.read_text())


def test_certificates_that_change(pki: Pki, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A new certificate is shown from then on; a broken one is one line in the log, and the old one stays."""
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    shutil.copy(pki.server_cert, cert)
    shutil.copy(pki.server_key, key)
    with serving(certfile=cert, keyfile=key) as page:
        assert _der(pki.server_cert) == _shown(page, pki)
        shutil.copy(pki.renewed_cert, cert)
        for _ in range(3):
            assert _der(pki.server_cert) == _shown(page, pki)
        (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
        said = f"keyfile={str(key)!r}: the key is not that of certfile={str(cert)!r}; the certificates before it stay"
        assert f"otel_llm: {said}" == record.message
        shutil.copy(pki.renewed_key, key)
        assert _der(pki.renewed_cert) == _shown(page, pki)
        cert.unlink()
        assert _der(pki.renewed_cert) == _shown(page, pki)
        shutil.copy(pki.server, cert)
        shutil.copy(pki.server_key, key)
        assert _der(pki.server_cert) == _shown(page, pki)


def test_authorities_that_change(pki: Pki, tmp_path: Path) -> None:
    """So are the authorities for clients."""
    ca = tmp_path / "ca.pem"
    shutil.copy(pki.ca, ca)
    with serving(certfile=pki.server, client_ca=ca) as page:
        assert refused(page, pki.client("stranger"))
        shutil.copy(pki.other_ca, ca)
        assert 200 == ask(page, tls=pki.client("stranger"))[0].status
        assert refused(page, pki.client("client"))


def test_an_outdated_certificate(pki: Pki) -> None:
    """A server whose certificate has expired serves, and clients say what is wrong with it."""
    with serving(certfile=pki.outdated) as page, pytest.raises(ssl.SSLCertVerificationError, match="expired"):
        ask(page, tls=pki.client())


# what is wrong is said at the start


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"certfile": "missing.pem"}, r"certfile='.*missing.pem': cannot be read: No such file"),
        ({"certfile": ""}, r"certfile='.*': cannot be read: Is a directory"),
        ({"certfile": "junk.pem"}, r"certfile='.*junk.pem': expected certificates in PEM"),
        ({"certfile": "server_key.pem"}, r"certfile='.*server_key.pem': expected certificates in PEM"),
        ({"certfile": "server_cert.pem"}, r"certfile='.*server_cert.pem': expected a private key in PEM"),
        ({"certfile": "server_cert.pem", "keyfile": "junk.pem"}, r"keyfile='.*': expected a private key"),
        ({"certfile": "server_cert.pem", "keyfile": "missing.pem"}, r"keyfile='.*': cannot be read: No"),
        (
            {"certfile": "server_cert.pem", "keyfile": "client_key.pem"},
            r"keyfile='.*client_key.pem': the key is not that of certfile='.*server_cert.pem'",
        ),
        ({"keyfile": "server_key.pem"}, r"keyfile='.*': expected certfile beside it"),
        ({"client_ca": "ca.pem"}, r"client_ca='.*': expected certfile beside it"),
        ({"certfile": "server.pem", "client_ca": "junk.pem"}, r"client_ca='.*': expected certificates in"),
        ({"certfile": "server.pem", "client_ca": "missing.pem"}, r"client_ca='.*': cannot be read"),
    ],
)
def test_wrong_files(files: dict[str, str], said: str, pki: Pki) -> None:
    """What is wrong with certificates is said at the start, by the name of the setting."""
    given: dict[str, Any] = {name: pki.folder / file for name, file in files.items()}
    with pytest.raises(ValueError, match=f"^{said}"):
        serve_metrics(port=0, **given)


@pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl here")
def test_an_encrypted_key(pki: Pki, tmp_path: Path) -> None:
    """A key with a pass phrase is refused, and nobody is asked for it."""
    key = tmp_path / "encrypted.pem"
    files = ["-in", str(pki.server_key), "-out", str(key)]
    subprocess.run(["openssl", "pkcs8", "-topk8", *files, "-passout", "pass:secret"], check=True, capture_output=True)
    with pytest.raises(ValueError, match=r"^keyfile='.*encrypted.pem': the key is encrypted"):
        serve_metrics(port=0, certfile=pki.server_cert, keyfile=key)


@pytest.mark.parametrize("required", [True, False])
def test_certificates_of_nobody(pki: Pki, required: bool) -> None:
    """Without authorities, nobody's certificate can be asked for."""
    with pytest.raises(ValueError, match=f"client_auth_required={required}: expected client_ca beside it"):
        serve_metrics(port=0, certfile=pki.server, client_auth_required=required)


def test_a_wrong_type(pki: Pki) -> None:
    """A switch is True or False."""
    with pytest.raises(TypeError, match="client_auth_required must be True or False, not str"):
        serve_metrics(port=0, certfile=pki.server, client_ca=pki.ca, client_auth_required="yes")  # type: ignore[arg-type]


def test_nothing_is_left_of_a_failure(pki: Pki) -> None:
    """Wrong certificates leave no port taken."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(ValueError, match="certfile"):
        serve_metrics("127.0.0.1", port, certfile=pki.junk)
    with serve_metrics("127.0.0.1", port, certfile=pki.server) as page:
        assert ("127.0.0.1", port) == place(page)
