"""Of each call of the `ollama` client its base URL and its endpoint are known, and whether it shows an image."""

from __future__ import annotations

from typing import Any

import httpx
import ollama
import pytest

from otel_llm.call import Call
from otel_llm.testing import capture
from otel_llm.testing.server import ScriptedServer
from tests.crossing import settled
from tests.ollama.styles import MODES, STYLES, Style, run, treat
from tests.ollama.test_endpoints import OTHERS

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("style", STYLES, ids=lambda style: "-".join(style))
@pytest.mark.parametrize("above", ["", "/below"])
def test_calls(server: ScriptedServer, style: Style, mode: str, above: str) -> None:
    """The base URL is the client's, the endpoint is the whole path that is asked for."""
    calls: list[Call] = []

    async def use(own: Any) -> None:
        try:
            await treat(own, style, "consumed", [])
        except ollama.ResponseError:
            assert above

    with capture(call_hook=calls.append):
        run(server if not above else server.url + above, mode, use)

    (call,) = calls
    assert (server.url + above, above + f"/api/{style.api}") == (call.base_url, call.endpoint)
    assert call.endpoint == server.requests[0].path
    assert call.image is False


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("operation", OTHERS)
def test_others(server: ScriptedServer, operation: str, mode: str) -> None:
    """So it is of every other request."""
    calls: list[Call] = []
    with capture(call_hook=calls.append):
        run(server, mode, OTHERS[operation][0])

    (call,) = calls
    assert (server.url, operation.partition(" ")[2], False) == (call.base_url, call.endpoint, call.image)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("api", ["chat", "message", "generate"])
def test_images(server: ScriptedServer, api: str, stream: bool, mode: str) -> None:
    """An image is seen in a message, in an object that is one, and beside a prompt."""
    calls: list[Call] = []
    message: Any = {"role": "user", "content": "What is it?", "images": [PNG]}
    if api == "message":
        message = {**message, "images": [ollama.Image(value=PNG)]} if hasattr(ollama, "Image") else message
        message = ollama.Message(**message)

    async def use(own: Any) -> None:
        if api == "generate":
            made = await settled(own.generate(model="tiny", prompt="?", images=[PNG], stream=stream))
        else:
            made = await settled(own.chat(model="tiny", messages=[message], stream=stream))
        if hasattr(made, "__anext__"):
            async for _ in made:
                pass
        elif stream:
            list(made)

    with capture(call_hook=calls.append):
        run(server, mode, use)

    assert [True] == [call.image for call in calls]


@pytest.mark.parametrize(
    ("host", "shown"),
    [
        ("localhost", "http://localhost:11434"),
        ("127.0.0.1:11434/", "http://127.0.0.1:11434"),
        ("http://name:secret@box:8000/below/?key=secret", "http://box:8000/below"),
        ("https://ollama.com", "https://ollama.com"),
        ("[::1]:11434", "http://[::1]:11434"),
    ],
)
def test_hosts(host: str, shown: str) -> None:
    """Every form of a host is told in one, as the client shows it, without credentials."""
    calls: list[Call] = []
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json={"models": []}))
    with capture(call_hook=calls.append):
        run(host, "sync", lambda own: settled(own.list()), transport=transport)

    above = "/below" if shown.endswith("/below") else ""
    assert [(shown, f"{above}/api/tags")] == [(call.base_url, call.endpoint) for call in calls]


@pytest.mark.skipif(not hasattr(ollama.Client, "web_search"), reason="this client does not search")
def test_another_host() -> None:
    """What goes to ollama.com whatever the client's host is told with that host."""
    calls: list[Call] = []
    transport = httpx.MockTransport(lambda request: httpx.Response(200, json={"results": []}))
    more: dict[str, Any] = {"headers": {"authorization": "Bearer x"}, "transport": transport}
    with capture(call_hook=calls.append):
        run("http://box:8000/below", "sync", lambda own: settled(own.web_search("x")), **more)

    assert [("https://ollama.com", "/api/web_search")] == [(call.base_url, call.endpoint) for call in calls]
