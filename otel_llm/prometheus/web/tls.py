"""TLS for a page: contexts from certificate files, made anew when the files change."""

from __future__ import annotations

import logging
import os
import ssl
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any, NamedTuple, NoReturn
from weakref import WeakSet

from otel_llm import forked

logger = logging.getLogger("otel_llm")


class Pem(NamedTuple):
    """Certificates or a key: what the user calls the setting, and either a file or the text itself."""

    setting: str
    file: Path | None
    text: str = ""

    def __str__(self) -> str:
        return self.setting if self.file is None else f"{self.setting}={str(self.file)!r}"

    def read(self) -> str:
        """Return the text.

        Raises:
            ValueError: the file cannot be read; the message names the setting.
        """
        if self.file is None:
            return self.text
        try:
            return self.file.read_text("latin-1")
        except OSError as error:
            raise ValueError(f"{self}: cannot be read: {error.strerror}") from error


class Tls(NamedTuple):
    """What a context is made of.

    Args:
        certificate: the server's, with its chain.
        key: its private key; None where that is with the certificate.
        clients: the authorities that sign the certificates of clients.
        verify: whether clients have to show a certificate, or may.
        minimum: lowest version of the protocol.
        maximum: highest version.
        ciphers: in OpenSSL's notation, for TLS 1.2; None for Python's choice.
        server_order: whether the server's order of ciphers counts.
        names: one of these a client's certificate has to have as a subject's alternative name; empty for any.
    """

    certificate: Pem
    key: Pem | None = None
    clients: Pem | None = None
    verify: ssl.VerifyMode = ssl.CERT_NONE
    minimum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    maximum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
    ciphers: str | None = None
    server_order: bool = True
    names: Sequence[str] = ()


def simple(given: Mapping[str, str | os.PathLike[str]], required: bool | None) -> Tls | None:
    """Return the settings for ``certfile``, ``keyfile`` and ``client_ca``, None if nothing is given.

    Raises:
        ValueError: one is given without another that it needs.
        TypeError: *required* is neither True nor False.
    """
    if required is not None and not isinstance(required, bool):
        raise TypeError(f"client_auth_required must be True or False, not {type(required).__name__}")
    for name, file in given.items():
        if not isinstance(file, (str, os.PathLike)):
            raise TypeError(f"{name} must be a path, not {type(file).__name__}")
    pems = {name: Pem(name, Path(file)) for name, file in given.items()}
    if pems and "certfile" not in pems:
        raise ValueError(f"{', '.join(map(str, pems.values()))}: expected certfile beside it")
    if required is not None and "client_ca" not in pems:
        raise ValueError(f"client_auth_required={required}: expected client_ca beside it")
    if not pems:
        return None
    verify = ssl.CERT_NONE
    if "client_ca" in pems:
        verify = ssl.CERT_OPTIONAL if required is False else ssl.CERT_REQUIRED
    return Tls(pems["certfile"], pems.get("keyfile"), pems.get("client_ca"), verify)


_open: WeakSet[Contexts] = WeakSet()


class Contexts:
    """The context for the next connection.

    Files that change are read anew; where they are wrong then, the context before them stays, and one line in the log
    says so.

    Raises:
        ValueError: a file cannot be read, is no certificate or no key, or the two do not belong together.
    """

    def __init__(self, tls: Tls) -> None:
        self._tls = tls
        self._files = [pem.file for pem in (tls.certificate, tls.key, tls.clients) if pem is not None and pem.file]
        self._seen = self._look()
        self._context = _context(tls)
        self.renew()
        _open.add(self)

    def renew(self) -> None:
        """Forget who held the lock: in a forked child, that thread is not there to let go of it."""
        self._lock = Lock()

    def current(self) -> ssl.SSLContext:
        """Return the context of the files as they are now."""
        seen = self._look()
        if seen != self._seen:
            with self._lock:
                if seen != self._seen:
                    self._seen = seen
                    try:
                        self._context = _context(self._tls)
                    except ValueError as error:
                        logger.error("otel_llm: %s; the certificates before it stay", error)
        return self._context

    def admits(self, connection: ssl.SSLSocket) -> bool:
        """Whether a client may come in by the names in its certificate, which has been verified."""
        shown = connection.getpeercert() if self._tls.names else None
        if not shown:  # nothing is asked of it, or it may come without one and did
            return True
        allowed = {_spelled(name) for name in self._tls.names}
        given: Any = shown.get("subjectAltName", ())
        return any(_spelled(value) in allowed for _, value in given)

    def _look(self) -> list[object]:
        seen: list[object] = []
        for file in self._files:
            with suppress(OSError):
                state = file.stat()
                seen.append((file, state.st_mtime_ns, state.st_size, state.st_ino))
        return seen


def _context(tls: Tls) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version, context.maximum_version = tls.minimum, tls.maximum
    context.set_alpn_protocols(["http/1.1"])
    if tls.ciphers is not None:
        context.set_ciphers(tls.ciphers)
    if not tls.server_order:
        context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    _load(context, tls)
    if tls.clients is not None:
        _check_certificates(context, tls.clients)
    context.verify_mode = tls.verify
    return context


def _load(context: ssl.SSLContext, tls: Tls) -> None:
    pem = tls.key or tls.certificate
    _check_certificates(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), tls.certificate)
    pem.read()

    def ask() -> NoReturn:  # else OpenSSL asks on the terminal
        raise ValueError(f"{pem}: the key is encrypted: expected one without a pass phrase")

    with _on_disk(tls.certificate) as certificate, _on_disk(pem) as key:
        try:
            context.load_cert_chain(certificate, key, ask)
        except ssl.SSLError as error:
            if error.reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"):
                raise ValueError(f"{pem}: the key is not that of {tls.certificate}") from error
            there = "; it is not in the certificate's file" if tls.key is None else ""
            raise ValueError(f"{pem}: expected a private key in PEM{there}") from error
        except OSError as error:
            raise ValueError(f"{pem}: cannot be read: {error.strerror}") from error


@contextmanager
def _on_disk(pem: Pem) -> Generator[Path]:
    """Give Python a file, from which alone it loads keys."""
    if pem.file is not None:
        yield pem.file
        return
    with TemporaryDirectory(prefix="otel_llm_") as folder:  # nobody else can look into it
        file = Path(folder, "pem")
        file.write_text(pem.text, "latin-1")
        yield file


def _check_certificates(context: ssl.SSLContext, pem: Pem) -> None:
    """Have a context trust the certificates."""
    try:
        context.load_verify_locations(cadata="".join(_certificates(pem.read())))
    except (ssl.SSLError, ValueError) as error:
        if str(pem) in str(error):
            raise
        raise ValueError(f"{pem}: expected certificates in PEM") from error


def _certificates(text: str) -> list[str]:
    """Return the certificates among what else is in a file, which may be keys and words in any alphabet."""
    begin, end = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
    found = [f"{begin}{part.partition(end)[0]}{end}\n" for part in text.split(begin)[1:] if end in part]
    if not found:
        raise ValueError("no certificate")
    return found


def _spelled(name: str) -> str:
    try:
        return str(ip_address(name))
    except ValueError:
        return name


def _renew_all() -> None:
    for each in list(_open):
        each.renew()


forked.in_child(renew=_renew_all)
