"""Every other request of the client: seen, named by method and path, and not counted as inference."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import ollama
import pytest

from otel_llm.call import Call
from otel_llm.testing import Seen, capture
from otel_llm.testing.server import Reply, ScriptedServer
from otel_llm.wire import ollama as wire
from otel_llm_semconv import attributes as names
from otel_llm_semconv.providers import Provider
from tests.crossing import settled
from tests.ollama.styles import drain, run

OLD = hasattr(ollama.Client, "_request_stream")
DIGEST = "sha256:" + "5" * 64
CREATE: dict[str, Any] = {"model": "mine", **({"modelfile": "FROM tiny"} if OLD else {"from_": "tiny"})}
Make = Callable[[Any], Awaitable[Any]]

OTHERS: dict[str, tuple[Make, str | None]] = {
    "GET /api/tags": (lambda own: settled(own.list()), None),
    "GET /api/ps": (lambda own: settled(own.ps()), None),
    "POST /api/show": (lambda own: settled(own.show("tiny")), "tiny"),
    "POST /api/copy": (lambda own: settled(own.copy("tiny", "twin")), None),
    "DELETE /api/delete": (lambda own: settled(own.delete("tiny")), "tiny"),
    "POST /api/pull": (lambda own: settled(own.pull("tiny")), "tiny"),
    "POST /api/push": (lambda own: settled(own.push("tiny")), "tiny"),
    "POST /api/create": (lambda own: settled(own.create(**CREATE)), "mine"),
}
STREAMED: dict[str, Make] = {
    "POST /api/pull": lambda own: settled(own.pull("tiny", stream=True)),
    "POST /api/push": lambda own: settled(own.push("tiny", stream=True)),
    "POST /api/create": lambda own: settled(own.create(**CREATE, stream=True)),
}


def once(seen: Seen, operation: str, model: str | None) -> dict[str, Any]:
    """Check what holds for each, and return the attributes of the one span."""
    (span,) = seen.spans
    attributes: dict[str, Any] = span["attributes"]
    method, path = operation.split(" ")
    assert (operation if model is None else f"{operation} {model}") == span["name"]
    assert (operation, model) == (
        attributes[names.GEN_AI_OPERATION_NAME],
        attributes.get(names.GEN_AI_REQUEST_MODEL),
    )
    assert (method, path) == (attributes[names.HTTP_REQUEST_METHOD], attributes[names.URL_TEMPLATE])
    assert Provider.OLLAMA == attributes[names.GEN_AI_PROVIDER_NAME]
    assert [] == [point for point in seen.metrics if point["name"].startswith("gen_ai.")]
    assert [0] == [point["value"] for point in seen.points("otel_llm.client.active")]
    return attributes


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("operation", OTHERS)
def test_plain(server: ScriptedServer, operation: str, mode: str) -> None:
    """One request is one span; the caller gets what he gets without us."""
    make, model = OTHERS[operation]
    bare = run(server, mode, make)
    with capture() as seen:
        assert bare == run(server, mode, make)
        attributes = once(seen, operation, model)

    assert names.ERROR_TYPE not in attributes


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("operation", OTHERS)
def test_failed(server: ScriptedServer, seen: Seen, operation: str, mode: str) -> None:
    """One that the server refuses is an error by the name of the client's exception."""
    make, model = OTHERS[operation]
    server.script(Reply(status=404, json={"error": "not found"}))

    async def call(own: Any) -> None:
        with pytest.raises(ollama.ResponseError):
            await make(own)

    run(server, mode, call)

    assert "ollama.ResponseError" == once(seen, operation, model)[names.ERROR_TYPE]


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("way", ["consumed", "dropped", "failed"])
@pytest.mark.parametrize("operation", STREAMED)
def test_progress(server: ScriptedServer, seen: Seen, operation: str, way: str, mode: str) -> None:
    """Progress is a stream like any other, of a call of its own kind; what it does not tell is not told."""
    if way == "failed":
        server.script(Reply(chunks=['{"status": "pulling"}\n', '{"error": "no space left"}\n']))

    async def call(own: Any) -> int:
        stream = await STREAMED[operation](own)
        if way == "dropped":
            if mode == "sync":
                next(stream)
            else:
                await anext(stream)
            return 1
        if way == "failed":
            with pytest.raises(ollama.ResponseError, match="no space left"):
                await drain(stream)
            return 1
        return len(await drain(stream))

    read = run(server, mode, call)
    attributes = once(seen, operation, OTHERS[operation][1])

    assert True is attributes[names.GEN_AI_REQUEST_STREAM]
    assert read == attributes[names.OTEL_LLM_STREAM_CHUNKS]
    expected = {"consumed": "completed", "dropped": "abandoned", "failed": None}[way]
    assert expected == attributes.get(names.OTEL_LLM_STREAM_OUTCOME)
    assert ("ollama.ResponseError" if way == "failed" else None) == attributes.get(names.ERROR_TYPE)
    assert names.GEN_AI_RESPONSE_FINISH_REASONS not in attributes


@pytest.mark.skipif(OLD, reason="this client sends files while it creates")
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_blob(server: ScriptedServer, seen: Seen, tmp_path: Path, mode: str) -> None:
    """A file is sent under the name of its kind: its digest is on no span, and it is sent whole."""
    file = tmp_path / "weights"
    file.write_bytes(b"\x00\x01" * 50_000)
    digest = run(server, mode, lambda own: settled(own.create_blob(file)))
    once(seen, "POST /api/blobs/{id}", None)

    assert f"/api/blobs/{digest}" == server.requests[0].path
    assert file.read_bytes() == server.requests[0].body


@pytest.mark.skipif(not hasattr(ollama.Client, "web_search"), reason="this client does not search")
@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("operation", ["POST /api/web_search", "POST /api/web_fetch"])
def test_the_web(seen: Seen, operation: str, mode: str) -> None:
    """What goes to ollama.com whatever the client's host is told with that host; what was asked for is not told."""
    urls: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        urls.append(str(request.url))
        return httpx.Response(200, json={"results": [], "title": "x", "content": "y", "links": []})

    def make(own: Any) -> Any:
        return settled(own.web_search("secret") if "search" in operation else own.web_fetch("https://secret"))

    more: dict[str, Any] = {"headers": {"authorization": "Bearer x"}, "transport": httpx.MockTransport(answer)}
    run("http://elsewhere:8000", mode, make, **more)
    attributes = once(seen, operation, None)

    assert [f"https://ollama.com{operation.partition(' ')[2]}"] == urls
    assert ("ollama.com", 443) == (attributes[names.SERVER_ADDRESS], attributes[names.SERVER_PORT])
    assert "secret" not in str(attributes)


@pytest.mark.skipif(not hasattr(ollama.Client, "systemone"), reason="this client decides nothing")
@pytest.mark.parametrize("mode", ["sync", "async"])
def test_a_decision(server: ScriptedServer, seen: Seen, mode: str) -> None:
    """A decision runs a model: it is counted, with its tokens."""
    questions = {"q": {"type": "choice", "instructions": "Which?", "criteria": {"a": None, "b": None}}}
    answer = run(server, mode, lambda own: settled(own.systemone("tiny", "the sky is blue", questions)))
    (span,) = seen.spans
    attributes = span["attributes"]

    assert ("decision tiny", "a") == (span["name"], answer.answers["q"].choice)
    assert (4, 1) == (attributes[names.GEN_AI_USAGE_INPUT_TOKENS], attributes[names.GEN_AI_USAGE_OUTPUT_TOKENS])
    assert "tiny" == attributes[names.GEN_AI_RESPONSE_MODEL]
    assert [1] == [point["count"] for point in seen.points("gen_ai.client.operation.duration")]


@pytest.mark.parametrize(
    ("method", "url", "operation"),
    [
        ("POST", "/api/chat", "chat"),
        ("GET", "/api/chat", "GET /api/chat"),
        ("POST", "/api/chat/", "chat"),
        ("HEAD", f"/api/blobs/{DIGEST}", "HEAD /api/blobs/{id}"),
        ("POST", "https://ollama.com/api/web_search?q=secret", "POST /api/web_search"),
        ("BREW", "/", "_OTHER /"),
        ("GET", "/api/" + "x" * 33, "GET /api/{id}"),
        ("GET", "/a/b/c/d/e/f/g/h", "GET /a/b/c/d/e/f"),
    ],
)
def test_names(method: str, url: str, operation: str) -> None:
    """No name of an operation holds what names one single thing, nor grows without end."""
    assert operation == wire.endpoint(method, url).operation


def test_raw_bodies() -> None:
    """The formats read plain objects too: a request that does not say whether to stream does, and an error ends it."""
    call = Call()
    wire.CHAT.read_request(call, {"model": "tiny", "messages": []})
    wire.CHAT.read_chunks(call, [{"model": "tiny:latest", "done": False}, {"error": "out of memory"}])

    assert (True, "tiny:latest") == (call.streaming, call.response_model)
    assert ("_OTHER", "out of memory", ("error",)) == (call.error_type, call.error_message, call.finish_reasons)
    assert wire.CHAT.is_last is not None
    assert [True, False] == [wire.CHAT.is_last({"done": done}) for done in (True, False)]


def test_old_servers() -> None:
    """A server that ends without telling a reason has told none."""
    call = Call()
    wire.GENERATE.read_answer(call, {"model": "tiny", "response": "x", "done": True})

    assert () == call.finish_reasons
