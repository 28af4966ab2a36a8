"""Of each message it is known whether it shows an image, and where Bedrock's and Vertex's clients really send it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from otel_llm.call import Call
from otel_llm.testing import capture
from otel_llm.testing.server import Reply, ScriptedServer
from tests.anthropic.test_messages import ASKED, MESSAGE, client
from tests.crossing import settled
from tests.family.clients import CLIENTS, run_async

anthropic: Any = pytest.importorskip("anthropic")

BASE64 = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
BY_URL = {"type": "image", "source": {"type": "url", "url": "https://host/a.png"}}
RESULT = {"type": "tool_result", "tool_use_id": "1", "content": [BASE64]}


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("content", "image"),
    [
        ("hi", False),
        ([{"type": "text", "text": "hi"}], False),
        ([BASE64], True),
        ([{"type": "text", "text": "?"}, BY_URL], True),
        ([RESULT], True),
    ],
)
def test_images(server: ScriptedServer, content: Any, image: bool, stream: bool, mode: str) -> None:
    """An image is seen in a message, by its data or its URL, and in the result of a tool."""
    asked = {**ASKED, "messages": [{"role": "user", "content": content}], "stream": stream}
    calls: list[Call] = []

    async def use(own: Any) -> None:
        made = await settled(own.messages.create(**asked))
        if hasattr(made, "__aiter__"):
            async for _ in made:
                pass
        elif stream:
            list(made)

    with capture(call_hook=calls.append):
        if mode == "sync":
            with client(server) as own, pytest.raises(StopIteration):
                use(own).send(None)
        else:
            run_async("anthropic", use, server)

    assert [("/v1/messages", image)] == [(call.endpoint, call.image) for call in calls]


def test_beta(server: ScriptedServer) -> None:
    """What is beta has the path that it will have, without a query; batches have no ids."""
    calls: list[Call] = []
    with capture(call_hook=calls.append), client(server) as own:
        if not hasattr(own.beta, "messages"):
            pytest.skip("this version has no beta of messages")
        server.script(Reply(json=MESSAGE), Reply(json={}))
        own.beta.messages.create(**ASKED)
        own.get("/v1/messages/batches/msgbatch-1_X?beta=true", cast_to=object)

    assert ["/v1/messages", "/v1/messages/batches/{id}"] == [call.endpoint for call in calls]
    assert {server.url} == {call.base_url for call in calls}


def _bedrock(server: ScriptedServer, name: str, **options: Any) -> Any:
    keys = {"aws_access_key": "x", "aws_secret_key": "x", "aws_region": "eu-west-1"}
    return getattr(anthropic, name)(base_url=f"{server.url}/gateway", **keys, **options)


def _vertex(server: ScriptedServer, name: str, **options: Any) -> Any:
    keys = {"access_token": "x", "project_id": "mine", "region": "eu"}
    return getattr(anthropic, name)(base_url=f"{server.url}/v1", **keys, **options)


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("name", "make", "above", "path"),
    [
        ("AnthropicBedrock", _bedrock, "/gateway", "/model/{model}/{verb}"),
        (
            "AnthropicVertex",
            _vertex,
            "/v1",
            "/projects/mine/locations/eu/publishers/anthropic/models/{model}:{verb}",
        ),
    ],
)
def test_clouds(
    server: ScriptedServer,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    make: Callable[..., Any],
    above: str,
    path: str,
    stream: bool,
    mode: str,
) -> None:
    """The endpoint is the one that the client asks for in place of what its resource names."""

    def sign_nothing(*_: Any, **__: Any) -> None:
        """To sign would need another package."""

    async def asign_nothing(*_: Any, **__: Any) -> None:
        """Do the same."""

    monkeypatch.setattr(anthropic.AnthropicBedrock, "_prepare_request", sign_nothing)
    monkeypatch.setattr(anthropic.AsyncAnthropicBedrock, "_prepare_request", asign_nothing)
    calls: list[Call] = []
    server.script(Reply(json=MESSAGE))
    with capture(call_hook=calls.append):
        if mode == "sync":
            http_client = CLIENTS["anthropic"]._http("Default", "Client")
            own = make(server, name, http_client=http_client, max_retries=0)
            with own, suppress(ModuleNotFoundError):  # Bedrock's streams are decoded by boto
                made = own.messages.create(**ASKED, stream=stream)
                if stream:
                    made.close()
        else:

            async def main() -> None:
                http_client = CLIENTS["anthropic"]._http("DefaultAsync", "AsyncClient")
                async with make(server, f"Async{name}", http_client=http_client, max_retries=0) as own:
                    with suppress(ModuleNotFoundError):
                        made = await own.messages.create(**ASKED, stream=stream)
                        if stream:
                            await made.close()

            asyncio.run(main())

    assert [server.url + above] == [call.base_url for call in calls]
    assert [server.requests[0].path.partition("?")[0]] == [call.endpoint for call in calls]
    pattern = above + path.partition("{verb}")[0].format(model=ASKED["model"])
    assert (calls[0].endpoint or "").startswith(pattern)
