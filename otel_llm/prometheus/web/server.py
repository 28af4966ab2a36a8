"""The pages on a port of their own."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING
from weakref import WeakSet

from otel_llm import forked
from otel_llm.prometheus import multiprocess
from otel_llm.prometheus.multiprocess import processes
from otel_llm.prometheus.web.answer import MAIN, Site, own_site
from otel_llm.prometheus.web.auth import Gate, Token, gate
from otel_llm.prometheus.web.handler import Handler
from otel_llm.prometheus.web.listener import Connection, Listener
from otel_llm_semconv import environment as variables

if TYPE_CHECKING:
    from typing import Self

    from otel_llm.prometheus.web.tls import Contexts
    from otel_llm.prometheus.web.web_config import WebConfig

logger = logging.getLogger("otel_llm")

DEFAULT_HOST = "localhost"
DEFAULT_PORT = 9464
_SIBLINGS = 8
"""Attempts in which another worker is sure to have said that it has the port."""

_HELD = "_OTEL_LLM_PAGE"
"""Variable by which processes that this one starts know of its page: the port, and who this is."""

_open: WeakSet[Page] = WeakSet()

environment_page: Page | None = None
"""The page that a reader from the environment serves, for as long as the reader lives."""


class Page:
    """A page being served, until it is closed; a context manager, too.

    Args:
        host: name or address to listen on.
        port: 0 for any that is free.
        site: what is shown, and to whom; our own pages to everybody if not given.
        contexts: TLS, if the page has it.

    Raises:
        OSError: the address cannot be bound.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        site: Site | None = None,
        contexts: Contexts | None = None,
    ) -> None:
        self._site = own_site() if site is None else site
        self._contexts = contexts
        self._where = host, port
        self._server: Listener | None = None
        self._waiting = False
        self._refused = 0
        # A worker that does not share yet would show its own calls for those of all.
        if not (port and multiprocess.pending() and self._wait()):
            try:
                self._server = Listener(host, port, self._attend)
                port = self._server.port
                multiprocess.hold(port)
                os.environ[_HELD] = _held(port)
            except OSError as error:
                if error.errno != errno.EADDRINUSE or not self._wait():
                    raise
        shown = f"[{host}]" if ":" in host else host
        self.url = f"{'http' if contexts is None else 'https'}://{shown}:{port}{MAIN}"
        _open.add(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def served(self) -> bool:
        """Whether there is a page: this one, or that of another worker, whose place it takes when that one is gone."""
        return self._server is not None or self._waiting

    def close(self) -> None:
        """Stop serving and free the port; does nothing the second time."""
        self._waiting = False
        server, self._server = self._server, None
        if server is not None:
            multiprocess.release(server.port)
            if os.environ.get(_HELD) == _held(server.port):
                del os.environ[_HELD]
            server.close()

    def leave(self) -> None:
        """Let go of the port in a forked child, or it would stay taken when the parent has closed it."""
        server, self._server = self._server, None
        if server is not None:
            server.leave()
        if (server is not None or self._waiting) and self._where[1]:
            self._wait()

    def _wait(self) -> bool:
        """Serve as soon as no other worker does; return whether this is a worker."""
        self._waiting, self._refused = True, 0
        claimed = multiprocess.claim(self._take_over, _own_sources)
        if not claimed:
            self._waiting = False
        return claimed

    def _take_over(self, last: bool) -> bool:
        """Try to serve; return whether that is done."""
        if self._waiting:
            try:
                server = Listener(*self._where, self._attend)
            except OSError as error:
                self._waiting = not last
                self._refuse(error)
                return last
            self._server = server
            multiprocess.hold(server.port)
            os.environ[_HELD] = _held(server.port)
            if not self._waiting:  # closed meanwhile
                self.close()
            self._waiting = False
        return True

    def _refuse(self, error: OSError) -> None:
        """Tell, once for all workers, that none of them has the port."""
        host, port = self._where
        known = multiprocess.held(port) or _held_by_parent(port)
        self._refused = 0 if known else self._refused + 1
        if known:
            return
        if not self._waiting:
            logger.error("otel_llm: no Prometheus page on %s:%s: %s", host, port, error)
        elif self._refused == _SIBLINGS and multiprocess.first(f"{port}"):
            tried = "no worker of this server has the port, and they go on trying"
            logger.error("otel_llm: no Prometheus page on %s:%s: %s; %s", host, port, error, tried)

    def _attend(self, connection: Connection) -> None:
        if self._contexts is not None:
            context = self._contexts.current()
            tls = context.wrap_socket(connection.socket, server_side=True, do_handshake_on_connect=False)
            connection.socket = tls
            if connection.ended:
                return
            tls.do_handshake()
            if not self._contexts.admits(tls):
                return
        Handler(connection, self._site)


def _own_sources() -> multiprocess.Sources:
    from otel_llm.prometheus import pages

    nothing = pages.own_state()
    return multiprocess.Sources(lambda: nothing, pages.own_families)


def serve_metrics(
    host: str | None = None,
    port: int | None = None,
    *,
    certfile: str | os.PathLike[str] | None = None,
    keyfile: str | os.PathLike[str] | None = None,
    client_ca: str | os.PathLike[str] | None = None,
    client_auth_required: bool | None = None,
    basic_auth: Mapping[str, str] | None = None,
    bearer_token: str | None = None,
    bearer_token_file: str | os.PathLike[str] | None = None,
    web_config: str | os.PathLike[str] | None = None,
) -> Page:
    """Serve the pages on a port of their own.

    Args:
        host: name or address to listen on; ``OTEL_EXPORTER_PROMETHEUS_HOST`` if not given, else ``localhost``.
        port: 0 for any that is free; ``OTEL_EXPORTER_PROMETHEUS_PORT`` if not given, else 9464.
        certfile: the server's certificate in PEM, with its chain; the page is served over TLS.
        keyfile: its private key, if that is not in *certfile*.
        client_ca: the authorities that sign the certificates of clients.
        client_auth_required: whether clients need a certificate; if not given, with *client_ca* they do.
        basic_auth: bcrypt hashes by user name; who else asks is answered with status 401.
        bearer_token: a token that is as good as a password.
        bearer_token_file: the path of a file with the token, which may be replaced at any time.
        web_config: the path of a file in the format of the Prometheus exporters' toolkit, in the place of TLS and
            *basic_auth*; ``OTEL_LLM_WEB_CONFIG`` if not given.

    Raises:
        OSError: the address cannot be bound.
        ValueError: a setting is not accepted; the message names it.
        TypeError: one is of the wrong type.
        ImportError: a setting needs the extra ``serve``.
    """
    bind = _bind(host, port)
    tls_given = {
        name: value
        for name, value in {"certfile": certfile, "keyfile": keyfile, "client_ca": client_ca}.items()
        if value is not None
    }
    config = _web_config(web_config)
    if config is None:
        contexts = _contexts(tls_given, client_auth_required)
        site = own_site(gate(basic_auth, bearer_token, bearer_token_file))
    else:
        others = {"client_auth_required": client_auth_required, "basic_auth": basic_auth}
        doubled = [*tls_given, *(name for name, value in others.items() if value is not None)]
        if doubled:
            raise ValueError(f"{', '.join(doubled)}: expected in the web config file, as there is one")
        contexts = _configured_contexts(config)
        token = None
        if (bearer_token, bearer_token_file) != (None, None):
            token = Token(bearer_token, bearer_token_file)
        site = _configured(own_site(), config, token)
    try:
        return Page(*bind, site=site, contexts=contexts)
    except OSError as error:
        error.add_note(f"otel_llm: no Prometheus page on {bind[0]}:{bind[1]}")
        raise


def _bind(host: str | None, port: int | None) -> tuple[str, int]:
    if host is not None and not isinstance(host, str):
        raise TypeError(f"host must be a string, not {type(host).__name__}")
    if host == "":
        raise ValueError("host='': expected a name or an address; 0.0.0.0 and :: are all of this machine")
    if port is not None and (isinstance(port, bool) or not isinstance(port, int)):
        raise TypeError(f"port must be a whole number, not {type(port).__name__}")
    if port is not None and not 0 <= port <= 65535:
        raise ValueError(f"port={port}: expected a port from 0 to 65535")
    # What is given is not looked up, so that it may be wrong there.
    environ = dict(os.environ)
    if port is not None:
        environ[variables.OTEL_EXPORTER_PROMETHEUS_PORT] = str(port)
    found = address(None, environ)
    return (found[0] if host is None else host), found[1]


def _contexts(given: Mapping[str, str | os.PathLike[str]], required: bool | None) -> Contexts | None:
    from otel_llm.prometheus.web.tls import Contexts, simple

    settings = simple(given, required)
    return None if settings is None else Contexts(settings)


def _web_config(given: str | os.PathLike[str] | None) -> WebConfig | None:
    setting, file = "web_config", given
    if file is None:
        setting = variables.OTEL_LLM_WEB_CONFIG
        file = os.environ.get(setting, "").strip()
    if not file:
        return None
    from otel_llm.prometheus.web.web_config import read_web_config

    return read_web_config(file, setting)


def _configured_contexts(config: WebConfig) -> Contexts | None:
    from otel_llm.prometheus.web.tls import Contexts

    return None if config.tls is None else Contexts(config.tls)


def _configured(site: Site, config: WebConfig, token: Token | None = None) -> Site:
    """Return a site with what a file says of users, headers and rates."""
    entrance = Gate(config.users, token, config.users_setting) if config.users or token is not None else None
    return site._replace(gate=entrance, rate_limit=config.rate_limit, headers=config.headers)


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
        if host.endswith(":"):  # an address alone, whose end would be taken for a port
            raise ValueError(f'serve={serve!r}: expected "host:port", with an IPv6 address in brackets')
        host = host.strip("[]") or DEFAULT_HOST
    if not (written.isdecimal() and int(written) <= 65535):
        expected = "a port from 0 to 65535" if serve is None else '"host:port" with a port from 0 to 65535'
        raise ValueError(f"{source}={serve if serve is not None else written!r}: expected {expected}")
    return host, int(written)


def start(bind: tuple[str, int], *, explicit: bool) -> Page | None:
    """Serve our pages, as ``OTEL_LLM_WEB_CONFIG`` says if it is set.

    What stands against it raises only where the user asked for this very page, and is one line in the log elsewhere.

    Raises:
        OSError: the address cannot be bound and is *explicit*.
        ValueError, ImportError: the web config file is not accepted.
    """
    host, port = bind
    try:
        site, contexts = own_site(), None
        config = _web_config(None)
        if config is not None:
            site, contexts = _configured(site, config), _configured_contexts(config)
        return Page(host, port, site=site, contexts=contexts)
    except (OSError, ValueError, ImportError) as error:
        if explicit:
            error.add_note(f"otel_llm: no Prometheus page on {host}:{port}")
            raise
        if isinstance(error, OSError) and error.errno == errno.EADDRINUSE and _held_by_parent(port):
            logger.info(
                "otel_llm: the Prometheus page on %s:%s is that of the process that started this one", host, port
            )
            return None
        logger.error("otel_llm: no Prometheus page on %s:%s: %s", host, port, error)
        return None


def _held(port: int) -> str:
    """Return what the variable says if this process has a page on a port."""
    return f"{port} {processes.identity(os.getpid())}"


def _held_by_parent(port: int) -> bool:
    """Whether the process that started this one, or one before that, has a page on a port."""
    told = os.environ.get(_HELD, "")
    held, _, who = told.partition(" ")
    return held == str(port) and told != _held(port) and processes.alive(who)


def _leave_all() -> None:
    for page in list(_open):
        page.leave()


forked.in_child(renew=_leave_all)
