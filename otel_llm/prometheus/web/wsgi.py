"""The pages as a WSGI application: Flask, Django and whatever else speaks it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from otel_llm.prometheus.web.answer import Site, own_site, path_below
from otel_llm.prometheus.web.auth import gate

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment


def make_wsgi_app(
    *,
    basic_auth: Mapping[str, str] | None = None,
    bearer_token: str | None = None,
    bearer_token_file: str | os.PathLike[str] | None = None,
) -> WSGIApplication:
    """Return a WSGI application with the pages, to be mounted at ``/metrics`` or at the root.

    Args:
        basic_auth: bcrypt hashes by user name; who else asks is answered with status 401.
        bearer_token: a token that is as good as a password.
        bearer_token_file: the path of a file with the token, which may be replaced at any time.

    Raises:
        ValueError: a hash or a token is none; the message names the setting.
        ImportError: *basic_auth* is given and `bcrypt`, of the extra ``serve``, is not installed.
    """
    return app_of(own_site(gate(basic_auth, bearer_token, bearer_token_file)))


def app_of(site: Site) -> WSGIApplication:
    """Return a site as a WSGI application."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        # WSGI hands over the bytes of paths as characters.
        path = environ.get("PATH_INFO", "").encode("latin-1", "replace").decode("utf-8", "replace")
        headers = {
            name: environ.get(f"HTTP_{name.upper().replace('-', '_')}", "")
            for name in ("accept", "accept-encoding", "authorization")
        }
        found = site.answer(environ["REQUEST_METHOD"], path_below("", path), environ.get("QUERY_STRING", ""), headers)
        start_response(f"{found.status.value} {found.status.phrase}", [*found.headers])
        return [found.body]

    return app
