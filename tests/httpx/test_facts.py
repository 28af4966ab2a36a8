"""Of each call over plain `httpx` and `httpx2` base URL and endpoint are known, and whether it shows an image."""

from __future__ import annotations

import json
from typing import Any

import pytest

from otel_llm.call import Call
from otel_llm.http_rules import read_rules
from otel_llm.testing import capture
from otel_llm.testing.server import Reply, ScriptedServer
from otel_llm_httpx import rules as patched
from otel_llm_httpx.rules import Rules
from tests.httpx.apis import APIS, LIBRARIES, run, settled
from tests.httpx.test_calls import each_library, each_mode, streamed
from tests.wire.test_images import SHOWN

HTTPX = LIBRARIES[0]
PATHS = {
    "openai.chat": "/v1/chat/completions",
    "openai.responses": "/v1/responses",
    "anthropic.messages": "/v1/messages",
    "ollama.chat": "/api/chat",
    "ollama.generate": "/api/generate",
    "gemini.generate": "/v1beta/models/gemini-2.5-flash:generateContent",
    "bedrock.converse": "/model/nova-1:0/converse",
    "bedrock.invoke": "/model/nova-1:0/invoke",
    "cohere.chat": "/v2/chat",
}
NEEDED: dict[str, dict[str, Any]] = {"anthropic.messages": {"max_tokens": 9}}


@each_library
@each_mode
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("name", APIS)
def test_calls(server: ScriptedServer, name: str, stream: bool, mode: str, library: Any) -> None:
    """The base URL is scheme, host and port; the endpoint is the path without its query."""
    api = APIS[name]
    if stream and not api.chunks:
        pytest.skip("it is never streamed")
    path, body = api.request(stream=stream)
    server.script(streamed(api) if stream else Reply(json=api.answer))
    calls: list[Call] = []

    async def use(client: Any) -> None:
        await settled(client.post(server.url.replace("//", "//name:secret@") + path, json=body))

    with capture(call_hook=calls.append):
        run(mode, library, use)

    assert [(server.url, path.partition("?")[0], False)] == [
        (call.base_url, call.endpoint, call.image) for call in calls
    ]


@pytest.mark.parametrize("padding", [0, 70_000])
@pytest.mark.parametrize(("name", "body"), [case for case in SHOWN if case[0] in PATHS])
def test_images(server: ScriptedServer, name: str, body: dict[str, Any], padding: int) -> None:
    """An image is seen in the body, also in the middle of one that is too large to be decoded."""
    text = "Think. " * (padding // 7)
    long = {"role": "user", "content": text, "parts": [{"text": text}]}
    padded: dict[str, Any] = {
        key: [long, *value, long] if isinstance(value, list) else value for key, value in body.items()
    }
    if name == "ollama.generate":
        padded = {**body, "prompt": text}
    own = {"model": "m", **NEEDED.get(name, {}), **padded, "instructions": text}
    calls: list[Call] = []
    server.script(Reply(json={}))

    async def use(client: Any) -> None:
        await settled(client.post(server.url + PATHS[name], json=own))

    with capture(call_hook=calls.append):
        run("sync", HTTPX, use)

    assert [(PATHS[name], True)] == [(call.endpoint, call.image) for call in calls]


def test_no_image_in_a_large_text(server: ScriptedServer) -> None:
    """A large text that looks like a request with an image is a text all the same."""
    text = json.dumps([body for _, body in SHOWN]) * 50
    calls: list[Call] = []

    async def use(client: Any) -> None:
        body = {"model": "m", "messages": [{"role": "user", "content": text}]}
        await settled(client.post(server.base_url + "/chat/completions", json=body))

    with capture(call_hook=calls.append):
        run("sync", HTTPX, use)

    assert [False] == [call.image for call in calls]


def _find(url: str, rules: Any = ()) -> Any:
    body: dict[str, Any] = {"model": "m", "messages": [], "contents": []}
    return Rules(read_rules("http_rules", list(rules))).find(HTTPX.Request("POST", url, json=body))


@pytest.mark.parametrize(
    ("url", "base_url", "endpoint"),
    [
        ("https://api.openai.com/v1/chat/completions", "https://api.openai.com", "/v1/chat/completions"),
        ("https://API.OpenAI.com:443/v1/chat/completions/", "https://api.openai.com", "/v1/chat/completions"),
        ("http://[::1]:8000/v1/chat/completions?key=secret", "http://[::1]:8000", "/v1/chat/completions"),
        ("http://name:secret@box/v1/chat/completions#part", "http://box", "/v1/chat/completions"),
        (
            "https://x.openai.azure.com/openai/deployments/gpt-4o/chat/completions?api-version=1",
            "https://x.openai.azure.com",
            "/openai/deployments/gpt-4o/chat/completions",
        ),
        (
            "https://host/v1/projects/123456789/locations/eu/publishers/google/models/gemini-2.5-flash:generateContent",
            "https://host",
            "/v1/projects/{id}/locations/eu/publishers/google/models/gemini-2.5-flash:generateContent",
        ),
        (
            "https://gateway/v1/0a1b2c3d4e5f60718293a4b5c6d7e8f9/mine/openai/chat/completions",
            "https://gateway",
            "/v1/{id}/mine/openai/chat/completions",
        ),
        (
            "https://gateway/3fa85f64-5717-4562-b3fc-2c963f66afa6/chat/completions",
            "https://gateway",
            "/{id}/chat/completions",
        ),
    ],
)
def test_urls(url: str, base_url: str, endpoint: str) -> None:
    """No credentials, no query, no ids; the names of models and deployments stay."""
    found = _find(url)

    assert (base_url, endpoint) == (found.server.base_url, found.endpoint)


def test_own_rules() -> None:
    """A rule of the user's own names the provider, and hides no model in the path."""
    rule = {"host": "llm.test", "path_regex": "/t/[0-9]+/(?P<model>[^/]+)/ask", "format": "openai.chat"}
    found = _find("http://llm.test:81/t/123456/big-1/ask/", [rule, {**rule, "provider": "mine"}])

    assert ("http://llm.test:81", "/t/{id}/big-1/ask", "openai") == (
        found.server.base_url,
        found.endpoint,
        found.server.provider,
    )
    assert "mine" == _find("http://llm.test:81/t/1/m/ask", [{**rule, "provider": "mine"}]).server.provider


def test_what_is_kept_is_bounded() -> None:
    """Hosts and paths that somebody makes up fill no memory, and each is told right."""
    for number in range(3000):
        found = _find(f"http://host-{number}/tenant-{number}/v1/chat/completions")
        assert f"http://host-{number}" == found.server.base_url
        assert f"/tenant-{number}/v1/chat/completions" == found.endpoint

    assert len(patched._servers) <= 1024
    assert len(patched._endpoints) <= 1024
