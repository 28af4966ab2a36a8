"""Which provider answers, as far as a client can know."""

from __future__ import annotations

import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from otel_llm.wire.fields import clean
from otel_llm_semconv.environment import OLLAMA_HOST
from otel_llm_semconv.providers import HOST_RULES, PROVIDER_PORTS, Provider

DEFAULT_PORTS: Mapping[str, int] = {"http": 80, "https": 443}
"""The port of a URL without one, by its scheme; source: RFC 9110, section 4.2."""
_WEBSOCKETS = {"ws": "http", "wss": "https"}
_OLLAMA_PORTS = {**DEFAULT_PORTS, "": 11434}
_HERE = frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0", "::"})
"""Names of this machine: a server that listens everywhere is reached by any of them."""


def base_url_of(scheme: str, host: str | None, port: int | None, path: str = "") -> str | None:
    """Return a base URL as a user writes it, without the port that its scheme has anyway; None without a host."""
    if not host:
        return None
    host = clean(f"[{host}]" if ":" in host else host)
    shown = "" if port in (None, DEFAULT_PORTS.get(_WEBSOCKETS.get(scheme, scheme))) else f":{port}"
    return f"{scheme}://{host}{shown}{path}"


def provider_of(host: str | None, port: int | None, default: str) -> str:
    """Return the value of ``gen_ai.provider.name`` for a host, or *default* where no rule knows it.

    Source: GenAI semantic conventions, ``gen_ai.provider.name``: "the instrumentation's best knowledge".
    """
    if host:
        name = host.lower()
        for rule in HOST_RULES:
            if name.startswith(rule.prefix) and name.endswith(rule.suffix):
                return rule.provider
        if _is_ollama(name, port):
            return Provider.OLLAMA
    return PROVIDER_PORTS.get(port or 0, default)


def _is_ollama(host: str, port: int | None) -> bool:
    """Whether ``OLLAMA_HOST`` names this server, in any form that Ollama's own clients take.

    Source: ``_parse_host`` of ollama-python 0.6.3.
    """
    own = os.environ.get(OLLAMA_HOST, "").strip()
    if not own:
        return False
    try:
        url = urlsplit(own if "://" in own else f"//{own}")
        theirs = url.port or _OLLAMA_PORTS.get(url.scheme)
    except ValueError:
        return False
    name = url.hostname or "127.0.0.1"
    return theirs == port and (name == host or (name in _HERE and host in _HERE))
