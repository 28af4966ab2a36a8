"""The clients that are made like `openai`, and every way to make one and the same call with each."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from typing import Any, NamedTuple

from otel_llm.testing import answers
from otel_llm.testing import anthropic as anthropic_answers
from otel_llm.testing.server import ScriptedServer
from tests import crossing
from tests.openai.styles import ASK

PLAIN = ("plain", "raw", "streaming response")
STREAMED = ("stream", "raw, streamed", "streaming response, streamed", "streaming response, bytes")


class Client(NamedTuple):
    """One client library."""

    package: str
    """Where its base classes are."""
    name: str
    """Its class; that of the async client has a prefix."""
    provider: str
    apis: dict[str, str]
    """What its resources post to."""
    options: dict[str, Any] = {}

    @property
    def module(self) -> Any:
        """The package, imported."""
        return importlib.import_module(self.package)

    def sync(self, server: ScriptedServer, **options: Any) -> Any:
        """Return a sync client of the server's."""
        made = getattr(self.module, self.name)
        # Loading certificates is what takes a client's time; nothing here is encrypted.
        http_client = self._http("Default", "Client")
        return made(base_url=server.url, api_key="test", **self._options(made, http_client, options))

    def asynchronous(self, server: ScriptedServer, **options: Any) -> Any:
        """Return an async client of the server's."""
        made = getattr(self.module, f"Async{self.name}")
        http_client = self._http("DefaultAsync", "AsyncClient")
        return made(base_url=server.url, api_key="test", **self._options(made, http_client, options))

    def _options(self, made: Any, http_client: Any, options: dict[str, Any]) -> dict[str, Any]:
        known = inspect.signature(made).parameters
        own = {name: value for name, value in self.options.items() if name in known}
        return {"max_retries": 0, "http_client": http_client, **own, **options}

    def _http(self, prefix: str, plain: str) -> Any:
        made: Any = getattr(self.module, f"{prefix}HttpxClient", None) or getattr(
            importlib.import_module("httpx"), plain
        )
        return made(verify=False)


_QUIET = {"warm_tcp_connection": False}
CLIENTS = {
    "anthropic": Client(
        "anthropic", "Anthropic", "anthropic", {"messages": "/v1/messages", "completions": "/v1/complete"}
    ),
    "groq": Client("groq", "Groq", "groq", {"chat": "/openai/v1/chat/completions"}),
    "together": Client(
        "together", "Together", "together_ai", {"chat": "/v1/chat/completions", "completions": "/v1/completions"}
    ),
    "cerebras": Client(
        "cerebras.cloud.sdk",
        "Cerebras",
        "cerebras",
        {"chat": "/v1/chat/completions", "completions": "/v1/completions"},
        _QUIET,
    ),
}


def installed(name: str) -> bool:
    """Whether the client is there."""
    try:
        return find_spec(CLIENTS[name].package) is not None
    except ModuleNotFoundError:
        return False


HERE = [name for name in CLIENTS if installed(name)]
"""The clients that this environment has."""


class Style(NamedTuple):
    """One way to call one API of one client."""

    client: str
    api: str
    form: str

    @property
    def streams(self) -> bool:
        """Whether it asks for a stream."""
        return self.form not in PLAIN

    @property
    def opens(self) -> bool:
        """Whether the caller gets the answer while its body is still to be read."""
        return self.streams or self.form == "streaming response"

    @property
    def path(self) -> str:
        """What it posts to."""
        return CLIENTS[self.client].apis[self.api]

    @property
    def asked(self) -> dict[str, Any]:
        """The arguments of the call."""
        question = ASK[0]["content"]
        asked: dict[str, Any] = {"model": "llama"}
        if self.api == "messages":
            asked |= {"messages": ASK, "max_tokens": 100}
        elif self.client == "anthropic":
            asked |= {"prompt": f"\n\nHuman: {question}\n\nAssistant:", "max_tokens_to_sample": 100}
        else:
            asked |= {"messages": ASK} if self.api == "chat" else {"prompt": question}
        if self.streams and self.form != "helper":
            asked["stream"] = True
        if self.streams and self.client != "anthropic":
            asked["extra_body"] = {"stream_options": {"include_usage": True}}
        return asked

    @property
    def body(self) -> dict[str, Any]:
        """What is sent."""
        asked = self.asked
        return {**asked, **asked.pop("extra_body", {}), "stream": self.streams}

    @property
    def answer(self) -> Any:
        """What the server would answer: a dict, or the events of a stream."""
        speaker = anthropic_answers if self.client == "anthropic" else answers
        return speaker.answer("POST", self.path, self.body, 1)

    @property
    def read(self) -> int:
        """How many chunks the client gives of a stream that is read to its end."""
        return len([event for event in self.answer if event != "[DONE]" and event.get("type") != "ping"])

    def make(self, client: Any) -> Any:
        """Return what the client's method returns: a value, a coroutine or a context manager."""
        own = client.chat.completions if self.api == "chat" else getattr(client, self.api)
        if self.form.startswith("raw"):
            own = own.with_raw_response
        elif self.form.startswith("streaming response"):
            own = own.with_streaming_response
        return getattr(own, "stream" if self.form == "helper" else "create")(**self.asked)


def has(name: str, api: str) -> bool:
    """Whether this version of the client has the API."""
    return find_spec(f"{CLIENTS[name].package}.resources.{api}") is not None


STYLES = [
    Style(name, api, form)
    for name in HERE
    for api in CLIENTS[name].apis
    if has(name, api)
    for form in (*PLAIN, *STREAMED, *(["helper"] if api == "messages" else []))
]
"""Every way to call every API of the clients that are here."""


def run(name: str, server: ScriptedServer, mode: str, make: Callable[[Any], Any], **options: Any) -> Any:
    """Run a coroutine with a client of either kind, and collect what it dropped."""
    client = CLIENTS[name]
    return crossing.run(
        lambda: client.sync(server, **options), lambda: client.asynchronous(server, **options), mode, make
    )


def run_async(name: str, make: Callable[[Any], Awaitable[Any]], server: ScriptedServer, **options: Any) -> Any:
    """Run a coroutine with an async client in a loop of its own, and collect what it dropped."""
    return run(name, server, "async", make, **options)
