"""Of each call its base URL and its endpoint are known, as the server sees them, and whether it shows an image."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import openai
import pytest

from otel_llm.call import Call
from otel_llm.testing import capture
from otel_llm.testing.server import Reply, ScriptedServer
from tests.openai.styles import ASK, STYLES, Style, aclient, client, has, opened, run_async, treat
from tests.openai.test_endpoints import settle

URL = "data:image/png;base64,iVBORw0KGgo="
LOOK: Any = [
    {"role": "user", "content": [{"type": "text", "text": "?"}, {"type": "image_url", "image_url": {"url": URL}}]}
]
LOOK_AT: Any = [{"role": "user", "content": [{"type": "input_image", "image_url": URL, "detail": "auto"}]}]

Case = tuple[str, Callable[[Any], Any], str, bool]
CASES: list[Case] = [
    ("chat", lambda c: c.chat.completions.create(model="m", messages=ASK), "/chat/completions", False),
    ("chat", lambda c: c.chat.completions.create(model="m", messages=LOOK), "/chat/completions", True),
    ("chat", lambda c: c.chat.completions.create(model="m", messages=iter(LOOK)), "/chat/completions", True),
    ("completions", lambda c: c.completions.create(model="m", prompt=URL), "/completions", False),
    ("responses", lambda c: c.responses.create(model="m", input="?"), "/responses", False),
    ("responses", lambda c: c.responses.create(model="m", input=LOOK_AT), "/responses", True),
    ("embeddings", lambda c: c.embeddings.create(model="m", input="?", encoding_format="float"), "/embeddings", False),
    ("images", lambda c: c.images.edit(model="m", image=b"x", prompt="?"), "/images/edits", False),
    ("images", lambda c: c.images.create_variation(model="m", image=b"x"), "/images/variations", False),
    ("models", lambda c: c.models.list(), "/models", False),
    ("models", lambda c: c.models.retrieve("Org/Name-1"), "/models/{id}", False),
    ("files", lambda c: c.files.retrieve("file-1_X"), "/files/{id}", False),
    ("batches", lambda c: c.batches.cancel("batch-1_X"), "/batches/{id}/cancel", False),
    ("responses", lambda c: c.responses.retrieve("resp-1_X"), "/responses/{id}", False),
    ("responses.cancel", lambda c: c.responses.cancel("resp-1_X"), "/responses/{id}/cancel", False),
    (
        "beta.threads",
        lambda c: c.beta.threads.runs.create("thread-1_X", assistant_id="a"),
        "/threads/{id}/runs",
        False,
    ),
    (
        "beta.threads",
        lambda c: c.beta.threads.runs.retrieve("run-1_X", thread_id="thread-1_X"),
        "/threads/{id}/runs/{id}",
        False,
    ),
]


def facts(calls: list[Call]) -> tuple[str | None, str | None, bool]:
    """Return what is known of the one call."""
    (call,) = calls
    return call.base_url, call.endpoint, call.image


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize(("needs", "make", "path", "image"), CASES)
def test_calls(
    server: ScriptedServer, needs: str, make: Callable[[Any], Any], path: str, image: bool, mode: str
) -> None:
    """The path is whole, and without ids; an image is seen in what is sent."""
    if not has(needs):
        pytest.skip("this version of the client has no such resource")
    calls: list[Call] = []
    server.script(Reply(json={"data": [], "id": "1"}))
    with capture(call_hook=calls.append):
        if mode == "sync":
            make(client(server))
        else:
            run_async(lambda own: settle(make(own)), server)

    assert (server.base_url, f"/v1{path}", image) == facts(calls)
    if "{id}" not in path:
        assert f"/v1{path}" == server.requests[0].path.partition("?")[0]


@pytest.mark.filterwarnings("ignore:The model:DeprecationWarning")
@pytest.mark.parametrize("style", [style for style in STYLES if has(style.needs)], ids=lambda style: "-".join(style))
def test_styles(server: ScriptedServer, style: Style) -> None:
    """It is the same however a call is made, and told before it ends."""
    calls: list[Call] = []
    with capture(call_hook=calls.append):
        own = aclient(server)

        async def main() -> None:
            async with own:
                await treat(style, own, "consumed", [])

        asyncio.run(main())

    assert (server.base_url, server.requests[0].path, False) == facts(calls)


@pytest.mark.parametrize(
    ("base_url", "shown", "above"),
    [
        ("http://{host}", "http://{host}", ""),
        ("http://{host}/", "http://{host}", ""),
        ("http://{host}/v1/", "http://{host}/v1", "/v1"),
        ("http://{host}/gate/way/v1", "http://{host}/gate/way/v1", "/gate/way/v1"),
        ("http://name:secret@{host}/v1", "http://{host}/v1", "/v1"),
    ],
)
def test_base_urls(server: ScriptedServer, base_url: str, shown: str, above: str) -> None:
    """It is the client's base URL, without credentials and without a slash at its end."""
    host = server.url.removeprefix("http://")
    calls: list[Call] = []
    own = openai.OpenAI(
        base_url=base_url.format(host=host), api_key="x", http_client=openai.DefaultHttpxClient(verify=False)
    )
    opened.append(own)
    server.script(Reply(json={}), Reply(json={}), Reply(json={}))
    with capture(call_hook=calls.append):
        own.chat.completions.create(model="m", messages=ASK)
        own.files.retrieve("file-1_X")
        own.base_url = f"http://{host}/other"
        own.chat.completions.create(model="m", messages=ASK)

    assert [
        (shown.format(host=host), f"{above}/chat/completions"),
        (shown.format(host=host), f"{above}/files/{{id}}"),
        (f"http://{host}/other", "/other/chat/completions"),
    ] == [(call.base_url, call.endpoint) for call in calls]
    assert calls[0].endpoint == server.requests[0].path
    assert calls[2].endpoint == server.requests[2].path


def test_hosts() -> None:
    """The port is left out where it is the one that the scheme has anyway; an address of IPv6 has its brackets."""
    from otel_llm_openai.server import server_of

    for base_url, shown in {
        "https://api.openai.com/v1": "https://api.openai.com/v1",
        "https://API.OpenAI.com:443/v1/": "https://api.openai.com/v1",
        "http://localhost:11434/v1": "http://localhost:11434/v1",
        "http://127.0.0.1:8000/v1?key=secret#part": "http://127.0.0.1:8000/v1",
        "http://[::1]:8000/v1": "http://[::1]:8000/v1",
    }.items():
        with openai.OpenAI(base_url=base_url, api_key="x", http_client=openai.DefaultHttpxClient(verify=False)) as own:
            assert shown == server_of(own)[0].base_url


def test_absolute_urls(server: ScriptedServer) -> None:
    """A URL of its own is told by itself; one below the client's is the client's."""
    calls: list[Call] = []
    own = client(server)
    with ScriptedServer() as other, capture(call_hook=calls.append):
        other.script(Reply(json={}))
        server.script(Reply(json={}), Reply(json={}))
        own.get(f"{other.url}/gateway/v1/files/file-1_X?key=secret", cast_to=object)
        own.get(f"{server.base_url}/files/file-1_X", cast_to=object)
        own.post("/made-up/7?key=secret", cast_to=object, body={"model": "m"})

    assert [
        (other.url, "/gateway/v1/files/{id}"),
        (server.base_url, "/v1/files/{id}"),
        (server.base_url, "/v1/made-up/{id}"),
    ] == [(call.base_url, call.endpoint) for call in calls]


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize(("deployment", "above"), [(None, ""), ("mine", "/deployments/mine")])
def test_azure(server: ScriptedServer, deployment: str | None, above: str, mode: str) -> None:
    """Azure's client asks for the deployment, that of its own or the model; what belongs to none is asked without."""
    calls: list[Call] = []
    settings: dict[str, Any] = {"azure_endpoint": server.url, "api_key": "x", "api_version": "2026-01-01"}

    async def use(own: Any) -> None:
        for _ in range(2):
            await settle(own.chat.completions.create(model="gpt-4o", messages=ASK))
        await settle(own.images.generate(model="gpt-image", prompt="a cat"))
        await settle(own.models.list())
        await settle(own.files.retrieve("file-1_X"))

    server.script(*[Reply(json={"data": []})] * 5)
    with capture(call_hook=calls.append):
        if mode == "sync":
            sync = openai.AzureOpenAI(
                **settings, azure_deployment=deployment, http_client=openai.DefaultHttpxClient(verify=False)
            )
            opened.append(sync)
            with pytest.raises(StopIteration):
                use(sync).send(None)
        else:

            async def main() -> None:
                http_client = openai.DefaultAsyncHttpxClient(verify=False)
                async with openai.AsyncAzureOpenAI(
                    **settings, azure_deployment=deployment, http_client=http_client
                ) as own:
                    await use(own)

            asyncio.run(main())

    assert {f"{server.url}/openai{above}"} == {call.base_url for call in calls}
    sent = [request.path.partition("?")[0].replace("file-1_X", "{id}") for request in server.requests]
    assert sent == [call.endpoint for call in calls]
    chat = f"/openai/deployments/{deployment or 'gpt-4o'}/chat/completions"
    assert [chat, chat] == sent[:2]
