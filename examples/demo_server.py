"""Whom the demo talks to."""

import json
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, TypedDict
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, build_opener

import openai

from otel_llm.testing.server import ScriptedServer

OPENAI_MODEL: Final = "gpt-5.4-nano"
"""The model to ask at OpenAI: a cheap one."""
EMBEDDING_MODEL: Final = "text-embedding-3-small"


class ClientOptions(TypedDict):
    """Keywords of the clients."""

    api_key: str
    base_url: str
    max_retries: int


@dataclass(frozen=True)
class Target:
    """A server, and what to ask of it."""

    name: str
    base_url: str
    model: str
    embedding_model: str | None
    api_key: str = "none"
    script: ScriptedServer | None = None
    ollama_model: str | None = None
    """The model for Ollama's own client, if that can ask it, too."""

    @property
    def client_options(self) -> ClientOptions:
        """Keywords of the clients; only the scripted server is sure to answer soon when asked again."""
        return {"api_key": self.api_key, "base_url": self.base_url, "max_retries": 2 if self.script else 0}


@contextmanager
def choose(base_url: str | None, model: str | None) -> Generator[Target]:
    """Give the server asked for; else OpenAI if there is a key, else a running Ollama, else the scripted one."""
    key = os.environ.get("OPENAI_API_KEY") or None
    if base_url:
        yield _found(f"the server at {base_url}", base_url, key or "none", model)
    elif key:
        url = "https://api.openai.com/v1"
        yield Target("OpenAI, with OPENAI_API_KEY", url, model or OPENAI_MODEL, EMBEDDING_MODEL, key)
    elif ollama := _ollama():
        found = _found(f"the Ollama at {ollama}", f"{ollama}/v1", "ollama", model)
        yield replace(found, ollama_model=found.model)
    else:
        _go_straight_to("127.0.0.1")
        with ScriptedServer(chunk_delay=0.04) as server:
            name = "the project's scripted server (no key, no network)"
            yield Target(
                name, server.base_url, model or "gpt-5", EMBEDDING_MODEL, script=server, ollama_model="llama3.2"
            )


def _found(name: str, base_url: str, key: str, model: str | None) -> Target:
    """Ask the server which models it has."""
    try:
        with openai.OpenAI(base_url=base_url, api_key=key, timeout=5, max_retries=0) as client:
            known = [found.id for found in client.models.list()]
    except openai.OpenAIError:
        known = []
    chat = [found for found in known if "embed" not in found]
    embedding = [found for found in known if "embed" in found]
    return Target(name, base_url, model or next(iter(chat), OPENAI_MODEL), next(iter(embedding), None), key)


def _ollama() -> str | None:
    """Return the address of an Ollama that is running and has a model."""
    written = os.environ.get("OLLAMA_HOST") or "127.0.0.1:11434"
    try:
        parts = urlsplit(written if "://" in written else f"http://{written}")
        host = "127.0.0.1" if parts.hostname in (None, "0.0.0.0") else parts.hostname
        port = parts.port or {"https": 443}.get(parts.scheme, 11434)
        url = f"{parts.scheme}://{f'[{host}]' if ':' in str(host) else host}:{port}"
        with build_opener(ProxyHandler({})).open(f"{url}/api/tags", timeout=0.3) as response:
            tags: Any = json.load(response)
        if not tags.get("models"):
            return None
    except (URLError, OSError, ValueError, AttributeError):
        return None
    _go_straight_to(str(host))
    return url


def _go_straight_to(host: str) -> None:
    """Let a proxy of the environment not stand between this program and its own machine."""
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, (os.environ.get(name), host)))
